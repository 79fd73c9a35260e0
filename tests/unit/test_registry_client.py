"""What a client of registries reads: credentials, challenges, proxies, configuration, and what it remembers."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest

from opam_sandbox.errors import ToolError
from opam_sandbox.registry import credentials
from opam_sandbox.registry.authorization import challenges
from opam_sandbox.registry.client import _asked_pause, repository_in
from opam_sandbox.registry.connections import _is_left_out
from opam_sandbox.registry.credentials import Credential
from opam_sandbox.registry.known import Known
from opam_sandbox.registry.manifests import fallback_tag
from opam_sandbox.registry.registries_conf import may_lead_elsewhere

A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


def auth(user: str, password: str) -> Dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def found(
    tmp_path: Path, values: Any, host: str = "r.example.org", repository: str = "team/app"
) -> Optional[Credential]:
    path = tmp_path / "auth.json"
    path.write_text(values if isinstance(values, str) else json.dumps(values))
    return credentials.find(host, repository, {"REGISTRY_AUTH_FILE": str(path)})


@pytest.mark.parametrize(
    ("places", "user"),
    [
        (["r.example.org"], "r.example.org"),
        (["https://r.example.org/v1/"], "https://r.example.org/v1/"),
        (["r.example.org", "r.example.org/team", "r.example.org/team/ap"], "r.example.org/team"),
        (["r.example.org/team/app", "r.example.org/team"], "r.example.org/team/app"),
        (["r.example.org:443", "other.example.org"], None),
    ],
)
def test_the_closest_entry_is_taken(tmp_path: Path, places: List[str], user: Optional[str]) -> None:
    credential = found(tmp_path, {"auths": {place: auth(place.replace(":", "_"), "pw:x") for place in places}})
    assert credential == (Credential(user.replace(":", "_"), "pw:x") if user else None)
    assert "pw" not in repr(credential)


def test_docker_hub_has_several_names(tmp_path: Path) -> None:
    values = {"auths": {"https://index.docker.io/v1/": auth("u", "p")}}
    assert found(tmp_path, values, "docker.io", "library/x") == Credential("u", "p")


def test_an_identity_token(tmp_path: Path) -> None:
    values = {"auths": {"r.example.org": {**auth("u", "p"), "identitytoken": "t"}}}
    assert found(tmp_path, values) == Credential(identity_token="t")


@pytest.mark.parametrize(
    "values",
    ["[]", "{", '{"auths": [1]}', '{"auths": {"r.example.org": 1}}', '{"auths": {"r.example.org": {"auth": "x"}}}'],
)
def test_files_that_are_no_auth_files(tmp_path: Path, values: str) -> None:
    with pytest.raises(ToolError, match=str(tmp_path / "auth.json")):
        found(tmp_path, values)


def test_without_files_there_are_no_credentials(tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    assert credentials.find("r.example.org", "app", env) is None
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker/config.json").write_text(json.dumps({"auths": {"r.example.org": auth("u", "p")}}))
    assert credentials.find("r.example.org", "app", env) == Credential("u", "p")


def test_a_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "docker-credential-test"
    helper.write_text(
        '#!/bin/sh\nread host\ncase $host in r.example.org) echo \'{"Username": "u", "Secret": "s"}\' ;;'
        " none.example.org) echo 'credentials not found in native keychain'; exit 1 ;; *) echo hunter2; exit 1 ;; esac\n"
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    hosts = ("r.example.org", "none.example.org", "bad.example.org")
    values = {"credHelpers": {host: "test" for host in hosts}}
    assert found(tmp_path, values) == Credential("u", "s")
    assert found(tmp_path, values, "none.example.org") is None
    with pytest.raises(ToolError) as raised:
        found(tmp_path, values, "bad.example.org")
    assert "docker-credential-test" in str(raised.value) and "hunter2" not in str(raised.value)
    with pytest.raises(ToolError, match="docker-credential-gone"):
        found(tmp_path, {"credsStore": "gone"})


def test_challenges() -> None:
    header = (
        'Bearer realm="https://a.example.org/token",service="r, \\"s\\"",scope="repository:a:pull,push", Basic realm=x'
    )
    bearer, basic = challenges(header)
    assert bearer.scheme == "bearer" and bearer.parameters["realm"] == "https://a.example.org/token"
    assert bearer.parameters["scope"] == "repository:a:pull,push"
    assert (basic.scheme, dict(basic.parameters)) == ("basic", {"realm": "x"})
    assert challenges("") == []


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "expected"),
    [
        ("", "r.example.org", 443, False),
        ("*", "r.example.org", 443, True),
        ("example.org", "r.example.org", 443, True),
        (".example.org", "r.example.org", 443, True),
        ("*.example.org", "r.example.org", 443, True),
        ("ample.org", "r.example.org", 443, False),
        ("a.org, r.example.org:5000", "r.example.org", 5000, True),
        ("r.example.org:5000", "r.example.org", 443, False),
        ("10.0.0.0/8", "10.1.2.3", 80, True),
        ("10.0.0.0/8", "11.1.2.3", 80, False),
        ("10.0.0.0/8", "ten.example.org", 80, False),
        ("10.1.2.3", "10.1.2.3", 80, True),
        ("fd00::1", "fd00::1", 80, True),
        ("[fd00::1]:80", "fd00::1", 80, True),
        ("[fd00::1]:81", "fd00::1", 80, False),
    ],
)
def test_hosts_that_no_proxy_is_for(no_proxy: str, host: str, port: int, expected: bool) -> None:
    assert _is_left_out(host, port, no_proxy) == expected


def test_how_long_a_registry_wants_to_be_left_alone() -> None:
    assert _asked_pause({}) == 0.0
    assert _asked_pause({"retry-after": "7"}) == 7.0
    assert _asked_pause({"retry-after": "100000"}) == 300.0
    assert _asked_pause({"retry-after": "Fri, 01 Jan 2100 00:00:00 GMT"}) == 300.0
    assert _asked_pause({"retry-after": "Fri, 01 Jan 1999 00:00:00 GMT"}) == 0.0
    assert _asked_pause({"retry-after": "soon"}) == 0.0


def test_where_skopeo_may_be_led_elsewhere(tmp_path: Path) -> None:
    own = tmp_path / ".config/containers/registries.conf.d"
    own.mkdir(parents=True)
    env = {"HOME": str(tmp_path)}
    (own / "a.conf").write_text('# prefix = "x"\n[[registry]]\nlocation = "r.example.org"\ninsecure = true\n')
    assert may_lead_elsewhere(env) == ""
    (own / "b.conf").write_text('[[registry]]\nprefix = "r.example.org"\nlocation = "127.0.0.1:1"\n')
    assert may_lead_elsewhere(env) == str(own / "b.conf")
    named = tmp_path / "named.conf"
    named.write_text('registry = [{prefix = "a", location = "b"}]\n')
    assert may_lead_elsewhere({**env, "CONTAINERS_REGISTRIES_CONF": str(named)}) == str(named)


def test_what_is_remembered(tmp_path: Path) -> None:
    first = Known(tmp_path / "known", "127.0.0.1:5000")
    assert first.repositories(A, "one") == []
    first.add([A, B], "one")
    first.add([A], "two")
    first.add([A], "one")
    again = Known(tmp_path / "known", "127.0.0.1:5000")
    assert again.repositories(A, "three") == ["two", "one"]
    assert again.repositories(A, "two") == ["one"] and again.repositories(B, "one") == []
    assert Known(tmp_path / "known", "127.0.0.1:5001").repositories(A, "three") == []
    [file] = (tmp_path / "known").iterdir()
    file.write_bytes(b"nonsense\n\xff\n" + f"{A} ../../x\n{B} two\n".encode())
    damaged = Known(tmp_path / "known", "127.0.0.1:5000")
    assert damaged.repositories(A, "three") == [] and damaged.repositories(B, "three") == ["two"]


def test_where_nothing_can_be_remembered(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for known in (Known(tmp_path / "file", "r"), Known(None, "r")):
        known.add([A], "one")
        assert known.repositories(A, "two") == []


def test_repositories() -> None:
    assert repository_in("docker.io", "hello") == "library/hello"
    assert repository_in("docker.io", "team/hello") == "team/hello"
    assert repository_in("r.example.org", "hello") == "hello"


def test_the_tag_that_lists_referrers() -> None:
    assert fallback_tag(A) == f"sha256-{'a' * 64}"
