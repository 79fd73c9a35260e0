"""When a process is said to lack an input."""

from __future__ import annotations

import pytest

from opam_oci.sandbox.on_demand import lacks_input

_DIGEST = "Digest { hash: Fingerprint<" + 64 * "4" + ">, size_bytes: 11 }"


@pytest.mark.parametrize(
    "text",
    [
        f"Missing digest: Was not present in the local store: {_DIGEST}",
        "An error occurred when attempting to materialize a working directory at "
        f'"/tmp/pants-sandbox-1": Was not present in the local store: {_DIGEST}',
        "materialize_directory() request to sandboxer process failed: Was not present in either the local or remote "
        f"store: {_DIGEST}",
    ],
)
def test_the_engine_s_words_for_a_missing_input(text: str) -> None:
    assert lacks_input(Exception(text))


@pytest.mark.parametrize("text", ["No space left on device", "Failed to execute: No such file or directory"])
def test_other_failures(text: str) -> None:
    assert not lacks_input(Exception(text))
