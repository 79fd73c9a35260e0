"""A REAPI execution service that runs each action in an empty container. Runs on the Python of build-support/cache-server.

    PYTHON tests/support/worker.py CAS PORT WORK    CAS: the cache server's directory `cas/cas/objects`

For tests: it shows that actions declare all that they need. An action sees a root that is made for it alone: its input
root, read from the CAS and writable; the system's /usr, read-only; an /etc of a few lines; /proc, /dev and /tmp of its own.
No home, no checkout, no store of Pants, no network, and of the environment only what its Command says. Where Pants asks for
it (CACHES as the base path of append-only caches), unpacked layers outlive an action. What it prints and makes goes into
the CAS. Needs root. Every action is noted in WORK/actions.jsonl.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent import futures
from pathlib import Path
from typing import Any, Iterator, List

import grpc  # pants: no-infer-dep
from buildgrid._protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as reapi  # pants: no-infer-dep
from buildgrid._protos.build.bazel.remote.execution.v2 import (
    remote_execution_pb2_grpc as services,  # pants: no-infer-dep
)
from buildgrid._protos.build.bazel.semver import semver_pb2  # pants: no-infer-dep
from buildgrid._protos.google.longrunning import operations_pb2  # pants: no-infer-dep

# Where an action may keep what outlives it.
CACHES = "/worker/caches"

# Of the host's /etc: how programs of /usr find each other and their libraries.
ETC = ("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "debian_version", "dpkg", "perl")

# It ends with the worker, whatever ends that.
ISOLATE = (
    "setpriv",
    "--pdeathsig",
    "KILL",
    "unshare",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--ipc",
    "--uts",
    "--net",
)

# $0: the new root, $1: the worker's directory, $2: the action's in it, then argv. The host is unmounted before the command
# starts. The worker's directory is one mount, as an action moves what it made into the caches beside it.
CONTAINER = """
set -e
root=$0 work=$1 action=$2; shift 2
mount -t tmpfs -o mode=755 tmpfs "$root"
cd "$root"
mkdir usr etc proc dev tmp var run root old worker
mount --bind /usr usr && mount -o remount,bind,ro usr
for name in bin sbin lib lib32 lib64 libx32; do [ ! -L /$name ] || ln -s "usr/$name" $name; done
for name in %s; do [ ! -e /etc/$name ] || cp -a /etc/$name etc/; done
echo root:x:0:0:root:/root:/bin/sh >etc/passwd
echo root:x:0: >etc/group
chmod 1777 tmp && mkdir -p var/tmp && chmod 1777 var/tmp
mount -t proc proc proc
for name in null zero full random urandom tty; do : >dev/$name; mount --bind /dev/$name dev/$name; done
ln -s /proc/self/fd dev/fd
mount --bind "$work" worker
pivot_root . old
umount -l /old
rmdir /old
cd "/worker/$action"
exec "$@"
""" % " ".join(ETC)


class ContentStore:
    """The blobs of buildgrid's disk storage, on disk."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, digest: Any) -> Path:
        return self.directory / digest.hash[:2] / digest.hash[2:]

    def read(self, digest: Any, kind: Any) -> Any:
        content = self.path(digest).read_bytes() if digest.size_bytes else b""
        return kind.FromString(content)

    def add(self, content: bytes) -> Any:
        digest = reapi.Digest(hash=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
        self._place(digest, lambda partial: partial.write_bytes(content))
        return digest

    def add_file(self, file: Path) -> Any:
        sha256 = hashlib.sha256()
        with open(file, "rb") as content:
            for piece in iter(lambda: content.read(1 << 20), b""):
                sha256.update(piece)
        digest = reapi.Digest(hash=sha256.hexdigest(), size_bytes=file.stat().st_size)
        self._place(digest, lambda partial: shutil.copyfile(file, partial))
        return digest

    def _place(self, digest: Any, write: Any) -> None:
        path = self.path(digest)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f"{path.name}.{threading.get_ident()}")
            write(partial)
            os.replace(partial, path)


def put_inputs(store: ContentStore, digest: Any, target: Path) -> None:
    """Write a Directory and all below it: exactly what the action declares."""
    directory = store.read(digest, reapi.Directory)
    target.mkdir(exist_ok=True)
    for node in directory.files:
        path = target / node.name
        if node.digest.size_bytes:
            shutil.copyfile(store.path(node.digest), path)
        else:
            path.touch()
        path.chmod(0o755 if node.is_executable else 0o644)
    for node in directory.symlinks:
        (target / node.name).symlink_to(node.target)
    for node in directory.directories:
        put_inputs(store, node.digest, target / node.name)


def directory_of(store: ContentStore, path: Path, children: List[Any]) -> Any:
    """The Directory of a made directory, its files added to the CAS, those below it appended to `children`."""
    directory = reapi.Directory()
    for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
        if entry.is_symlink():
            directory.symlinks.add(name=entry.name, target=os.readlink(entry.path))
        elif entry.is_dir():
            below = directory_of(store, Path(entry.path), children)
            children.append(below)
            directory.directories.add(name=entry.name, digest=store.add(below.SerializeToString(deterministic=True)))
        else:
            executable = bool(entry.stat().st_mode & 0o100)
            directory.files.add(name=entry.name, digest=store.add_file(Path(entry.path)), is_executable=executable)
    return directory


class Execution(services.ExecutionServicer):
    def __init__(self, store: ContentStore, work: Path) -> None:
        self._store = store
        self._work = work
        self._slots = threading.Semaphore(len(os.sched_getaffinity(0)))

    def Execute(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802 (the protocol's name)
        name = request.action_digest.hash
        operation = operations_pb2.Operation(name=name)
        response = reapi.ExecuteResponse()
        try:
            with self._slots:
                response.result.CopyFrom(self._run(request.action_digest))
        except FileNotFoundError as error:
            response.status.code = grpc.StatusCode.FAILED_PRECONDITION.value[0]
            response.status.message = f"not in the CAS: {error}"
        operation.done = True
        operation.response.Pack(response)
        yield operation

    def _run(self, digest: Any) -> Any:
        action = self._store.read(digest, reapi.Action)
        command = self._store.read(action.command_digest, reapi.Command)
        top = self._work / digest.hash[:16]
        shutil.rmtree(top, ignore_errors=True)
        root, directory = top / "root", top / "action"
        inside = f"{top.name}/action"
        root.mkdir(parents=True)
        try:
            put_inputs(self._store, action.input_root_digest, directory)
            for output in (*command.output_files, *command.output_directories, *command.output_paths):
                (directory / output).parent.mkdir(parents=True, exist_ok=True)
            argv = [*ISOLATE, "/bin/bash", "-c", CONTAINER, str(root), str(self._work), inside]
            argv += self._argv(command, inside)
            done = subprocess.run(argv, env={}, stdin=subprocess.DEVNULL, capture_output=True)
            result = reapi.ActionResult(exit_code=done.returncode, stdout_raw=done.stdout, stderr_raw=done.stderr)
            self._outputs(command, directory, result)
        finally:
            shutil.rmtree(top, ignore_errors=True)
        note = {"argv": list(command.arguments), "exit_code": done.returncode, "stderr": done.stderr.decode()[-2000:]}
        with open(self._work / "actions.jsonl", "a") as notes:
            notes.write(json.dumps(note) + "\n")
        return result

    @staticmethod
    def _argv(command: Any, inside: str) -> List[str]:
        # The container's own shell has PATH and such in its environment; the action gets what it declares.
        env = [f"{variable.name}={variable.value}" for variable in command.environment_variables]
        there = os.path.join("/worker", inside, command.working_directory)
        return ["/usr/bin/env", "-i", f"--chdir={there}", *env, *command.arguments]

    def _outputs(self, command: Any, directory: Path, result: Any) -> None:
        top = directory / command.working_directory
        for path in (*command.output_files, *command.output_directories, *command.output_paths):
            made = top / path
            if made.is_file():
                result.output_files.add(
                    path=path, digest=self._store.add_file(made), is_executable=bool(made.stat().st_mode & 0o100)
                )
            elif made.is_dir():
                children: List[Any] = []
                tree = reapi.Tree(root=directory_of(self._store, made, children))
                tree.children.extend(children)
                digest = self._store.add(tree.SerializeToString(deterministic=True))
                result.output_directories.add(path=path, tree_digest=digest)


class Capabilities(services.CapabilitiesServicer):
    def GetCapabilities(self, request: Any, context: Any) -> Any:  # noqa: N802
        result = reapi.ServerCapabilities()
        result.cache_capabilities.digest_functions.append(reapi.DigestFunction.SHA256)
        result.execution_capabilities.digest_function = reapi.DigestFunction.SHA256
        result.execution_capabilities.exec_enabled = True
        result.low_api_version.CopyFrom(semver_pb2.SemVer(major=2))
        result.high_api_version.CopyFrom(semver_pb2.SemVer(major=2, minor=1))
        return result


def main() -> None:
    cas, port, work = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    server = grpc.server(futures.ThreadPoolExecutor(64))
    services.add_ExecutionServicer_to_server(Execution(ContentStore(cas), work), server)
    services.add_CapabilitiesServicer_to_server(Capabilities(), server)
    if not server.add_insecure_port(f"127.0.0.1:{port}"):
        sys.exit(f"port {port} is taken")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
