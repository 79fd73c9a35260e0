"""Pants' own rules as functions: the names and parameters are the same for every Pants."""

from opam_oci.pants_engine.version import BY_NAME

if BY_NAME:
    from opam_oci.pants_engine.calls_by_name import *  # noqa: F403
else:
    from opam_oci.pants_engine.calls_by_type import *  # noqa: F403
