"""Chromium without a window, told what to do through pipes: the Chrome DevTools Protocol, messages of JSON that end with a zero.

https://chromedevtools.github.io/devtools-protocol/ has its methods and events.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from typing import Any, Dict, List, Optional

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chromium-headless-shell")

# Of a page that reports make (`opam_oci/pages`): takes a value in the form that filters its table.
CHOOSE = """(() => {{ const select = document.querySelector("#filters select[name={name}]"); select.value = {value!r};
    select.dispatchEvent(new Event("input", {{ bubbles: true }})); }})()"""


class BrowserError(AssertionError):
    """The browser refused something, or says nothing."""


def find_browser() -> Optional[str]:
    """A program that starts here; None where this machine has none."""
    for name in _PROGRAMS:
        path = shutil.which(name)
        if path and subprocess.run([path, "--version"], stdout=subprocess.PIPE, stderr=subprocess.PIPE).returncode == 0:
            return path
    return None


def _as_3_and_4(reads: int, writes: int) -> None:
    """Where the browser reads and writes. Either may have the other's number."""
    writes = os.dup(writes)
    os.dup2(reads, 3)
    os.dup2(writes, 4)


class Browser:
    """One page. `errors`: exceptions of scripts, what they say on the console as errors or warnings, what could not be loaded."""

    def __init__(self, program: str, patience: float = 60.0) -> None:
        self.errors: List[str] = []
        self._patience = patience
        self._profile = tempfile.mkdtemp(prefix="browser-")
        self._last, self._buffer, self._loaded = 0, b"", False
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        argv = [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        argv += ["--remote-debugging-pipe", f"--user-data-dir={self._profile}", "about:blank"]
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": self._profile},
            preexec_fn=lambda: _as_3_and_4(theirs_in, theirs_out),
            close_fds=False,
            start_new_session=True,
        )
        for end in (theirs_in, theirs_out):
            os.close(end)
        self._session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Page"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Dict[str, Any]:
        """The result of a method. Raises BrowserError."""
        self._last += 1
        number = self._last
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + self._patience
        while True:
            answer = self._next(deadline, method)
            if answer.get("id") == number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']}")
                return dict(answer["result"])
            self._note(answer)

    def open(self, url: str, width: int, height: int = 900) -> None:
        """Load a page and wait until it is there."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self._loaded = False
        self.call("Page.navigate", url=url)
        deadline = time.monotonic() + self._patience
        while not self._loaded:
            self._note(self._next(deadline, url))

    def evaluate(self, expression: str) -> Any:
        """The value of JavaScript, as JSON has it; of a promise, what it gives. Raises BrowserError where it throws."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise BrowserError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """A key without a character, such as `ArrowDown`, as by hand."""
        codes = {"Enter": 13, "End": 35, "Home": 36, "ArrowUp": 38, "ArrowDown": 40}
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key])

    def close(self) -> None:
        """End the browser, and remove what it wrote."""
        self._process.kill()
        self._process.wait()
        for end in (self._in, self._out):
            os.close(end)
        # Its own processes end with it, a moment later.
        for _ in range(50):
            shutil.rmtree(self._profile, ignore_errors=True)
            if not os.path.exists(self._profile):
                return
            time.sleep(0.1)

    def _next(self, deadline: float, waiting_for: str) -> Dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
            piece = os.read(self._in, 1 << 16) if ready else b""
            if not piece:
                raise BrowserError(f"the browser says nothing to {waiting_for}")
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))

    def _note(self, event: Dict[str, Any]) -> None:
        method, params = event.get("method"), event.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(str(details.get("exception", {}).get("description") or details["text"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(str([one.get("value") for one in params["args"]]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(str(params["entry"]["text"]))
