"""A `package` that finds everything done, with pantsd: of the example's image, of more images, and of images with many layers.

Baselines: for the example's image `./pants --version` through the same pantsd, which is the native client's bare round trip:
start the client, connect, have pantsd begin and end a run. Nothing that goes through pantsd can be faster. For 8 and 50 images
one of them; for an image of 125 layers one of 34. These images are generated and small: what is measured is what each image and
each layer costs when nothing is to be done. All are taken in turn.
"""

from __future__ import annotations

from typing import Dict, List, Sequence

from bench.figures import Row
from bench.scale import write_project
from bench.session import Session, counters, median, say, timed, wait_for_target
from tests.support.checkout import CommandFailed, Pants
from tests.support.layouts import Layout

# Beside its packages an image has three layers: base, opam's root, state.
FEW, MANY = 34, 125
IMAGES = (1, 8, 50)
# What 8 images may cost more than one, for each more image.
_EACH = (1.5 - 1) / 7


def run(session: Session) -> List[Row]:
    pants = session.built().pants
    _generate(session, pants)
    own = session.example.address
    commands: Dict[str, Sequence[str]] = {"version": ["--version"], "own": ["package", own]}
    for count in IMAGES:
        commands[f"{count}"] = ["package", *(f"bench/generated:n{number}" for number in range(count))]
    for layers in (FEW, MANY):
        commands[f"layers {layers}"] = ["package", f"bench/generated:l{layers}"]
    for _ in range(2):
        for command in commands.values():
            pants.run(*command)
    for layers in (FEW, MANY):
        found = len(Layout(pants.root / f"dist/bench.generated/l{layers}").layers)
        if found != layers:
            raise CommandFailed(f"the image of {layers} layers has {found}")
    samples: Dict[str, List[float]] = {name: [] for name in commands}
    for _ in range(3 * session.repeat):
        for name, command in commands.items():
            samples[name].append(timed(lambda c=command: pants.run(*c)))  # type: ignore[misc]
    counted = counters(pants.run("--stats-log", *commands["own"]).stderr)
    processes = counted.get("local_execution_requests", 0)

    def row(name: str, subject: str, other: str, baseline: str, goal: float) -> Row:
        details = {"samples": samples[name], "baseline_samples": samples[other], "processes_run": processes}
        return Row("warm", subject, median(samples[name]), baseline, median(samples[other]), goal=goal, details=details)

    rows = [row("own", f"warm package, {processes} processes run", "version", "./pants --version by pantsd", 2.0)]
    for count in IMAGES[1:]:
        rows.append(row(f"{count}", f"{count} small images", "1", "1 small image", 1 + _EACH * (count - 1)))
    rows.append(row(f"layers {FEW}", f"an image of {FEW} layers", "1", "an image of 4 layers", 1.25))
    rows.append(row(f"layers {MANY}", f"an image of {MANY} layers", f"layers {FEW}", f"of {FEW} layers", 1.25))
    return rows


def _generate(session: Session, pants: Pants) -> None:
    """Images l34 and l125, of so many layers, and n0 ... with one package each, of the same packages."""
    if not (pants.root / "bench/generated").exists():  # with the same --work
        names = [f"p{number}" for number in range(MANY - 3)]
        images = {f"n{number}": [names[number]] for number in range(max(IMAGES))}
        images.update({f"l{layers}": names[: layers - 3] for layers in (FEW, MANY)})
        write_project(pants.root, session.example.base, [(name, []) for name in names], images)
    last = f"bench/generated:l{MANY}"
    wait_for_target(pants, last)
    say(f"building {MANY - 3} small packages ...")
    pants.run("package", last)
