"""The user's credentials for a registry, found where skopeo, podman and docker keep them.

Source: containers-auth.json(5); docker's configuration and the protocol of its credential helpers.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional

from opam_sandbox.errors import ToolError
from opam_sandbox.strict_json import parse_object

DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")
# What a helper calls a secret that is an identity token.
_TOKEN_USER = "<token>"
_HELPER_PATIENCE = 60
_LARGEST = 1 << 20


@dataclass(frozen=True)
class Credential:
    """A user and a password, or (`identity_token`) what an authorization server takes in place of both."""

    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of a header `Authorization`."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def find(host: str, repository: str, env: Mapping[str, str]) -> Optional[Credential]:
    """The credential for HOST[:PORT]/repository, None where nobody has logged in. Raises ToolError for a file that cannot be
    read, and for a helper that fails."""
    for path in auth_files(env):
        found = _of_file(path, host, repository)
        if found is not None:
            return found
    return None


def auth_files(env: Mapping[str, str]) -> List[Path]:
    """Where credentials are looked for, in this order: a file that was named is the only one."""
    if env.get("REGISTRY_AUTH_FILE"):
        return [Path(env["REGISTRY_AUTH_FILE"])]
    home = Path(env.get("HOME") or "/nonexistent")
    runtime = env.get("XDG_RUNTIME_DIR")
    first = Path(runtime, "containers") if runtime else Path(f"/run/containers/{os.getuid()}")
    config = Path(env.get("XDG_CONFIG_HOME") or home / ".config")
    docker = Path(env.get("DOCKER_CONFIG") or home / ".docker")
    return [first / "auth.json", config / "containers/auth.json", docker / "config.json"]


def _of_file(path: Path, host: str, repository: str) -> Optional[Credential]:
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ToolError(f"the credentials in {path} cannot be read: {error.strerror}") from None
    if not content.strip():
        return None
    values = parse_object(content, str(path))
    auths, helpers = _object(values, "auths", path), _object(values, "credHelpers", path)
    helper = next((helpers[name] for name in _hosts(host) if name in helpers), None)
    if helper:
        return _ask_helper(str(helper), host)
    by_place = {_place(key): value for key, value in auths.items()}
    for name in _places(host, repository):
        if name in by_place:
            credential = _of_entry(by_place[name], path, name)
            if credential is not None:
                return credential
    if values.get("credsStore"):
        return _ask_helper(str(values["credsStore"]), host)
    return None


def _object(values: Dict[str, Any], key: str, path: Path) -> Dict[str, Any]:
    found = values.get(key) or {}
    if not isinstance(found, dict):
        raise ToolError(f"{path}: its `{key}` should be an object")
    return found


def _hosts(host: str) -> List[str]:
    return [host, *(name for name in DOCKER_HUB if host in DOCKER_HUB and name != host)]


def _places(host: str, repository: str) -> Iterator[str]:
    """The names of entries that hold for a repository, the closest first."""
    for name in _hosts(host):
        parts = repository.split("/")
        for count in range(len(parts), 0, -1):
            yield f"{name}/{'/'.join(parts[:count])}"
        yield name


def _place(key: str) -> str:
    """What an entry of `auths` is for: docker writes `https://HOST/v1/`."""
    without_scheme = key.partition("://")[2] if "://" in key else key
    place = without_scheme.rstrip("/")
    for version in ("/v1", "/v2"):
        if "://" in key and place.endswith(version):
            place = place[: -len(version)]
    return place


def _of_entry(entry: Any, path: Path, name: str) -> Optional[Credential]:
    if not isinstance(entry, dict):
        raise ToolError(f"{path}: the entry {name} of `auths` should be an object")
    if isinstance(entry.get("identitytoken"), str) and entry["identitytoken"]:
        return Credential(identity_token=entry["identitytoken"])
    auth = entry.get("auth")
    if isinstance(auth, str) and auth:
        try:
            user, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            colon = ""
        if not colon:
            raise ToolError(f"{path}: the `auth` of {name} is not the base64 of USER:PASSWORD")
        return Credential(user, password.rstrip("\0"))
    if isinstance(entry.get("username"), str) and isinstance(entry.get("password"), str):
        return Credential(entry["username"], entry["password"])
    return None


def _ask_helper(name: str, host: str) -> Optional[Credential]:
    """What the program docker-credential-NAME says. Raises ToolError; what it printed is not shown, as it may be a secret."""
    program = f"docker-credential-{name}"
    if "/" in name:
        raise ToolError(f"the credential helper {name!r} should be a name, not a path")
    server = "https://index.docker.io/v1/" if host in DOCKER_HUB else host
    try:
        done = subprocess.run(
            [program, "get"],
            input=server.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=_HELPER_PATIENCE,
        )
    except FileNotFoundError:
        raise ToolError(f"the credential helper {program} for {host} is not on PATH") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolError(f"the credential helper {program} for {host} does not run: {type(error).__name__}") from None
    if done.returncode != 0:
        if b"credentials not found" in done.stdout + done.stderr:
            return None
        raise ToolError(f"the credential helper {program} for {host} failed with exit status {done.returncode}")
    try:
        said = json.loads(done.stdout)
        user, secret = said["Username"], said["Secret"]
    except (ValueError, KeyError, TypeError):
        raise ToolError(f"the credential helper {program} for {host} does not print what helpers print") from None
    return Credential(identity_token=secret) if user == _TOKEN_USER else Credential(user, secret)
