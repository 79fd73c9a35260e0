"""The merged view of a build: an overlay of unpacked layers, and commands that run inside it.

Only usable inside `namespaces.run_isolated`.

In this process's own view (`root`) nothing is mounted but /tmp. Each command sees it in a mount namespace of its own, with what
`command_view` adds. root's commands, such as dpkg, write where they like. opam's write below /home/opam, and for that directory
there is an overlay of its own; all else is an overlay that nobody can write to. That is so for root, whom modes and owners would
do, and for a user, whose are all files of a view: the same is refused, with the same errors. Then the view is not mounted here
until somebody asks for it, as an upper directory is one overlay's at a time.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.files import remove_tree
from opam_sandbox.sandbox import closed, command, memory, stack, surroundings, syscalls, view_files
from opam_sandbox.sandbox.command_view import Bind, Device, Shown, make_masks, show
from opam_sandbox.sandbox.first_process import OPAM_UID, Command
from opam_sandbox.sandbox.stack import Stack
from opam_sandbox.sandbox.watch import Watch

# A view has two more directories than layers: what surrounds all commands, and opam's.
MAX_LOWER = stack.MAX_LOWER - 2
HOME = "home/opam"

_RESOLVER = "/etc/resolv.conf"
# Directories for scratch files that everybody may write to. root's commands see the layers' own /var/tmp and /run/lock.
_PLACES = ("tmp", "dev/shm", "var/tmp", "run/lock")


class Done:
    """A command that has ended, with this exit status: 128 + N for a signal."""

    def __init__(self, returncode: int) -> None:
        self.returncode = returncode


class Overlay(Stack):
    """room: the bytes of memory that all scratch files of its commands may take (/tmp, /dev/shm and what `scratch_files` holds),
    0: they are on disk; None: what this machine has for one build. closed_names: as `closed.names`, perhaps from a record."""

    def __init__(
        self,
        lower: Sequence[Path],
        scratch: Path,
        rootless: bool,
        room: Optional[int] = None,
        closed_names: Callable[[Path], Iterable[str]] = closed.names,
    ) -> None:
        if len(lower) > MAX_LOWER:
            raise ToolError(f"{len(lower)} layers are needed, but a build's view stacks at most {MAX_LOWER}")
        super().__init__(lower, scratch, rootless)
        self.room = memory.room_for_one() if room is None else room
        # For scratch files of this process's commands: they are in memory if there is room. Gone with the overlay.
        self.scratch_files = (self.frame if self.room else self.scratch) / "files"
        self._closed_names = closed_names
        self._binds: Dict[str, Bind] = {}
        self._trees: Dict[str, bytes] = {}
        self._devices: Dict[str, Device] = {}
        self._preloaded = ""
        self._resolver = b""
        # On disk as the layers are: overlayfs numbers files otherwise where they are of several file systems.
        self._around = surroundings.Surroundings(self.scratch / "around")
        self._around_opam = surroundings.Surroundings(self.scratch / "around-opam")
        self._root_ran = False
        self._is_handed_over = False
        # What its commands may take, if somebody bounds that.
        self.watch: Optional[Watch] = None

    @property
    def root(self) -> Path:
        """Where the view is mounted, with what commands wrote until then. Raises ToolError."""
        if self._is_handed_over:
            self._mount_again()
        return self.merged

    def mount(self) -> None:
        """Mount the view, and in it /tmp. Raises ToolError where overlayfs does not mount."""
        self.mount_frame()
        for directory in (self.scratch_files, *(self.frame / name for name in ("view", "masks", "nothing"))):
            directory.mkdir()
        make_masks(self.frame / "masks")
        if self.room:
            # As the upper directory: no devices, but programs may run, and a build's may be set-uid.
            memory.mount(self.scratch_files, self.room, syscalls.MS_NODEV)  # it goes with the frame
        for name in _PLACES:
            self._place(name).mkdir()
            os.chmod(self._place(name), 0o1777)
        self._around.make(
            self.merged_directories(self.lower, surroundings.PLACE), {surroundings.HOSTS: surroundings.NAMES}
        )
        self._mount_again()

    @property
    def below(self) -> List[bytes]:
        """As `Stack.below`."""
        return [*self._around.directories, *self.lower]

    def _mount_again(self) -> None:
        self.mount_merged()
        self._is_handed_over = False
        for name in ("proc", "dev", "tmp"):
            if not view_files.is_directory(self.merged, name):
                raise ToolError(f"/{name} of the layers is no directory: nothing is mounted there")
        syscalls.mount(self._place("tmp"), self.merged / "tmp", flags=syscalls.MS_BIND)

    def set_aside(self) -> Path:
        """Take the view away until somebody asks for it; returns the upper directory, which may be changed until then."""
        self.unmount()
        self._is_handed_over = True
        return self.upper

    def _place(self, name: str) -> Path:
        return self.scratch_files / name.replace("/", "-")

    def bind(self, source: Path, target: str, writable: bool = False) -> None:
        """Show commands a file or directory of the sandbox at `target` (relative to the root, existing) of the merged view."""
        with view_files.mount_point(self.root, target):
            # The source may be a symlink that Pants made to a shared input.
            self._binds[target] = Bind(os.path.realpath(source), writable, self._inode(target))

    def bind_tree(self, source: Path, target: str) -> None:
        """Show commands the content of a directory of this process's at `target` (relative to the root, an existing directory),
        read-only. It holds files and directories, no mounts."""
        with view_files.mount_point(self.root, target):
            # By an overlay: of a bound directory, /proc says where on the machine it lies.
            self._trees[target] = os.fsencode(source.resolve())

    def unbind(self, target: str) -> None:
        """Take away what `bind` has put there. Raises ToolError where its place is not there any more."""
        if target in self._trees:
            del self._trees[target]
            return
        bind = self._binds.pop(target, None)
        if bind is None:
            raise ToolError(f"nothing is shown at /{target}")
        if bind.inode is not None and bind.inode != self._inode(target):
            raise ToolError(f"/{target} was moved away while it was in use")

    def _inode(self, target: str) -> Optional[int]:
        """Of what was written into the view there."""
        found = view_files.status(self.upper, target)
        return None if found is None else found.st_ino

    def show_in_dev(self, name: str, content: Device) -> None:
        """Have commands see a file (bytes) or a link (where it leads) in /dev, of which nothing is in a layer."""
        self._devices[name] = content

    def preload(self, name: str) -> None:
        """Have every program of opam's load a library, by its name as ld.so(8) takes it, if the layers have an /etc.

        By a file rather than by LD_PRELOAD: programs find their environment as it is elsewhere, those that clear it load the
        library all the same, and those with another libc than the layers' do not."""
        self._preloaded = name

    def show_network(self) -> None:
        """Have opam's commands find names on the network as this machine does."""
        self._resolver = Path(_RESOLVER).read_bytes() if os.path.exists(_RESOLVER) else b""

    def is_full(self) -> bool:
        """Whether the memory for scratch files is."""
        if not self.room:
            return False
        status = os.statvfs(self.scratch_files)
        return status.f_bavail < status.f_blocks // 16

    def run(
        self,
        argv: Sequence[str],
        env: Dict[str, str],
        log: BinaryIO,
        *,
        user: bool,
        cwd: str = "/",
        stdout: Optional[int] = None,
        person: bool = False,
    ) -> Done:
        """Run a command with the merged view as its root: as opam (1000:1000) if `user`, else as root without the
        capabilities that could leave it. Output goes to `log` (standard output to `stdout` if given), or all streams are
        this process's (person). What it leaves running is ended. Raises ToolError where it cannot be run."""
        log.flush()
        self.give_short_names([*self._trees.values(), self._nothing])
        what = Command(argv, env, cwd, user, self.rootless, log.fileno(), stdout, person)
        if user:
            code = self._run_as_opam(what)
        else:
            if self._is_handed_over:
                self._mount_again()
            self._root_ran = True
            code = command.run(what, self._show_to_root, self._looks())
        return Done(code)

    def _looks(self) -> Optional[command.Looks]:
        if self.watch is None:
            return None
        self.watch.begin()
        written = [self.upper] if self.room else [self.upper, self.scratch_files]
        return command.Looks(self.watch, written, [self.scratch_files] if self.room else [])

    def _show_to_root(self) -> Path:
        show(self.merged, self._shown(["dev/shm"]))  # /tmp is there already
        self._mount_trees(self.merged)
        return self.merged

    def _mount_trees(self, root: Path) -> None:
        for target, source in self._trees.items():
            with view_files.mount_point(root, target) as point:
                flags = syscalls.MS_NOSUID | (0 if self.rootless else syscalls.MS_NODEV)
                self.mount_overlay(Path(point), [source, self._nothing], None, flags)

    @property
    def _nothing(self) -> bytes:
        """An empty directory."""
        return os.fsencode(self.frame / "nothing")

    def _shown(
        self, places: Sequence[str], *, read_only: bool = False, closed_files: Sequence[Tuple[str, str]] = ()
    ) -> Shown:
        return Shown(
            {name: self._place(name) for name in places},
            self._devices,
            self._binds,
            self.frame / "masks",
            closed_files,
            read_only,
        )

    # -- opam's commands -------------------------------------------------------

    def _run_as_opam(self, what: Command) -> int:
        has_home = view_files.is_directory(self.root, HOME)
        if has_home:
            # So that it is in the upper directory, where it is an upper directory of its own.
            view_files.change_owner(self.root, HOME, self.opam or (0, 0))
        hidden = closed.of_view(self.root, self.upper, self.lower, self._closed_names)
        around = self._surround_opam()
        self.unmount()
        self._is_handed_over = True
        if self._root_ran:
            self._take_from_root(has_home)
        self.chown_to_opam(*(self._place(name) for name in _PLACES))
        home = self._directories_of_home() if has_home else []
        # Here and not in the command's own process, which does not say which names it has taken.
        self.give_short_names([*around, *self._all, *home, os.fsencode(self.upper / HOME)])
        return command.run(what, lambda: self._show_to_opam([*around, *self._all], home, hidden), self._looks())

    def _surround_opam(self) -> List[bytes]:
        """The directories that are mounted over the view's own."""
        etc = self.merged_directories(self._all, surroundings.PLACE)
        files = {surroundings.RESOLVER: self._resolver} if self._resolver else {}
        if self._preloaded:
            others = view_files.read(self.root, f"{surroundings.PLACE}/{surroundings.PRELOAD}") or b""
            files[surroundings.PRELOAD] = others + b"\n%s\n" % os.fsencode(self._preloaded)
        if files:
            self._around_opam.make(etc, files)
        # root's commands may have put something else in the place of /etc.
        return [*self._around_opam.directories, *self._around.directories] if etc else []

    def _take_from_root(self, has_home: bool) -> None:
        """Nothing that root's commands left behind is in opam's way: without privileges it would not be."""
        self._root_ran = False
        for name in ("tmp", "dev/shm"):
            place = self._place(name)
            targets = {target for target in self._binds if target.startswith(name + "/")}
            if not targets:
                for path in place.iterdir():
                    remove_tree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        if has_home and self.opam:
            _give(os.fsencode(self.upper / HOME), self.opam)

    @property
    def _all(self) -> List[bytes]:
        return [os.fsencode(self.upper), *self.lower]

    def _directories_of_home(self) -> List[bytes]:
        """What lies below opam's part of the upper directory."""
        return self.merged_directories(self._all, HOME)[1:] or [self._nothing]

    def _show_to_opam(self, lower: Sequence[bytes], home: Sequence[bytes], hidden: Sequence[Tuple[str, str]]) -> Path:
        view = self.frame / "view"
        flags = syscalls.MS_NOSUID | (0 if self.rootless else syscalls.MS_NODEV)
        self.mount_overlay(view, lower, None, flags)
        if home:
            with view_files.mount_point(view, HOME) as point:
                self.mount_overlay(Path(point), home, self.upper / HOME, flags)
        show(view, self._shown(_PLACES, read_only=True, closed_files=hidden))
        self._mount_trees(view)
        return view

    @property
    def opam(self) -> Optional[Tuple[int, int]]:
        """The (uid, gid) to give to what this process makes for opam; None without privileges: every file is opam's then."""
        return None if self.rootless else (OPAM_UID, OPAM_UID)

    def chown_to_opam(self, *paths: Path) -> None:
        """Give to opam what this process made outside of the view. Without privileges every file is opam's already."""
        if not self.rootless:
            for path in paths:
                os.chown(path, OPAM_UID, OPAM_UID, follow_symlinks=False)


def _give(directory: bytes, owner: Tuple[int, int]) -> None:
    """Give all that is in an unmounted upper directory to somebody."""
    with os.scandir(directory) as entries:
        found = [(entry.path, entry.stat(follow_symlinks=False)) for entry in entries]
    for path, status in found:
        mode = status.st_mode
        if stat.S_ISCHR(mode):
            continue  # says that a name is deleted
        if (status.st_uid, status.st_gid) != owner:
            os.chown(path, *owner, follow_symlinks=False)
            if not stat.S_ISLNK(mode):
                os.chmod(path, stat.S_IMODE(mode))  # a change of the owner takes set-uid away
        if stat.S_ISDIR(mode):
            _give(path, owner)
