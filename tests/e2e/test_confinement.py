"""What runs in a sandbox reaches nothing of the machine: the same probes in every phase, for root and for a user.

A phase's probes count where they reach the machine when nothing confines them, or where the tool's own table of system
calls refuses them. With OPAM_OCI_PROBE_RESULTS, a path, what was found is written there: see tests/support/probes/table.py.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator

import pytest

from tests.e2e.conftest import ROOT, USER_ID, as_user
from tests.support import probes
from tests.support.probes import table
from tests.support.probes.caller import unconfined
from tests.support.probes.chain import Chain, Downloads
from tests.support.probes.outcomes import Outcome
from tests.support.probes.traps import followed, forbidden, left_behind

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, and what is to be reached is root's")

RUNTIMES = [kind for kind in ("crun", "runc") if shutil.which(kind, path=f"{os.environ['PATH']}:/usr/sbin")]
PHASES = ["base", "compress", "depexts", "build", "install", "test", "state-root", "state-user"]
PHASES += [f"run-{kind}-{user}-none" for kind in RUNTIMES for user in ("opam", "root")]
# The default, in which the machine's network is the container's.
HOST_NETWORK = [f"run-{kind}-{user}-host" for kind in RUNTIMES for user in ("opam", "root")]
LEAST = 120


@pytest.fixture(scope="module")
def results() -> Iterator[table.Results]:
    found = table.Results()
    yield found
    if os.environ.get("OPAM_OCI_PROBE_RESULTS"):
        found.write(Path(os.environ["OPAM_OCI_PROBE_RESULTS"]))


@pytest.fixture(scope="module")
def downloads() -> Iterator[Downloads]:
    top = Path(tempfile.mkdtemp(prefix="opam-oci-probe-", dir="/var/tmp"))
    try:
        yield Downloads.make(top)
    finally:
        shutil.rmtree(top, ignore_errors=True)


@pytest.fixture(scope="module")
def without_sandbox(downloads: Downloads, results: table.Results) -> Dict[str, Outcome]:
    """What the probes find where nothing confines them, as root. They leave nothing on this machine."""
    directory = downloads.top / "unconfined"
    directory.mkdir()
    with probes.target(directory, above=downloads.top) as target:
        found = probes.read_outcomes(unconfined(target))
        assert target.left() == set()
    results.unconfined = found
    return found


@pytest.fixture(scope="module", params=["root", "user"])
def chain(request: Any, downloads: Downloads) -> Iterator[Chain]:
    directory = downloads.top / request.param
    owner = USER_ID if request.param == "user" else 0
    for path in (directory, *(directory / name for name in ("home", "store", "target"))):
        path.mkdir()
        os.chown(path, owner, owner)
    prefix = as_user(directory / "home", "true") if owner else []
    with probes.target(directory / "target", owner, downloads.top) as target:
        yield Chain(downloads, directory, target, owner, prefix)


def test_the_probes_reach_what_is_not_confined(without_sandbox: Dict[str, Outcome]) -> None:
    """Most of them: else the tests below say nothing."""
    reached = probes.reached(without_sandbox)
    assert len(reached) >= 300 and len(reached) >= len(without_sandbox) * 3 // 4


@pytest.mark.parametrize("phase", PHASES)
def test_nothing_is_reached(
    chain: Chain, phase: str, without_sandbox: Dict[str, Outcome], results: table.Results
) -> None:
    found = chain.outcomes(phase)
    results.add(phase, chain.owner, found)
    assert set(without_sandbox) <= set(found)
    assert not probes.reached(found), "\n".join(probes.reached(found))
    assert len(table.counted(found, without_sandbox)) >= LEAST
    assert chain.target.changes() == []


@pytest.mark.parametrize("phase", HOST_NETWORK)
def test_the_machines_network_and_nothing_else(
    chain: Chain, phase: str, without_sandbox: Dict[str, Outcome], results: table.Results
) -> None:
    """`--oci-run-network=host` is the machine's network, and is said to be."""
    found = table.with_host_network(chain.outcomes(phase))
    results.add(phase, chain.owner, found)
    assert set(without_sandbox) <= set(found)
    assert not probes.reached(found), "\n".join(probes.reached(found))
    assert len(table.counted(found, without_sandbox)) >= LEAST
    chain.target.servers.connections.clear()
    assert chain.target.changes() == []


def test_nothing_that_was_left_behind_was_followed(chain: Chain) -> None:
    """Neither does the secret lie in what the tool wrote, nor was anything made where a link led."""
    chain.outcomes("state-root")
    assert followed(chain) == []


def test_root_and_user_leave_the_same_behind(downloads: Downloads, chain: Chain) -> None:
    """Layers hold no more of what was left behind where a user made them than where root did."""
    chain.outcomes("state-root")
    left = {name: left_behind(chain, name) for name in ("base", "build", "state")}
    assert all(left.values())
    assert [entry for entries in left.values() for entry in forbidden(entries)] == []
    for name, entries in left.items():
        assert entries == downloads.left.setdefault(name, entries)


def test_the_documentation_has_these_probes(without_sandbox: Dict[str, Outcome]) -> None:
    text = (ROOT / "docs/confinement-probes.md").read_text()
    missing = [name for name in without_sandbox if f"| {table.cell(name)} |" not in text]
    assert missing == []
