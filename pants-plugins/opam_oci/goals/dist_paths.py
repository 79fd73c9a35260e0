"""What the targets of one `package` write below the distribution directory."""

from __future__ import annotations

from pants.core.goals.package import OutputPathField, PackageSubsystem
from pants.engine.addresses import Address

from opam_oci.pants_engine.calls import executing_goals
from opam_oci.pants_engine.rules import implicitly
from opam_oci.publishing.claims import claims_of_this_run


class SameOutputPathError(Exception):
    """Two targets of one run would write the same path in the distribution directory."""


async def claim_output(owner: Address, *paths: str) -> None:
    """Take paths in the distribution directory. Raises SameOutputPathError where another target of the run writes there.

    Other goals than `package` write nothing there: to them it is the same where a package would lie.
    """
    # Asked for in every case, so that this is looked at anew in every run.
    claims = await claims_of_this_run(**implicitly())
    if not (await executing_goals()).is_running(PackageSubsystem.name):
        return
    for path in paths:
        other = claims.claim_path(path, owner)
        if other is not None:
            first, second = sorted((other, owner))
            raise SameOutputPathError(
                f"`package` would write both {first} and {second} to {path} in the distribution directory. Nothing was "
                f"written. Give one of them another `{OutputPathField.alias}`, or none: the default is made of the target's "
                "directory, name and parameters."
            )
