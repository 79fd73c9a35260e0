"""Servers that answer what no registry should: an error that says so, and no password to anybody else."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest

from opam_sandbox.errors import ToolError
from opam_sandbox.registry import blobs, manifests
from opam_sandbox.registry.client import Access, Client
from opam_sandbox.registry.errors import RegistryError

DIGEST = f"sha256:{'a' * 64}"
Answer = Tuple[int, Dict[str, str], bytes]


class Server:
    """Answers by a function of method and path; `seen` has what was asked, and with which authorization."""

    def __init__(self, answer: Callable[[str, str], Answer]) -> None:
        self.seen: List[Tuple[str, str, str]] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer_any(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                server.seen.append((self.command, self.path, self.headers.get("Authorization", "")))
                status, headers, content = answer(self.command, self.path)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    self.wfile.write(b"" if self.command == "HEAD" else content)
                except ConnectionError:
                    pass  # the client has had enough

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer_any

            def log_message(self, *_: Any) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[str, str], Answer]], Server]]:
    servers: List[Server] = []

    def start(answer: Callable[[str, str], Answer]) -> Server:
        servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.http.shutdown()
        server.http.server_close()


def client_of(server: Server, tmp_path: Path, login: bool = False) -> Client:
    auth = {"auth": base64.b64encode(b"carol:hunter2").decode()}
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {server.host: auth} if login else {}}))
    client = Client(Access(server.host, tls_verify=False), "app", {"REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")})
    client.connect()
    return client


def test_a_page_for_everything(serve: Any, tmp_path: Path) -> None:
    """As a portal of a network, or an application that routes in the browser."""
    client = client_of(serve(lambda method, path: (200, {"Content-Type": "text/html"}, b"<html>")), tmp_path)
    assert manifests.digest_at(client, "app", "1") != DIGEST
    referrer = {"mediaType": "x", "digest": DIGEST, "size": 1}
    assert not manifests.lists_all(client, "app", DIGEST, [referrer])
    with pytest.raises(RegistryError, match="has 6 bytes there, but 7 here"):
        blobs.exists(client, "app", DIGEST, 7)
    with pytest.raises(RegistryError, match="is no index"):
        manifests.list_by_tag(client, "app", DIGEST, [referrer])


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("/v2/app/manifests/1", "redirects more than"),
        ("ftp://127.0.0.1/x", "not https"),
        ("file:///etc/passwd", "not https"),
    ],
)
def test_redirects_that_lead_nowhere(serve: Any, tmp_path: Path, location: str, message: str) -> None:
    def answer(method: str, path: str) -> Answer:
        return (200, {}, b"") if path == "/v2/" else (307, {"Location": location}, b"")

    with pytest.raises(RegistryError, match=message):
        manifests.digest_at(client_of(serve(answer), tmp_path), "app", "1")


def test_another_host_sees_no_password(serve: Any, tmp_path: Path) -> None:
    other = serve(lambda method, path: (200, {}, b"{}"))

    def answer(method: str, path: str) -> Answer:
        if path == "/v2/":
            return 401, {"WWW-Authenticate": "Basic realm=x"}, b""
        return 307, {"Location": f"http://{other.host}/storage"}, b""

    server = serve(answer)
    manifests.digest_at(client_of(server, tmp_path, login=True), "app", "1")
    assert server.seen[-1][2].startswith("Basic ") and other.seen[-1] == ("GET", "/storage", "")


def test_an_answer_without_end(serve: Any, tmp_path: Path) -> None:
    client = client_of(
        serve(lambda method, path: (200, {}, b"" if path == "/v2/" else b"x" * ((8 << 20) + 1))), tmp_path
    )
    with pytest.raises(RegistryError, match="the connection broke"):
        manifests.digest_at(client, "app", "1")


@pytest.mark.parametrize(
    "challenge", ["", "Negotiate", "Basic", 'Bearer realm="file:///etc/passwd"', 'Bearer realm="http://127.0.0.1:9/t"']
)
def test_challenges_that_nobody_can_meet(serve: Any, tmp_path: Path, challenge: str) -> None:
    server = serve(lambda method, path: (401, {"WWW-Authenticate": challenge}, b'{"errors": 7}'))
    with pytest.raises(ToolError) as raised:
        manifests.digest_at(client_of(server, tmp_path), "app", "1")
    assert (
        server.host in str(raised.value)
        or "authentication required" in str(raised.value)
        or "127.0.0.1:9" in str(raised.value)
    )


def test_what_a_registry_says_is_one_line(serve: Any, tmp_path: Path) -> None:
    said = json.dumps({"errors": [{"code": "X", "message": "a\n\x1b[31mb\u202e" + "c" * 5000}]}).encode()
    client = client_of(serve(lambda method, path: (200, {}, b"") if path == "/v2/" else (418, {}, said)), tmp_path)
    with pytest.raises(RegistryError) as raised:
        manifests.digest_at(client, "app", "1")
    text = str(raised.value)
    assert text.isprintable() and len(text) < 500 and "X a" in text


def test_entries_that_are_no_descriptors(serve: Any, tmp_path: Path) -> None:
    index = json.dumps({"schemaVersion": 2, "manifests": [{"digest": "../../x"}]}).encode()
    client = client_of(serve(lambda method, path: (200, {}, index)), tmp_path)
    with pytest.raises(ToolError, match="manifests"):
        manifests.list_by_tag(client, "app", DIGEST, [])


def test_a_registry_that_lists_referrers_in_pages(serve: Any, tmp_path: Path) -> None:
    """As distribution-spec 1.1 has it; docker-registry 2.8 has no such list."""
    texts = {f"sha256:{hashlib.sha256(text).hexdigest()}": text for text in (b"{}", b"[]", b"1", b"2")}
    pages = [{"manifests": [{"mediaType": "x", "digest": digest, "size": len(text)}]} for digest, text in texts.items()]

    def answer(method: str, path: str) -> Answer:
        reference = path.rpartition("/")[2]
        if method == "PUT":
            return 201, {"OCI-Subject": DIGEST}, b""
        if reference in texts:
            return 200, {}, texts[reference]
        if path.startswith(f"/v2/app/referrers/{DIGEST}"):
            page = int(path.rpartition("=")[2]) if "=" in path else 0
            link = {"Link": f'</v2/app/referrers/{DIGEST}?page={page + 1}>; rel="next"'} if page < 2 else {}
            return 200, link, json.dumps({"schemaVersion": 2, **pages[page]}).encode()
        return (200 if path == "/v2/" else 404), {}, b""

    server = serve(answer)
    client = client_of(server, tmp_path)
    *referrers, unlisted = [page["manifests"][0] for page in pages]
    assert manifests.lists_all(client, "app", DIGEST, referrers)
    assert not manifests.lists_all(client, "app", DIGEST, [*referrers, unlisted])
    assert manifests.put(client, "app", referrers[0]["digest"], "x", b"{}")
    assert not any(manifests.fallback_tag(DIGEST) in path for _, path, _ in server.seen)
