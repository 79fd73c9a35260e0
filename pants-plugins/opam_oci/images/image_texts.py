"""The types of what an image says of itself and of its layers."""

from __future__ import annotations

from typing import Any, Dict, List, TypedDict


class _HistoryEntry(TypedDict):
    created_by: str


class HistoryEntry(_HistoryEntry, total=False):
    """What the image says of one of its layers: `title` becomes an annotation of the layer."""

    comment: str
    title: str


class ImageConfig(TypedDict, total=False):
    """The `config` of an OCI image's configuration (image-spec, config.md)."""

    Env: List[str]
    Entrypoint: List[str]
    Cmd: List[str]
    User: str
    WorkingDir: str
    ExposedPorts: Dict[str, Any]
    Volumes: Dict[str, Any]
    StopSignal: str
    Labels: Dict[str, str]
