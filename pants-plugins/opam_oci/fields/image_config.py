"""Fields of `oci_package_image`: what container engines read in the image's config."""

from __future__ import annotations

import re
from typing import Iterable, Optional

from pants.engine.addresses import Address
from pants.engine.target import DictStringToStringField, InvalidFieldException, StringField, StringSequenceField
from pants.util.frozendict import FrozenDict
from pants.util.strutil import help_text

from opam_oci.fields.references import BadReference, parse
from opam_oci.fields.validation import ABSOLUTE_PATH, check_each

_PORT = re.compile(r"[0-9]{1,5}(?:/(?:tcp|udp|sctp))?\Z")

_SIGNAL = re.compile(r"(?:SIG[A-Z0-9+-]+|[0-9]{1,2})\Z")


class OciImageEntrypointField(StringSequenceField):
    alias = "entrypoint"
    default = ()
    value: tuple[str, ...]
    help = help_text(
        """
        The command, word by word, that a container runs before what its user adds: `["opam", "exec", "--"]`.

        Default: none; a container then runs `cmd`, or what its user says instead.
        """
    )


class OciImageCmdField(StringSequenceField):
    alias = "cmd"
    default = ()
    value: tuple[str, ...]
    help = help_text(
        """
        The words that follow `entrypoint` if a container's user gives none.

        Default: none; with no `entrypoint` either, a command must be given to run the image.
        """
    )


class OciImageEnvField(DictStringToStringField):
    alias = "env"
    help = help_text(
        """
        Environment variables of containers.

        They come on top of HOME, LANG, PATH and all that `opam env` sets in the image: the `setenv` fields of its packages
        are in force. One of the same name replaces it, and may refer to it: `{"PATH": "/opt/tools/bin:$PATH"}`.

        References are those of a Dockerfile's `ENV`: `$NAME`, `${NAME}`, `${NAME:-word}` (where it is unset or empty) and
        `${NAME:+word}` (where it is not) see the image's variables, and those that stand before in the field; one to another
        variable is an error. `\\$` is a dollar.
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[dict[str, str]], address: Address) -> Optional[FrozenDict[str, str]]:
        value = super().compute_value(raw_value, address)
        for name in value or ():
            if not name or "=" in name or "\0" in name:
                raise InvalidFieldException(
                    f"The `{cls.alias}` field in target {address} has {name!r}, which cannot name a variable."
                )
        for name, text in (value or {}).items():
            if "\0" in text:
                raise InvalidFieldException(
                    f"The `{cls.alias}` field in target {address} gives {name} a value with a zero byte, which no variable holds."
                )
            try:
                parse(text)
            except BadReference as error:
                raise InvalidFieldException(
                    f"The `{cls.alias}` field in target {address}: the value of {name} {error}."
                ) from None
        return value


class OciImageUserField(StringField):
    alias = "user"
    default = "opam"
    value: str
    help = help_text(
        """
        The user that containers run as, by name or number.

        The default owns the opam switch (1000:1000); another user can read it but not install into it.
        """
    )


class OciImageWorkdirField(StringField):
    alias = "workdir"
    default = "/home/opam"
    value: str
    help = "The directory, absolute, that containers start in."

    @classmethod
    def compute_value(cls, raw_value: Optional[str], address: Address) -> Optional[str]:
        value = super().compute_value(raw_value, address)
        if value is not None and not value.startswith("/"):
            raise InvalidFieldException(
                f"The `{cls.alias}` field in target {address} must be an absolute path, but is {value!r}."
            )
        return value


class OciImageLabelsField(DictStringToStringField):
    alias = "labels"
    help = "Labels in the image's configuration, as `docker inspect` shows them. Default: none."


class OciImageAnnotationsField(DictStringToStringField):
    alias = "annotations"
    help = help_text(
        """
        Annotations of the image's manifest, such as `{"org.opencontainers.image.source": "https://..."}`.

        Default: none.
        """
    )


class OciImageExposedPortsField(StringSequenceField):
    alias = "exposed_ports"
    default = ()
    value: tuple[str, ...]
    help = help_text(
        """
        Ports that containers listen on, as documentation for the people who run them: `["8080", "53/udp"]`.

        Default: none.
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[Iterable[str]], address: Address) -> Optional[tuple[str, ...]]:
        value = super().compute_value(raw_value, address)
        check_each(cls.alias, address, value, _PORT, '"8080" or "53/udp"')
        return value


class OciImageVolumesField(StringSequenceField):
    alias = "volumes"
    default = ()
    value: tuple[str, ...]
    help = help_text(
        """
        Directories, absolute, that containers keep outside of the image: `["/var/lib/data"]`.

        Default: none.
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[Iterable[str]], address: Address) -> Optional[tuple[str, ...]]:
        value = super().compute_value(raw_value, address)
        check_each(cls.alias, address, value, ABSOLUTE_PATH, '"/var/lib/data"')
        return value


class OciImageStopSignalField(StringField):
    alias = "stop_signal"
    help = help_text(
        """
        The signal that ends a container, by name or number: `"SIGINT"`.

        Default: none; engines then send SIGTERM.
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[str], address: Address) -> Optional[str]:
        value = super().compute_value(raw_value, address)
        check_each(cls.alias, address, [value] if value is not None else [], _SIGNAL, '"SIGINT" or "2"')
        return value
