"""Stands in for the sandbox tool where only the backend's logic is tested: what it asks for, in which order, and what
it makes of the answers.

It has the tool's own reader check each request, and its own readers check what it writes, so that it cannot differ from the
tool in what it takes and in what others read of it (test_contract.py). But it builds nothing: a layer's blob is the text of its
request. What packages do is said in their opam files: `fail` exits with an error, `corrupt` writes a blob under another
name than its sha256, `environment` logs argv and the environment, `warn` warns, `note_in=FILE` adds a line to a file each time
that the package is really built, `limit=time` fails as one that took too long, `says=WORDS` (with `_` for blanks) ends in an
error that says so. Real builds are tested elsewhere.
"""

import hashlib
import importlib
import json
import os
import pathlib
import shutil
import sys
import time

from opam_sandbox import cli
from opam_sandbox.errors import RequestError
from opam_sandbox.request import read_request


def read_layer(path):
    """Not every part has the tool's own."""
    return importlib.import_module("opam_sandbox.layer.description").read_layer(path)


STATE_ENV = ["HOME=/home/opam", "LANG=C.UTF-8", "PATH=/switch/bin:/usr/bin", "OPAM_LAST_ENV=/last", "TOOL=a=b"]


def write_layer(kind, name, version, data, corrupt=False):
    """The blob is `data` as JSON, with the layer's kind and name. `corrupt`: it is not what its name says."""
    blob = json.dumps({**data, "kind": kind, "name": name}, sort_keys=True).encode()
    digest = hashlib.sha256(blob).hexdigest()
    blobs = pathlib.Path("blobs/sha256")
    blobs.mkdir(parents=True)
    stored = "0" * 64 if corrupt else digest
    (blobs / stored).write_bytes(blob)
    layer = {
        "kind": kind,
        "name": name,
        "version": version,
        "diff_id": f"sha256:{digest}",
        "digest": f"sha256:{stored}",
        "size": len(blob),
        "media_type": "application/vnd.oci.image.layer.v1.tar+gzip",
        "files": 1,
        "opam": {"package": {"package": f"{name}.{version}"}, "state": {"env": STATE_ENV}}.get(kind, {}),
        "dpkg": {},
    }
    pathlib.Path("layer.json").write_text(json.dumps(layer))
    read_layer(pathlib.Path("."))
    # Differs from run to run: nothing downstream may depend on it.
    pathlib.Path("timings.json").write_text(json.dumps({"ended": time.time()}))


def read_layers(request):
    """What the layer.json of each layer says, and nothing but the layer is there."""
    for path in request["layers"]:
        assert sorted(os.listdir(path)) == ["blobs", "layer.json"], os.listdir(path)
        assert read_layer(pathlib.Path(path)).blob.exists()
    return [json.loads(pathlib.Path(path, "layer.json").read_text()) for path in request["layers"]]


def read_sources(request):
    """All that a package is built from is there."""
    package = request["package"]
    for source in [*package["sources"], *package["debs"]]:
        content = pathlib.Path(source["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == source["sha256"], source
    for entry in request.get("tree", ()):
        path = pathlib.Path("tree", entry["path"])
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"], entry
        assert os.access(path, os.X_OK) == entry["executable"], entry


def build(request):
    layers = read_layers(request)
    package = request["package"]
    read_sources(request)
    log = "\n".join(f"line {n} of {package['name']}" for n in range(1, 101))
    words = package["opam"].split()
    if "environment" in words:
        log = json.dumps({"argv": sys.argv, "env": dict(os.environ), "files": sorted(os.listdir())})
    pathlib.Path("build.log").write_text(log + f"\nbuilt at {time.time()}\n")
    for word in words:
        if word.startswith("note_in="):
            with open(word.partition("=")[2], "a") as notes:
                notes.write(f"{package['name']}.{package['version']}\n")
        if word.startswith("fail_if_missing="):
            if not os.path.exists(word.partition("=")[2]):
                raise SystemExit("error: the file is missing")
        if word.startswith("says="):
            raise SystemExit(f"error: {word.partition('=')[2].replace('_', ' ')}")
        if word.startswith("limit="):
            failure = {"kind": "limit", "limit": word.partition("=")[2], "seconds": 1.5, "running": ["make all", "cc"]}
            pathlib.Path("failure.json").write_text(json.dumps(failure))
            raise SystemExit(f"error: opam package {package['name']} was ended")
    if "warn" in words:
        print(f"warning: {package['name']} is damaged", file=sys.stderr)
    if "fail" in words:
        raise SystemExit(f"error: {package['name']} does not compile")
    below = [f"{layer['kind']}:{layer['name']}" for layer in layers]
    data = {"package": package, "below": below, **{key: request[key] for key in ("tree",) if key in request}}
    write_layer("package", package["name"], package["version"], data, "corrupt" in words)


def archive(request):
    files = {
        str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in pathlib.Path("layout").rglob("*") if p.is_file()
    }
    layers = [[json.loads(pathlib.Path(d, "layer.json").read_text()) for d in i["layers"]] for i in request["images"]]
    pathlib.Path("image.tar").write_text(json.dumps({"request": request, "files": files, "layers": layers}))


def lock_debian(request):
    if "no-such-package" in request["packages"]:
        raise SystemExit("error: there is no package no-such-package")
    packages = ", ".join(f'"{p}"' for p in request["packages"])
    pathlib.Path("lockfile").write_text(
        f"""[metadata]
lock_version = 1
kind = "debian"
resolve = "{request["resolve"]}"
suite = "{request["suite"]}"
architecture = "{request["architecture"]}"
packages = [{packages}]
"""
    )


def lock_opam(request):
    """The steps of lock-opam. Each writes its request, for tests to look at; the lockfile's opam files hold all of them."""
    step = request["step"]
    if step == "repositories":
        kinds = [layer["kind"] for layer in read_layers(request)]
        for repository in request["repositories"]:
            assert os.path.exists(repository["path"]), repository
        pathlib.Path("prepared").mkdir()
        base = {"variables": {}, "status": json.dumps({**request, "kinds": kinds})}
        pathlib.Path("prepared/base.json").write_text(json.dumps(base))
        pathlib.Path("prepared/big").write_text("not for everybody")
    elif step == "indexes":
        indexes = {"lists": "lists", "session": json.dumps({**request, "time": time.time()})}
        pathlib.Path("indexes.json").write_text(json.dumps(indexes))
        pathlib.Path("sources.txt").write_text("")
    elif step == "solve":
        assert sorted(os.listdir("prepared")) == ["base.json", "big"]
        kinds = [layer["kind"] for layer in read_layers(request)]
        if "unsolvable" in request["requirements"]:
            raise SystemExit("error: opam finds no solution")
        seen = json.dumps({**request, "kinds": kinds})
        nothing: "dict[str, list[str]]" = {"files": [], "depends": [], "post": [], "test": [], "doc": [], "depexts": []}
        names = [requirement.partition("=")[0].partition(">")[0] for requirement in request["requirements"]]
        packages = [{"name": name, "version": "2", "opam": seen, **nothing} for name in names]
        packages += [
            {"name": one["name"], "version": "dev", "opam": seen, "local": one["path"], **nothing}
            for one in request.get("local", [])
            if one.get("build")
        ]
        notes = ["old is deprecated."] if "old" in request["requirements"] else []
        pathlib.Path("solution.json").write_text(json.dumps({"packages": packages, "notes": notes}))
    elif step == "lock-roots":
        requests = importlib.import_module("opam_sandbox.locking.requests")
        root_requests = importlib.import_module("opam_sandbox.locking.root_requests")
        solutions = read_request(request["solutions"], root_requests.RootSolutions)
        read_request(request["indexes"], requests.Indexes)
        pathlib.Path("lockfile").write_text(health_lockfile(request, solutions["roots"]))
        pathlib.Path("notes.json").write_text(json.dumps(["a.1: a note."]))
    elif step == "solver":
        assert os.listdir("prepared") == ["base.json"] and os.path.exists(request["indexes"])
        package = {"name": "solver", "version": "1", "opam": "", "files": []}
        # Debian before trixie has no such library.
        note = "no solver here" if request["suite"] == "bookworm" else ""
        pathlib.Path("solver.json").write_text(json.dumps({"package": package, "debs": [], "note": note}))
    elif step in ("solve-roots", "list-roots"):
        assert sorted(os.listdir("prepared")) == ["base.json", "big"]
        layers = [*request["layers"], *([request["solver"]] if "solver" in request else [])]
        kinds = [layer["kind"] for layer in read_layers({"layers": layers})]
        seen = json.dumps({**request, "kinds": kinds})
        if step == "solve-roots":
            facts = {"names": 1, "versions": 1, "solver": "solve_roots" if "solver" in request else "opam"}
            roots = [
                {"name": name, "version": "1", "compiler": compiler, "packages": {name: "1", "seen": seen}}
                for compiler in request["compilers"]
                for name in request["selection"]["packages"]
            ]
            pathlib.Path("solutions.json").write_text(json.dumps({"roots": roots, "facts": facts}))
        else:
            packages = [] if request["revdeps_of"] else [{"name": "a", "version": "1", "synopsis": seen}]
            listed = [{"compiler": one, "packages": packages, "revdeps": []} for one in request["compilers"]]
            pathlib.Path("roots.json").write_text(json.dumps({"compilers": listed}))
    else:
        assert os.listdir("prepared") == ["base.json"] and os.path.exists(request["sources"])
        requests = importlib.import_module("opam_sandbox.locking.requests")
        solution = read_request(request["solution"], requests.Solution)
        base = read_request(request["base_json"], requests.BaseFacts)
        indexes = read_request(request["indexes"], requests.Indexes)
        steps = {
            "repositories": json.loads(base["status"]),
            "indexes": json.loads(indexes["session"]),
            "solve": json.loads(solution["packages"][0]["opam"]) if solution["packages"] else {},
            "lock": request,
        }
        text = opam_lockfile(request, solution["packages"], json.dumps(steps, sort_keys=True))
        pathlib.Path("lockfile").write_text(text)
        pathlib.Path("notes.json").write_text(json.dumps(solution["notes"]))


def opam_lockfile(request, packages, seen):
    text = f"""[metadata]
lock_version = 1
kind = "opam"
resolve = "{request["resolve"]}"
base = "{request["base"]}"
requirements = {json.dumps(request["requirements"])}
constraints = {json.dumps(request["constraints"])}
repositories = {json.dumps(request["repositories"])}
options = {json.dumps(request["options"])}
opam_files = {json.dumps(request["opam_files"])}
"""
    for package in packages:
        local = f'\nlocal = "{package["local"]}"' if "local" in package else ""
        text += f"""
[[package]]
name = "{package["name"]}"
version = "{package["version"]}"{local}
depends = []
post_depends = []
depexts = []
debs = []
opam = '''{seen}'''
"""
    return text


def health_lockfile(request, roots):
    """Each root is one node with nothing below it."""
    metadata = {**request["metadata"], "lock_version": 1, "kind": "opam-health", "resolve": request["resolve"]}
    packages, nodes, written = {}, {}, []
    for root in roots:
        said = {key: root[key] for key in ("name", "version", "compiler")}
        if "packages" not in root:
            written.append({**said, "reason": root["reason"]})
            continue
        title = f"{root['name']}.{root['version']}"
        packages[title] = {
            "name": root["name"],
            "version": root["version"],
            "opam": json.dumps(request, sort_keys=True),
        }
        nodes[title] = {"id": f"{title}/{0:012x}", "package": title, "depends": []}
        written.append({**said, "node": f"{title}/{0:012x}"})
    tables = {"package": list(packages.values()), "deb": [], "node": list(nodes.values()), "root": written}
    return json.dumps({"metadata": metadata, **tables}) + "\n"


def rootfs(request):
    for deb in request["debs"]:
        assert pathlib.Path(deb["file"]).stat().st_size == deb["size"]
    pathlib.Path("build.log").write_text("unpacked\n")
    write_layer("base", request["name"], "", request)


def opam_root(request):
    write_layer("opam-root", "opam-root", "", {"below": read_layers(request)})


def fetch_image(request):
    """Two layers, the upper one zstd; a place with `nowhere` in it is not there."""
    if "nowhere" in request["place"]:
        raise SystemExit("error: it is nowhere")
    top = pathlib.Path.cwd()
    for number in range(2):
        directory = pathlib.Path("layers", str(number))
        directory.mkdir(parents=True)
        os.chdir(directory)
        write_layer("base", request["name"], "", {"layer": number, "request": {**request, "handover": ""}})
        pathlib.Path("timings.json").unlink()
        if number:
            layer = json.loads(pathlib.Path("layer.json").read_text())
            layer["media_type"] = layer["media_type"].replace("gzip", "zstd")
            pathlib.Path("layer.json").write_text(json.dumps(layer))
        os.chdir(top)
    image = {"manifest": "sha256:" + "a" * 64, "config": "sha256:" + "b" * 64, "layers": 2}
    pathlib.Path("image.json").write_text(json.dumps(image))


def join_image(request):
    below = [layer["name"] for layer in read_layers({"layers": [*request["layers"], request["packer"]]})]
    write_layer("base", request["name"], request["version"], {"request": request, "below": below})


def state(request):
    read_layers(request)
    write_layer("state", "state", "", request)


def made_of_layers(command):
    """`repack`, `merge` and `runtime`."""

    def make(request):
        layers = read_layers(request)
        below = [layer["name"] for layer in layers]
        made = {
            "repack": layers[-1],
            "merge": {"kind": "flat" if request.get("whole") else "group", "name": "merge", "version": ""},
            "runtime": {"kind": "runtime", "name": "runtime", "version": ""},
        }[command]
        # Not the fields that differ between machines: there are none.
        data = {"command": command, "request": request, "below": below}
        write_layer(made["kind"], made["name"], made["version"], data)
        if request.get("compression") == "zstd:chunked":
            layer = json.loads(pathlib.Path("layer.json").read_text())
            pathlib.Path("layer.json").write_text(
                json.dumps({**layer, "annotations": {"chunked": made["name"] or made["kind"]}})
            )

    return make


def test(request):
    """Its output is what it sees; what an opam file says with `tests_say=PATH` also goes there, `tests_print=HEX` prints these
    bytes, and a file of the project that is named `broken` is a test that fails."""
    below = [layer["name"] for layer in read_layers(request)]
    read_sources(request)
    seen = {"below": below, "with_test": request["with_test"], "live": request.get("live", False)}
    seen["attempt"] = os.environ.get("ATTEMPT", "0")
    print(json.dumps(seen))
    words = request["package"]["opam"].split()
    for word in words:
        if word.startswith("tests_say="):
            with open(word.partition("=")[2], "a") as notes:
                notes.write(json.dumps(seen) + "\n")
        if word.startswith("tests_print="):
            sys.stdout.flush()
            sys.stdout.buffer.write(bytes.fromhex(word.partition("=")[2]))
        if word.startswith("tests_take="):
            time.sleep(float(word.partition("=")[2]))
    if "failing_tests" in words or any(entry["path"] == "broken" for entry in request.get("tree", ())):
        raise SystemExit(f"error: {request['package']['name']} does not pass its tests")
    if "flaky_tests" in words and seen["attempt"] == "0":
        raise SystemExit("error: not yet")


def lint(request):
    """Says what it is asked for; a file in which `wrong` stands has an error."""
    assert [layer["kind"] for layer in read_layers(request)] == ["base", "opam-root"]
    status = 0
    for entry in request["files"]:
        content = pathlib.Path(entry["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        status |= b"wrong" in content
        print(entry["path"], *request["arguments"], "Errors." if status else "Passed.")
    sys.exit(status)


def shell(request):
    """Writes what it is asked for where its command says, and ends as that says."""
    below = [layer["name"] for layer in read_layers(request)]
    read_sources(request)
    if request["command"]:
        target, status = request["command"]
        seen = {"request": request, "below": below, "env": dict(os.environ)}
        pathlib.Path(target).write_text(json.dumps(seen))
        sys.exit(int(status))


def enter(request, words):
    """Writes what it is asked for where the last words of its command say, or FAKE_SEEN, and ends as they say."""
    below = [layer["name"] for layer in read_layers(request)]
    command = [*request["command"], *words]
    seen = {"request": request, "below": below, "env": dict(os.environ), "command": command}
    told = command[-2:] if command[-1].isdigit() else [os.environ["FAKE_SEEN"], "0"]
    pathlib.Path(told[0]).write_text(json.dumps(seen))
    sys.exit(int(told[1]))


def contents(request):
    """A layer's one file, called as the layer is; packages have what their opam files say with `has=PATH` and `hides=PATH`."""
    [layer] = read_layers(request)
    [blob] = pathlib.Path(request["layers"][0], "blobs/sha256").iterdir()
    words = json.loads(blob.read_text()).get("package", {}).get("opam", "").split()
    has = [layer["name"], *(word.partition("=")[2] for word in words if word.startswith("has="))]
    entries = [[path, "file", "0755", 1000, 1000, 7, ""] for path in has]
    hides = [word.partition("=")[2] for word in words if word.startswith("hides=")]
    pathlib.Path("contents.json").write_text(json.dumps({"entries": entries, "hides": hides}))


def real(command):
    """The tool's own, which makes nothing. But the layers made here are no tars, which it reads of those that differ."""
    return lambda request: sys.exit(
        importlib.import_module("opam_sandbox.comparing.cli").main([command, "request.json"])
    )


def export(request):
    """The switch is one file, which says what was asked for. A package with `unexportable` in its opam file fails."""
    below = []
    for path in request["layers"]:
        [blob] = pathlib.Path(path, "blobs/sha256").iterdir()
        below.append(json.loads(blob.read_text()))
    layers = read_layers(request)
    tree = pathlib.Path(request["tree"])
    tree.mkdir(parents=True, exist_ok=True)
    if any("unexportable" in layer["package"]["opam"].split() for layer in below):
        shutil.rmtree(request["made_by"])
        raise SystemExit("error: it is in no switch")
    seen = {
        "request": request,
        "packages": [layer["name"] for layer in layers],
        "argv": sys.argv,
        "env": dict(os.environ),
    }
    (tree / "env.sh").write_text(json.dumps(seen))
    shutil.rmtree(request["made_by"])


def document(request):
    """One page, which says what was asked for."""
    layers = read_layers(request)
    assert layers[-1]["kind"] == "state", layers[-1]
    below = {path: layer["name"] for path, layer in zip(request["layers"], layers)}
    seen = {"request": request, "of": {one["name"]: below[one["layer"]] for one in request["packages"]}}
    pathlib.Path("docs/a").mkdir(parents=True)
    pathlib.Path("docs/index.html").write_text(json.dumps(seen))
    pathlib.Path("docs/a/index.html").write_text("")


def check_image(request):
    """Configuration and sizes as the tool's own. Layers are no tars: all with `wrong` in its name or path fails, `take=N` waits,
    `say=PATH` adds a line to a file, `print=HEX` is what was printed, and `crash` ends it all, as `flaky` does at first."""
    checking = importlib.import_module("opam_sandbox.checking.check_image")
    results_module = importlib.import_module("opam_sandbox.checking.results")
    attempt = os.environ.get("ATTEMPT", "0")
    results = checking.results_of({**request, "files": [], "users": [], "commands": []})
    for kind in ("file", "user", "command"):
        for asked in request[f"{kind}s"]:
            name = asked.get("name") or asked["path"]
            printed = ""
            for word in name.split():
                key, _, value = word.partition("=")
                if key == "crash" or (key == "flaky" and attempt == "0"):
                    raise SystemExit("error: the image is damaged")
                if key == "take":
                    time.sleep(float(value))
                if key == "say":
                    with open(value, "a") as notes:
                        notes.write(json.dumps({"request": request, "attempt": attempt}) + "\n")
                if key == "print":
                    printed = bytes.fromhex(value).decode("latin-1")
            problems = ["it is wrong", "all of it"] if "wrong" in name else []
            results.append(results_module.Result(kind, name, problems, 0.25, printed))
    pathlib.Path(results_module.FILE).write_text(json.dumps({"checks": [one._asdict() for one in results]}))
    print("\n".join(results_module.report(results)))
    sys.exit(any(one.problems for one in results))


COMMANDS = {
    "checking": {"check-image": check_image},
    "building": {"rootfs": rootfs, "opam-root": opam_root, "build": build, "test": test, "shell": shell},
    "imaging": {
        "state": state,
        **{command: made_of_layers(command) for command in ("repack", "merge", "runtime")},
        "archive": archive,
    },
    "comparing": {command: real(command) for command in ("compare-files", "describe", "statements")},
    "documenting": {"document": document},
    "entering": {"enter": enter},
    "importing": {"fetch-image": fetch_image, "join-image": join_image},
    "linting": {"lint": lint},
    "exporting": {"export": export},
    "looking": {"contents": contents},
    "locking": {"lock-debian": lock_debian, "lock-opam": lock_opam},
}


def main():
    if os.environ.get(cli.ONLY_LOOK):
        sys.exit(cli.NOT_KNOWN)
    command, path, *rest = sys.argv[1:]
    if command == "enter":
        # Where it starts is its caller's to say.
        directory, path = os.path.split(path)
        os.chdir(directory or ".")
    # By hand, a request comes without what it should be.
    sha256 = rest[1] if rest[:1] == ["--sha256"] else ""
    part = next(part for part, commands in COMMANDS.items() if command in commands)
    # A process has this part and no other: the command line of another one cannot be imported.
    known = importlib.import_module(f"opam_sandbox.{part}.cli").COMMANDS
    try:
        request = read_request(path, known[command].request, sha256)
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    COMMANDS[part][command](request, *([rest[1:]] if command == "enter" else []))


if __name__ == "__main__":
    main()
