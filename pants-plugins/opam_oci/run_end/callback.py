"""What happens once a run of Pants has done its work, before the command ends."""

from __future__ import annotations

from abc import abstractmethod

from pants.engine.internals.scheduler import Workunit
from pants.engine.streaming_workunit_handler import StreamingWorkunitContext, WorkunitsCallback


class AtRunEnd(WorkunitsCallback):
    """Does something at the end of a run, and may look at the run's workunits on the way."""

    @property
    def can_finish_async(self) -> bool:
        """Pants waits for this callback before a run ends."""
        return False  # whoever called the command may look at its results as soon as it has ended

    def __call__(
        self,
        *,
        started_workunits: tuple[Workunit, ...],
        completed_workunits: tuple[Workunit, ...],
        finished: bool,
        context: StreamingWorkunitContext,
    ) -> None:
        self.completed(completed_workunits)
        if finished:
            self.ended(context)

    def completed(self, workunits: tuple[Workunit, ...]) -> None:
        """Workunits that have ended since the last call."""

    @abstractmethod
    def ended(self, context: StreamingWorkunitContext) -> None:
        """The run has ended; what is raised here is not seen by anybody."""
