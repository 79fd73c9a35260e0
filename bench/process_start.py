"""The start of a process of the sandbox tool, by its parts: run as such a process is, in its directory.

Argument: the time of the monotonic clock when it was started. Prints a JSON object: part -> seconds.
"""

import sys
import time

started = time.monotonic()
sys.path.insert(0, "__tool")

from opam_sandbox import start  # noqa: E402


def main() -> None:
    """What `start` and `cli` do before a command's work begins."""
    start.prepare()
    from opam_sandbox.building import build, cli  # noqa: F401

    imported = time.monotonic()
    from opam_sandbox.layer.description import read_layers
    from opam_sandbox.request import read_request

    request = read_request("request.json", cli.COMMANDS["build"].request)
    read_layers(request["layers"])
    done = time.monotonic()
    import json

    parts = {
        "start Python": started - float(sys.argv[1]),
        "import the tool": imported - started,
        "read the request": done - imported,
    }
    print(json.dumps(parts))


if __name__ == "__main__":
    main()
