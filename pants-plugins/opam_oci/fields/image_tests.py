"""Fields of `oci_image_test`: what an image should be."""

from __future__ import annotations

import re
from typing import Any, Dict, Iterable, Mapping, Optional, Union

from pants.core.goals.test import TestTimeoutField
from pants.engine.addresses import Address
from pants.engine.target import (
    BoolField,
    Dependencies,
    Field,
    IntField,
    InvalidFieldException,
    StringField,
    ValidNumbers,
)
from pants.util.docutil import bin_name
from pants.util.frozendict import FrozenDict
from pants.util.strutil import help_text

from opam_oci.fields import nested
from opam_oci.fields.nested import field_of, frozen, read_dict

# Keys of the dictionaries. What is not there is not looked at.
COMMAND = {
    "name": nested.TEXT,
    "argv": nested.WORDS,
    "arguments": nested.TEXTS,
    "env": nested.VARIABLES,
    "user": nested.USER,
    "exit_code": nested.EXIT_CODE,
    "stdout": nested.PATTERNS,
    "stdout_lacks": nested.PATTERNS,
    "stderr": nested.PATTERNS,
    "stderr_lacks": nested.PATTERNS,
    "timeout": nested.SECONDS,
}
FILE = {
    "exists": nested.YES,
    "follow": nested.YES,
    "type": nested.FILE_TYPE,
    "mode": nested.MODE,
    "owner": nested.ACCOUNT,
    "group": nested.ACCOUNT,
    "size": nested.BYTES,
    "max_size": nested.SIZE,
    "contains": nested.PATTERNS,
    "lacks": nested.PATTERNS,
    "sha256": nested.SHA256,
    "target": nested.TEXT,
}
USER = {
    "exists": nested.YES,
    "uid": nested.ID,
    "gid": nested.ID,
    "home": nested.TEXT,
    "shell": nested.TEXT,
    "groups": nested.TEXTS,
}
CONFIG = {
    "entrypoint": nested.TEXTS,
    "cmd": nested.TEXTS,
    "env": nested.VALUES,
    "labels": nested.VALUES,
    "user": nested.TEXT,
    "workdir": nested.TEXT,
    "exposed_ports": nested.PORTS,
    "volumes": nested.PATHS,
    "stop_signal": nested.TEXT,
}


class OciTestDependenciesField(Dependencies):
    pass


class OciTestImageField(StringField):
    alias = "image"
    required = True
    value: str
    help = help_text(
        """
        The image that is tested, as the address of an `oci_package_image`: `":hello"`.

        It is tested as `package` makes it, with its format and compression.
        """
    )


class OciTestCommandsField(Field):
    alias = "commands"
    default = ()
    value: tuple[FrozenDict[str, Any], ...]
    help = help_text(
        """
        Commands, in this order, each a dictionary: `[{"argv": ["hello", "--version"], "stdout": "^hello 1\\\\."}]`. Each runs
        in a new container of the image, as the image's user, in its working directory, with its variables, without a network,
        and with nothing to read. What it writes is gone when it ends. It takes crun or runc, and no daemon. Where Pants runs
        without privileges, all files are the command's user's own, as in `run`: who may write what is a question for `files`.

        - `argv`: the whole command, the image's entrypoint left out. Or `arguments`: what follows the entrypoint, in place of
        `cmd`; `[]`, which is the default where there is no `argv`, is what the image runs by itself.

        - `exit_code`: 0 by default; 128 + N for a signal, 127 where the image has no such command.

        - `stdout`, `stderr`: a regular expression, or a list of them, that are found in what the command prints. `stdout_lacks`,
        `stderr_lacks`: that are not found.

        - `env`: a dictionary of variables on top of the image's. `user`: a name or number in place of the image's.

        - `timeout`: seconds, 60 by default. `name`: what reports call it.

        Regular expressions are Python's; `^` and `$` match at lines.
        """
    )

    @classmethod
    def compute_value(
        cls, raw_value: Optional[Iterable[Dict[str, Any]]], address: Address
    ) -> tuple[FrozenDict[str, Any], ...]:
        value = super().compute_value(raw_value, address)
        where = field_of(cls.alias, address)
        if isinstance(value, (str, Mapping)) or not isinstance(value, Iterable):
            raise InvalidFieldException(f"{where} should be a list of dictionaries, but is {value!r:.200}.")
        found = []
        for place, one in enumerate(value):
            command = read_dict(f"{where}, entry {place},", one, COMMAND)
            if "argv" in command and "arguments" in command:
                raise InvalidFieldException(f"{where}, entry {place}, has both `argv` and `arguments`; it takes one.")
            found.append(frozen(command))
        return tuple(found)


class _DictionariesField(Field):
    """NAME -> a dictionary."""

    value: FrozenDict[str, FrozenDict[str, Any]]

    @classmethod
    def read(cls, where: str, name: str, value: object) -> dict[str, Any]:
        """What is under a name. Raises InvalidFieldException."""
        raise NotImplementedError

    @classmethod
    def compute_value(
        cls, raw_value: Optional[Dict[str, Dict[str, Any]]], address: Address
    ) -> FrozenDict[str, FrozenDict[str, Any]]:
        value = super().compute_value(raw_value, address)
        where = field_of(cls.alias, address)
        if not isinstance(value, Mapping):
            raise InvalidFieldException(f"{where} should be a dictionary, but is {value!r:.200}.")
        found = {}
        for name, one in value.items():
            found[name] = frozen(cls.read(f"{where}: {name!r:.200}", name, one))
            if found[name].get("exists") is False and set(found[name]) - {"exists", "follow"}:
                raise InvalidFieldException(
                    f'{where}: {name!r:.200} has `"exists": False`, and says what it should be all the same.'
                )
        return FrozenDict(found)


class OciTestFilesField(_DictionariesField):
    alias = "files"
    default = FrozenDict()
    help = help_text(
        """
        Files and directories by their absolute paths: `{"/home/opam/.ssh": {"exists": False}, "/etc/passwd": {"mode": "0644",
        "owner": "root"}}`; `{}` for one that is only to be there. They are read out of the layers, so that modes and owners
        are those of the image, whoever runs the test.

        - `exists`: whether there is anything, True by default.

        - `type`: `file`, `directory`, `link`, `pipe`, `character device` or `block device`. `target`: where a link leads, as
        it says.

        - `mode`: octal digits as a text, such as `"0755"` or `"4755"`. `owner`, `group`: a name that the image knows, or a
        number.

        - `size`: bytes. `max_size`: bytes, or a text such as `"20MiB"`. `sha256`: of the content, 64 hex digits.

        - `contains`, `lacks`: a regular expression of Python, or a list of them, that are found in the content, or not found.
        `^` and `$` match at lines.

        - `follow`: True, to look at what a link leads to, not at the link. Links in the path above it are always followed.
        """
    )

    @classmethod
    def read(cls, where: str, name: str, value: object) -> dict[str, Any]:
        if not isinstance(name, str) or not re.fullmatch(r"/[^\0]*", name):
            raise InvalidFieldException(f"{where} is no absolute path, such as '/usr/bin/hello'.")
        return read_dict(where, value, FILE)


class OciTestUsersField(_DictionariesField):
    alias = "users"
    default = FrozenDict()
    help = help_text(
        """
        Users of the image's /etc/passwd by their names: `{"opam": {"uid": 1000, "groups": ["opam"]}, "guest": {"exists":
        False}}`.

        Keys: `exists`, `uid`, `gid`, `home`, `shell`, and `groups`, of each of which the user is a member.
        """
    )

    @classmethod
    def read(cls, where: str, name: str, value: object) -> dict[str, Any]:
        if not isinstance(name, str) or not name or ":" in name:
            raise InvalidFieldException(f"{where} is no user's name.")
        return read_dict(where, value, USER)


class OciTestConfigField(Field):
    alias = "config"
    default = FrozenDict()
    value: FrozenDict[str, Any]
    help = help_text(
        """
        What the image's configuration says: `{"user": "opam", "exposed_ports": ["8080"], "labels": {"version": {"matches":
        "^1"}}}`.

        - `entrypoint`, `cmd`: lists of words. `user`, `workdir`, `stop_signal`: texts. An image without them has `[]` and `""`.

        - `exposed_ports`, `volumes`: lists of all that there are, in any order.

        - `env`, `labels`: dictionaries of some that there are: a name's value is a text, `{"matches": ...}` with a regular
        expression of Python that is found in it, or None where the name should not be there.
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[Dict[str, Any]], address: Address) -> FrozenDict[str, Any]:
        value = super().compute_value(raw_value, address)
        return frozen(read_dict(field_of(cls.alias, address), value, CONFIG))


class OciTestMaxLayersField(IntField):
    alias = "max_layers"
    valid_numbers = ValidNumbers.positive_only
    help = "How many layers the image has at most. Default: any number."


class _SizeField(Field):
    """Bytes, or None."""

    default = None
    value: Optional[int]

    @classmethod
    def compute_value(cls, raw_value: Optional[Union[int, str]], address: Address) -> Optional[int]:
        value = super().compute_value(raw_value, address)
        if value is None:
            return None
        try:
            return nested.size(value)
        except ValueError:
            raise InvalidFieldException(
                f"{field_of(cls.alias, address)} is {value!r:.80}; it takes a number and a unit, such as "
                "'200MiB', or a number of bytes."
            ) from None


class OciTestMaxSizeField(_SizeField):
    alias = "max_size"
    help = help_text(
        """
        What the image's layers take at most as they are pulled and pushed, compressed: `"200MiB"`, or a number of bytes.
        Units are powers of 1,024, however they are written. Default: anything.
        """
    )


class OciTestMaxUnpackedSizeField(_SizeField):
    alias = "max_unpacked_size"
    help = help_text(
        """
        What the files of all layers take at most, unpacked: `"1GiB"`, or a number of bytes. Files count that an upper layer
        replaces or removes, as engines keep them too. Default: anything.
        """
    )


class OciTestSkipField(BoolField):
    alias = "skip_tests"
    default = False
    help = f"Whether `{bin_name()} test` leaves this target out."


class OciTestTimeoutField(TestTimeoutField):
    help = help_text(
        """
        Seconds that all of these checks may take together. The image is built before. A command has a time limit of its own
        besides.

        Default: `[test].timeout_default`; never more than `[test].timeout_maximum`, and only with `--test-timeouts`.
        """
    )


CHECKS = (
    OciTestConfigField,
    OciTestFilesField,
    OciTestUsersField,
    OciTestCommandsField,
    OciTestMaxLayersField,
    OciTestMaxSizeField,
    OciTestMaxUnpackedSizeField,
)
