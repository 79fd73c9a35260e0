"""An HTTP server on loopback that has some files."""

from __future__ import annotations

import http.server
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Dict, Iterator, List


@dataclass
class FileServer:
    """`files` by path ("/a"); everything else is 404. `asked`: the paths that were asked for, in order. `statuses`: what is
    answered to a request ("HEAD /a") otherwise."""

    url: str = ""
    files: Dict[str, bytes] = field(default_factory=dict)
    asked: List[str] = field(default_factory=list)
    statuses: Dict[str, int] = field(default_factory=dict)


@contextmanager
def file_server() -> Iterator[FileServer]:
    state = FileServer()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self.wfile.write(self._answer())

        def _answer(self) -> bytes:
            state.asked.append(self.path)
            content = state.files.get(self.path)
            usual = 404 if content is None else 200
            self.send_response(state.statuses.get(f"{self.command} {self.path}", usual))
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            return content or b""

        def log_message(self, *_: object) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        httpd.shutdown()
        httpd.server_close()
