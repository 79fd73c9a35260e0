"""The image from nothing: every layer built, captured, compressed, and the layout written.

Baselines, offline, in a chroot with the same base, the same locked opam files and the same archives at hand:

- `opam install` of the same closure into one switch, with OPAMJOBS and make's jobs as many as there are cores, and no
  sandbox of its own (opam's bubblewrap is off): the fastest way to have the packages, which gives no image.
- the sum of the same packages installed one after the other by one `opam install` each, with all cores: what a builder of
  one layer per package costs at least that takes one package at a time.

Both start with base and opam's root in place, so ours is timed from there as well, and includes what they do not do:
capture, compression, the state layer and the layout. pantsd runs already. The base is reported on its own.
"""

from __future__ import annotations

import shutil
from typing import List

from bench.bare import BareRoot
from bench.figures import Row
from bench.session import Session, say
from tests.support.checkout import ROOT
from tests.support.layouts import Layout


def run(session: Session) -> List[Row]:
    built = session.built()
    total, rest = built.seconds, built.rest_seconds
    assert rest is not None
    ground = Layout(built.pants.root / "dist/bench/ground")
    packages = session.example.packages(ROOT)
    top = session.directory("cold")

    say(f"opam install of {len(packages)} packages ...")
    together = BareRoot(top / "together", ground)
    together.add_packages(packages, session)
    debs = together.install_debs(packages, session)
    one = debs + together.install(*(package.full_name for package in packages))
    together.check_installed(packages)

    say("the same, one after the other ...")
    apart = BareRoot(top / "apart", ground)
    apart.add_packages(packages, session)
    each = {package.full_name: 0.0 for package in packages}
    debs = apart.install_debs(packages, session)
    for package in packages:
        each[package.full_name] = apart.install(package.full_name)
    apart.check_installed(packages)
    shutil.rmtree(top)

    details = {"total_with_base": total, "base": built.ground_seconds, "debs": debs}
    subject = f"{len(packages)} packages to an image"
    return [
        Row("cold", subject, rest, "opam install in one switch", one, goal=1.0, details=details),
        Row("cold", subject, rest, "sum of bare package builds", debs + sum(each.values()), details={"each": each}),
        Row("cold", f"{subject}, with the base", total, "opam install in a base that is there", one, details=details),
    ]
