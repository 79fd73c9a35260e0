"""Where images go: `repositories`, `image_tags` and `[oci-publish].registries`."""

from __future__ import annotations

from typing import Any

import pytest
from pants.engine.addresses import Address

from opam_oci.publishing.destinations import Destination, DestinationError, Naming, destinations, tag_text
from opam_oci.subsystems.oci_publish import RegistryOptionError, read_registries

REGISTRIES: dict[str, Any] = {
    "hub": {"address": "registry.example.org/team", "extra_image_tags": ["{pants.hash}"]},
    "own": {"address": "localhost:5000", "repository": "{directory}/{name}", "default": True},
    "shared": {"address": "oci:/srv/images", "skip_push": True},
}


def where(*repositories: str, tags: tuple[str, ...] = ("latest",), default: bool = False) -> tuple[Destination, ...]:
    naming = Naming(
        Address("src/ocaml", target_name="hello"),
        tags,
        None if default else repositories,
        {"pants": {"hash": "abc"}, "versions": {"lwt": "5.6.1"}, "env": {"COMMIT": "f00"}},
        "{parent_directory}/{name}",
        "/build",
    )
    return destinations(naming, read_registries(REGISTRIES))


def test_names() -> None:
    [hub] = where("@hub", tags=("{versions.lwt}", "c-{env.COMMIT}"))
    assert hub.names == tuple(f"registry.example.org/team/src/hello:{tag}" for tag in ("5.6.1", "c-f00", "abc"))
    assert hub.tls_verify and not hub.layout
    [path] = where("@hub/tools/{name}")
    assert path.repository == "registry.example.org/team/tools/hello"
    [host] = where("ghcr.io")
    assert host.names == ("ghcr.io/src/hello:latest",)
    [address] = where("ghcr.io:444/{directory}")
    assert address.names == ("ghcr.io:444/ocaml:latest",)


def test_defaults() -> None:
    [own] = where(default=True)
    assert own.names == ("localhost:5000/ocaml/hello:latest",) and not own.tls_verify
    assert where() == ()


def test_layouts() -> None:
    [plain] = where("oci:/srv/x")
    assert (plain.layout, plain.refs) == ("/srv/x", ("src/hello:latest",))
    assert plain.names == ("oci:/srv/x:src/hello:latest",)
    [named] = where("oci:out/x:{name}")
    assert (named.layout, named.refs) == ("/build/out/x", ("hello:latest",))
    [shared] = where("@shared")
    assert shared.layout == "/srv/images" and "@shared" in shared.skipped


@pytest.mark.parametrize(
    ("address", "verified"),
    [("localhost", False), ("127.0.0.1:5000", False), ("[::1]:5000", False), ("127.0.0.1.example.org", True)],
)
def test_plain_http_on_this_machine_only(address: str, verified: bool) -> None:
    [destination] = where(f"{address}/x")
    assert destination.tls_verify is verified


def test_tls_options() -> None:
    registries = read_registries(
        {
            "a": {"address": "r.example.org", "tls_verify": False, "default": True},
            "b": {"address": "127.0.0.1:1", "cert_dir": "certs", "default": True},
        }
    )
    naming = Naming(Address("", target_name="x"), ("1",), None, {}, "{name}", "/build")
    a, b = destinations(naming, registries)
    assert (a.tls_verify, b.tls_verify, b.cert_dir) == (False, True, "/build/certs")


@pytest.mark.parametrize(
    ("repository", "message"),
    [
        ("@nope", r"`repositories` field of the `oci_package_image` target at src/ocaml:hello.*@nope.*@hub, @own"),
        ("hello", r"'hello', which begins with no registry"),
        ("library/hello", r"begins with no registry"),
        ("ghcr.io/A B", r"gives the repository 'a b'"),
        ("ghcr.io/{nope}", r"placeholder 'nope' is unknown"),
        ("oci:", r"without a directory"),
        ("oci:/srv/x:a:b", r"gives the repository 'a:b'"),
    ],
)
def test_bad_repositories(repository: str, message: str) -> None:
    with pytest.raises((DestinationError, RegistryOptionError), match=f"(?s){message}"):
        where(repository)


@pytest.mark.parametrize("tag", ["a b", "", "-a", "x" * 129, "{versions.nope}", "{env.NOPE}", "a:b"])
def test_bad_tags(tag: str) -> None:
    with pytest.raises(
        DestinationError, match="`image_tags` field of the `oci_package_image` target at src/ocaml:hello"
    ):
        where("ghcr.io", tags=(tag,))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, "`x` without an `address`"),
        ("ghcr.io", "`x` without an `address`"),
        ({"address": "a.b", "user": "me"}, "unknown key `user`"),
        ({"address": "a.b", "skip_push": "yes"}, "`skip_push` should be of type bool"),
    ],
)
def test_bad_registries(entry: Any, message: str) -> None:
    with pytest.raises(RegistryOptionError, match=message):
        read_registries({"x": entry})


def test_versions_as_tags() -> None:
    assert tag_text("1.2~rc+3") == "1.2-rc-3"
