"""TeX's lists of the files in a tree (`ls-R`), in an order that is the same on every machine.

mktexlsr writes them in the order in which the kernel lists directories. They begin with lines for people; then comes, for each
directory, its name and a colon, the names in it, and an empty line.

Source: kpathsea's manual, "Filename database format".
"""

from __future__ import annotations

from typing import List

_BEGIN = b"./:"


def ordered(content: bytes) -> bytes:
    """The same list, directories and names sorted. What is no such list stays as it is."""
    lines = content.split(b"\n")
    if _BEGIN not in lines or not content.endswith(b"\n"):
        return content
    start = lines.index(_BEGIN) + 1
    parts: List[List[bytes]] = [[]]
    for line in lines[start:-1]:
        if line:
            parts[-1].append(line)
        else:
            parts.append([])
    # Where the name of the first directory is not said again, its part has nothing but names.
    directories = sorted((part[0][:-1], sorted(part[1:])) for part in parts if part and part[0].endswith(b":"))
    bare = sorted(name for part in parts if part and not part[0].endswith(b":") for name in part)
    texts = [
        b"\n".join(part) for part in ([bare] if bare else []) + [[name + b":", *names] for name, names in directories]
    ]
    return b"\n".join([*lines[:start], b"\n\n".join(texts), b""])
