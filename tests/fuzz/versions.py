"""Versions: the tool's order and the backend's are orders, and agree where both know of epochs and revisions."""

from __future__ import annotations

from itertools import permutations
from typing import List

from opam_oci.locking.versions import Version
from opam_sandbox.debian_versions import compare_versions, version_key

SEEDS: List[bytes] = [b"4:14.2.0-1 1.0~beta1 1.0", b"v0.16 v0.16.1 0016", b"1~~ 1~ 1", b"a:1 \xc2\xb2:1 -"]
TOKENS = [b"~", b"-", b":", b".", b"00", b"9" * 5000, b"v", b"+"]


def run(data: bytes) -> None:
    texts = data.decode("utf-8", "surrogateescape").split()[:3]
    for left, right in permutations(texts, 2):
        assert compare_versions(left, right) == -compare_versions(right, left)
        one, other = Version(left), Version(right)
        assert (one < other) + (other < one) + (one == other) == 1
        if all(char.isascii() and char not in ":-" for char in left + right) and compare_versions(left, right):
            assert (compare_versions(left, right) < 0) == (one < other), (left, right)
    if len(texts) == 3:
        ordered = sorted(texts, key=version_key)
        assert all(compare_versions(a, b) <= 0 for a, b in zip(ordered, ordered[1:]))
        assert compare_versions(ordered[0], ordered[2]) <= 0
        sorted(map(Version, texts))
