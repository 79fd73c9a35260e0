"""`test` for `oci_image_test`: an image is built, and compared with what it should be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pants.core.goals.test import TestFieldSet, TestRequest, TestResult, TestSubsystem
from pants.engine.addresses import Address
from pants.engine.fs import CreateDigest, FileContent, Snapshot
from pants.engine.process import FallibleProcessResult, ProcessCacheScope
from pants.engine.target import InvalidFieldException, Target, WrappedTargetRequest
from pants.util.logging import LogLevel

from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.fields.image_tests import (
    OciTestCommandsField,
    OciTestConfigField,
    OciTestFilesField,
    OciTestImageField,
    OciTestMaxLayersField,
    OciTestMaxSizeField,
    OciTestMaxUnpackedSizeField,
    OciTestSkipField,
    OciTestTimeoutField,
    OciTestUsersField,
)
from opam_oci.images.image import ImageRequest, OciImage, make_image
from opam_oci.pants_engine.calls import create_digest, digest_to_snapshot, target_at
from opam_oci.pants_engine.digests import read_files
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.pants_engine.test_results import attempts, test_result
from opam_oci.sandbox.failure import tool_message
from opam_oci.sandbox.foreign_json import parse_object
from opam_oci.sandbox.process import STORE, Call
from opam_oci.sandbox.run_tool import run_call
from opam_oci.subsystems.oci_test import OciTestSubsystem
from opam_oci.target_types_dependencies import tested_image
from opam_oci.testing.image_checks import command_checks, config_check, file_checks, limit_check, user_checks
from opam_oci.testing.junit import ImageCheck, image_report

if TYPE_CHECKING:
    from opam_sandbox.checking.requests import CheckImageRequest

_RESULTS = "results.json"


class _DamagedResults(Exception):
    """A results.json that says nothing."""


@dataclass(frozen=True)
class OciImageTestFieldSet(TestFieldSet):
    """An image, and what it should be."""

    required_fields = (OciTestImageField,)

    image: OciTestImageField
    config: OciTestConfigField
    files: OciTestFilesField
    users: OciTestUsersField
    commands: OciTestCommandsField
    max_layers: OciTestMaxLayersField
    max_size: OciTestMaxSizeField
    max_unpacked_size: OciTestMaxUnpackedSizeField
    timeout: OciTestTimeoutField

    @classmethod
    def opt_out(cls, tgt: Target) -> bool:
        return bool(tgt.get(OciTestSkipField).value)


class OciImageTestRequest(TestRequest):
    tool_subsystem = OciTestSubsystem  # type: ignore[assignment]
    field_set_type = OciImageTestFieldSet


def checks_request(field_set: OciImageTestFieldSet, image: OciImage) -> CheckImageRequest:
    """What the tool is asked for."""
    limits = limit_check(field_set.max_layers.value, field_set.max_size.value, field_set.max_unpacked_size.value)
    return {
        "image": "image",
        "manifest": image.manifest,
        "store": STORE,
        "config": config_check(field_set.config.value),
        "limits": limits,
        "files": file_checks(field_set.files.value),
        "users": user_checks(field_set.users.value),
        "commands": command_checks(field_set.commands.value),
    }


async def image_under_test(address: Address, field: OciTestImageField) -> OciImage:
    """The image of a test, built as `package` does it. Raises InvalidFieldException, and what cannot be built."""
    where = await tested_image(address, field)
    origin = f"the `{field.alias}` field of {address}"
    wrapped = await target_at(WrappedTargetRequest(where, description_of_origin=origin))
    if not OciPackageImageFieldSet.is_applicable(wrapped.target):
        raise InvalidFieldException(
            f"The `{field.alias}` field in target {address} names {where}, which is a `{wrapped.target.alias}`; it takes the "
            "address of an `oci_package_image`."
        )
    image = OciPackageImageFieldSet.create(wrapped.target)
    return await make_image(ImageRequest(image, for_docker=image.format.value == "docker-archive"), **implicitly())


def read_checks(content: bytes) -> tuple[ImageCheck, ...]:
    """What the tool wrote of its checks; none where it wrote nothing that can be read."""
    try:
        return tuple(
            ImageCheck(one["kind"], one["name"], tuple(one["problems"]), float(one["seconds"]), one["output"])
            for one in parse_object(content, _RESULTS, _DamagedResults)["checks"]
        )
    except (_DamagedResults, KeyError, TypeError, ValueError):
        return ()


async def xml_of(address: Address, result: FallibleProcessResult) -> Snapshot:
    """JUnit's report as a file named after the target."""
    contents = await read_files(result.output_digest, _RESULTS)
    checks = read_checks(contents.get(_RESULTS, b""))
    failure = tool_message(result) if result.exit_code and not any(check.problems for check in checks) else ""
    seconds = (result.metadata.total_elapsed_ms or 0) / 1000
    text = image_report(address.spec, seconds, failure, checks)
    file = FileContent(f"{address.path_safe_spec}.xml", text.encode(errors="replace"))
    return await digest_to_snapshot(await create_digest(CreateDigest([file])))


@rule(desc="Test OCI images", level=LogLevel.DEBUG)
async def run_image_tests(
    batch: OciImageTestRequest.Batch[OciImageTestFieldSet, Any], test_subsystem: TestSubsystem
) -> TestResult:
    """One image, as `test` asks for it. Raises what cannot be built; what is not as it should be is a result."""
    field_set = batch.single_element
    address = field_set.address
    image = await image_under_test(address, field_set.image)
    results: tuple[FallibleProcessResult, ...] = ()
    for attempt in range(attempts(test_subsystem)):
        call = Call(
            command="check-image",
            description=f"Test image {field_set.image.value} ({address})",
            request=checks_request(field_set, image),
            layers=(),
            output_files=(_RESULTS,),
            output_directories=(),
            cache_scope=ProcessCacheScope.PER_SESSION if test_subsystem.force else ProcessCacheScope.SUCCESSFUL,
            timeout_seconds=field_set.timeout.calculate_from_global_options(test_subsystem),
            image=image.layout,
        )
        # The engine runs a process once, whatever becomes of it: a second attempt is another one.
        results += (await run_call(call, env={"ATTEMPT": str(attempt)} if attempt else {}),)
        if results[-1].exit_code == 0:
            break
    return test_result(results, address, test_subsystem.output, await xml_of(address, results[-1]))


def rules() -> list[object]:
    return [*collect_rules(), *OciImageTestRequest.rules()]
