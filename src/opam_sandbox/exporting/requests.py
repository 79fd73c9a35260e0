"""The requests of this part."""

from typing import Dict, List, TypedDict


class ExportRequest(TypedDict):
    """`export`: `layers` are the packages' layer directories, dependencies first. `resolve` names them in messages.

    prefix: the absolute path by which the switch is used. tree: the absolute path of the directory that becomes the switch, to
    which a link at `prefix` may lead; `made_by`: the absolute path of a directory that goes when the command ends, as this
    process's own files are in it.
    variables: what `opam env` gives over these layers (`NAME=value`). depexts: by package ("lwt.5.6.1"), Debian's names.
    compiler: the version of the base's own OCaml that the packages were built by, "" where the switch has its compiler.
    check_host: whether the host is to have what the switch needs.
    """

    layers: List[str]
    resolve: str
    prefix: str
    tree: str
    made_by: str
    variables: List[str]
    depexts: Dict[str, List[str]]
    compiler: str
    check_host: bool
