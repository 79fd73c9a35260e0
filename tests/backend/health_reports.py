"""Made-up health reports of any size, the same in every run."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Dict, List

from pants.util.frozendict import FrozenDict

from opam_oci.health.facts import OWN_FAILURES
from opam_oci.health.results import FailureKind, HealthReport, PackageResult, RootResult, Status

REPOSITORIES = ("overlay tree:0123abcd", "upstream sha256:4567ef")
LOG = (
    '+ /usr/bin/dune "build" "-p" "{name}" "-j" "2" (CWD=/home/opam/.opam/default/.opam-switch/build/{name})\n'
    '- File "src/{name}.ml", line 3, characters 5-8:\n- 3 | open \x1b[1mFox\x1b[0m\n-          ^^^\n- Error: Unbound module Fox\n'
    '[ERROR] The compilation of {name} failed at "dune build -p {name} -j 2".\n'
)


def package(name: str, status: Status = Status.SUCCESS, version: str = "1.0", **fields: object) -> PackageResult:
    """Id "NAME.VERSION/0"; depends and blocked_by may be given as such ids."""
    if status is Status.FAILURE:
        fields = {"kind": FailureKind.BUILD, "reason": "Error: Unbound module Fox", **fields}
    if status in OWN_FAILURES and "log" not in fields:
        fields = {"log": LOG.format(name=name), **fields}
    return replace(PackageResult(f"{name}.{version}/0", name, version, status), **fields)


def root(of: PackageResult, **fields: object) -> RootResult:
    made = RootResult(of.name, of.version, of.status, package=of.id, reason=of.reason)
    return replace(made, **fields)


def report(*packages: PackageResult, roots: "List[RootResult] | None" = None, **fields: object) -> HealthReport:
    """All packages are roots if none are given."""
    made = HealthReport(
        target="//health:all",
        base="//3rdparty/debian:trixie",
        repositories=REPOSITORIES,
        roots=tuple(root(each) for each in packages) if roots is None else tuple(roots),
        packages=FrozenDict({each.id: each for each in packages}),
        seconds=3723.5,
    )
    return replace(made, **fields)


def unsolved(name: str, reason: str, **fields: object) -> RootResult:
    return replace(RootResult(name, "", Status.NO_SOLUTION, reason=reason), **fields)


def small() -> HealthReport:
    """Every status, two compilers, an accepted failure."""
    dune = package("dune", seconds=31.0, started=0.0, layer="sha256:" + "a" * 64, size=12345678)
    lwt = package("lwt", Status.FAILURE, depends=(dune.id,), seconds=12.25, started=31.5)
    stopped = {"depends": (dune.id, lwt.id), "blocked_by": (lwt.id,)}
    cohttp = package("cohttp", Status.DEPENDENCY_FAILED, **stopped)
    irmin = package("irmin", Status.DEPENDENCY_FAILED, depends=(cohttp.id,), blocked_by=(lwt.id,))
    gtk = package(
        "lablgtk3",
        Status.FAILURE,
        kind=FailureKind.DEPEXT,
        reason="configure: error: gtk+-3.0 was not found",
        seconds=2.5,
    )
    test = package(
        "alcotest",
        Status.FAILURE,
        kind=FailureKind.TEST,
        reason="[FAIL] a 1 second.",
        accept_failures=True,
        seconds=4.0,
    )
    oom = package("coq", Status.FAILURE, kind=FailureKind.TRANSIENT, reason="Killed", seconds=600.0, started=44.0)
    slow = package("why3", Status.TIMED_OUT, reason="it took longer than 30 min", seconds=1800.0, started=50.0)
    others = [
        package("fpath", Status.NO_SOURCE, reason="no place has it"),
        package("conf-x", Status.NO_DEPEXT, reason="no libx-dev"),
    ]
    others += [
        package("astring", cached=True, seconds=1.5),
        package("zed", Status.CANCELLED),
        package("yojson", Status.NOT_BUILT),
    ]
    packages = [dune, lwt, cohttp, irmin, gtk, test, oom, slow, *others]
    roots = [root(each) for each in packages] + [
        root(lwt, compiler="ocaml=4.14.2"),
        unsolved("batteries", "No agreement on the version of ocaml:\n- batteries → ocaml < 5.0\n- ocaml=5.3.0"),
    ]
    return report(*packages, roots=roots)


def large(roots: int, packages: int, seed: int = 1) -> HealthReport:
    """Of the shape of the public repository: some packages that most others need, and 3 % of failures."""
    chance = random.Random(seed)
    made: Dict[str, PackageResult] = {}
    ids: List[str] = []
    clock = [0.0, 0.0, 0.0, 0.0]
    for number in range(packages):
        needs = {ids[int(chance.random() ** 3 * len(ids))] for _ in range(min(number, chance.randint(1, 7)))}
        blocked = {cause for need in needs for cause in made[need].blocked_by}
        blocked |= {need for need in needs if made[need].status in OWN_FAILURES}
        status = Status.SUCCESS
        if blocked:
            status = Status.DEPENDENCY_FAILED
        elif number > packages // 4 and chance.random() < 0.03:
            status = chance.choice([Status.FAILURE] * 5 + [Status.TIMED_OUT, Status.NO_SOURCE, Status.NO_DEPEXT])
        each = package(
            f"package-{number}",
            status,
            f"1.{number % 7}",
            depends=tuple(sorted(needs)),
            blocked_by=tuple(sorted(blocked)),
        )
        if status is Status.FAILURE:
            each = replace(each, kind=chance.choice(list(FailureKind)), log=each.log * 40)
        if status in (Status.SUCCESS, Status.FAILURE, Status.TIMED_OUT):
            lane = clock.index(min(clock))
            seconds = round(chance.expovariate(0.1), 3)
            each = replace(
                each, seconds=seconds, started=round(clock[lane], 3), layer=f"sha256:{number:064x}", size=number
            )
            clock[lane] += seconds
        made[each.id] = each
        ids.append(each.id)
    asked = [root(made[id], compiler="ocaml=5.3.0") for id in chance.sample(ids, roots - roots // 100)]
    asked += [
        unsolved(f"unsolved-{n}", f"No solution: conflict {n}", compiler="ocaml=5.3.0") for n in range(roots // 100)
    ]
    return report(*made.values(), roots=asked)
