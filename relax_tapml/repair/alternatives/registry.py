"""All alternatives, in the order in which they are tried: what changes least comes first."""

from __future__ import annotations

from relax_tapml.repair.alternative import Alternative
from relax_tapml.repair.alternatives.accurate_options import AccurateOptions
from relax_tapml.repair.alternatives.as_lowered import AsLowered
from relax_tapml.repair.alternatives.compensated_sums import CompensatedSums
from relax_tapml.repair.alternatives.computed_constants import (
    ComputedInfinities,
    ExactConstants,
    MaximumWithFloor,
)
from relax_tapml.repair.alternatives.dlight_rules import DLIGHT_RULES
from relax_tapml.repair.alternatives.float32_sums import Float32Sums
from relax_tapml.repair.alternatives.host_algorithm import HostAlgorithm
from relax_tapml.repair.alternatives.kept_guards import KeptGuards
from relax_tapml.repair.alternatives.no_shared_memory import NoSharedMemory
from relax_tapml.repair.alternatives.no_vectors import NoVectors
from relax_tapml.repair.alternatives.one_thread_each import OneThreadEach
from relax_tapml.repair.alternatives.smaller_blocks import SmallerBlocks
from relax_tapml.repair.alternatives.unfused import Unfused
from relax_tapml.repair.alternatives.unscheduled import Unscheduled
from relax_tapml.repair.alternatives.word_integers import WordIntegers
from relax_tapml.repair.alternatives.written_otherwise import REWRITES

ALTERNATIVES: tuple[Alternative, ...] = (
    AsLowered(),
    KeptGuards(),  # Before what keeps guards, too.
    AccurateOptions(),
    NoVectors(),
    ExactConstants(),
    ComputedInfinities(),
    MaximumWithFloor(),
    *REWRITES,
    Float32Sums(),
    *DLIGHT_RULES,
    NoSharedMemory(),
    SmallerBlocks(),
    Unscheduled(),
    Unfused(),
    OneThreadEach(),
    WordIntegers(),
    CompensatedSums(),
    HostAlgorithm(),
)
