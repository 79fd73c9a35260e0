"""Files that maintainer scripts make at random, or for one machine: they are in no layer, or are made by a rule.

Such files differ from run to run, and some are secrets, which an image would publish. `RULES` says what becomes of
each. Paths are relative to the root; `*` is anything within a component, `**/` any number of components.
"""

from __future__ import annotations

import os
import re
import stat
from functools import lru_cache
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional, Pattern, Sequence, Set, Tuple

from opam_sandbox import java_keystore
from opam_sandbox.beside import access_lists, file_lists
from opam_sandbox.layer.capture import EPOCH
from opam_sandbox.sandbox import open_in_root, view_files

_LISTS = "var/lib/dpkg/info"

# What becomes of a file: it is left out, with all below it if it is a directory; it is left without content; dates in it are
# made one; its lines are put in order; its access control list is taken away, also where a .deb has it.
DROP, EMPTY, DATED, ORDERED, UNLISTED = "left out", "empty", "of one date", "in order", "without a list"

# A private key's first line, of RFC 7468 and its kin: PKCS#1, PKCS#8, SEC 1, OpenSSH, OpenPGP. A line ends there, also where it
# is written as an escape. The shared MIME database has such lines as patterns, behind their lengths or zeros.
KEY = re.compile(
    rb"(?s)(?<!\x00)(?<!\x00.)-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?=[ \t]*(?:\r?\n|\\[nr]|\Z))"
)
LARGEST_KEY = 1 << 20  # bytes: no text file with a key is larger


class Rule(NamedTuple):
    """`pattern`: of regular files and directories; links stay. `why` is for people."""

    pattern: str
    action: str
    why: str


RULES: Sequence[Rule] = (
    Rule(
        "etc/machine-id",
        EMPTY,
        "systemd makes one at the first start, and wants an empty file in images",
    ),
    Rule("var/lib/dbus/machine-id", DROP, "`dbus-uuidgen --ensure` makes one"),
    Rule("etc/ssh/ssh_host_*", DROP, "host keys are a machine's secret; `ssh-keygen -A` makes them"),
    Rule("etc/ssl/private/ssl-cert-snakeoil.key", DROP, "a secret; `make-ssl-cert generate-default-snakeoil` makes it"),
    Rule("etc/ssl/certs/ssl-cert-snakeoil.pem", DROP, "the certificate of the key above"),
    Rule(java_keystore.PATH, DATED, "Java trusts nobody without it, and it has the time of each entry"),
    Rule("var/log/journal", UNLISTED, "engines unpack no list; systemd-tmpfiles sets it when a system starts"),
    Rule("var/log/journal/*", UNLISTED, "it inherits the list above"),
    Rule("var/lib/texmf/ls-R", ORDERED, "it has the order of directories"),
    Rule(
        "var/lib/texmf/web2c/*",
        DROP,
        "TeX's formats, with the time and the order of directories; `mktexfmt` makes them",
    ),
    Rule("etc/exim4/exim.key", DROP, "a secret"),
    Rule("etc/exim4/exim.crt", DROP, "the certificate of the key above"),
    Rule("etc/dovecot/private/dovecot.key", DROP, "a secret"),
    Rule("etc/dovecot/private/dovecot.pem", DROP, "the certificate of the key above"),
    Rule("etc/bind/rndc.key", DROP, "a secret; `rndc-confgen -a` makes it"),
    Rule("etc/munge/munge.key", DROP, "a secret; `mungekey` makes it"),
    Rule("etc/unbound/unbound_*.key", DROP, "a secret; `unbound-control-setup` makes it"),
    Rule("etc/unbound/unbound_*.pem", DROP, "the certificates of the keys above"),
    Rule("etc/cups/ssl/*.key", DROP, "a secret; cupsd makes it"),
    Rule("etc/tor/keys", DROP, "secrets"),
    Rule("var/lib/tor/keys", DROP, "secrets"),
    Rule("etc/ipsec.d/private/*", DROP, "secrets"),
    Rule("etc/mysql/debian.cnf", DROP, "old versions put a password into it"),
    Rule("var/lib/systemd/random-seed", DROP, "what random numbers are made from"),
    Rule("var/lib/systemd/credential.secret", DROP, "a secret; systemd makes it"),
    Rule("var/lib/urandom/random-seed", DROP, "what random numbers are made from"),
    Rule("etc/iscsi/initiatorname.iscsi", DROP, "a random name of a machine"),
    Rule("etc/nvme/host*", DROP, "random names of a machine"),
    Rule("etc/hostid", DROP, "a random number of a machine"),
    Rule("etc/dhcpcd.duid", DROP, "a random name of a machine"),
    Rule("var/lib/dhcpcd/*", DROP, "random names and leases of a machine"),
    Rule("etc/hostname", DROP, "a machine's; container engines write it"),
    Rule("etc/hosts", DROP, "a machine's; container engines write it"),
    Rule("etc/resolv.conf", DROP, "a machine's; container engines write it"),
    Rule("etc/mailname", DROP, "a machine's"),
    Rule("var/lib/postgresql/*/*", DROP, "a database, with a random name in it; `pg_createcluster` makes one"),
    Rule("etc/postgresql/*/*", DROP, "the settings of the database above, which `pg_createcluster` makes with it"),
    Rule("var/lib/mysql/*", DROP, "a database, with random names and keys in it; `mariadb-install-db` makes one"),
    Rule("var/lib/ldap/*", DROP, "a database, with the host's name in it"),
    Rule("etc/passwd-", DROP, "what a file was before the last change"),
    Rule("etc/group-", DROP, "what a file was before the last change"),
    Rule("etc/shadow-", DROP, "what a file was before the last change"),
    Rule("etc/gshadow-", DROP, "what a file was before the last change"),
    Rule("etc/subuid-", DROP, "what a file was before the last change"),
    Rule("etc/subgid-", DROP, "what a file was before the last change"),
    Rule("var/backups/*", DROP, "what files were before"),
    Rule("usr/share/fonts/**/.uuid", DROP, "a random name of a directory in a cache, which fontconfig makes"),
    Rule("usr/local/share/fonts/**/.uuid", DROP, "a random name of a directory in a cache, which fontconfig makes"),
    Rule("var/cache/ldconfig/aux-cache", DROP, "inodes and times of a machine's files"),
)


def _pattern(text: str) -> "Pattern[str]":
    """`*`: anything within a component; `**/`: any number of components."""
    escaped = re.escape(text).replace(r"\*\*/", "(?:[^/]+/)*").replace(r"\*", "[^/]*")
    return re.compile(escaped, re.DOTALL)


@lru_cache(maxsize=None)
def _matchers() -> Sequence[Tuple[Pattern[str], str]]:
    return [(_pattern(rule.pattern), rule.action) for rule in RULES]


def action(path: bytes, more: Sequence["Pattern[str]"] = ()) -> Optional[str]:
    """What becomes of a file or directory of this name; None: it stays as it is. more: of further files that are left out."""
    name = os.fsdecode(path)
    if any(matcher.fullmatch(name) for matcher in more):
        return DROP
    return next((what for matcher, what in _matchers() if matcher.fullmatch(name)), None)


def settle(upper: Path, lower: Sequence[bytes], left_out: Sequence[str] = (), mounted: Optional[Path] = None) -> None:
    """Do what the rules say with what an install has written into an upper directory; `lower`: the layers' directories below it,
    topmost first. left_out: patterns of further files. mounted: the view, if it is not unmounted; it is changed then.

    What a .deb itself has stays as it is. Raises ToolError, OSError."""
    root = mounted or upper
    more = [_pattern(text.lstrip("/")) for text in left_out]
    dropped: Set[bytes] = set()
    links: List[bytes] = []
    shipped: Optional[Set[bytes]] = None
    for path, found in list(walk(upper)):
        if stat.S_ISLNK(found.st_mode):
            links.append(path)
            continue
        what = action(path, more) if stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode) else None
        if what is None:
            continue
        if what == UNLISTED:
            access_lists.remove(root, os.fsdecode(path))
            continue
        if shipped is None:
            shipped = read_shipped(upper, lower)
        if path in shipped:
            continue
        if what == DROP:
            dropped.add(path)
            _remove(root, path, stat.S_ISDIR(found.st_mode))
        elif what == DATED:
            java_keystore.settle(root, EPOCH)
        elif what == ORDERED:
            content = view_files.read(root, os.fsdecode(path), links=False) or b""
            view_files.overwrite(root, os.fsdecode(path), file_lists.ordered(content))
        elif stat.S_ISREG(found.st_mode):
            view_files.overwrite(root, os.fsdecode(path), b"")
    for path in links:
        # Such as those by which OpenSSL finds a certificate.
        if dropped and view_files.is_link(root, os.fsdecode(path)) and _target(root, path) in dropped:
            view_files.remove(root, os.fsdecode(path))


def _remove(upper: Path, path: bytes, is_directory: bool) -> None:
    if not is_directory:
        view_files.remove(upper, os.fsdecode(path))
    elif view_files.is_directory(upper, os.fsdecode(path)):
        view_files.remove_directory(upper, os.fsdecode(path))


def _target(upper: Path, path: bytes) -> bytes:
    """Where a link leads by its text, if no other link is on the way."""
    text = os.fsencode(view_files.read_link(upper, os.fsdecode(path)))
    return os.path.normpath(b"/" + os.path.join(os.path.dirname(path), text)).lstrip(b"/")


def walk(upper: Path) -> Iterator[Tuple[bytes, os.stat_result]]:
    """The paths in an unmounted upper directory and what lstat(2) says of each, parents first. Raises OSError."""
    with open_in_root.directory(upper) as directory:
        top = b"/proc/self/fd/%d" % directory
        waiting = [b""]
        while waiting:
            below = waiting.pop()
            with os.scandir(os.path.join(top, below)) as entries:
                listed = sorted((entry.name, entry.stat(follow_symlinks=False)) for entry in entries)
            for name, found in listed:
                path = os.path.join(below, name)
                yield path, found
                if stat.S_ISDIR(found.st_mode):
                    waiting.append(path)


def read_shipped(upper: Path, lower: Sequence[bytes]) -> Set[bytes]:
    """The paths that .debs have, as dpkg lists them in these directories."""
    found: Set[bytes] = set()
    seen: Set[str] = set()
    for root in (upper, *(Path(os.fsdecode(path)) for path in lower)):
        for name in view_files.names(root, _LISTS, links=False):
            if name.endswith(".list") and name not in seen:
                seen.add(name)
                text = view_files.read(root, f"{_LISTS}/{name}", links=False) or b""
                found.update(listed(text))
    return found


def listed(text: bytes) -> Set[bytes]:
    """The paths in one of dpkg's lists."""
    return {_real(line) for line in text.split(b"\n")}


def _real(line: bytes) -> bytes:
    """Without links, of which those of the merged /usr are all that there are in lists."""
    path = line.lstrip(b"/")
    return b"usr/" + path if path.startswith((b"bin/", b"sbin/", b"lib/", b"lib32/", b"lib64/", b"libx32/")) else path
