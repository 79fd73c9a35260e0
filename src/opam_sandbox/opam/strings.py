"""Strings as opam files have them. (To read them takes more: see `tokens`.)"""


def quote(text: str) -> str:
    """A string literal of opam's format."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
