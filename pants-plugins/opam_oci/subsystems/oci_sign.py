"""The options `[oci-sign]`."""

from __future__ import annotations

from enum import Enum

from pants.option.option_types import BoolOption, EnumOption, ShellStrListOption, StrOption
from pants.option.subsystem import Subsystem
from pants.util.strutil import softwrap


class SigningOptionError(Exception):
    """Options of `[oci-sign]` that make no sense together, or name a file that is not there."""


class Signer(Enum):
    """What signs images."""

    none = "none"
    skopeo = "skopeo"
    command = "command"


class OciSignSubsystem(Subsystem):
    options_scope = "oci-sign"
    help = "Whether and how `publish` has images signed that it pushes to registries."

    signer = EnumOption(
        default=Signer.none,
        help=softwrap(
            """
            The program that signs what `publish` has pushed to a registry. It must be on PATH.

              * `skopeo`: sigstore's signatures by skopeo, 1.10 or newer, with `key`. They lie in the registry, beside the image.
                (Debian 12's skopeo is older, and built without them.)
              * `command`: the programs of `command` and `verify_command`
              * `none`: nothing is signed

            What is signed is the digest of the manifest that was built, never a tag. The signature is verified with
            `public_key` before, and where there is a valid one, nothing is signed again; and afterwards. An image that was
            pushed and not signed is a failure of `publish`, which says so; publishing again signs it.

            Signing is in no cache key, and changes no image. What goes into layout directories (`oci:`) is not signed.
            """
        ),
    )
    key = StrOption(
        default="",
        help=softwrap(
            """
            With `signer = "skopeo"`: the file of the private key, relative to the build root, as `skopeo generate-sigstore-key`
            writes it.
            """
        ),
    )
    public_key = StrOption(
        default="",
        help=softwrap(
            """
            The file of the public key that belongs to `key`, by which signatures are verified; relative to the build root.

            Default: beside `key`, with the extension `.pub` in place of `.private` or `.key`.
            """
        ),
    )
    password_env_var = StrOption(
        default="COSIGN_PASSWORD",
        help=softwrap(
            """
            The environment variable that holds the password of the private key. skopeo gets it by a pipe, a command in its
            environment. It is in no command line, log or cache key, and where a program shows it, `***` is shown.
            """
        ),
    )
    env_vars = ShellStrListOption(
        advanced=True,
        help=softwrap(
            """
            Further environment variables for the program that signs, such as the credentials of a service that holds keys.
            Names only: the values are those of the environment that Pants runs in, and are not shown. What
            `[oci-publish].env_vars` says is passed on as well. Default: none.
            """
        ),
    )
    sign_attached = BoolOption(
        default=False,
        help=softwrap(
            """
            If true, the SBOMs and the provenance that were pushed with an image (`sbom="attached"`) are signed as well, each
            for itself. Default: false.
            """
        ),
    )
    args = ShellStrListOption(
        advanced=True,
        help=softwrap(
            """
            With `signer = "skopeo"`: further arguments for the `skopeo copy` that signs. Passwords do not belong here.
            """
        ),
    )
    verify_args = ShellStrListOption(
        advanced=True,
        help=softwrap(
            """
            With `signer = "skopeo"`: further arguments for the `skopeo copy` that verifies.
            """
        ),
    )
    command = ShellStrListOption(
        advanced=True,
        help=softwrap(
            """
            With `signer = "command"`: the program that signs, and all its arguments. `{reference}` stands for what is to be
            signed, `HOST/PATH@sha256:...`. A program with a `/` in its name is relative to the build root, where it runs.
            """
        ),
    )
    verify_command = ShellStrListOption(
        advanced=True,
        help=softwrap(
            """
            With `signer = "command"`: the program that ends with exit status 0 if `{reference}` has a valid signature, and
            with another one if it has none; and all its arguments, as in `command`. It runs before `command` and after it.
            """
        ),
    )
