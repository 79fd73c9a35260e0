"""What came of making an image again, as JSON: `verification.schema.json` says what is in it."""

from __future__ import annotations

import json
from typing import Any

from opam_oci.image_reports.difference_json import difference_values
from opam_oci.verification.inputs import InputDifference
from opam_oci.verification.recorded import RecordedDependency
from opam_oci.verification.result import Verification

# Raised when a field is added, changes or goes.
SCHEMA = 1


def write_json(result: Verification) -> str:
    """The same for the same images, made of the same."""
    # A byte of a name that was no UTF-8 has an escape.
    return json.dumps(verification_values(result), indent=1) + "\n"


def verification_values(result: Verification) -> dict[str, Any]:
    """The result as JSON values."""
    recorded, inputs = result.recorded, result.inputs
    return {
        "schema": SCHEMA,
        "verdict": result.verdict.value,
        "rebuilt": result.rebuilt.value,
        "target": result.target,
        "provenance": {
            "sha256": recorded.sha256,
            "origin": recorded.origin,
            "builder": recorded.builder,
        },
        "dependencies": {"same": inputs.same, "differ": [dependency_values(one) for one in inputs.dependencies]},
        "parameters": [{"name": one.name, "recorded": one.recorded, "here": one.here} for one in inputs.parameters],
        "manifest": [{"path": one.path, "before": one.before, "after": one.after} for one in result.manifest],
        "difference": difference_values(result.difference, result.files),
    }


def dependency_values(one: InputDifference) -> dict[str, Any]:
    """A dependency that differs, as JSON values."""
    return {
        "name": one.name,
        "change": one.change.value,
        "recorded": _dependency(one.recorded),
        "here": _dependency(one.here),
    }


def _dependency(one: RecordedDependency | None) -> dict[str, Any] | None:
    return None if one is None else {"digest": dict(one.digest), "uri": one.uri}
