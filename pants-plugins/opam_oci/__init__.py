"""A Pants backend that builds opam (OCaml) packages as OCI image layers."""
