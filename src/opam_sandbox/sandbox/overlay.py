"""The merged view of a build: an overlay of unpacked layers, and commands that run inside it.

Only usable inside `namespaces.run_isolated`.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import BinaryIO, Dict, Optional, Sequence, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.files import remove_tree
from opam_sandbox.sandbox import memory, privileges, seccomp, syscalls, view_files
from opam_sandbox.sandbox.kernel_files import mount_proc
from opam_sandbox.sandbox.namespaces import become_mapped

OPAM_UID = 1000

# overlayfs takes at most 500 lower directories, and mount options one page (with names as short as ours, about 800).
MAX_LOWER = 500


class Overlay:
    """`lower`: unpacked layers, bottom first; the attribute has them topmost first, as bytes. `scratch`: a directory of this
    process, on a file system that can hold an overlay's upper directory.

    `root`: where the view is mounted. `upper`: what was written into it.
    """

    def __init__(self, lower: Sequence[Path], scratch: Path, rootless: bool) -> None:
        if len(lower) > MAX_LOWER:
            raise ToolError(f"{len(lower)} layers are needed, but overlayfs stacks at most {MAX_LOWER}")
        # overlayfs takes no directory twice. Of a layer that is there twice, the upper one hides all that the lower one shows.
        self.lower = list(dict.fromkeys(os.fsencode(path) for path in reversed(lower)))
        self._scratch = scratch.resolve()
        self.rootless = rootless
        self.upper = self._scratch / "upper"
        self.root = self._scratch / "merged"
        self._mounted = False
        self._memory: Optional[Path] = None

    def mount(self) -> None:
        """Mount the view, and in it /proc, /dev and /tmp. Raises ToolError where overlayfs does not mount."""
        links = self._scratch / "l"
        for directory in (links, self.upper, self._scratch / "work", self.root):
            directory.mkdir(parents=True)
        os.chmod(self.upper, 0o755)
        for number, path in enumerate(self.lower):
            os.symlink(path, os.path.join(os.fsencode(links), b"%x" % number))
        options = [
            "lowerdir=" + ":".join(f"{number:x}" for number in range(len(self.lower))),
            "upperdir=../upper,workdir=../work",
            # Renames and metadata changes are to leave whole files behind, which a tar can say.
            "redirect_dir=nofollow,index=off,metacopy=off",
            # Nothing here outlives this process but what is copied out: no fsync, and no sync of the disk at the end.
            "volatile",
        ]
        if self.rootless:
            options.append("userxattr")
        else:
            options.append("xino=off")
        here = os.getcwd()
        os.chdir(links)
        try:
            syscalls.mount(
                "overlay", self.root, "overlay", syscalls.MS_NODEV if not self.rootless else 0, ",".join(options)
            )
        except OSError as error:
            raise ToolError(
                f"overlayfs does not mount here ({error.strerror}). The sandboxes' directory "
                f"({self._scratch}) must be on a file system that can hold an overlay's upper directory (ext4, xfs, btrfs, "
                "tmpfs; not overlayfs itself): set Pants' [GLOBAL].local_execution_root_dir."
            ) from None
        finally:
            os.chdir(here)
        self._mounted = True
        self._mount_kernel_files()

    def _mount_kernel_files(self) -> None:
        for name in ("proc", "dev", "tmp"):
            if not view_files.is_directory(self.root, name):
                raise ToolError(f"/{name} of the layers is no directory: nothing is mounted there")
        mount_proc(self.root / "proc")
        dev = self.root / "dev"
        syscalls.mount("tmpfs", dev, "tmpfs", syscalls.MS_NOSUID, "mode=755,size=16m")
        for name in ("null", "zero", "full", "random", "urandom", "tty"):
            (dev / name).touch()
            syscalls.mount(f"/dev/{name}", dev / name, flags=syscalls.MS_BIND)
        for name, target in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
            os.symlink(f"/proc/self/{target}", dev / name)
        (dev / "shm").mkdir(mode=0o1777)
        os.chmod(dev / "shm", 0o1777)
        syscalls.mount("tmpfs", self.root / "tmp", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=1777")

    def bind(self, source: Path, target: str, writable: bool = False) -> None:
        """Show a file or directory of the sandbox at `target` (relative to the root, existing) of the merged view."""
        # The source may be a symlink that Pants made to a shared input.
        real = os.path.realpath(source)
        with view_files.mount_point(self.root, target) as destination:
            syscalls.mount(real, destination, flags=syscalls.MS_BIND)
        if writable:
            return
        # Looked up again: what is mounted there now is another thing than what it is mounted on.
        with view_files.mount_point(self.root, target) as destination:
            if not os.path.samefile(real, destination):
                raise ToolError(f"/{target} was moved away while something was mounted there")
            flags = syscalls.MS_BIND | syscalls.MS_REMOUNT | syscalls.MS_RDONLY
            if self.rootless:
                flags |= syscalls.locked_flags(destination)
            syscalls.mount("none", destination, flags=flags)

    def unbind(self, target: str) -> None:
        """Take away what `bind` has put there. Raises ToolError where it is not there any more."""
        with view_files.mount_point(self.root, target) as mounted:
            try:
                syscalls.umount(mounted, syscalls.MNT_DETACH)
            except OSError:
                raise ToolError(f"/{target} was moved away while it was in use") from None

    def make_memory(self, size: int) -> Path:
        """A directory for up to `size` bytes of scratch files, in memory. Gone with the overlay."""
        directory = self._scratch / "memory"
        directory.mkdir()
        # As the upper directory: no devices, but programs may run, and a build's may be set-uid.
        memory.mount(directory, size, syscalls.MS_NODEV)
        self._memory = directory
        return directory

    def unmount(self) -> None:
        """Take the merged view away; what was written stays in `upper`."""
        syscalls.umount(self.root, syscalls.MNT_DETACH)
        self._mounted = False

    def remove(self) -> None:
        """Take the view away, and remove what was written. Raises OSError while processes still write."""
        # Never through the view: the host's devices and the sandbox's inputs are bound in there.
        if self._mounted:
            self.unmount()
        if self._memory is not None:
            syscalls.umount(self._memory, syscalls.MNT_DETACH)
            self._memory = None
        remove_tree(self._scratch)

    def run(
        self,
        argv: Sequence[str],
        env: Dict[str, str],
        log: BinaryIO,
        *,
        user: bool,
        cwd: str = "/",
        stdout: Optional[int] = None,
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run a command with the merged view as its root: as opam (1000:1000) if `user`, else as root without the
        capabilities that could leave it. Output goes to `log` (standard output to `stdout` if given)."""
        log.flush()
        return subprocess.run(
            list(argv),
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log if stdout is None else stdout,
            stderr=log,
            preexec_fn=lambda: self._enter(user, cwd),
            check=False,
        )

    def _enter(self, user: bool, cwd: str) -> None:
        # pivot_root rather than chroot: afterwards there is no way back, the old root is not even mounted.
        syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWCGROUP)
        os.chdir(self.root)
        syscalls.pivot_root(".", ".")
        syscalls.umount(".", syscalls.MNT_DETACH)
        os.chdir(cwd)
        os.umask(0o022)
        privileges.keep_only(privileges.DPKG)
        if user and self.rootless:
            become_mapped(OPAM_UID, OPAM_UID)
        elif user:
            os.setgroups([])
            os.setresgid(OPAM_UID, OPAM_UID, OPAM_UID)
            os.setresuid(OPAM_UID, OPAM_UID, OPAM_UID)
        syscalls.no_new_privileges()
        seccomp.load()

    @property
    def opam(self) -> Optional[Tuple[int, int]]:
        """The (uid, gid) to give to what this process makes for opam; None without privileges: every file is opam's then."""
        return None if self.rootless else (OPAM_UID, OPAM_UID)

    def chown_to_opam(self, *paths: Path) -> None:
        """Give to opam what this process made outside of the view. Without privileges every file is opam's already."""
        if not self.rootless:
            for path in paths:
                os.chown(path, OPAM_UID, OPAM_UID, follow_symlinks=False)
