"""`check-image`: compares an image with what it should be. Writes results.json, prints the checks, ends with 1 if one failed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, List, Optional

from opam_sandbox.checking.accounts import GROUP, PASSWD, Accounts, check_users
from opam_sandbox.checking.commands import check_commands
from opam_sandbox.checking.configuration import check_config, check_limits
from opam_sandbox.checking.files import check_files, of_content
from opam_sandbox.checking.requests import CheckImageRequest
from opam_sandbox.checking.results import FILE, Result, report
from opam_sandbox.checking.tree import Tree
from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.files import write_json
from opam_sandbox.layer.store import Store
from opam_sandbox.oci import layout as oci
from opam_sandbox.running.image_config import read_image
from opam_sandbox.running.unpacked import unpacked


def run(request: CheckImageRequest, jobs: int) -> int:
    """Returns 1 if a check failed. Raises ToolError for an image that is damaged, or cannot be read."""
    results = results_of(request)
    if not results:
        raise RequestError("there is nothing to check")
    write_json(FILE, {"checks": [one._asdict() for one in results]})
    for line in report(results):
        # A path or a label may be no UTF-8.
        print(line.encode("utf-8", "backslashreplace").decode())
    return 1 if any(one.problems for one in results) else 0


def results_of(request: CheckImageRequest) -> List[Result]:
    """What became of each check, in the order of the request's fields. Raises ToolError as `run` does."""
    layout = Path(request["image"])
    image = read_image(layout)
    if image.digest != request["manifest"]:
        raise ToolError(f"{layout} has the image {image.digest}, but should have {request['manifest']}")
    descriptor, _ = oci.image_and_referrers(layout)
    children = oci.children(layout, descriptor)
    results = check_config(_config(layout, children[0]), request["config"])
    tree: Optional[Tree] = None
    if request["files"] or request["users"] or "max_unpacked_size" in request["limits"]:
        paths = [check["path"] for check in request["files"] if of_content(check)]
        tree = Tree(image.layers, [*paths, PASSWD, GROUP])
    size = sum(int(layer["size"]) for layer in children[1:])
    results += check_limits(request["limits"], len(image.layers), size, None if tree is None else tree.unpacked)
    if tree is not None:
        accounts = Accounts(tree)
        results += check_files(tree, accounts, request["files"])
        results += check_users(accounts, request["users"])
    if request["commands"]:
        store = Store(Path(request["store"]), os.geteuid() != 0)
        unpacked(store, image.layers)  # Else the first command would have to wait for it.
        results += check_commands(image, Path(request["store"]), request["commands"])
    return results


def _config(layout: Path, descriptor: oci.Descriptor) -> Dict[str, Any]:
    """What `read_image` has found to be of the right types, and the rest, which is looked at here."""
    where = oci.blob_path(layout, descriptor["digest"])
    config: Dict[str, Any] = oci.read_json_blob(layout, descriptor).get("config") or {}
    for key, kind in (("ExposedPorts", dict), ("Volumes", dict), ("Labels", dict), ("StopSignal", str)):
        value = config.get(key)
        if value is not None and not isinstance(value, kind):
            raise ToolError(f"{where}: `config`: its `{key}` should be {kind.__name__}, but is {value!r:.80}")
    for name, text in (config.get("Labels") or {}).items():
        if not isinstance(text, str):
            raise ToolError(f"{where}: `config`: its label {name!r:.80} should be a string, but is {text!r:.80}")
    return config
