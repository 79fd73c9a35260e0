"""A real registry (Debian's docker-registry) on loopback, and a front before it that misbehaves as registries do."""

from __future__ import annotations

import base64
import http.client
import http.server
import json
import re
import shutil
import socket
import socketserver
import subprocess
import threading
import time
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional, Tuple

from tests.support.checkout import tool

USER, PASSWORD = "carol", "correct horse battery"


@dataclass
class Tls:
    """A certificate of our own authority for 127.0.0.1."""

    directory: Path

    @classmethod
    def make(cls, directory: Path) -> "Tls":
        directory.mkdir()
        (directory / "v3").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        run = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        tool(*run, "-x509", "-days", "2", "-subj", "/CN=test-ca", "-keyout", "ca.key", "-out", "ca.crt", cwd=directory)
        tool(*run, "-subj", "/CN=127.0.0.1", "-keyout", "server.key", "-out", "server.csr", cwd=directory)
        sign = ["openssl", "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"]
        tool(*sign, "-days", "2", "-extfile", "v3", "-out", "server.crt", cwd=directory)
        (directory / "client").mkdir()
        shutil.copy(directory / "ca.crt", directory / "client")
        return cls(directory)

    @property
    def for_clients(self) -> Path:
        return self.directory / "client"


@dataclass
class Request:
    """A line of the registry's access log."""

    method: str
    path: str
    status: int

    @property
    def is_upload(self) -> bool:
        """The end of a blob's upload."""
        return self.method == "PUT" and "/blobs/uploads/" in self.path

    @property
    def is_mount(self) -> bool:
        return self.method == "POST" and "mount=" in self.path and self.status == 201

    @property
    def is_manifest(self) -> bool:
        return self.method == "PUT" and "/manifests/" in self.path


@dataclass
class TokenServer:
    """Gives tokens for a registry to who has the password. `asked`: the scopes that it was asked for."""

    directory: Path
    asked: List[List[str]] = field(default_factory=list)

    def __enter__(self) -> "TokenServer":
        server = self
        self.directory.mkdir()
        key = ["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-x509", "-days", "2", "-subj", "/CN=tokens"]
        tool(*key, "-keyout", "tokens.key", "-out", "tokens.crt", cwd=self.directory)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                basic = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
                if self.headers["Authorization"] != basic:
                    self.send_error(401)
                    return
                scopes = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query).get("scope", [])
                server.asked.append(scopes)
                text = json.dumps({"token": server.token(scopes), "expires_in": 300}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/token"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()

    def token(self, scopes: List[str]) -> str:
        """A JSON web token, signed by openssl."""
        lines = (self.directory / "tokens.crt").read_text().splitlines()
        head = {"typ": "JWT", "alg": "RS256", "x5c": ["".join(lines[1:-1])]}
        now = int(time.time())
        access = []
        for kind, name, actions in (scope.split(":", 2) for scope in scopes):
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        claims = {"iss": "test", "aud": "test", "sub": USER, "exp": now + 300, "nbf": now - 5, "iat": now, "jti": "1"}
        signed = b".".join(_base64(json.dumps(part).encode()) for part in (head, {**claims, "access": access}))
        sign = ["openssl", "dgst", "-sha256", "-sign", str(self.directory / "tokens.key")]
        signature = subprocess.run(sign, input=signed, stdout=subprocess.PIPE, check=True).stdout
        return (signed + b"." + _base64(signature)).decode()


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


_LINE = re.compile(r'"([A-Z]+) (\S+) HTTP/[0-9.]+" (\d{3}) ')


@dataclass
class Registry:
    """docker-registry with storage below `directory`."""

    directory: Path
    tls: Optional[Tls] = None
    auth: bool = False
    tokens: "Optional[TokenServer]" = None
    port: int = 0
    _process: "Optional[subprocess.Popen[bytes]]" = None
    _seen: int = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def storage(self) -> Path:
        return self.directory / "storage"

    def __enter__(self) -> "Registry":
        self.directory.mkdir(parents=True)
        self.port = free_port()
        config = [
            "version: 0.1",
            "log: {level: warn, accesslog: {disabled: false}}",
            f"storage: {{filesystem: {{rootdirectory: {self.storage}}}, delete: {{enabled: true}}}}",
            "http:",
            f"  addr: {self.address}",
        ]
        if self.tls:
            where = self.tls.directory
            config.append(f"  tls: {{certificate: {where}/server.crt, key: {where}/server.key}}")
        if self.auth:
            done = tool("htpasswd", "-Bbn", USER, PASSWORD)
            (self.directory / "htpasswd").write_text(done.stdout)
            config.append(f"auth: {{htpasswd: {{realm: test, path: {self.directory}/htpasswd}}}}")
        if self.tokens:
            config.append(
                f"auth: {{token: {{realm: '{self.tokens.address}', service: test, issuer: test, "
                f"rootcertbundle: {self.tokens.directory}/tokens.crt}}}}"
            )
        (self.directory / "config.yml").write_text("\n".join(config) + "\n")
        with open(self.directory / "log", "wb") as log:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", str(self.directory / "config.yml")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            time.sleep(0.05)
        raise AssertionError((self.directory / "log").read_text())

    def __exit__(self, *_: Any) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait()

    def requests(self) -> List[Request]:
        """What was asked since the last call."""
        found = [
            Request(match.group(1), match.group(2), int(match.group(3)))
            for match in _LINE.finditer((self.directory / "log").read_text())
        ]
        new, self._seen = found[self._seen :], len(found)
        return new

    def blobs(self) -> List[Path]:
        return list((self.storage / "docker/registry/v2/blobs").glob("sha256/*/*/data"))

    def tags(self, repository: str) -> List[str]:
        path = self.storage / f"docker/registry/v2/repositories/{repository}/_manifests/tags"
        return sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# What to do with a request: None lets it through; a status is answered at once; "cut" closes the connection in the
# middle of its body.
Fault = Callable[[str, str], "int | str | None"]


@dataclass
class Front:
    """Passes requests on to a registry (plain HTTP), but for those that `fault` says otherwise of."""

    registry: Registry
    fault: Fault
    seen: List[Tuple[str, str, "int | str"]] = field(default_factory=list)
    sent: int = 0
    retry_after: int = 1

    def __enter__(self) -> "Front":
        front = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                front._handle(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = handle_any

            def log_message(self, *_: Any) -> None:
                pass

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _handle(self, request: http.server.BaseHTTPRequestHandler) -> None:
        what = self.fault(request.command, request.path)
        if what == "cut":
            self.seen.append((request.command, request.path, what))
            # Some of the body is taken, then there is nobody.
            request.rfile.read1(4096)
            request.close_connection = True
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        body = b"".join(_body(request))
        self.sent += len(body)
        if what is not None:
            assert isinstance(what, int)
            self.seen.append((request.command, request.path, what))
            text = b'{"errors": [{"code": "FAULT", "message": "made by the test"}]}'
            if what == 401:
                text = b'{"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}'
            request.send_response(what)
            if what == 401:
                request.send_header("WWW-Authenticate", 'Basic realm="test"')
            if what == 429:
                request.send_header("Retry-After", str(self.retry_after))
            request.send_header("Content-Type", "application/json")
            request.send_header("Content-Length", str(len(text)))
            request.end_headers()
            if request.command != "HEAD":
                request.wfile.write(text)
            return
        onward = http.client.HTTPConnection("127.0.0.1", self.registry.port)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in ("transfer-encoding", "content-length")}
        onward.request(request.command, request.path, body or None, headers)
        answer = onward.getresponse()
        content = answer.read()
        self.seen.append((request.command, request.path, answer.status))
        request.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                request.send_header(name, value)
        length = answer.getheader("Content-Length") if request.command == "HEAD" else str(len(content))
        request.send_header("Content-Length", length or "0")
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(content)


def _body(request: http.server.BaseHTTPRequestHandler) -> Iterator[bytes]:
    if request.headers.get("Transfer-Encoding", "").lower() == "chunked":
        while True:
            size = int(request.rfile.readline().split(b";")[0], 16)
            data = request.rfile.read(size)
            request.rfile.readline()
            if not size:
                return
            yield data
    elif request.headers.get("Content-Length"):
        yield request.rfile.read(int(request.headers["Content-Length"]))
