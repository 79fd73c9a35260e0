"""The fake tool is what the tool is to the backend: it takes the same requests, and writes what the tool's readers take."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, get_args

import pytest

from opam_sandbox import inherited
from opam_sandbox.building import cli as building
from opam_sandbox.checking import cli as checking
from opam_sandbox.comparing import cli as comparing
from opam_sandbox.documenting import cli as documenting
from opam_sandbox.entering import cli as entering
from opam_sandbox.exporting import cli as exporting
from opam_sandbox.imaging import cli as imaging
from opam_sandbox.importing import cli as importing
from opam_sandbox.layer.description import read_layer
from opam_sandbox.linting import cli as linting
from opam_sandbox.locking import cli as locking
from opam_sandbox.locking.opam_steps import LockOpamRequest
from opam_sandbox.locking.requests import BaseFacts, Indexes, Solution
from opam_sandbox.locking.root_requests import ListedRoots, RootSolutions, SolverPackage
from opam_sandbox.looking import cli as looking
from opam_sandbox.request import check, read_request

REPOSITORY = Path(__file__).resolve().parents[2]
FAKE = Path(__file__).with_name("fake_tool.py")
COMMANDS = {
    command: part
    for part in (
        building,
        checking,
        comparing,
        documenting,
        entering,
        exporting,
        imaging,
        importing,
        linting,
        locking,
        looking,
    )
    for command in part.COMMANDS
}

_PARTS = (
    *("building", "checking", "comparing", "documenting", "entering", "exporting"),
    *("imaging", "importing", "linting", "locking", "looking"),
)

PACKAGE: Dict[str, Any] = {"name": "lwt", "version": "5.6.1", "opam": "build: []", "files": []}
EXECUTABLE = {"path": "gen.sh", "content": "eA==", "executable": True}
OPAM_LOCK: Dict[str, Any] = {
    "step": "lock",
    "store": "store",
    "resolve": "default",
    "base": "//3rdparty/debian:trixie",
    **{key: [] for key in ("constraints", "repositories", "options", "opam_files", "mirrors", "archive_mirrors")},
    "requirements": ["lwt", "old"],
    "solution": "solution.json",
    "base_json": "prepared/base.json",
    "indexes": "indexes.json",
    "sources": "sources.txt",
    "suite": "trixie",
    "architecture": "amd64",
    "record_out_of_reach": False,
    "secrets": "",
}
# One request of each command, with all fields that there are; `lock-opam` has one for each step.
REQUESTS: Dict[str, List[Dict[str, Any]]] = {
    "rootfs": [
        {
            "store": "store",
            "name": "trixie",
            "suite": "trixie",
            "architecture": "amd64",
            "epoch": 1,
            "packages": ["gcc"],
            "debs": [
                {"name": "gcc", "version": "1", "architecture": "amd64", "sha256": "a", "size": 3, "file": "gcc.deb"}
            ],
        }
    ],
    "opam-root": [{"store": "store", "layers": ["in/base"]}],
    "build": [
        {
            "store": "store",
            "layers": ["in/base", "in/opam-root"],
            "package": {
                **PACKAGE,
                "files": [EXECUTABLE],
                "sources": [
                    {
                        "name": "",
                        "sha256": hashlib.sha256(b"deb").hexdigest(),
                        "size": 3,
                        "file": "gcc.deb",
                    }
                ],
                "debs": [],
            },
            "with_test": False,
            "overlapping_files": ["/etc/*"],
            "twice": True,
            "left_out": ["/etc/*.key"],
            "later": ["post.1"],
        }
    ],
    "contents": [{"layers": ["in/package"]}],
    "export": [
        {
            "layers": ["in/package"],
            "resolve": "default",
            "prefix": "/nowhere/dist/export/opam/default/switch",
            "tree": "/nowhere/dist/export/opam/.switches/default/switch",
            "made_by": "/nowhere/dist/export/opam/default/.export",
            "variables": ["PATH=/home/opam/.opam/default/bin:/bin"],
            "depexts": {"lwt.5.6.1": ["libev-dev"]},
            "compiler": "5.3.0",
            "check_host": True,
        }
    ],
    "document": [
        {
            "store": "store",
            "layers": ["in/base", "in/package", "in/state"],
            "title": "OCaml packages",
            "packages": [{"name": "lwt", "version": "5.6.1", "synopsis": "Promises", "layer": "in/package"}],
            "base_library": "",
        }
    ],
    "state": [
        {
            "store": "store",
            "layers": ["in/base", "in/package"],
            "packages": [PACKAGE],
            "roots": ["lwt.5.6.1"],
            "overlapping_files": ["/etc/*"],
        },
    ],
    "repack": [
        {"store": "store", "layers": ["in/base", "in/package"], "compression": compression, "level": 3}
        for compression in ("zstd", "zstd:chunked")
    ],
    "merge": [
        {"store": "store", "layers": ["in/base", "in/package"], "compression": "gzip", "level": 0, "name": "n", **whole}
        for whole in ({"whole": True, "packer": "in/package"}, {"whole": False})
    ],
    "runtime": [
        {
            "store": "store",
            "slim": "in/base",
            "layers": ["in/base", "in/package"],
            "packages": [{"name": "lwt", "opam": "", "depends": [], "root": True}],
            "keep": ["/usr/bin/gpg"],
            "env": ["PATH=/usr/bin"],
            "foreign_base": True,
        }
    ],
    "fetch-image": [
        {
            "source": "registry",
            "place": "registry.example.org/team/base",
            "digest": "sha256:" + "1" * 64,
            "architecture": "amd64",
            "name": "base",
            "tls_verify": True,
            "cert_dir": "",
            "handover": "",
        }
    ],
    "join-image": [{"store": "store", "name": "n", "version": "", "layers": ["in/base"], "packer": "in/package"}],
    "archive": [
        {
            "format": "docker-archive",
            "layout": "layout",
            "images": [{"config": "sha256:1", "tags": ["a:b"], "layers": ["in/base"]}],
        }
    ],
    "lock-debian": [
        {
            "store": "store",
            "resolve": "trixie",
            "suite": "trixie",
            "architecture": "amd64",
            "packages": ["gcc"],
            "mirrors": ["http://127.0.0.1:9/debian"],
            "secrets": "",
        }
    ],
    "lock-opam": [
        {
            "step": "repositories",
            "store": "store",
            "layers": ["in/base"],
            "repositories": [{"name": "own", "path": "in"}],
        },
        {
            "step": "indexes",
            "store": "store",
            "mirrors": [],
            "suite": "trixie",
            "architecture": "amd64",
            "source_suites": ["sid"],
            "secrets": "",
        },
        {
            "step": "solve",
            "store": "store",
            "layers": ["in/base"],
            "prepared": "prepared",
            "repositories": ["own"],
            "requirements": ["lwt", "old"],
            "constraints": [],
            "local": [
                {"name": "own", "opam": "", "path": "own.opam", "target": "src:own"},
                {"name": "built", "opam": "", "path": "a/built.opam", "target": "a", "build": True, "directory": "a"},
            ],
            "root": "/srv/project",
            "with_test": False,
            "with_doc": False,
            "prefer_oldest": False,
            "solver": "",
        },
        {
            "step": "solver",
            "store": "store",
            "base_json": "prepared/base.json",
            "indexes": "indexes.json",
            "mirrors": [],
            "suite": "trixie",
            "architecture": "amd64",
            "secrets": "",
        },
        {
            "step": "solve-roots",
            "store": "store",
            "layers": ["in/base"],
            "prepared": "prepared",
            "repositories": ["own"],
            "compilers": ["ocaml=5.3.0", ""],
            "selection": {"packages": ["*", "lwt>=5"], "latest": 2, "available": True},
            "constraints": [],
            "solver": "in/package",
            "with_test": False,
            "with_doc": False,
            "prefer_oldest": False,
        },
        {
            "step": "list-roots",
            "store": "store",
            "layers": ["in/base"],
            "prepared": "prepared",
            "repositories": ["own"],
            "compilers": [""],
            "solver": "in/package",
            "all_versions": False,
            "installable": True,
            "revdeps_of": ["lwt"],
            "constraints": [],
        },
        OPAM_LOCK,
        {
            "step": "lock-roots",
            "store": "store",
            "resolve": "health",
            "metadata": {
                "base": "//3rdparty/debian:trixie",
                "latest": 1,
                **{key: [] for key in ("packages", "compilers", "constraints", "options", "repositories")},
            },
            "asked": ["test"],
            "prepared": "prepared",
            "solutions": "solutions.json",
            "indexes": "indexes.json",
            "sources": "sources.txt",
            "mirrors": [],
            "archive_mirrors": [],
            "suite": "trixie",
            "architecture": "amd64",
            "secrets": "",
        },
    ],
}
REQUESTS["build"][0]["tree"] = []
REQUESTS["lint"] = [
    {
        "store": "store",
        "layers": ["in/base", "in/opam-root"],
        "files": [{"path": "src/a.opam", "file": "gcc.deb", "sha256": hashlib.sha256(b"deb").hexdigest()}],
        "arguments": ["--strict"],
    }
]
REQUESTS["test"] = [{**REQUESTS["build"][0], "live": False}]
REQUESTS["shell"] = [
    {**REQUESTS["build"][0], "command": [], "after_build": False, "network": False, "keep": ""},
]
REQUESTS["enter"] = [
    {
        "store": "store",
        "layers": ["in/base", "in/package"],
        "command": ["dune", "build"],
        "mounts": [{"source": "/src", "target": "/src", "writable": True}],
        "cwd": "/src",
        "env": ["NAME=value"],
        "network": False,
    }
]
_IMAGES: List[Dict[str, Any]] = [
    {"name": "oci:x", "reference": reference, "others": others}
    for others in ([], [{"name": "lwt", "media_type": "x", "digest": "sha256:1", "diff_id": "sha256:2"}])
    for reference in (
        {"kind": "layout", "path": "/nowhere", "wanted": ""},
        {"kind": "registry", "source": "docker://x/y:1", "skopeo": "/nowhere", "tls_verify": True, "cert_dir": ""},
    )
]
REQUESTS["describe"] = [
    {"name": "x", "reference": image["reference"], "os": "linux", "architecture": "amd64", "output": "found.json"}
    for image in _IMAGES[:2]
]
REQUESTS["statements"] = [
    {"name": "x", "reference": image["reference"], "image": "sha256:1", "output": "found.json"} for image in _IMAGES[:2]
]
REQUESTS["compare-files"] = [
    {
        "first": first,
        "second": second,
        "layers": [{"first": first["others"], "second": []}],
        "output": "found.json",
    }
    for first, second in zip(_IMAGES, reversed(_IMAGES))
]
_LOOK = {"name": "x", "argv": ["x", "y"], "exit_code": 0, "timeout": 1, "env": ["A=b"], "user": "0"}
_PATTERNS = {key: ["."] for key in ("stdout", "stdout_lacks", "stderr", "stderr_lacks")}
REQUESTS["check-image"] = [
    {
        "image": "image",
        "manifest": "sha256:1",
        "store": "store",
        "config": {
            **{key: ["x"] for key in ("entrypoint", "cmd", "exposed_ports", "volumes")},
            **{key: "x" for key in ("user", "workdir", "stop_signal")},
            "env": [{"name": "A", "equals": "b"}, {"name": "B", "matches": "b"}, {"name": "C", "absent": True}],
            "labels": [{"name": "A"}],
        },
        "limits": {"max_layers": 1, "max_size": 1, "max_unpacked_size": 1},
        "files": [
            {"path": "/x", "absent": True, "follow": True},
            {
                **{"path": "/y", "type": "file", "mode": "0755", "owner": "x", "group": "0", "size": 1, "max_size": 1},
                **{"contains": ["."], "lacks": ["x"], "sha256": "x", "target": "x"},
            },
        ],
        "users": [
            {"name": "x", "absent": True},
            {"name": "y", "uid": 1, "gid": 1, "home": "/", "shell": "/", "groups": ["x"]},
        ],
        "commands": [{**_LOOK, **_PATTERNS}, {"name": "y", "exit_code": 1, "timeout": 1, "arguments": []}],
    }
]
CASES = [(command, number) for command, requests in REQUESTS.items() for number, _ in enumerate(requests)]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A process's sandbox, with layers that the fake has made."""
    # Commands run in this process, in which Pants' engine of another test hears of its own children by the signal.
    monkeypatch.setattr(inherited, "settle", lambda: None)
    monkeypatch.chdir(tmp_path)
    Path("gcc.deb").write_bytes(b"deb")
    Path("layout").mkdir()
    for command, kind in (("rootfs", "base"), ("opam-root", "opam-root"), ("build", "package")):
        assert fake(command, REQUESTS[command][0]).returncode == 0
        Path("in", kind).mkdir(parents=True)
        for name in ("blobs", "layer.json"):
            os.rename(name, f"in/{kind}/{name}")
    assert fake("state", REQUESTS["state"][0]).returncode == 0
    Path("in/state").mkdir()
    for name in ("blobs", "layer.json"):
        os.rename(name, f"in/state/{name}")
    return tmp_path


def fake(command: str, request: Dict[str, Any]) -> "subprocess.CompletedProcess[str]":
    Path("request.json").write_text(json.dumps(request))
    argv = [sys.executable, "-sB", str(FAKE), command, "request.json"]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY / "src")}
    return subprocess.run(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_commands_are_those_that_processes_run() -> None:
    parts = json.loads((REPOSITORY / "src/opam_sandbox/parts.json").read_text())
    asked = {command for name in _PARTS for command in parts[name]["commands"]}
    assert set(REQUESTS) == set(COMMANDS) == asked


@pytest.mark.parametrize("kind", get_args(LockOpamRequest))
def test_all_fields_are_in_the_samples(kind: Any) -> None:
    """What follows is about every field, so the requests above must have them all."""
    [sample] = [one for one in REQUESTS["lock-opam"] if [one["step"]] == list(get_args(kind.__annotations__["step"]))]
    assert set(sample) == kind.__required_keys__ | kind.__optional_keys__


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"lock-opam"}))
def test_all_fields_of_other_commands_are_in_the_samples(command: str) -> None:
    kind = COMMANDS[command].COMMANDS[command].request
    assert set(REQUESTS[command][0]) == kind.__required_keys__ | kind.__optional_keys__


@pytest.mark.parametrize(("command", "number"), CASES)
def test_what_is_refused(here: Path, capfd: pytest.CaptureFixture[str], command: str, number: int) -> None:
    """A field that lacks, is of another type, or that nobody knows: the same status and the same words."""
    good = REQUESTS[command][number]
    kind: Any = COMMANDS[command].COMMANDS[command].request
    if command == "lock-opam":
        kind = get_args(LockOpamRequest)[number]
    wrong = [{**good, "no-such-field": 1}, *({**good, key: None} for key in good)]
    wrong += [{key: value for key, value in good.items() if key != gone} for gone in kind.__required_keys__]
    for request in wrong[:3] + wrong[-1:]:
        done = fake(command, request)
        assert COMMANDS[command].main([command, "request.json"]) == 2
        assert (done.returncode, done.stderr) == (2, capfd.readouterr().err), request
    for request in wrong:
        with pytest.raises(Exception, match="request"):
            check(request, COMMANDS[command].COMMANDS[command].request, "request")


LAYERS = {
    "rootfs": ["base"],
    "opam-root": ["opam-root"],
    "build": ["package"],
    "state": ["state"],
    "repack": ["package"],
    "merge": ["flat", "group"],
    "runtime": ["runtime"],
}


@pytest.mark.parametrize("command", sorted(LAYERS))
def test_layers(here: Path, command: str) -> None:
    for request, kind in zip(REQUESTS[command], LAYERS[command]):
        done = fake(command, request)
        assert done.returncode == 0, done.stderr
        layer = read_layer(Path("."))
        assert layer.kind == kind and layer.blob.is_file()
        assert (layer.opam.get("package") is not None) == (kind == "package")
        layer.blob.unlink()
        os.removedirs("blobs/sha256")


def test_lockfiles(here: Path) -> None:
    """Each step reads what the one before has written, with the types that the tool's own steps read it with."""
    for request in REQUESTS["lock-opam"]:
        done = fake("lock-opam", request)
        assert done.returncode == 0, done.stderr
        big = Path("prepared/big")
        # As the backend does.
        if request["step"] in ("solve", "list-roots"):
            big.unlink()
        elif request["step"] == "solver":
            big.write_text("not for everybody")
        elif request["step"] == "lock":
            assert 'name = "old"' in Path("lockfile").read_text()
            assert json.loads(Path("notes.json").read_text()) == ["old is deprecated."]
    kinds: Dict[str, Any] = {"prepared/base.json": BaseFacts, "indexes.json": Indexes, "solution.json": Solution}
    kinds.update({"solver.json": SolverPackage, "solutions.json": RootSolutions, "roots.json": ListedRoots})
    for path, kind in kinds.items():
        read_request(path, kind)
    assert json.loads(Path("lockfile").read_text())["metadata"]["kind"] == "opam-health"
    assert json.loads(Path("notes.json").read_text()) == ["a.1: a note."]
    assert fake("lock-debian", REQUESTS["lock-debian"][0]).returncode == 0
