"""What an `opam_health_check` asks for."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pants.engine.addresses import Address, AddressInput
from pants.engine.fs import PathGlobs
from pants.engine.target import InvalidTargetException, Target

from opam_oci.fields.health import (
    OpamHealthBaseField,
    OpamHealthCompilersField,
    OpamHealthConstraintsField,
    OpamHealthLatestField,
    OpamHealthPackagesField,
    OpamHealthPackagesFileField,
    OpamHealthPreferOldestField,
    OpamHealthResolveField,
    OpamHealthWithDocField,
    OpamHealthWithTestField,
)
from opam_oci.pants_engine.calls import contents_of_globs, parse_address
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.resolves.debian_rootfs import DebianRootfsRequest
from opam_oci.resolves.inputs import SolverOptions
from opam_oci.resolves.targets import TargetsOfTypeRequest, address_text, find_targets_of_type
from opam_oci.target_types import OpamHealthCheckTarget


@dataclass(frozen=True)
class HealthInputsRequest:
    """Asks for the check that has a resolve."""

    resolve: str


@dataclass(frozen=True)
class HealthInputs:
    """A check's fields, sorted, defaults filled in."""

    address: Address
    resolve: str
    base: Address
    packages: tuple[str, ...]
    latest: int
    compilers: tuple[str, ...]
    constraints: tuple[str, ...]
    options: SolverOptions


def _of_file(text: bytes, path: str, address: Address) -> list[str]:
    """The packages of a JSON file. Raises InvalidTargetException."""
    problem = f"The `{OpamHealthPackagesFileField.alias}` field in target {address} names {path}, which"
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidTargetException(f"{problem} is not JSON: {error!s:.200}.") from None
    found = values.get("packages") if isinstance(values, dict) else None
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise InvalidTargetException(f'{problem} is not of the form {{"packages": ["lwt.5.6.1", "0install"]}}.')
    OpamHealthPackagesField.compute_value(found, address)
    return found


async def _packages(target: Target) -> tuple[str, ...]:
    path = target[OpamHealthPackagesFileField].file_path
    named = target[OpamHealthPackagesField]
    if path is None:
        return tuple(sorted({"".join(one.split()) for one in named.value}))
    contents = await contents_of_globs(PathGlobs([path]))
    if not contents:
        raise InvalidTargetException(
            f"The `{OpamHealthPackagesFileField.alias}` field in target {target.address} names {path}, which does not exist."
        )
    more = named.value if named.value != named.default else ()
    return tuple(
        sorted({"".join(one.split()) for one in (*more, *_of_file(contents[0].content, path, target.address))})
    )


@rule
async def find_health_inputs(request: HealthInputsRequest) -> HealthInputs:
    """The check of a resolve. Raises InvalidTargetException where there is none, or more than one."""
    targets = await find_targets_of_type(TargetsOfTypeRequest(OpamHealthCheckTarget.alias), **implicitly())
    found = [
        target
        for target in targets
        if target[OpamHealthResolveField].value_or_default(target.address) == request.resolve
    ]
    if not found:
        raise InvalidTargetException(
            f"No `{OpamHealthCheckTarget.alias}` target has the resolve `{request.resolve}` of `[opam-health].resolves`: add "
            "one, or take the resolve out of the option."
        )
    target = found[0]
    if len(found) > 1:
        raise InvalidTargetException(
            f"{target.address} and {found[1].address} both have the resolve `{request.resolve}`, but a lockfile is for one "
            "check: give one of them another `resolve`."
        )
    base = await parse_address(
        AddressInput.parse(
            target[OpamHealthBaseField].value,
            relative_to=target.address.spec_path,
            description_of_origin=f"the `{OpamHealthBaseField.alias}` field of {target.address}",
        )
    )
    packages = await _packages(target)
    return HealthInputs(
        address=target.address,
        resolve=request.resolve,
        base=base,
        packages=packages,
        latest=target[OpamHealthLatestField].value,
        compilers=tuple(sorted({"".join(one.split()) for one in target[OpamHealthCompilersField].value})),
        constraints=tuple(sorted({"".join(one.split()) for one in target[OpamHealthConstraintsField].value})),
        options=SolverOptions(
            with_test=target[OpamHealthWithTestField].value,
            with_doc=target[OpamHealthWithDocField].value,
            prefer_oldest=target[OpamHealthPreferOldestField].value,
        ),
    )


def base_request(inputs: HealthInputs) -> DebianRootfsRequest:
    """Asks for the base of a check."""
    return DebianRootfsRequest(
        address_text(inputs.base), f"the `{OpamHealthBaseField.alias}` field of {inputs.address}"
    )


def rules() -> list[object]:
    return [*collect_rules()]
