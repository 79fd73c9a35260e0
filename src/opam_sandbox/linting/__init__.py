"""Checks opam files as opam does. A change of this part builds nothing anew."""
