"""The rule: nothing outside a view follows a name that was made inside one. So a module of the tool opens paths by nothing but
view_files, or is in the tables below with what it opens, and why that is no name of a view.

What a hostile view gets to see of this is in test_hostile_views.py.
"""

from __future__ import annotations

import ast
from typing import Dict, Iterator, Set, Tuple

import pytest

from tests.unit.conftest import REPOSITORY

PACKAGE = REPOSITORY / "src/opam_sandbox"

# Modules that never have a path of a view or of an unpacked layer, or whose whole work these paths are.
WHOLE = {
    "sandbox/open_in_root.py": "the one module that opens names of a view",
    "sandbox/view_files.py": "what all others use: the two below",
    "sandbox/view_lookups.py": "by descriptors of open_in_root",
    "sandbox/view_changes.py": "by descriptors of view_lookups",
    "sandbox/syscalls.py": "system calls: those who call them are looked at",
    "sandbox/namespaces.py": "the process's own maps in /proc",
    "sandbox/scratch.py": "records and directories of this process; trees are removed, which follows nothing",
    "sandbox/kernel_files.py": "/proc as the kernel gives it, just mounted",
    "sandbox/user_namespace.py": "the host's maps",
    "sandbox/surroundings.py": "a directory of the process's own, above the view; of layers, the owner of an unlinked directory",
    "sandbox/memory.py": "the machine's /proc and /sys",
    "sandbox/memory_claims.py": "records in the store's own directories",
    "files.py": "the helpers below; those who call them are looked at",
    "request.py": "requests",
    "strict_json.py": "JSON files of the process; requests",
    "cli.py": "requests",
    "compiled.py": "the tool's own sources, and a directory of the store's own",
    "publishing/": "layouts",
    "registry/": "layouts, and files of the user's own configuration",
    "exporting/export.py": "the export's directory, of this user's own; what is in it is removed, which follows nothing",
    "exporting/swap.py": "as export.py",
    "exporting/host.py": "this machine's own libraries and programs",
    "looking/": "blobs, and files of the process",
    "importing/": "layouts, blobs and tars; what is joined goes to the store's own directories",
    "comparing/": "layouts and blobs, and files of the process",
    "checking/": "layouts and blobs, and files of the process; names of the image are looked up in what its tars say",
    "oci/": "layouts",
    "locking/": "the network's and the process's files, but for the modules of VIEWS",
    "layer/description.py": "layer directories: what a process wrote",
    "layer/closed.py": "records in the store's own directories",
    "beside/overlaps.py": "the inventories in the store's own directories",
    "sandbox/control_group.py": "the kernel's files of control groups",
    "sandbox/limits.py": "the process's own /proc",
    "sandbox/watch.py": "/proc; what is written is looked at by descriptors of open_in_root",
    "building/asked.py": "/proc, and a file of Pants' in the store's own directories",
    "building/failures.py": "the process's own files, and records in the store's own directories",
    "sandbox/privileges.py": "the process's own maps in /proc",
    "inherited.py": "/dev/null, in the place of streams",
    "layer/inventory.py": "the store's own directories, by descriptors or without following links",
    "layer/read_blob.py": "blobs",
    "layer/store.py": "the store's own directories",
    "layer/store_check.py": "the store's own directories; trees by `inventory`",
    "layer/store_gone.py": "the store's own directories; trees are removed, which follows nothing",
    "layer/store_lock.py": "lock files in the store's own directories",
    "layer/store_use.py": "files of the store's own, beside the layers",
    "store/": "the store's own directories; trees are measured and removed, which follows nothing",
    "layer/store_disk.py": "files that it makes itself, in a directory of its own",
    "machine_errors.py": "no file of a view: where paths are mounted, and how much room is there",
    "layer/unpack.py": "names of tars: its own rules, and its own tests",
    "layer/merge_tars.py": "tars",
    "building/host_view.py": "a view of the host's own directories, put together before anything runs in it",
    "building/mmdebstrap.py": "files of the host and of the process; no view is there yet",
    "building/rewrite_rootfs.py": "tars",
    "building/debian_rootfs.py": "the process's own files; no view is there yet",
    "imaging/archive.py": "layouts",
    "imaging/in_memory.py": "the process's own files: what it wrote into its directory in memory",
    "entering/id_mapped.py": "the process's own maps and namespaces in /proc; where it mounts is above the view",
    "running/engine.py": "layouts",
    "running/scratch.py": "the container's directory, which is removed",
    "running/user_namespace.py": "the host's maps",
}
VIEWS = (
    *("locking/repositories.py", "locking/solve.py", "locking/ask_universe.py", "locking/run_root_solver.py"),
    *("locking/solve_roots.py", "locking/list_roots.py", "locking/prepared.py"),
)

# (module, function) -> what it may call, and why.
ALLOWED: Dict[Tuple[str, str], Tuple[Set[str], str]] = {
    ("layer/walk_tree.py", "_names"): ({"os.scandir"}, "an unmounted view, whose processes are killed; no links"),
    ("layer/walk_tree.py", "_take"): ({"os.lstat"}, "as _names"),
    ("layer/walk_tree.py", "_is_like"): ({"os.lstat"}, "as _names; directories of the store, each one above no link"),
    ("beside/access_lists.py", "remove"): ({"os.removexattr"}, "a descriptor of open_in_root"),
    ("beside/access_lists.py", "_read"): ({"os.getxattr"}, "a descriptor of open_in_root"),
    ("beside/machine_files.py", "walk"): (
        {"os.scandir", ".stat"},
        "an unmounted upper directory, by a descriptor: each directory on the way is no link",
    ),
    ("layer/capture.py", "_write"): ({"os.readlink"}, "as walk_tree's: says where a link leads, and does not go there"),
    ("layer/capture.py", "_write_file"): ({"open"}, "a descriptor of open_in_root"),
    ("layer/walk_tree.py", "xattrs"): ({"os.listxattr", "os.getxattr"}, "as _names; follow_symlinks=False"),
    ("layer/move_to_store.py", "_move"): (
        {"os.mkdir", "os.rename", "os.chown", "os.setxattr", "os.utime"},
        "what was captured, out of an unmounted view whose processes are killed, into directories made here",
    ),
    ("layer/move_to_store.py", "_set_metadata"): (
        {"os.getxattr", "os.setxattr", "os.chown", "os.chmod", "os.utime"},
        "what _move has just moved to a name of its own; links are told by what was captured",
    ),
    ("layer/move_to_store.py", "_copy_xattrs"): ({"os.getxattr", "os.setxattr"}, "follow_symlinks=False"),
    ("layer/move_to_store.py", "_drop_xattrs"): ({"os.removexattr"}, "follow_symlinks=False"),
    ("layer/move_to_store.py", "_xattr_names"): ({"os.listxattr"}, "follow_symlinks=False"),
    ("layer/make.py", "make_layer"): ({".write_bytes"}, "the log, a file of the process"),
    ("layer/make.py", "write_blob"): ({"open", ".mkdir", "os.replace"}, "the blob, a file of the process"),
    ("layer/make.py", "write_description"): ({"write_json"}, "layer.json, a file of the process"),
    ("documenting/document.py", "_write"): ({".mkdir", ".write_bytes"}, "the pages, files of the process"),
    ("documenting/search.py", "data_file"): ({".read_text"}, "the tool's own files"),
    ("exporting/tree.py", "finish"): (
        {"os.path.realpath"},
        "says where links of a switch lead, in a directory that this process alone has made, and does not go there",
    ),
    ("exporting/tree.py", "_write_file"): ({"open", "os.utime"}, "a descriptor of view_files"),
    ("layer/mounted.py", "mounted"): ({"open"}, "the log, a file of the process"),
    ("layer/pack_piece.py", "_run"): ({"open"}, "a pipe"),
    ("layer/pack_piece.py", "in_memory"): ({"open"}, "a memfd"),
    ("layer/pack_piece.py", "start"): ({"os.listdir"}, "the process's own /proc"),
    ("sandbox/layer_paths.py", "look"): (
        {"os.lstat"},
        "directories of the store, or an unmounted view, component by component: each one above is no link",
    ),
    ("sandbox/layer_paths.py", "is_opaque"): ({"os.getxattr"}, "as look; follow_symlinks=False"),
    ("sandbox/bare_program.py", "enter"): (
        {"os.chroot", "os.chdir", "syscalls.mount"},
        "the child: from there on inside; a directory of the store, in a mount namespace of the child's",
    ),
    ("sandbox/view.py", "write"): ({"write_json"}, "the timings, a file of the process"),
    ("sandbox/view.py", "log_text"): ({".read_text"}, "the log, a file of the process"),
    ("sandbox/stack.py", "__init__"): ({".resolve"}, "the scratch directory, above the view"),
    ("sandbox/stack.py", "mount_frame"): (
        {".mkdir", "os.chmod", "memory.mount"},
        "the scratch directory, above the view",
    ),
    ("sandbox/stack.py", "_remove_access_lists"): (
        {"os.removexattr"},
        "the upper directory, just made; above the view",
    ),
    ("sandbox/stack.py", "mount_overlay"): (
        {"os.chdir", "os.path.lexists", ".mkdir", "syscalls.mount"},
        "the scratch directory, above the view; layers by links that are made here",
    ),
    ("sandbox/stack.py", "_short_name"): ({"os.symlink"}, "the scratch directory, above the view"),
    ("sandbox/stack.py", "unmount"): ({"syscalls.umount"}, "the view's root"),
    ("sandbox/stack.py", "remove"): ({"syscalls.umount", "remove_tree"}, "the scratch directory, above the view"),
    ("sandbox/closed.py", "_walk"): (
        {"os.scandir", ".stat", "os.access"},
        "a layer, or an unmounted view, whose directories are no links",
    ),
    ("sandbox/command.py", "run"): ({"open"}, "a pipe"),
    ("sandbox/command.py", "_fork_first"): ({"os.open"}, "/proc/self, outside of views"),
    ("sandbox/first_process.py", "main"): (
        {"os.chdir", "os.chown", "syscalls.pivot_root", "syscalls.umount"},
        "the child: from there on inside; pipes",
    ),
    ("sandbox/first_process.py", "_become"): ({"os.open", "os.chdir"}, "the child, inside"),
    ("sandbox/streams.py", "_no_more_input"): ({"os.open"}, "/dev/null, outside of views"),
    ("sandbox/command_view.py", "show"): (
        {"os.path.samefile", "syscalls.mount"},
        "a directory that was looked at just before, while nothing runs in the view; descriptors",
    ),
    ("sandbox/command_view.py", "_bind"): ({"syscalls.mount"}, "a descriptor"),
    ("sandbox/command_view.py", "_mount_devices"): (
        {".touch", ".mkdir", ".write_bytes", "os.symlink", "os.chmod", "syscalls.mount"},
        "as show; what is in there is mounted here",
    ),
    ("sandbox/command_view.py", "_mount_terminals"): (
        {".mkdir", "os.symlink", "syscalls.mount"},
        "as show; what is in there is mounted here",
    ),
    ("sandbox/command_view.py", "make_masks"): (
        {".touch", ".mkdir"},
        "the scratch directory, above the view",
    ),
    ("sandbox/command_view.py", "_close"): (
        {"syscalls.mount"},
        "the scratch directory, above the view; descriptors",
    ),
    ("sandbox/overlay.py", "mount"): (
        {".mkdir", "os.chmod", "memory.mount"},
        "the scratch directory, above the view",
    ),
    ("sandbox/overlay.py", "_mount_again"): ({"syscalls.mount"}, "a directory that was looked at just before"),
    ("sandbox/overlay.py", "bind"): ({"os.path.realpath"}, "the source, which is the process's own"),
    ("sandbox/overlay.py", "bind_tree"): ({".resolve"}, "the source, which is the process's own"),
    ("sandbox/overlay.py", "show_network"): ({".read_bytes", "os.path.exists"}, "the machine's own /etc/resolv.conf"),
    ("sandbox/overlay.py", "is_full"): ({"os.statvfs"}, "the mount itself"),
    ("sandbox/overlay.py", "_take_from_root"): (
        {".iterdir", ".is_dir", ".is_symlink", ".unlink", "remove_tree"},
        "directories for scratch files, while nothing runs; what is in them is removed, which follows nothing",
    ),
    ("sandbox/overlay.py", "_give"): (
        {"os.scandir", ".stat", "os.chown", "os.chmod"},
        "an unmounted view, whose processes have ended; links are told by their status",
    ),
    ("sandbox/overlay.py", "chown_to_opam"): ({"os.chown"}, "what the process made outside of the view"),
    ("building/prepare_opam.py", "_write_downloads"): (
        {".mkdir", ".exists", "os.link", "open"},
        "the scratch directory, before it is bound; the request's sources",
    ),
    ("building/prepare_opam.py", "_download"): ({".mkdir"}, "the scratch directory, before it is bound"),
    ("building/prepare_opam.py", "_write_tree"): ({"os.rename"}, "the scratch directory, before it is bound"),
    ("building/project_tree.py", "pack"): ({"open"}, "the scratch directory, before it is bound"),
    ("building/project_tree.py", "_add"): ({"os.stat"}, "the request's files"),
    ("building/shown_log.py", "_copy"): ({"os.open"}, "the process's own log, beside the view"),
    ("linting/lint.py", "run"): ({".read_bytes"}, "the process's own log, beside the view"),
    ("building/install_debs.py", "install"): ({".mkdir"}, "the scratch directory, before it is shown"),
    ("building/install_debs.py", "_order"): ({"open", ".read_text"}, "the scratch directory, above the view"),
    ("building/install_debs.py", "_link"): (
        {"os.path.realpath", "os.link", "shutil.copyfile"},
        "the request's .debs; the scratch directory, before it is shown",
    ),
    ("building/shell.py", "_check_keep"): ({".mkdir", ".iterdir"}, "a directory of a person's, before it is shown"),
    ("building/build.py", "_bind_memory"): ({".mkdir"}, "the scratch directory's memory, before it is bound"),
    ("building/sorted_readdir.py", "show"): ({".read_bytes"}, "the library of the store"),
    ("building/prepare_opam.py", "_write_below"): (
        {".mkdir", "os.mkdir", "open"},
        "the scratch directory, before it is bound",
    ),
    ("building/sorted_readdir.py", "library"): ({".read_bytes"}, "the tool's own source"),
    ("building/sorted_readdir.py", "library.fill"): (
        {".write_bytes", ".write_text", "os.chmod"},
        "a new directory of the store",
    ),
    ("building/sorted_readdir.py", "_is_recorded"): (
        {".read_bytes", ".read_text"},
        "a directory of the store that fill made",
    ),
    ("entering/cli.py", "main.answer"): ({"os.chdir", "read_request"}, "the request's directory"),
    ("entering/host_directories.py", "_find"): (
        {"os.path.realpath", "os.stat"},
        "a directory of a person's, before it is shown",
    ),
    ("entering/host_directories.py", "_check_nothing_mounted"): ({".read_bytes"}, "the process's own /proc"),
    ("entering/host_directories.py", "check_start"): (
        {"os.path.isdir"},
        "a directory of a person's, before it is shown",
    ),
    ("entering/host_directories.py", "show"): ({".mkdir"}, "the frame, above the view"),
    ("imaging/opam_state.py", "_opam"): ({"open", ".read_bytes"}, "the process's own directory"),
    ("imaging/merge.py", "run.produce"): ({"tempfile.TemporaryFile"}, "the process's own directory"),
    ("imaging/merge.py", "run.inside"): ({"tempfile.TemporaryFile"}, "the process's own directory"),
    ("imaging/chunked/frames.py", "_compress"): (
        {"os.open", "os.unlink"},
        "in memory, in a root that is the base's own: new files, no links followed, after which only sizes are known",
    ),
    ("imaging/chunked/frames.py", "_enter"): (
        {"syscalls.mount", "memory.mount", "os.chroot", "os.chdir"},
        "the base's root, as bare_program does, and a directory in it that is no link",
    ),
    ("imaging/chunked/write.py", "write_chunked_blob"): (
        {"open", ".mkdir", "os.replace", "file_sha256"},
        "the blob, a file of the process",
    ),
    ("imaging/chunked/write.py", "annotate"): ({"write_json"}, "layer.json, a file of the process"),
    ("imaging/copy_files.py", "copy"): ({"open"}, "a descriptor of view_files"),
    ("imaging/copy_files.py", "_copy_metadata"): (
        {"os.listxattr", "os.getxattr", "os.setxattr", "os.utime"},
        "descriptors",
    ),
    ("locking/repositories.py", "_prepare"): ({".mkdir", ".write_bytes", ".write_text"}, "the process's own directory"),
    ("locking/repositories.py", "_opam"): ({"open", ".read_text"}, "a file of the scratch directory, above the view"),
    ("locking/repositories.py", "_directory"): (
        {".is_dir", ".mkdir", "os.path.realpath"},
        "the request's inputs, and the scratch directory before it is bound",
    ),
    ("locking/repositories.py", "package_files"): (
        {"os.path.realpath"},
        "the way to a repository, which is its root then",
    ),
    ("locking/solve.py", "solve.inside"): ({".write_text"}, "the process's own directory"),
    ("locking/prepared.py", "read_prepared"): ({"read_request"}, "what the step before has written"),
    ("locking/prepared.py", "state_caches"): ({".glob", ".read_bytes"}, "what the step before has written"),
    ("locking/solve_roots.py", "solve_roots.inside"): ({"write_json"}, "the process's own directory"),
    ("locking/list_roots.py", "list_roots.inside"): ({"write_json"}, "the process's own directory"),
    ("locking/solve_roots.py", "_by_opam"): ({".unlink"}, "the process's own directory"),
    ("running/run.py", "run"): ({"read_request"}, "the request"),
    ("running/container.py", "run_contained"): ({"os.path.realpath", ".mkdir"}, "the store"),
    ("running/container.py", "_contain"): ({"syscalls.mount"}, "the kernel's files, outside of the root"),
    ("running/container.py", "_resize"): ({"open", ".read_text"}, "the container's directory and /proc"),
    ("running/container.py", "_end_with_command"): ({".read_text", "os.path.exists", "os.listdir"}, "/proc"),
    ("running/runtime.py", "failure"): ({".read_text"}, "the container's directory"),
    ("running/runtime.py", "hide_cgroups"): ({"open", "os.path.isdir", "syscalls.mount"}, "/proc and /sys of the host"),
    ("running/runtime_bundle.py", "write_bundle"): ({".mkdir", ".write_text"}, "the container's directory"),
    ("running/runtime_bundle.py", "_mounts"): ({"os.path.exists", "os.path.realpath"}, "the host's own /etc/hosts"),
    ("running/find_command.py", "check"): ({"os.chroot", "os.chdir"}, "the child: from there on inside"),
    ("running/find_command.py", "why_not_started"): (
        {"os.chroot", "os.chdir"},
        "the child: from there on inside",
    ),
    ("running/find_command.py", "_look_up"): ({"os.path.exists"}, "the child, inside"),
    ("running/find_command.py", "_is_program"): ({"os.stat"}, "the child, inside"),
}

OS = set(
    "open stat lstat listdir scandir walk fwalk unlink remove rename renames replace mkdir makedirs rmdir removedirs link symlink"
    " readlink chmod chown lchown utime truncate access mknod mkfifo statvfs getxattr setxattr listxattr removexattr chroot"
    " chdir".split()
)
OS_PATH = set("exists lexists isdir isfile islink ismount getsize getmtime samefile realpath".split())
METHODS = set(
    "read_text read_bytes write_text write_bytes open exists is_dir is_file is_symlink is_mount is_fifo is_socket unlink mkdir"
    " rmdir chmod lchmod lstat stat iterdir glob rglob rename symlink_to link_to hardlink_to touch resolve samefile"
    " readlink".split()
)
HELPERS = {"file_sha256", "remove_tree", "write_json", "read_request", "open"}
MOUNTS = {"syscalls.mount", "syscalls.umount", "syscalls.pivot_root", "memory.mount"}
OTHER = ("shutil.", "tempfile.", "tarfile.open", "io.open", "glob.")
# Modules whose functions have the names of METHODS, and streams.
NO_PATHS = {"view_files", "re", "store", "Store", "tarfile"}


def call_name(node: ast.Call) -> str:
    """What a call opens by its path, as the table names it; "" for other calls."""
    text = ast.unparse(node.func)
    if isinstance(node.func, ast.Name):
        return text if text in HELPERS else ""
    if not isinstance(node.func, ast.Attribute):
        return ""
    if text.startswith("os.path."):
        return text if node.func.attr in OS_PATH else ""
    if text.startswith("os."):
        by_descriptor = any(keyword.arg in ("dir_fd", "src_dir_fd") for keyword in node.keywords)
        return text if node.func.attr in OS and not by_descriptor else ""
    if text in MOUNTS or text.startswith(OTHER):
        return text
    if text.split(".")[0] in NO_PATHS:
        return ""
    if node.func.attr == "replace" and len(node.args) == 1:  # Path's; that of str has two
        return ".replace"
    return f".{node.func.attr}" if node.func.attr in METHODS else ""


def uses(tree: ast.AST, inside: str = "") -> Iterator[Tuple[str, str]]:
    """(function, what it calls) of a module; functions in functions are `outer.inner`, methods have their names alone."""
    for node in ast.iter_child_nodes(tree):
        name = inside
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            name = f"{inside}.{node.name}" if inside else node.name
        if isinstance(node, ast.Call) and call_name(node):
            yield inside, call_name(node)
        yield from uses(node, name)


def looked_at() -> Iterator[Tuple[str, ast.AST]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        room = f"{name.partition('/')[0]}/"
        if name in VIEWS or (name not in WHOLE and room not in WHOLE):
            yield name, ast.parse(path.read_text())


def test_no_other_module_opens_names_of_a_view() -> None:
    wrong = [
        f"{module}: {function or 'the module'} calls {call}: by view_files, or by a row of the table that says why not"
        for module, tree in looked_at()
        for function, call in uses(tree)
        if call not in ALLOWED.get((module, function), (set(), ""))[0]
    ]
    assert wrong == []


def test_the_table_says_nothing_that_is_not_so() -> None:
    found: Dict[Tuple[str, str], Set[str]] = {}
    for module, tree in looked_at():
        for function, call in uses(tree):
            found.setdefault((module, function), set()).add(call)
    assert {key: calls for key, (calls, _) in ALLOWED.items()} == {key: found.get(key, set()) for key in ALLOWED}
    assert all((PACKAGE / name).exists() for name in (*WHOLE, *VIEWS))


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("open(root / 'x')", "open"),
        ("os.open(path, 0)", "os.open"),
        ("(root / 'x').read_text()", ".read_text"),
        ("(root / 'x').replace(other)", ".replace"),
        ("os.path.exists(path)", "os.path.exists"),
        ("shutil.copyfile(a, b)", "shutil.copyfile"),
        ("syscalls.umount(root / 'x', 2)", "syscalls.umount"),
        ("file_sha256(root / 'x')", "file_sha256"),
        ("view_files.read_text(root, 'x')", ""),
        ("os.unlink(base, dir_fd=parent)", ""),
        ("text.replace('a', 'b')", ""),
        ("os.path.join(a, b)", ""),
    ],
)
def test_what_the_table_sees(line: str, call: str) -> None:
    assert [found for _, found in uses(ast.parse(line))] == ([call] if call else [])
