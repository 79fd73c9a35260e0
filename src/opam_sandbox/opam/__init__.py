"""opam's files: reading opam files and their formulas, writing what a switch and a repository hold."""
