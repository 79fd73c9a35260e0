"""Makes pex one file, of the library that the running Python has installed: `python make_pex_file.py OUTPUT`.

It needs no network, and gives the same bytes for the same release of pex, whatever the umask, the version of Python and
the clock.
"""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

# Of an installation, not of the wheel that was installed.
_NOT_OF_THE_WHEEL = ("INSTALLER", "REQUESTED", "RECORD", "direct_url.json")

_INTERPRETER = "/usr/bin/env python3"
_SHEBANG = f"#!{_INTERPRETER}\n".encode()


def files_of(installed: Distribution) -> "dict[str, bytes]":
    """What the wheel had, by path: code and metadata, without scripts and compiled files."""
    return {
        path.as_posix(): Path(str(path.locate())).read_bytes()
        for path in installed.files or ()
        if ".." not in path.parts and path.suffix != ".pyc" and path.name not in _NOT_OF_THE_WHEEL
    }


def write_zip(target: Path, files: "dict[str, bytes]", start: bytes = b"") -> None:
    """An archive of files that differ in name and content only, after `start`."""
    with open(target, "wb") as file:
        file.write(start)
        with zipfile.ZipFile(file, "w") as archive:
            for name in sorted(files):
                entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                entry.create_system, entry.external_attr = 3, 0o100644 << 16
                archive.writestr(entry, files[name])


def write_wheel(installed: Distribution, directory: Path) -> Path:
    """The wheel of an installed distribution, put together again."""
    files = files_of(installed)
    record = next(name for name in files if name.endswith(".dist-info/WHEEL")).replace("WHEEL", "RECORD")
    lines = []
    for name, content in sorted(files.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        lines.append(f"{name},sha256={digest},{len(content)}\n")
    files[record] = "".join([*lines, f"{record},,\n"]).encode()
    wheel = directory / f"{installed.metadata['Name']}-{installed.version}-py2.py3-none-any.whl"
    write_zip(wheel, files)
    return wheel


def main(output: str) -> None:
    with tempfile.TemporaryDirectory(prefix="pex-file-") as name:
        directory = Path(name)
        wheel = write_wheel(distribution("pex"), directory)
        made = directory / "pex"
        subprocess.run(
            [
                *(sys.executable, "-sE", "-m", "pex", os.fspath(wheel), "--no-index", "--console-script", "pex"),
                *("--no-compress", "--python-shebang", _INTERPRETER, "--output-file", os.fspath(made)),
            ],
            env={"PATH": os.defpath, "HOME": name, "PEX_ROOT": os.fspath(directory / "root")},
            check=True,
        )
        with zipfile.ZipFile(made) as pex:
            files = {name: pex.read(name) for name in pex.namelist() if not name.endswith("/")}
    write_zip(Path(output), files, _SHEBANG)
    # pex unpacks itself, as it must, where it is a script.
    os.chmod(output, 0o755)


if __name__ == "__main__":
    main(sys.argv[1])
