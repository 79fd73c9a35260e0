"""What can go wrong with a registry. Messages name no header and no address with a password."""

from __future__ import annotations

from opam_sandbox.errors import ToolError


class RegistryError(ToolError):
    """The registry's answer is no, and another try does not change that. `status`: HTTP's, 0 where there was no answer."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class DeniedError(RegistryError):
    """The registry wants other credentials, or none will do."""


class CertificateError(RegistryError):
    """The registry's certificate is of an authority that this machine does not know, or names another host."""


class NoTlsError(RegistryError):
    """The registry speaks plain HTTP, which was not allowed."""


class PassingError(RegistryError):
    """What another try may mend: a broken connection, too many requests, an error inside the registry.

    pause: seconds that the registry asks for before the next request, 0.0 where it does not.
    """

    def __init__(self, text: str, status: int = 0, pause: float = 0.0) -> None:
        super().__init__(text, status)
        self.pause = pause
