"""TLS as `tls_verify` and `cert_dir` of a registry want it. Source: containers-certs.d(5)."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import List, Mapping

from opam_sandbox.errors import ToolError


def context(host: str, tls_verify: bool, cert_dir: str, env: Mapping[str, str]) -> ssl.SSLContext:
    """TLS to HOST[:PORT]. Raises ToolError for a certificate or key that cannot be read."""
    made = ssl.create_default_context()
    if not tls_verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    for directory in [Path(cert_dir)] if cert_dir else _directories(host, env):
        _add(made, directory)
        if cert_dir and not directory.is_dir():
            raise ToolError(f"the directory of certificates {directory} for {host} is not there")
    return made


def _directories(host: str, env: Mapping[str, str]) -> List[Path]:
    home = env.get("HOME")
    own = [Path(env.get("XDG_CONFIG_HOME") or f"{home}/.config", "containers/certs.d")] if home else []
    tops = [*own, Path("/etc/containers/certs.d"), Path("/etc/docker/certs.d")]
    return [top / host for top in tops if os.path.isdir(top / host)]


def _add(made: ssl.SSLContext, directory: Path) -> None:
    if not directory.is_dir():
        return
    for path in sorted(directory.iterdir()):
        try:
            if path.suffix == ".crt":
                made.load_verify_locations(cafile=str(path))
            elif path.suffix == ".cert":
                key = path.with_suffix(".key")
                if not key.exists():
                    raise ToolError(f"the key {key} of the certificate {path} is missing")
                # A password cannot be asked for here.
                made.load_cert_chain(str(path), str(key), password=lambda: "")
        except (ssl.SSLError, OSError) as error:
            raise ToolError(f"the certificate {path} cannot be used: {error}") from None
