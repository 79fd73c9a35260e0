"""Files of other kinds, and flags of files, that a build may make: what is refused, and what is in the layer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import List

import pytest

from opam_sandbox.layer.description import Layer
from opam_sandbox.sandbox.view import View
from tests.unit.test_root_and_user import as_root_and_user, build, entries, layer, run
from tests.unit.test_root_and_user import layers as layers
from tests.unit.test_root_and_user import top as top

# Prints a line for each: what was tried, and "ok" or the error's number. Flags: FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR.
PERL = r"""
my ($top, $mknodat) = @ARGV; chdir $top or die;
sub tell_of { my ($what, $done) = @_; print "$what ", ($done ? "ok" : $! + 0), "\n" }
sub new { my $path = shift; open my $file, ">", $path or die; print $file "x"; $file }
my $file = new("flags-file"); mkdir "flags"; opendir my $directory, "flags" or die; sysopen my $dir, "flags", 0 or die;
for ([immutable => 0x10], [append => 0x20], [nodump => 0x40], [noatime => 0x80]) {
    my ($name, $bit) = @$_;
    for ([file => $file], [directory => $dir]) {
        my ($kind, $handle) = @$_;
        my $flags = pack "L", $bit;
        tell_of("$name $kind", defined ioctl $handle, 0x40086602, $flags);
        my $extended = pack "L7", $bit == 0x10 ? 8 : $bit == 0x20 ? 16 : $bit == 0x40 ? 0x80 : 0x40, (0) x 6;
        tell_of("$name $kind, extended", defined ioctl $handle, 0x401c5820, $extended);
    }
}
socket my $socket, 1, 1, 0 or die;
tell_of("socket", bind $socket, pack "Sa*", 1, "socket");
for ([fifo => 0010640, 0], [socket => 0140755, 0], [file => 0100644, 0], ["whiteout" => 020644, 0], [null => 020666, 0x103],
     [console => 020600, 0x501], [disk => 060660, 0x800], ["block 0" => 060660, 0]) {
    my ($name, $mode, $device) = @$_;
    my $path = "node-$name"; $path =~ tr/ /-/;
    tell_of("mknod $name", syscall($mknodat, -100, $path, $mode, $device) == 0);
}
"""


# EPERM: nobody could remove an immutable file, the tool included; devices are the machine's; a device 0:0 is overlayfs's own.
KINDS = [f"{kind}{way}" for kind in ("file", "directory") for way in ("", ", extended")]
REFUSED = {f"{flag} {kind}" for flag in ("immutable", "append") for kind in KINDS}
REFUSED |= {f"mknod {name}" for name in ("whiteout", "null", "console", "disk", "block 0")}
ALLOWED = {f"{flag} {kind}" for flag in ("nodump", "noatime") for kind in KINDS}
ALLOWED |= {"socket", "mknod fifo", "mknod socket", "mknod file"}


@pytest.mark.parametrize("user", [True, False])
def test_flags_and_kinds_of_files(top: Path, layers: List[Layer], user: bool) -> None:
    """The same in a build (`user`) and in a maintainer script. A layer has no sockets, which are of no use later."""
    place = "home/opam" if user else "usr/lib"
    number = "33" if os.uname().machine == "aarch64" else "259"

    def work(view: View) -> None:
        run(view, ["perl", "-e", PERL, f"/{place}", number], user)

    root, other = as_root_and_user(top, f"special-{user}", lambda: build(layers, work))
    for here in (root, other):
        lines = (here / "build.log").read_text().splitlines()
        assert dict(line.rsplit(" ", 1) for line in lines) == {
            **dict.fromkeys(REFUSED, "1"),
            **dict.fromkeys(ALLOWED, "ok"),
        }
        assert not (here / "scratch").exists()
    assert layer(root) == layer(other)
    found = {name[len(place) + 1 :]: entry[0] for name, entry in entries(root).items() if name.startswith(f"{place}/")}
    assert found == {"flags": 0o755, "flags-file": 0o644, "node-fifo": 0o640, "node-file": 0o644}
