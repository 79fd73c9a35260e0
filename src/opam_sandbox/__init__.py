"""The sandbox tool: runs inside build processes and makes OCI layers out of opam and Debian packages.

A library with a command line (`cli.py`). It needs Python >= 3.9, the standard library and filelock; it never imports
Pants. docs/architecture.md describes its requests and results.
"""
