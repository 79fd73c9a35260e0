"""Runs the backend's rules in a temporary build root, with Pants' own engine."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections import deque
from contextlib import contextmanager
from typing import Callable, Deque, Dict, Iterator

from pants.backend.project_info import count_loc, dependencies, dependents, filedeps, list_targets, paths, peek
from pants.core import register as core
from pants.core.goals import export, generate_lockfiles, package, publish, repl, run, tailor
from pants.core.goals.tailor import PutativeTargets
from pants.engine.fs import Digest, DownloadFile
from pants.engine.internals.parametrize import Parametrize
from pants.engine.internals.scheduler import Scheduler, SchedulerSession
from pants.engine.rules import QueryRule
from pants.testutil.rule_runner import RuleRunner
from pants.vcs import changed

from opam_oci import register
from opam_oci.documenting.selection import OpamDocsFieldSet
from opam_oci.downloads.fetch import Fetched, FetchRequest
from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.goals.package_image_index import OciImageIndexFieldSet
from opam_oci.goals.package_image_layout import OciImageLayoutFieldSet
from opam_oci.goals.publish import PublishOciImageRequest
from opam_oci.goals.run_image import OciImageRunFieldSet
from opam_oci.goals.tailor import PutativeOpamTargetsRequest
from opam_oci.layers.build_plan import BuildPlan, BuildPlanRequest
from opam_oci.layers.package import PackageLayerRequest, PackageOutcome
from opam_oci.locking.root_solutions import RootList, RootListRequest, RootSolutions, RootSolutionsRequest
from opam_oci.projects.sources import ProjectTree, ProjectTreeRequest
from opam_oci.resolves.inputs import ResolveInputs, ResolveInputsRequest
from opam_oci.resolves.lockfile import OpamLock
from opam_oci.resolves.locks import OpamLockRequest
from opam_oci.resolves.opam_repositories import OpamRepository, OpamRepositoryRequest
from opam_oci.sandbox.tool import SandboxTool


def new_runner(*bootstrap_args: str) -> RuleRunner:
    """A scheduler of its own, with an empty cache unless `--local-store-dir` is given."""
    return RuleRunner(
        rules=[
            *core.rules(),
            *dependencies.rules(),
            *changed.rules(),
            *count_loc.rules(),
            *dependents.rules(),
            *export.rules(),
            *filedeps.rules(),
            *generate_lockfiles.rules(),
            *list_targets.rules(),
            *package.rules(),
            *paths.rules(),
            *peek.rules(),
            *publish.rules(),
            *repl.rules(),
            *run.rules(),
            *tailor.rules(),
            *register.rules(),
            QueryRule(changed.ChangedAddresses, [changed.ChangedRequest]),
            QueryRule(Digest, [DownloadFile]),
            QueryRule(BuildPlan, [BuildPlanRequest]),
            QueryRule(PutativeTargets, [PutativeOpamTargetsRequest]),
            QueryRule(Fetched, [FetchRequest]),
            QueryRule(OpamLock, [OpamLockRequest]),
            QueryRule(OpamRepository, [OpamRepositoryRequest]),
            QueryRule(PackageOutcome, [PackageLayerRequest]),
            QueryRule(ProjectTree, [ProjectTreeRequest]),
            QueryRule(ResolveInputs, [ResolveInputsRequest]),
            QueryRule(RootList, [RootListRequest]),
            QueryRule(RootSolutions, [RootSolutionsRequest]),
            QueryRule(SandboxTool, []),
            QueryRule(package.BuiltPackage, [OciPackageImageFieldSet]),
            QueryRule(package.BuiltPackage, [OciImageLayoutFieldSet]),
            QueryRule(package.BuiltPackage, [OciImageIndexFieldSet]),
            QueryRule(package.BuiltPackage, [OpamDocsFieldSet]),
            QueryRule(publish.PublishProcesses, [PublishOciImageRequest]),
            QueryRule(run.RunRequest, [OciImageRunFieldSet]),
        ],
        target_types=[*register.target_types(), *core.target_types()],
        objects={"parametrize": Parametrize},
        isolated_local_store=not any("--local-store-dir" in arg for arg in bootstrap_args),
        bootstrap_args=bootstrap_args,
    )


OPTIONS = (
    "--opam-resolves={'default': '3rdparty/opam/default.lock', 'other': '3rdparty/opam/other.lock'}",
    "--opam-resolves-to-base={'default': '//3rdparty/debian:trixie', 'other': '//3rdparty/debian:second'}",
    "--debian-resolves={'trixie': '3rdparty/debian/trixie.lock', 'second': '3rdparty/debian/second.lock'}",
    "--debian-mirrors=['http://127.0.0.1:9/debian']",
    "--no-opam-check-host",
)


_sessions: weakref.WeakSet[SchedulerSession] = weakref.WeakSet()


def _noted(new_session: Callable[..., SchedulerSession]) -> Callable[..., SchedulerSession]:
    def noting(scheduler: Scheduler, *args: object, **named: object) -> SchedulerSession:
        session = new_session(scheduler, *args, **named)
        _sessions.add(session)
        return session

    return noting


Scheduler.new_session = _noted(Scheduler.new_session)  # type: ignore[method-assign]


# What the last few schedulers had.
_ended: Deque[Dict[str, object]] = deque(maxlen=4)


@contextmanager
def runners_end() -> Iterator[None]:
    """At the end the runners that were made in here let go of what they have of the system. They cannot be used any more.

    A runner in which a rule failed is never collected: the engine keeps the error, whose traceback keeps the runner, which keeps
    the engine. Each takes memory, and watches the file system, which a user may do 128 times at once."""
    before = {session.scheduler for session in _sessions if vars(session)}
    yield
    sessions = [session for session in _sessions if vars(session) and session.scheduler not in before]
    for session in sessions:
        session.cancel()
    for scheduler in {session.scheduler for session in sessions}:
        _end(scheduler)
    for session in sessions:
        vars(session).clear()


def _end(scheduler: Scheduler) -> None:
    """An engine that goes takes locks of its graph while it holds Python's. Against a rule that has one and waits for the other,
    neither goes on. Hence what rules still do, since another rule failed, is ended first, without Python's lock being held; and
    the engine goes a few tests later, when nothing is done in it any more."""
    ending = threading.Thread(target=scheduler.shutdown, daemon=True)
    ending.start()
    ending.join(60)
    if ending.is_alive():
        warnings.warn("the engine of a test does not end: it is left as it is", stacklevel=2)
        return
    _ended.append(dict(vars(scheduler)))
    vars(scheduler).clear()
