"""Connections to hosts that are kept and used again, and one exchange of request and answer over them."""

from __future__ import annotations

import base64
import http.client
import ipaddress
import socket
import ssl
import threading
import urllib.parse
from dataclasses import dataclass
from typing import Dict, Iterator, List, Mapping, Optional, Tuple, Union

from opam_sandbox.registry.errors import CertificateError, NoTlsError, PassingError, RegistryError

# Seconds without a byte: a registry may look at a whole large blob before it answers.
_PATIENCE = 300.0
_CONNECT_PATIENCE = 30.0
# Of an answer: manifests, documents, tokens, errors. (Blobs of layers are never fetched.)
_LARGEST_ANSWER = 8 << 20
_PIECE = 1 << 20

Body = Union[bytes, "Slice"]
Place = Tuple[str, str, int]


@dataclass(frozen=True)
class Slice:
    """`size` bytes of a file from `start` on, as the body of a request."""

    path: str
    start: int
    size: int


@dataclass(frozen=True)
class Answer:
    """What a registry answered. `headers` by their names in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Connections:
    """Connections by place, for any number of threads. `exchanges` and `sent`: how many, and bytes of bodies."""

    def __init__(self, tls: ssl.SSLContext, env: Mapping[str, str]) -> None:
        self._tls = tls
        self._proxies = _proxies(env)
        self._no_proxy = env.get("no_proxy") or env.get("NO_PROXY") or ""
        self._lock = threading.Lock()
        self._idle: Dict[Place, List[http.client.HTTPConnection]] = {}
        self.exchanges = 0
        self.sent = 0

    def close(self) -> None:
        """End all connections that are idle."""
        with self._lock:
            idle, self._idle = self._idle, {}
        for connection in (one for many in idle.values() for one in many):
            connection.close()

    def exchange(self, method: str, url: str, headers: Mapping[str, str], body: Body = b"") -> Answer:
        """One request, one answer; a connection that was kept and has gone meanwhile is replaced once.

        Raises PassingError, CertificateError, NoTlsError, RegistryError.
        """
        parts = urllib.parse.urlsplit(url)
        place = _place(parts)
        target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        where = f"{method} {parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        while True:
            connection, is_kept = self._take(place)
            try:
                answer = self._once(connection, method, target, headers, body)
            except (http.client.HTTPException, OSError) as error:
                connection.close()
                # Servers close what was idle for long; nothing of the request was looked at then.
                if is_kept and isinstance(
                    error, (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)
                ):
                    continue
                raise _explained(error, where, parts.netloc) from None
            except BaseException:
                connection.close()
                raise
            self._keep(place, connection)
            return answer

    def _once(
        self, connection: http.client.HTTPConnection, method: str, target: str, headers: Mapping[str, str], body: Body
    ) -> Answer:
        with self._lock:
            self.exchanges += 1
        if connection.sock is None:
            connection.timeout = _CONNECT_PATIENCE
            connection.connect()
            assert connection.sock is not None
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sock.settimeout(_PATIENCE)
        size = body.size if isinstance(body, Slice) else len(body)
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        if size or method in ("POST", "PUT", "PATCH"):
            connection.putheader("Content-Length", str(size))
        connection.endheaders()
        try:
            for piece in _pieces(body):
                connection.send(piece)
                with self._lock:
                    self.sent += len(piece)
        except (BrokenPipeError, ConnectionResetError):
            # A registry that wants no more of a body may have said why; without an answer this is the error after all.
            return self._answer(connection)
        return self._answer(connection)

    def _answer(self, connection: http.client.HTTPConnection) -> Answer:
        response = connection.getresponse()
        content = response.read(_LARGEST_ANSWER + 1)
        if len(content) > _LARGEST_ANSWER:
            raise http.client.HTTPException(f"the answer is longer than {_LARGEST_ANSWER} bytes")
        headers: Dict[str, str] = {}
        for name, value in response.getheaders():
            key = name.lower()
            headers[key] = f"{headers[key]}, {value}" if key in headers else value
        return Answer(response.status, headers, content)

    def _take(self, place: Place) -> Tuple[http.client.HTTPConnection, bool]:
        with self._lock:
            idle = self._idle.get(place)
            if idle:
                return idle.pop(), True
        return self._new(place), False

    def _keep(self, place: Place, connection: http.client.HTTPConnection) -> None:
        if connection.sock is None:
            return  # the registry wants each on its own
        with self._lock:
            self._idle.setdefault(place, []).append(connection)

    def _new(self, place: Place) -> http.client.HTTPConnection:
        scheme, host, port = place
        proxy = self._proxy(scheme, host, port)
        via = _place(proxy) if proxy else place
        if scheme == "https":
            # Other hosts, such as the storage behind a registry, may be of the same authority.
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(via[1], via[2], context=self._tls)
            if proxy:
                connection.set_tunnel(host, port, headers=_proxy_headers(proxy))
            return connection
        if proxy:
            return _Proxied(via[1], via[2], host, port, _proxy_headers(proxy))
        return http.client.HTTPConnection(host, port)

    def _proxy(self, scheme: str, host: str, port: int) -> Optional[urllib.parse.SplitResult]:
        # As Go's programs: what runs on this machine is never asked through a proxy.
        if host == "localhost" or host.startswith("127.") or host == "::1":
            return None
        value = self._proxies.get(scheme)
        if not value:
            return None
        if _is_left_out(host.lower(), port, self._no_proxy):
            return None
        return urllib.parse.urlsplit(value if "://" in value else f"http://{value}")


class _Proxied(http.client.HTTPConnection):
    """Plain HTTP through a proxy, which wants the whole address."""

    def __init__(self, proxy: str, proxy_port: int, host: str, port: int, headers: Mapping[str, str]) -> None:
        super().__init__(proxy, proxy_port)
        self._for, self._extra = f"{host}:{port}", headers

    def putrequest(self, method: str, url: str, skip_host: bool = False, skip_accept_encoding: bool = False) -> None:
        super().putrequest(method, f"http://{self._for}{url}", skip_host=skip_host, skip_accept_encoding=True)
        for name, value in self._extra.items():
            self.putheader(name, value)


def _place(parts: urllib.parse.SplitResult) -> Place:
    try:
        port = parts.port
    except ValueError:
        raise RegistryError(f"{parts.netloc.rpartition('@')[2]} has no usable port") from None
    return parts.scheme, parts.hostname or "", port or (443 if parts.scheme == "https" else 80)


def _proxies(env: Mapping[str, str]) -> Dict[str, str]:
    found = {}
    for scheme in ("http", "https"):
        name = f"{scheme}_proxy"
        value = env.get(name) or env.get(name.upper()) or env.get("all_proxy") or env.get("ALL_PROXY")
        if value:
            found[scheme] = value
    return found


def _is_left_out(host: str, port: int, no_proxy: str) -> bool:
    """As Go reads the variable: names with what is below them, addresses, networks, each perhaps with a port, or `*`."""
    for entry in no_proxy.lower().split(","):
        name, colon, number = entry.strip().rpartition(":")
        if not colon or not number.isdigit() or ":" in name.strip("[]") and "]" not in name:
            name, number = entry.strip(), ""
        name = name.strip("[]")
        if name == "*":
            return True
        if not name or number not in ("", str(port)):
            continue
        if "/" in name:
            try:
                if ipaddress.ip_address(host) in ipaddress.ip_network(name, strict=False):
                    return True
            except ValueError:
                pass  # no address, or no network
        elif host == name or host.endswith(f".{name.lstrip('*').lstrip('.')}"):
            return True
    return False


def _proxy_headers(proxy: urllib.parse.SplitResult) -> Dict[str, str]:
    if not proxy.username:
        return {}
    pair = f"{urllib.parse.unquote(proxy.username)}:{urllib.parse.unquote(proxy.password or '')}"
    return {"Proxy-Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def _pieces(body: Body) -> Iterator[bytes]:
    if not isinstance(body, Slice):
        if body:
            yield body
        return
    left = body.size
    with open(body.path, "rb") as file:
        file.seek(body.start)
        while left:
            data = file.read(min(_PIECE, left))
            if not data:
                raise RegistryError(f"{body.path} has become shorter while it was sent")
            left -= len(data)
            yield data


def _explained(error: Exception, where: str, host: str) -> RegistryError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return CertificateError(f"{where}: x509: {error.verify_message or error.reason}")
    if isinstance(error, ssl.SSLError):
        if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE"):
            return NoTlsError(f"{where}: the server answers in plain HTTP")
        return PassingError(f"{where}: TLS fails: {error.reason or error}")
    if isinstance(error, socket.gaierror):
        return RegistryError(f"{where}: no such host: {error.strerror}")
    if isinstance(error, (socket.timeout, TimeoutError)):
        return PassingError(f"{where}: no answer in time")
    if isinstance(error, http.client.HTTPException):
        return PassingError(f"{where}: the connection broke: {type(error).__name__}")
    return PassingError(f"{where}: {getattr(error, 'strerror', None) or type(error).__name__}")
