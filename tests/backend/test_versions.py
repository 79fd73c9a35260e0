"""The order of versions."""

from __future__ import annotations

import itertools

import pytest

from opam_oci.locking.versions import Version


@pytest.mark.parametrize(
    "ascending",
    [
        ["1.0~beta1", "1.0~rc1", "1.0", "1.0+b1", "1.0.1", "1.2", "1.10", "2"],
        ["1.0-1", "1.0-1+deb13u1", "1.0-2", "1.0-10", "1.0.1-1", "1:0.5-1"],
        ["9.99", "base", "v0.9", "v0.17.0"],
        ["5.3.0~alpha1", "5.3.0", "5.3.0-1"],
    ],
)
def test_order(ascending: list[str]) -> None:
    for one, other in itertools.combinations(ascending, 2):
        assert Version(one) < Version(other), (one, other)
        assert Version(other) > Version(one), (one, other)
        assert Version(one) != Version(other)


def test_equality() -> None:
    assert Version("1.0") == Version("1.0")
    assert hash(Version("1.0")) == hash(Version("1.0"))
    assert str(Version("1:1.0-1")) == "1:1.0-1"
    # Equal to dpkg, but a change in a lockfile all the same: exactly one of the two is the greater.
    assert (Version("1.00") < Version("1.0")) != (Version("1.00") > Version("1.0"))
