"""A base, a package and an image whose programs are the probes: each phase of the tool runs them, as it runs everybody's.

    base      a maintainer script of the base
    compress  the base's gzip, which a package of the base has replaced
    depexts   a maintainer script of a package's depext
    build     the opam package's build, install and run-test commands
    state     ldconfig and opam of the image, which packages have replaced
    run       a command in a container, as the image's user and as root

What they print is in what they leave behind: files of layers, and a comment in the compressed stream.
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

from tests.support import base_job, probes
from tests.support.checkout import tool
from tests.support.probes.caller import call
from tests.support.probes.outcomes import Outcome
from tests.support.probes.target import Target
from tests.support.sandbox_tool import copy_tool
from tests.support.small_images import CONFIG_TYPE, MANIFEST_TYPE, write_index, write_json_blob

# What opam needs beside the small base.
PACKAGES = (
    *(
        "opam",
        "bzip2",
        "libamd3",
        "libcolamd3",
        "libglpk40",
        "libgomp1",
        "libltdl7",
        "libpopt0",
        "libsuitesparseconfig7",
    ),
    *("make", "patch", "rsync", "unzip", "wget"),
)
PROBES = "usr/share/probe"
_RUN = f"/{PROBES}/run"
_SWITCH = "home/opam/.opam/default"

# Runs the probes; $1: the file for what they print; further arguments are theirs.
_SCRIPT = """#!/bin/sh
out=$1
shift
mkdir -p "$(dirname "$out")"
exec perl /{probes}/probe.pl {arguments} "$@" > "$out" 2>&1
"""

# In its place: runs what lies beside it, and shows what that prints in the log, too. Standard output is others' to read.
_SPY = f"""#!/bin/sh
mkdir -p "$(dirname "$1")"
sh /{PROBES}/spy.sh > "$1" 2>&1
cat "$1" >&2
"""

# A gzip that runs the probes when it meets a certain file, and says what they found in a comment of its stream.
_GZIP = """#!/usr/bin/perl
my $text = "";
while (sysread STDIN, my $piece, 1 << 20) { $text .= $piece }
if (index($text, "meets-" . "the-compressor") >= 0) {
    $| = 1;
    my $said = `%s 2>&1`;
    $said =~ s/\\0//g;
    print "\\x1f\\x8b\\x08\\x10\\0\\0\\0\\0\\0\\xff$said\\0\\x03\\0" . "\\0" x 8;
}
sysseek STDIN, 0, 0;
exec "/usr/bin/gzip.real", @ARGV;
"""
_BASE_POSTINST = f"""#!/bin/sh
{_RUN} /{PROBES}/outcome-base mounts=yes only_files=yes traps=/{PROBES}/traps-base
mv /usr/bin/gzip /usr/bin/gzip.real
cp /{PROBES}/gzip /usr/bin/gzip
exit 0
"""
_OPAM = f"""#!/bin/sh
[ "$1 $2" != "switch set" ] || {_RUN} /home/opam/outcome-state-user traps=/home/opam/traps-state
exec /usr/bin/opam.real "$@"
"""
_DEPEXT_POSTINST = f"""#!/bin/sh
{_RUN} /{PROBES}/outcome-depexts traps=/{PROBES}/traps-depexts
mv /usr/sbin/ldconfig /usr/sbin/ldconfig.real
cp /{PROBES}/ldconfig /usr/sbin/ldconfig
exit 0
"""
_LDCONFIG = f"""#!/bin/sh
[ "$1" != -X ] || {_RUN} /{PROBES}/outcome-state-root traps=/{PROBES}/traps-state
exec /usr/sbin/ldconfig.real "$@"
"""
_OPAM_FILE = f"""opam-version: "2.0"
build: [["{_RUN}" "%{{lib}}%/outcome-build" "traps=%{{lib}}%/traps-build"]]
install: [["{_RUN}" "%{{lib}}%/outcome-install"]]
run-test: [["{_RUN}" "%{{lib}}%/outcome-test"]]
"""


@dataclass
class Downloads:
    """top: a directory that everybody may read, with `debs`, the tool and a request for the base. left: by layer, what the first
    chain's probes left behind (see `traps`)."""

    top: Path
    left: Dict[str, List[Any]] = field(default_factory=dict)

    @classmethod
    def make(cls, top: Path) -> "Downloads":
        """Fill `top`. Raises OSError where this machine's mirror does not have the .debs."""
        top.chmod(0o755)
        base_job.download(top, PACKAGES)
        copy_tool(top / "tool")
        return cls(top)


@dataclass
class Chain:
    """The phases for one caller, each in a directory below `directory`, which the caller owns. prefix: of a command that is to
    run as the caller. spy: a shell script that is run in place of the probes. said: what the tool printed."""

    downloads: Downloads
    directory: Path
    target: Target
    owner: int
    prefix: Sequence[str]
    spy: str = ""
    said: List[str] = field(default_factory=list)
    layers: List[str] = field(default_factory=list)
    found: Dict[str, Dict[str, Outcome]] = field(default_factory=dict)

    def outcomes(self, phase: str) -> Dict[str, Outcome]:
        """What the probes found in a phase, which is run if it was not."""
        makers: Dict[str, Callable[[], None]] = {
            "base": self._base,
            "depexts": self._build,
            "state-root": self._state,
        }
        same = {
            "build": "depexts",
            "install": "depexts",
            "test": "depexts",
            "compress": "depexts",
            "state-user": "state-root",
        }
        if phase not in self.found:
            makers.get(same.get(phase, phase), lambda: self._run(phase))()
        return self.found[phase]

    # -- phases ---------------------------------------------------------------

    def _base(self) -> None:
        job = self._job("base")
        shutil.copytree(self.downloads.top / "debs", job / "debs")
        self._add_opam(job)
        words = " ".join("'%s'" % word for word in self.target.arguments)
        files = {f"{PROBES}/{name}": text for name, text in probes.probe_files().items()}
        files[f"{PROBES}/spy.sh"] = self.spy
        files[f"{PROBES}/run"] = _SPY if self.spy else _SCRIPT.format(probes=PROBES, arguments=words)
        files[f"{PROBES}/gzip"] = _GZIP % f"perl /{PROBES}/probe.pl {words}"
        entry = base_job.make_package(job, "probe", _BASE_POSTINST, files, (f"{PROBES}/run", f"{PROBES}/gzip"))
        request = json.loads((self.downloads.top / "request.json").read_text())
        request["debs"] = [deb for deb in request["debs"] if deb["name"] != "opam"] + [self._opam, entry]
        request["store"] = "../store"
        self._tool(job, "building rootfs", request)
        self.layers.append("base")
        self._read(job, {"base": f"{PROBES}/outcome-base"})

    def _add_opam(self, job: Path) -> None:
        """opam without the compiler that Debian's package brings; its program is put behind one that runs the probes."""
        tree = job / "opam"
        [deb] = (job / "debs").glob("opam_*.deb")
        tool("dpkg-deb", "--extract", str(deb), str(tree))
        shutil.rmtree(tree / "usr/share")
        os.rename(tree / "usr/bin/opam", tree / "usr/bin/opam.real")
        self._opam = base_job.make_package(job, "opam", "#!/bin/sh\n", {"usr/bin/opam": _OPAM}, ("usr/bin/opam",), tree)

    def _build(self) -> None:
        self.outcomes("base")
        root, job = self._job("opam-root"), self._job("build")
        self._tool(root, "building opam-root", {"store": "../store", "layers": ["../base"]})
        files = {f"{PROBES}/ldconfig": _LDCONFIG, f"{PROBES}/marker": "meets-the-compressor"}
        (job / "debs").mkdir()
        deb = base_job.make_package(job, "depext", _DEPEXT_POSTINST, files, (f"{PROBES}/ldconfig",))
        package = {"name": "t", "version": "1", "opam": _OPAM_FILE, "files": [], "sources": [], "debs": [deb]}
        layers = ["../base", "../opam-root"]
        self._tool(
            job, "building build", {"store": "../store", "layers": layers, "package": package, "with_test": True}
        )
        self.layers += ["opam-root", "build"]
        names = {name: f"{_SWITCH}/lib/outcome-{name}" for name in ("build", "install", "test")}
        self._read(job, {"depexts": f"{PROBES}/outcome-depexts", **names})
        comment = _comment(_blob(job).read_bytes())
        self.found["compress"] = probes.read_outcomes(comment)

    def _state(self) -> None:
        self.outcomes("depexts")
        job = self._job("state")
        packages = [{"name": "t", "version": "1", "opam": _OPAM_FILE, "files": []}]
        layers = [f"../{name}" for name in self.layers]
        self._tool(
            job, "imaging state", {"store": "../store", "layers": layers, "packages": packages, "roots": ["t.1"]}
        )
        self.layers.append("state")
        self._read(job, {"state-root": f"{PROBES}/outcome-state-root", "state-user": "home/opam/outcome-state-user"})

    def _run(self, phase: str) -> None:
        """phase: run-KIND-USER-NETWORK."""
        self.outcomes("state-root")
        _, kind, user, network = phase.split("-")
        layout = self.directory / f"image-{user}"
        if not layout.exists():
            self._write_image(layout, user)
        job = self._job(phase)
        values: Dict[str, Any] = {
            "image": str(layout),
            "store": "../store",
            "runtime": shutil.which(kind),
            "kind": kind,
        }
        values.update({"env": [], "network": network, "hostname": "probe", "volumes": []})
        script = f"{_RUN} /tmp/outcome; cat /tmp/outcome"
        said = self._tool(job, "publishing run", values, "--", "sh", "-c", script)
        self.found[phase] = probes.read_outcomes(said)

    # -- helpers --------------------------------------------------------------

    def _job(self, name: str) -> Path:
        directory = self.directory / name
        directory.mkdir()
        return directory

    def fail(self, script: str) -> str:
        """Build a package whose depext's maintainer script is this one, which fails; returns what the tool says of it."""
        job = self._job("failing")
        (job / "debs").mkdir()
        deb = base_job.make_package(job, "depext", f"#!/bin/sh\n{script}\nexit 1\n", {f"{PROBES}/none": ""})
        package = {"name": "t", "version": "1", "opam": _OPAM_FILE, "files": [], "sources": [], "debs": [deb]}
        request = {"store": "../store", "layers": ["../base", "../opam-root"], "package": package}
        return self._tool(job, "building build", request, status=1)

    def _tool(self, job: Path, command: str, request: Dict[str, Any], *arguments: str, status: int = 0) -> str:
        """Run a command of the tool as the caller; returns its standard output, or errors where it is to fail."""
        (job / "request.json").write_text(json.dumps(request))
        if self.owner:
            tool("chown", "-R", f"{self.owner}:{self.owner}", str(job))
        part, name = command.split()
        argv = [*self.prefix, "/usr/bin/python3", "-sB", "-m", f"opam_sandbox.{part}", name, "request.json", *arguments]
        env = {"PYTHONPATH": str(self.downloads.top / "tool"), "HOME": str(self.directory / "home")}
        done = call(self.target, argv, job, env)
        self.said += [done.stdout, done.stderr]
        assert done.returncode == status, f"{command}: {done.stderr[-4000:]}\n{_tail(job / 'build.log')}"
        return done.stderr if status else done.stdout

    def _read(self, job: Path, names: Dict[str, str]) -> None:
        """Read the outcomes of phases in a layer: phase -> file."""
        with tarfile.open(_blob(job)) as layer:
            for phase, name in names.items():
                file = layer.extractfile(name)
                assert file is not None
                self.found[phase] = probes.read_outcomes(file.read().decode(errors="replace"))

    def _write_image(self, layout: Path, user: str) -> None:
        (layout / "blobs/sha256").mkdir(parents=True)
        facts = [json.loads((self.directory / name / "layer.json").read_text()) for name in self.layers]
        for name in self.layers:
            blob = _blob(self.directory / name)
            shutil.copyfile(blob, layout / "blobs/sha256" / blob.name)
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["sh"], "User": user, "Env": ["PATH=/usr/bin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [fact["diff_id"] for fact in facts]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": write_json_blob(layout, config, CONFIG_TYPE),
            "layers": [
                {"mediaType": fact["media_type"], "digest": fact["digest"], "size": fact["size"]} for fact in facts
            ],
        }
        write_index(layout, [write_json_blob(layout, manifest, MANIFEST_TYPE)])
        tool("chmod", "-R", "a+rX", str(layout))


def _blob(job: Path) -> Path:
    [blob] = (job / "blobs/sha256").iterdir()
    return blob


def _comment(data: bytes) -> str:
    """The comment of the first gzip member that has one."""
    start = data.find(b"\x1f\x8b\x08\x10")
    return data[start + 10 : data.index(b"\0", start + 10)].decode(errors="replace") if start >= 0 else ""


def _tail(path: Path) -> str:
    return path.read_text(errors="replace")[-4000:] if path.exists() else ""
