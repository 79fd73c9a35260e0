"""A machine with things to reach (`target`), a program that tries to (`perl/probe.pl`), and what it says (`outcomes`)."""

from tests.support.probes.outcomes import Outcome as Outcome
from tests.support.probes.outcomes import reached as reached
from tests.support.probes.outcomes import read_outcomes as read_outcomes
from tests.support.probes.program import copy_probes as copy_probes
from tests.support.probes.program import probe_files as probe_files
from tests.support.probes.target import Target as Target
from tests.support.probes.target import target as target
