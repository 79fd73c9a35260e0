"""Which paths of a build's upper directory belong to the package, and which are shared state that is made anew.

Shared state is written by every build, so it can belong to none: it is left out of every package's layer, written for
the merged view before each build, and put right once per image in the state layer (`imaging/state.py`).
Paths are relative to the image's root.
"""

from __future__ import annotations

HOME = b"home/opam"
OPAM_ROOT = HOME + b"/.opam"
SWITCH = OPAM_ROOT + b"/default"
SWITCH_STATE_DIR = SWITCH + b"/.opam-switch"

# A whole tree, or one file, by its exact path.
_SHARED = {
    # opam: locks, logs, caches, downloads, what it remembers of repositories and of the switch
    OPAM_ROOT + b"/log",
    OPAM_ROOT + b"/repo",
    OPAM_ROOT + b"/download-cache",
    OPAM_ROOT + b"/opam-init",
    OPAM_ROOT + b"/config",
    OPAM_ROOT + b"/config.lock",
    OPAM_ROOT + b"/lock",
    OPAM_ROOT + b"/plugins",
    SWITCH_STATE_DIR + b"/lock",
    SWITCH_STATE_DIR + b"/environment",
    SWITCH_STATE_DIR + b"/switch-state",
    SWITCH_STATE_DIR + b"/switch-config",
    SWITCH_STATE_DIR + b"/build",
    SWITCH_STATE_DIR + b"/remove",
    SWITCH_STATE_DIR + b"/sources",
    SWITCH_STATE_DIR + b"/backup",
    SWITCH_STATE_DIR + b"/reinstall",
    SWITCH_STATE_DIR + b"/packages/cache",
    HOME + b"/.cache",
    # dpkg: the lists that every package is entered in, locks, logs
    b"var/lib/dpkg/status",
    b"var/lib/dpkg/status-old",
    b"var/lib/dpkg/available",
    b"var/lib/dpkg/available-old",
    b"var/lib/dpkg/lock",
    b"var/lib/dpkg/lock-frontend",
    b"var/lib/dpkg/diversions",
    b"var/lib/dpkg/diversions-old",
    b"var/lib/dpkg/statoverride",
    b"var/lib/dpkg/statoverride-old",
    b"var/lib/dpkg/triggers",
    b"var/lib/dpkg/updates",
    b"var/lib/dpkg/tmp.ci",
    b"var/lib/apt",
    # ucf's lists of configuration files, and its copies of older ones
    *(b"var/lib/ucf/" + name for name in (b"hashfile", b"registry")),
    *(b"var/lib/ucf/%s.%d" % (name, age) for name in (b"hashfile", b"registry") for age in range(10)),
    # the dynamic linker's cache of all libraries
    b"etc/ld.so.cache",
    b"etc/ld.so.cache~",
    # mount points and scratch
    b"dev",
    b"proc",
    b"sys",
    b"run",
    b"tmp",
    b"var/tmp",
    b"etc/.pwd.lock",
}


# Below these, directories may belong to a package (dpkg lists them), but what is in them never does.
_SHARED_FILES_BELOW = (b"var/log/", b"var/cache/")


def is_shared(path: bytes, directory: bool) -> bool:
    """Whether a path (a file or the top of a tree) is shared state that no layer owns."""
    return path in _SHARED or (not directory and path.startswith(_SHARED_FILES_BELOW))


def is_shared_below(path: bytes, directory: bool) -> bool:
    """Whether a path is shared state, or lies in a tree that is."""
    parts = path.split(b"/")
    return is_shared(path, directory) or any(b"/".join(parts[:end]) in _SHARED for end in range(1, len(parts)))


def is_repository_cache(path: bytes) -> bool:
    """Whether a path is what opam remembers of its repositories: taken for those that builds see, it hides their packages."""
    return path.startswith(OPAM_ROOT + b"/repo/state-") and path.endswith(b".cache")


def is_opams(path: bytes) -> bool:
    """Whether a path is opam's: its home, or below it."""
    return path == HOME or path.startswith(HOME + b"/")


def owner(path: bytes) -> "tuple[int, int]":
    """The (uid, gid) of a path in a layer if nothing else is known of it: the same rule for root and for a user without
    privileges.

    Nothing but opam (1000:1000) writes below its home, and nothing but dpkg elsewhere, whose files are root's (0:0) if their
    package or its scripts do not give them to somebody (`layer.owners`).
    """
    return (1000, 1000) if is_opams(path) else (0, 0)
