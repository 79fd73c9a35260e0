"""Requests to one registry: authorization, redirects, and another try for what may pass."""

from __future__ import annotations

import email.utils
import json
import os
import sys
import threading
import time
import urllib.parse
from dataclasses import dataclass
from typing import Callable, Dict, Mapping, Tuple, TypeVar

from opam_sandbox import passwords
from opam_sandbox.registry import certificates, credentials
from opam_sandbox.registry.authorization import Authorization
from opam_sandbox.registry.connections import Answer, Body, Connections
from opam_sandbox.registry.errors import DeniedError, NoTlsError, PassingError, RegistryError

# Seconds before the second, third ... try; doubled each time. A registry may ask for more.
_FIRST_PAUSE, _LONGEST_PAUSE, _LONGEST_ASKED = 1.0, 30.0, 300.0
_REDIRECTS = 5
_PASSING = frozenset({408, 429, 500, 502, 503, 504})

Result = TypeVar("Result")


@dataclass(frozen=True)
class Access:
    """How a registry is reached. cert_dir: "" for none of its own; retries: tries after the first."""

    host: str
    tls_verify: bool = True
    cert_dir: str = ""
    retries: int = 0


class Client:
    """One registry, for any number of threads. `repository` is where credentials are looked for that hold for a part of it."""

    def __init__(self, access: Access, repository: str, env: Mapping[str, str] = os.environ) -> None:
        self.access = access
        tls = certificates.context(access.host, access.tls_verify, access.cert_dir, env)
        self.connections = Connections(tls, env)
        self._env = env
        self._authorization = Authorization(
            access.host, lambda: credentials.find(access.host, repository, env), self._ask_for_token
        )
        # docker.io has its registry elsewhere.
        host = "registry-1.docker.io" if access.host in credentials.DOCKER_HUB else access.host
        self._top = f"https://{host}"
        self._lock = threading.Lock()
        self._not_before = 0.0

    def close(self) -> None:
        """End all connections."""
        self.connections.close()

    def connect(self) -> None:
        """Find out how the registry wants to be spoken to: TLS or (where `tls_verify` is off) not, and which authorization.

        Raises RegistryError.
        """
        try:
            self.trying(self._greet)
        except NoTlsError:
            if self.access.tls_verify:
                raise
            self._top = self._top.replace("https://", "http://", 1)
            self.trying(self._greet)

    def _greet(self) -> None:
        answer = self._exchange("GET", f"{self._top}/v2/", {})
        if answer.status == 401:
            self._authorization.learn(answer, (), "")
        elif answer.status != 200:
            raise failure(answer, f"GET {self.access.host}/v2/")

    def trying(self, action: Callable[[], Result]) -> Result:
        """What `action` returns, which is done again as often as `retries` says where it raises PassingError."""
        pause = _FIRST_PAUSE
        for attempt in range(self.access.retries + 1):
            self._wait()
            try:
                return action()
            except PassingError as error:
                if error.pause:
                    self._hold(error.pause)
                if attempt == self.access.retries:
                    tries = f", tried {attempt + 1} times" if attempt else ""
                    raise PassingError(f"{error}{tries}", error.status) from None
                seconds = max(error.pause, pause)
                print(
                    f"{self.access.host}: {error}\nTrying again in {seconds:.0f} s ({attempt + 1} of {self.access.retries}).",
                    file=sys.stderr,
                    flush=True,
                )
                time.sleep(seconds)
                pause = min(2 * pause, _LONGEST_PAUSE)
        raise AssertionError("not reached")

    def send(
        self,
        method: str,
        path: str,
        scopes: Tuple[str, ...],
        headers: Mapping[str, str] = {},
        body: Body = b"",
    ) -> Answer:
        """The answer to a request, once: what may pass raises PassingError, anything else is for the caller to look at.

        path: below the registry's top, or a whole address that it named. scopes: as an authorization server calls what the
        request does.
        """
        url = urllib.parse.urljoin(f"{self._top}/", path)
        for _ in range(_REDIRECTS):
            if not url.startswith("https://") and (self.access.tls_verify or not url.startswith("http://")):
                raise RegistryError(f"{method} {self.access.host}: it leads to an address that is not https")
            answer = self._authorized(method, url, scopes, headers, body)
            location = answer.headers.get("location")
            if answer.status not in (301, 302, 303, 307, 308) or not location:
                break
            url = urllib.parse.urljoin(url, location)
        else:
            raise RegistryError(f"{method} {self.access.host}: it redirects more than {_REDIRECTS} times")
        if answer.status in _PASSING:
            raise failure(answer, f"{method} {self._shown(path)}")
        return answer

    def _authorized(
        self, method: str, url: str, scopes: Tuple[str, ...], headers: Mapping[str, str], body: Body
    ) -> Answer:
        # Storage that a registry redirects to is not to see its passwords, and refuses what it did not ask for.
        if not self._is_own(url):
            return self._exchange(method, url, headers, body)
        used = self._authorization.header(scopes)
        answer = self._exchange(method, url, {**headers, **({"Authorization": used} if used else {})}, body)
        if answer.status == 401 and self._authorization.learn(answer, scopes, used):
            used = self._authorization.header(scopes)
            answer = self._exchange(method, url, {**headers, **({"Authorization": used} if used else {})}, body)
        return answer

    def _exchange(self, method: str, url: str, headers: Mapping[str, str], body: Body = b"") -> Answer:
        try:
            return self.connections.exchange(method, url, {"User-Agent": "opam-oci", **headers}, body)
        except RegistryError as error:
            # A proxy's address may have a password.
            error.args = (passwords.hide_proxies(str(error), self._env),)
            raise

    def _ask_for_token(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        if url.startswith("http://") and self.access.tls_verify and "Authorization" in headers:
            raise DeniedError(f"{self.access.host} wants passwords to be sent in plain HTTP, to another server", 401)
        return self._exchange(method, url, headers, body)

    def _is_own(self, url: str) -> bool:
        own, other = urllib.parse.urlsplit(self._top), urllib.parse.urlsplit(url)
        return (own.scheme, own.hostname, own.port) == (other.scheme, other.hostname, other.port)

    def _shown(self, path: str) -> str:
        parts = urllib.parse.urlsplit(urllib.parse.urljoin(f"https://{self.access.host}/", path))
        return f"{self.access.host}{parts.path}"

    def _wait(self) -> None:
        """All threads are as slow as the registry asked one of them to be."""
        with self._lock:
            left = self._not_before - time.monotonic()
        if left > 0:
            time.sleep(left)

    def _hold(self, seconds: float) -> None:
        with self._lock:
            self._not_before = max(self._not_before, time.monotonic() + seconds)


def repository_in(host: str, path: str) -> str:
    """What a registry calls the repository of a reference HOST/PATH."""
    return f"library/{path}" if host in credentials.DOCKER_HUB and "/" not in path else path


def failure(answer: Answer, where: str) -> RegistryError:
    """The error for an answer that is none of those that were hoped for."""
    text = f"{where}: status {answer.status}{_reason(answer)}"
    if answer.status in _PASSING:
        return PassingError(text, answer.status, _asked_pause(answer.headers))
    if answer.status == 401:
        return DeniedError(f"{where}: unauthorized: authentication required (status 401){_reason(answer)}", 401)
    if answer.status == 403:
        return DeniedError(f"{where}: denied (status 403){_reason(answer)}", 403)
    return RegistryError(text, answer.status)


def _reason(answer: Answer) -> str:
    """What the registry says, as the specification has it; "" where it says nothing."""
    try:
        errors: Dict[str, str] = json.loads(answer.content)["errors"][0]
        text = " ".join(str(errors[key]) for key in ("code", "message", "detail") if errors.get(key))
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""
    return ": " + "".join(char if char.isprintable() else " " for char in text)[:300]


def _asked_pause(headers: Mapping[str, str]) -> float:
    """What `Retry-After` asks for: seconds, or a date."""
    value = headers.get("retry-after", "").strip()
    if value.isdigit():
        seconds = float(value)
    else:
        parsed = email.utils.parsedate_tz(value)
        seconds = email.utils.mktime_tz(parsed) - time.time() if parsed else 0.0
    return min(max(seconds, 0.0), _LONGEST_ASKED)
