"""How what was pushed to a registry is signed: by a program of this machine, in a process in the foreground, behind the pushes.

The image's digest and names are known by then: nothing of this has a say in them.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Sequence, cast

from pants.base.build_environment import get_buildroot
from pants.core.goals.publish import PublishOutputData, PublishPackages
from pants.engine.env_vars import EnvironmentVarsRequest
from pants.engine.fs import CreateDigest, Digest
from pants.util.docutil import bin_name

from opam_oci.host.programs import ProgramRequest, env_names, look_for_program
from opam_oci.host.skopeo import SKOPEO_ENV, skopeo_env
from opam_oci.pants_engine.calls import create_digest, environment_vars
from opam_oci.pants_engine.rules import collect_rules, implicitly, uncacheable_rule
from opam_oci.publishing.destinations import Destination
from opam_oci.sandbox.process import REQUEST_FILE, publishing_process, request_file
from opam_oci.sandbox.tool import find_sandbox_tool
from opam_oci.subsystems.oci_publish import OciPublishSubsystem
from opam_oci.subsystems.oci_sign import OciSignSubsystem, Signer, SigningOptionError

if TYPE_CHECKING:
    from opam_sandbox.publishing.requests import SignRequest

# Makes key pairs from this one on. Debian 12 has 1.9, built without these signatures.
_SKOPEO_MINIMUM = (1, 10)
# What makers of key pairs call the private one, beside NAME.pub: skopeo, others of sigstore.
_PRIVATE = (".private", ".key")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(frozen=True)
class SignaturesRequest:
    """Asks how an image is signed in a repository of a registry. `digest`: of its manifest; `documents`: its layout, of which the
    layers may be missing; `destination`: no layout directory."""

    address: str
    digest: str
    documents: Digest
    destination: Destination


@dataclass(frozen=True)
class Signatures:
    """What Pants runs after the pushes: one process, or none where nothing is signed."""

    packages: tuple[PublishPackages, ...]


def key_options(key: str, public_key: str, build_root: str) -> tuple[str, str]:
    """The absolute paths of the private and the public key's files. Raises SigningOptionError where one is not there."""
    if not key:
        raise SigningOptionError("`[oci-sign].signer` is skopeo, which needs a private key: set `[oci-sign].key`.")
    stem, extension = os.path.splitext(key)
    if not public_key and extension in _PRIVATE:
        public_key = f"{stem}.pub"
    if not public_key:
        raise SigningOptionError(
            f"`[oci-sign].key` is {key}, so that `[oci-sign].public_key` must say by which key signatures are verified."
        )
    found = []
    for option, value in (("key", key), ("public_key", public_key)):
        path = os.path.join(build_root, os.path.expanduser(value))
        if not os.path.isfile(path) or not os.access(path, os.R_OK):
            raise SigningOptionError(
                f"The file of `[oci-sign].{option}`, {path}, is not there, or cannot be read. Nothing was published."
            )
        found.append(path)
    return found[0], found[1]


def check_variables(names: Sequence[str], password: str) -> None:
    """Raise SigningOptionError for what is no name of an environment variable. The message does not say what else it is."""
    for option, values in (("env_vars", names), ("password_env_var", (password,) if password else ())):
        if not all(_NAME.match(value) for value in values):
            raise SigningOptionError(
                f"`[oci-sign].{option}` takes names of environment variables, such as COSIGN_PASSWORD, and no values: "
                "those are taken from the environment that Pants runs in."
            )


def commands_of(sign: OciSignSubsystem) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The options `command` and `verify_command`. Raises SigningOptionError."""
    for option, words in (("command", sign.command), ("verify_command", sign.verify_command)):
        if not words or not any("{reference}" in word for word in words[1:]):
            raise SigningOptionError(
                f"`[oci-sign].signer` is command, which needs `[oci-sign].{option}`: a program and its arguments, in one of "
                "which `{reference}` stands for the image."
            )
    return tuple(sign.command), tuple(sign.verify_command)


async def _programs(sign: OciSignSubsystem, path: str, address: str) -> tuple[str, list[str], list[str]]:
    """The Python for the tool; the program that signs and the one that verifies, each with its arguments."""
    signer = sign.signer
    signs, verifies = (signer.value, *sign.args), (signer.value, *sign.verify_args)
    if signer is Signer.command:
        signs, verifies = commands_of(sign)
    python, found = "", []
    for program, *further in (signs, verifies):
        name = os.path.join(get_buildroot(), program) if "/" in program else program
        minimum, package = (_SKOPEO_MINIMUM, "skopeo") if signer is Signer.skopeo else ((), "")
        request = ProgramRequest((name,), path, f"Signing {address}", package, minimum, debian=13)
        known = await look_for_program(request, **implicitly())
        python = known.python
        found.append([known.path, *further])
    return python, found[0], found[1]


# Not cached: whether programs and keys are there may change at any time.
@uncacheable_rule
async def find_signatures(
    request: SignaturesRequest, sign: OciSignSubsystem, publish: OciPublishSubsystem
) -> Signatures:
    """The process that has an image signed. Raises SigningOptionError or MissingProgramError, before anything is pushed."""
    if sign.signer is Signer.none:
        return Signatures(())
    check_variables(sign.env_vars, sign.password_env_var)
    keys = None
    if sign.signer is not Signer.command:
        keys = key_options(sign.key, sign.public_key, get_buildroot())
    names = [*SKOPEO_ENV, *env_names(publish.env_vars), *sign.env_vars, *filter(None, [sign.password_env_var])]
    environment = await environment_vars(EnvironmentVarsRequest(sorted(set(names))))
    python, signs, verifies = await _programs(sign, environment.get("PATH", ""), request.address)
    destination = request.destination
    values: SignRequest = {
        "image": "image",
        "digest": request.digest,
        "repository": destination.repository,
        "signer": cast('Literal["skopeo", "command"]', sign.signer.value),
        "sign": signs,
        "verify": verifies,
        "tls_verify": destination.tls_verify,
        "retries": publish.retries,
        "cert_dir": destination.cert_dir,
        "password": sign.password_env_var,
        "secrets": sorted({*sign.env_vars, *(entry.partition("=")[0] for entry in publish.env_vars)}),
        "directory": get_buildroot(),
        "attached": sign.sign_attached,
        "again": f"{bin_name()} publish {request.address}",
    }
    if keys is not None:
        values["key"], values["public_key"] = keys
    tool = await find_sandbox_tool(**implicitly())
    process = publishing_process(
        tool,
        python,
        ["sign", REQUEST_FILE],
        env=skopeo_env(environment),
        image=request.documents,
        input_digest=await create_digest(CreateDigest([request_file(values)])),
    )
    host = destination.repository.partition("/")[0]
    output = {"digest": request.digest, "repository": destination.repository, "tags": (), "signer": sign.signer.value}
    name = f"{destination.repository}@{request.digest}"
    description = f"{host}, with a signature by {os.path.basename(signs[0])}"
    return Signatures((PublishPackages((name,), process, description, PublishOutputData(output)),))


def rules() -> list[object]:
    return [*collect_rules()]
