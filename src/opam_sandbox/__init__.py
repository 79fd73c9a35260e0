"""The sandbox tool: runs inside build processes and makes OCI layers out of opam and Debian packages.

It needs Python >= 3.9, the standard library and filelock; it never imports Pants. It has four parts, each with a command
line of its own: `python3 -m opam_sandbox.PART COMMAND ...` for `building`, `imaging`, `locking` and `publishing`.
parts.json says which files each part consists of. docs/architecture.md describes the requests and the results.
"""
