"""All alternatives, in the order in which they are tried: what changes least comes first."""

from __future__ import annotations

from relax_tapml.repair.alternative import Alternative
from relax_tapml.repair.alternatives.accurate_options import AccurateOptions
from relax_tapml.repair.alternatives.as_lowered import AsLowered
from relax_tapml.repair.alternatives.dlight_rules import DLIGHT_RULES
from relax_tapml.repair.alternatives.kept_guards import KeptGuards
from relax_tapml.repair.alternatives.one_thread_each import OneThreadEach
from relax_tapml.repair.alternatives.unscheduled import Unscheduled
from relax_tapml.repair.alternatives.written_otherwise import REWRITES

ALTERNATIVES: tuple[Alternative, ...] = (
    AsLowered(),
    KeptGuards(),  # Before what keeps guards, too.
    AccurateOptions(),
    *REWRITES,
    *DLIGHT_RULES,
    Unscheduled(),
    OneThreadEach(),
)
