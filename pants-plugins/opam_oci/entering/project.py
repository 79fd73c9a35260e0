"""What is there for a command that works on a project: all that its packages depend on, and not these themselves."""

from __future__ import annotations

from opam_oci.entering.asked import Asked
from opam_oci.layers.build_plan import BuildPlanRequest, plan_build
from opam_oci.pants_engine.rules import implicitly
from opam_oci.resolves.lockfile import OpamLock
from opam_oci.resolves.projects import OpamProjects, find_opam_projects


def needed_by(lock: OpamLock, projects: OpamProjects, asked: Asked) -> tuple[str, ...]:
    """The packages that are asked for, with what those of projects depend on in their place, their tests and documentation
    included where the lockfile has what these need. Of what depends on a package of its own project, that is left out as well.
    """
    files = {
        file
        for one in projects.by_resolve.get(asked.resolve, ())
        if one.directory in asked.projects
        for file in one.files
    }
    found, seen = set(asked.released), set()
    waiting = list(asked.local)
    while waiting:
        name = waiting.pop()
        package = lock.packages[name]
        if package.local not in files:
            found.add(name)
        elif name not in seen:
            seen.add(name)
            more = (*package.depends, *package.post_depends, *package.test_depends, *package.doc_depends)
            waiting += [one for one in more if one in lock.packages]
    return tuple(sorted(found))


async def names_needed(asked: Asked) -> tuple[str, ...]:
    """The names of what is to be there. Raises what is wrong with the lockfile."""
    if not asked.local:
        return asked.released
    plan = await plan_build(BuildPlanRequest(asked.resolve), **implicitly())
    projects = await find_opam_projects(**implicitly())
    return needed_by(plan.lock, projects, asked)
