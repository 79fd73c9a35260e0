"""A real registry (Debian's docker-registry) on loopback, and a front before it that misbehaves as registries do."""

from __future__ import annotations

import http.client
import http.server
import re
import shutil
import socket
import socketserver
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional, Tuple

from tests.e2e.conftest import tool

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


_LINE = re.compile(r'"([A-Z]+) (\S+) HTTP/[0-9.]+" (\d{3}) ')


@dataclass
class Registry:
    """docker-registry with storage below `directory`."""

    directory: Path
    tls: Optional[Tls] = None
    auth: bool = False
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
