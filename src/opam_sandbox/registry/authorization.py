"""Who asks: passwords, and tokens that an authorization server gives for them.

Source: distribution-spec 1.1; "Token Authentication" and "OAuth2 Token Authentication" of the distribution project.
"""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.parse
from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, Optional, Tuple

from opam_sandbox.registry.connections import Answer
from opam_sandbox.registry.credentials import Credential
from opam_sandbox.registry.errors import DeniedError, PassingError, RegistryError

# Seconds that a token is good for where its giver does not say, and how long before its end it is not used any more.
_LIFETIME, _MARGIN = 60.0, 10.0

_CHALLENGE = re.compile(r'(\w+)\s+((?:[\w-]+\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s,"]+)\s*,?\s*)*)')
_PARAMETER = re.compile(r'([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')

# Asks an authorization server: method, address, headers, body.
Ask = Callable[[str, str, Mapping[str, str], bytes], Answer]


@dataclass(frozen=True)
class Challenge:
    """What a registry wants: `scheme` is "basic" or "bearer"."""

    scheme: str
    parameters: Mapping[str, str]


def challenges(header: str) -> List[Challenge]:
    """Those of a header `WWW-Authenticate`."""
    return [
        Challenge(scheme.lower(), {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(text)})
        for scheme, text in _CHALLENGE.findall(header)
    ]


class Authorization:
    """The header `Authorization` for requests of any number of threads. `credential` is found when it is first needed."""

    def __init__(self, host: str, find: Callable[[], Optional[Credential]], ask: Ask) -> None:
        self._host, self._find, self._ask = host, find, ask
        self._lock = threading.Lock()
        self._is_found = False
        self._credential: Optional[Credential] = None
        self._challenge: Optional[Challenge] = None
        # By scopes: the header, and until when it is good (time.monotonic).
        self._tokens: Dict[Tuple[str, ...], Tuple[str, float]] = {}

    def header(self, scopes: Tuple[str, ...]) -> str:
        """For a request that needs these scopes ("repository:NAME:pull,push"); "" where none is needed. Raises RegistryError."""
        with self._lock:
            challenge = self._challenge
            if challenge is None:
                return ""
            if challenge.scheme == "basic":
                return self._basic()
            known = self._tokens.get(scopes)
            if known is None or known[1] < time.monotonic():
                known = self._tokens[scopes] = self._token(challenge, scopes)
            return known[0]

    def learn(self, answer: Answer, scopes: Tuple[str, ...], used: str) -> bool:
        """Look at an answer of status 401 to a request that bore `used`. Says whether another try makes sense."""
        known = challenges(answer.headers.get("www-authenticate", ""))
        chosen = next((one for scheme in ("bearer", "basic") for one in known if one.scheme == scheme), None)
        if chosen is None:
            return False
        with self._lock:
            if used and chosen.scheme == "basic":
                return False
            if used:
                # Expired, perhaps: one that is older is not taken again, a new one may do.
                token = self._tokens.get(scopes)
                if token is not None and token[0] == used:
                    del self._tokens[scopes]
            self._challenge = chosen
        return True

    def _basic(self) -> str:
        credential = self._known()
        if credential is None or credential.identity_token:
            raise DeniedError("authentication required", 401)
        return credential.basic

    def _known(self) -> Optional[Credential]:
        if not self._is_found:
            self._credential, self._is_found = self._find(), True
        return self._credential

    def _token(self, challenge: Challenge, scopes: Tuple[str, ...]) -> Tuple[str, float]:
        realm, service = challenge.parameters.get("realm", ""), challenge.parameters.get("service", "")
        if not realm.startswith(("https://", "http://")):
            raise RegistryError(f"{self._host} names no server for authorization", 401)
        credential = self._known()
        values = [("service", service)] if service else []
        if credential is not None and credential.identity_token:
            values += [("grant_type", "refresh_token"), ("refresh_token", credential.identity_token)]
            form = urllib.parse.urlencode([*values, ("client_id", "opam-oci"), ("scope", " ".join(scopes))]).encode()
            answer = self._ask("POST", realm, {"Content-Type": "application/x-www-form-urlencoded"}, form)
        else:
            values += [("scope", scope) for scope in scopes]
            headers = {}
            if credential is not None:
                values.append(("account", credential.user))
                headers["Authorization"] = credential.basic
            joint = "&" if "?" in realm else "?"
            answer = self._ask("GET", f"{realm}{joint}{urllib.parse.urlencode(values)}", headers, b"")
        return _read_token(answer, self._host)


def _read_token(answer: Answer, host: str) -> Tuple[str, float]:
    if answer.status == 429 or answer.status >= 500:
        raise PassingError(f"the server for authorization of {host} answers with status {answer.status}", answer.status)
    if answer.status != 200:
        raise DeniedError(f"authentication required: no token is given for {host} (status {answer.status})", 401)
    try:
        said = json.loads(answer.content)
        token = said.get("token") or said["access_token"]
        lifetime = float(said.get("expires_in") or _LIFETIME)
    except (ValueError, KeyError, TypeError, AttributeError):
        token = ""
    if not isinstance(token, str) or not token or not token.isprintable():
        raise RegistryError(f"the server for authorization of {host} gives no token")
    return f"Bearer {token}", time.monotonic() + max(lifetime - _MARGIN, 1.0)
