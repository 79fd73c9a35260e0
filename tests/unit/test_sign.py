"""`sign`: when programs are called, with what, and what is said of them. Real ones sign in tests/e2e/test_signing.py."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Dict, List

import pytest

from opam_sandbox.errors import ToolError
from opam_sandbox.publishing import sign, signer_program
from opam_sandbox.publishing.requests import SignRequest
from opam_sandbox.publishing.signer_program import Environment
from opam_sandbox.publishing.signers import PASSWORD_FILE, Signed, sign_argv, verify_argv
from tests.support.small_images import make_image

# Nobody answers there, so that programs alone say what is in the registry.
NOWHERE = "127.0.0.1:9/t/image"
SECRET = 'pass"word\\x'


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COSIGN_PASSWORD", SECRET)


def script(name: str, text: str) -> List[str]:
    path = Path(name).absolute()
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return [str(path), "{reference}"]


def request_of(signs: str, verifies: str = "test -e signed", **values: Any) -> Dict[str, Any]:
    index = Path("image/index.json")
    return {
        "image": "image",
        "digest": json.loads(index.read_text())["manifests"][0]["digest"],
        "repository": NOWHERE,
        "signer": "command",
        "sign": script("signer", f'echo "$1" >> calls\n{signs}'),
        "verify": script("verifier", verifies),
        "tls_verify": False,
        "retries": 0,
        "password": "COSIGN_PASSWORD",
        "again": "./pants publish //x:image",
        **values,
    }


def run(request: Dict[str, Any]) -> int:
    Path("request.json").write_text(json.dumps(request))
    return sign.run(argparse.Namespace(request="request.json"))


def calls() -> List[str]:
    return Path("calls").read_text().split() if Path("calls").exists() else []


def test_an_image_is_signed_once(capsys: pytest.CaptureFixture[str]) -> None:
    reference = f"{NOWHERE}@{make_image(Path('image'), [{'a': b'1'}])}"
    request = request_of("touch signed", public_key="/keys/a.pub")
    assert run(request) == 0
    said = capsys.readouterr()
    assert said.out == f"{reference}\n"
    assert f"{reference}: signed by signer; the signature of /keys/a.pub is valid" in said.err
    assert run(request) == 0
    assert "has a valid signature of /keys/a.pub already, and is not signed again" in capsys.readouterr().err
    assert calls() == [reference]


@pytest.mark.parametrize(
    "signs, message",
    [
        ("echo first; echo 'no key' >&2; exit 3", "signer ended with exit status 3: no key"),
        ("kill -9 $$", "signer ended with signal 9: it said nothing"),
        (
            "exit 0",
            "signer signed it, but there is no valid signature: verifier ended with exit status 1: it said nothing",
        ),
    ],
)
def test_what_is_left_unsigned_is_an_error(signs: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    reference = f"{NOWHERE}@{make_image(Path('image'), [{'a': b'1'}])}"
    with pytest.raises(ToolError) as raised:
        run(request_of(signs))
    assert str(raised.value) == (
        f"{reference} is NOT signed: {message}\n"
        "When that is mended, `./pants publish //x:image` signs it, and sends nothing again."
    )
    assert capsys.readouterr().out == ""


def test_a_program_that_does_not_start() -> None:
    make_image(Path("image"), [{"a": b"1"}])
    request = request_of("", "exit 1")
    Path("signer").chmod(0o644)
    with pytest.raises(ToolError, match=r"is NOT signed: /\S+/signer does not start: Permission denied"):
        run(request)


def test_another_image_is_not_signed() -> None:
    digest = make_image(Path("image"), [{"a": b"1"}])
    with pytest.raises(ToolError, match=f"^image should hold the image sha256:00, but holds {digest}$"):
        run(request_of("touch signed", digest="sha256:00"))
    assert calls() == []


def test_what_was_not_pushed_is_not_signed(capsys: pytest.CaptureFixture[str]) -> None:
    """Where the registry cannot be asked, what is about an image is not pushed."""
    make_image(Path("image"), [{"a": b"1"}], referrers=2)
    assert run(request_of("touch signed", attached=True)) == 0
    assert capsys.readouterr().err.count("is about the image, but was not pushed, and is not signed") == 2
    assert len(calls()) == 1


@pytest.mark.parametrize(
    "says",
    [
        'printf "%s\\n" "$COSIGN_PASSWORD"',
        'printf "level=fatal msg=\\"wrong: pass\\\\\\"word\\\\\\\\x\\"\\n"',  # as skopeo's logger writes it
        'echo "$TOKEN"',
    ],
)
def test_passwords_are_not_shown(says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "t0k")
    make_image(Path("image"), [{"a": b"1"}])
    with pytest.raises(ToolError) as raised:
        run(request_of(f"{says} >&2; exit 1", secrets=["TOKEN"]))
    assert "***" in str(raised.value)
    assert not any(value in str(raised.value) for value in (SECRET, SECRET.replace("\\x", ""), "t0k"))


def test_the_password_comes_through_a_pipe() -> None:
    words = script("signer", 'cat "${1#--file=}" > read; tr "\\0" " " < /proc/$$/cmdline > words; env > variables')
    env = Environment({"PATH": "/usr/bin:/bin", "COSIGN_PASSWORD": SECRET, "OTHER": "1"}, "COSIGN_PASSWORD")
    assert signer_program.run([words[0], f"--file={PASSWORD_FILE}"], env, "").code == 0
    assert Path("read").read_text() == SECRET
    seen = Path("words").read_text() + Path("variables").read_text()
    assert SECRET not in seen and "--file=/dev/fd/" in seen and "OTHER=1" in seen
    assert signer_program.run([words[0], f"--file={PASSWORD_FILE}"], Environment({}, "COSIGN_PASSWORD"), "").code == 0
    assert Path("read").read_text() == ""
    long = Environment({"P": "x" * 5000}, "P")
    with pytest.raises(ToolError, match="^The password of the private key has more than 4096 bytes"):
        signer_program.run([PASSWORD_FILE], long, "")


def test_what_terminals_take_for_commands_is_not_shown() -> None:
    words = script("signer", "printf 'a\\033[2Jb\\n\\351'")
    assert signer_program.run(words, Environment({}), "").text == "a [2Jb\n\ufffd"


REQUEST: SignRequest = {
    "image": "image",
    "digest": f"sha256:{'1' * 64}",
    "repository": "r.example.org/x",
    "signer": "skopeo",
    "sign": ["/bin/skopeo", "--more"],
    "verify": ["/bin/skopeo", "--less"],
    "tls_verify": True,
    "retries": 2,
    "cert_dir": "certs",
    "key": "/k/a.key",
    "public_key": "/k/a.pub",
}
REFERENCE = f"r.example.org/x@sha256:{'1' * 64}"
SUBJECT = Signed(REFERENCE, [f"sha256:{'2' * 64}"])


def test_skopeo(tmp_path: Path) -> None:
    place = f"docker://{REFERENCE}"
    assert sign_argv(REQUEST, SUBJECT, tmp_path) == [
        *("/bin/skopeo", "--insecure-policy", f"--registries.d={tmp_path}/registries.d", "copy", "--preserve-digests"),
        *("--retry-times=2", "--src-tls-verify=true", "--src-cert-dir=certs", "--dest-tls-verify=true"),
        *(
            "--dest-cert-dir=certs",
            "--sign-by-sigstore-private-key=/k/a.key",
            f"--sign-passphrase-file={PASSWORD_FILE}",
        ),
        *("--more", place, place),
    ]
    assert verify_argv(REQUEST, SUBJECT, tmp_path) == [
        *("/bin/skopeo", f"--policy={tmp_path}/policy.json", f"--registries.d={tmp_path}/registries.d", "copy"),
        *("--remove-signatures", "--retry-times=2", "--src-tls-verify=true", "--src-cert-dir=certs", "--less"),
        *(place, f"oci:{tmp_path}/layout:image"),
    ]
    policy = json.loads((tmp_path / "policy.json").read_text())
    assert policy["default"] == [{"type": "reject"}]
    [wanted] = policy["transports"]["docker"][""]
    assert (wanted["type"], wanted["keyPath"]) == ("sigstoreSigned", "/k/a.pub")
    assert (tmp_path / f"layout/blobs/sha256/{'2' * 64}").stat().st_size == 0
