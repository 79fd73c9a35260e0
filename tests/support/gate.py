"""A web server on loopback that wants passwords: for a Debian mirror behind it, for files, and as a proxy."""

from __future__ import annotations

import base64
import http.server
import shutil
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterator, List
from urllib.parse import urlsplit


@dataclass
class Gate:
    """`users`: `user:password` by the first part of the path; `mirror`: what /debian/ stands for; everything else is a file
    below `files`. `proxy_user`: who may use it as a proxy, "" for nobody.

    `seen`: (what, authorized) of all requests: the first part of the path, or "proxy".
    """

    files: Path
    mirror: str
    users: Dict[str, str] = field(default_factory=dict)
    proxy_user: str = ""
    port: int = 0
    proxy_port: int = 0
    seen: List["tuple[str, bool]"] = field(default_factory=list)

    def passed(self, what: str) -> int:
        """How many requests had the right password."""
        return self.seen.count((what, True))


def _basic(user: str) -> str:
    return "Basic " + base64.b64encode(user.encode()).decode()


@contextmanager
def gate(state: Gate) -> Iterator[Gate]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            if self.path.startswith("http://"):
                allowed = self.headers.get("Proxy-Authorization") == _basic(state.proxy_user)
                state.seen.append(("proxy", allowed))
                if not allowed:
                    return self._refuse(407, "Proxy-Authenticate")
            path = urlsplit(self.path).path.lstrip("/")
            first, _, rest = path.partition("/")
            if first in state.users:
                allowed = self.headers.get("Authorization") == _basic(state.users[first])
                state.seen.append((first, allowed))
                if not allowed:
                    return self._refuse(401, "WWW-Authenticate")
            if first == "debian":
                return self._pass_on(f"{state.mirror}/{rest}", body)
            file = state.files / path
            if not file.is_file():
                return self._send(404, b"", body)
            self._send(200, file.read_bytes(), body)

        def _pass_on(self, url: str, body: bool) -> None:
            request = urllib.request.Request(url, method=self.command)
            for name in ("If-Modified-Since", "Range"):
                if self.headers.get(name):
                    request.add_header(name, self.headers[name])
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            try:
                with opener.open(request, timeout=60) as answer:
                    self.send_response(answer.status)
                    for name in ("Content-Length", "Last-Modified", "Content-Range"):
                        if answer.headers.get(name):
                            self.send_header(name, answer.headers[name])
                    self.end_headers()
                    if body:
                        shutil.copyfileobj(answer, self.wfile)
            except urllib.error.HTTPError as error:
                self._send(error.code, b"", body)

        def _refuse(self, status: int, header: str) -> None:
            self.send_response(status)
            self.send_header(header, 'Basic realm="test"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _send(self, status: int, content: bytes, body: bool) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    # Two ports: git keeps one password for each.
    servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) for _ in range(2)]
    state.port, state.proxy_port = (server.server_address[1] for server in servers)
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield state
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
