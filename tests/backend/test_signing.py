"""`[oci-sign]`: what processes `publish` asks for. Real programs sign in tests/e2e/test_signing.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pants.core.goals.publish import PublishPackages
from pants.engine.fs import DigestContents
from pants.engine.internals.scheduler import ExecutionError
from pants.testutil.rule_runner import RuleRunner
from pants.util.docutil import bin_name

from opam_sandbox.publishing.requests import SignRequest
from opam_sandbox.request import check
from tests.backend.test_publish import manifest_digest, program, publish, set_up
from tests.backend.test_publish import programs as programs

pytestmark = pytest.mark.usefixtures("fake_tool")

SECRET = "hunter2-very-secret"
FIELDS = 'repositories=["r.example.org/x", "oci:/srv/images"], image_tags=["1", "2"],'


@pytest.fixture
def signers(programs: Path) -> Path:
    """The directory of `programs`, with a skopeo that signs, and a pair of keys."""
    program(programs / "skopeo", "skopeo version 1.18.0")
    (programs / "team.private").touch()
    (programs / "team.pub").touch()
    return programs


def request_of(runner: RuleRunner, found: PublishPackages) -> Any:
    assert found.process is not None
    [file] = runner.request(DigestContents, [found.process.process.input_digest])
    values = json.loads(file.content)
    check(values, SignRequest, "the request")  # as the tool does
    return values


def signed(runner: RuleRunner, signers: Path, *options: str, **env: str) -> PublishPackages:
    """The one process that signs: behind the two tags, and not for the layout directory."""
    address = set_up(runner, signers, FIELDS, *options, **env)
    first, second, found, layout = publish(runner, address)
    names = [one.names for one in (first, second, layout)]
    assert names == [
        ("r.example.org/x:1",),
        ("r.example.org/x:2",),
        ("oci:/srv/images:image:1", "oci:/srv/images:image:2"),
    ]
    assert found.process is not None and "sign" in found.process.process.argv
    return found


def refused(runner: RuleRunner, signers: Path, *options: str) -> str:
    address = set_up(runner, signers, FIELDS, *options)
    with pytest.raises(ExecutionError) as raised:
        publish(runner, address)
    [error] = raised.value.wrapped_exceptions
    assert type(error).__name__ in ("SigningOptionError", "MissingProgramError")
    return str(error)


def test_skopeo(rule_runner: RuleRunner, signers: Path) -> None:
    options = ["--oci-sign-signer=skopeo", f"--oci-sign-key={signers}/team.private", "--oci-sign-password-env-var=PW"]
    more = [
        "--oci-sign-env-vars=KMS",
        "--oci-publish-env-vars=TOKEN=hunter2",
        "--oci-sign-sign-attached",
        "--oci-sign-args=--quiet",
        "--oci-publish-retries=2",
    ]
    found = signed(rule_runner, signers, *options, *more, PW=SECRET, KMS=SECRET)
    address = set_up(rule_runner, signers, FIELDS)
    digest = manifest_digest(rule_runner, address)
    assert found.names == (f"r.example.org/x@{digest}",)
    assert found.description == "r.example.org, with a signature by skopeo"
    assert dict(found.get_output_data()) == {
        "names": found.names,
        "digest": digest,
        "repository": "r.example.org/x",
        "tags": (),
        "signer": "skopeo",
    }
    assert request_of(rule_runner, found) == {
        "image": "image",
        "digest": digest,
        "repository": "r.example.org/x",
        "signer": "skopeo",
        "sign": [f"{signers}/skopeo", "--quiet"],
        "verify": [f"{signers}/skopeo"],
        "tls_verify": True,
        "retries": 2,
        "cert_dir": "",
        "key": f"{signers}/team.private",
        "public_key": f"{signers}/team.pub",
        "password": "PW",
        "secrets": ["KMS", "TOKEN"],
        "directory": rule_runner.build_root,
        "attached": True,
        "again": f"{bin_name()} publish images:image",
    }
    assert found.process is not None
    env = found.process.process.env
    assert (env["PW"], env["KMS"]) == (SECRET, SECRET)
    # What Pants logs at the level debug, and writes for --publish-output.
    assert SECRET not in f"{found.process}{found}{found.get_output_data()}"
    assert SECRET not in json.dumps(request_of(rule_runner, found)) + " ".join(found.process.process.argv)


def test_signing_changes_no_image_and_no_push(rule_runner: RuleRunner, signers: Path) -> None:
    address = set_up(rule_runner, signers, FIELDS)
    plain, digest = publish(rule_runner, address), manifest_digest(rule_runner, address)
    options = ["--oci-sign-signer=skopeo", f"--oci-sign-key={signers}/team.private"]
    set_up(rule_runner, signers, FIELDS, *options, COSIGN_PASSWORD=SECRET)
    found = publish(rule_runner, address)
    assert manifest_digest(rule_runner, address) == digest
    assert [one for one in found if "signer" not in one.get_output_data()] == plain
    assert len(found) == len(plain) + 1


def test_a_command(rule_runner: RuleRunner, signers: Path) -> None:
    rule_runner.write_files({"bin/check": "#!/bin/sh\n"})
    Path(rule_runner.build_root, "bin/check").chmod(0o755)
    options = ["--oci-sign-signer=command", "--oci-sign-command=skopeo -x '{reference}'"]
    found = signed(rule_runner, signers, *options, "--oci-sign-verify-command=bin/check docker://{reference}")
    values = request_of(rule_runner, found)
    assert values["sign"] == [f"{signers}/skopeo", "-x", "{reference}"]
    assert values["verify"] == [f"{rule_runner.build_root}/bin/check", "docker://{reference}"]
    assert not {"key", "public_key"} & set(values)


def test_what_cannot_be_signed_is_not_pushed(rule_runner: RuleRunner, signers: Path) -> None:
    def said(*options: str) -> str:
        return refused(rule_runner, signers, *(f"--oci-sign-{option}" for option in options))

    key = f"key={signers}/team.private"
    assert "needs a private key: set `[oci-sign].key`" in said("signer=skopeo")
    assert "/nowhere.key, is not there" in said("signer=skopeo", "key=/nowhere.key")
    assert "/nowhere.pub, is not there" in said("signer=skopeo", key, "public-key=/nowhere.pub")
    assert "`[oci-sign].public_key` must say" in said("signer=skopeo", f"key={signers}/team")
    program(signers / "skopeo", "skopeo version 1.9.3")
    old = said("signer=skopeo", key)
    assert "has the version 1.9.3, but 1.10 is needed" in old and "on Debian 13 or newer" in old
    missing = said("signer=command", "command=nosuch {reference}", "verify-command=nosuch {reference}")
    assert missing.startswith("Signing images:image needs `nosuch`, which is not on PATH") and "apt-get" not in missing
    for option in ("env-vars=TOKEN=hunter2", "password-env-var=hunter2!"):
        text = said("signer=skopeo", key, option)
        assert "takes names of environment variables" in text and "hunter2" not in text
    for options in (["command=sign {reference}"], ["command=sign it", "verify-command=verify {reference}"]):
        assert "in one of which `{reference}` stands for the image" in said("signer=command", *options)
