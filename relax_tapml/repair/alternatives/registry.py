"""All alternatives, in the order in which they are tried: what changes least comes first."""

from __future__ import annotations

from relax_tapml.repair.alternative import Alternative, Layer
from relax_tapml.repair.alternatives.accurate_options import AccurateOptions
from relax_tapml.repair.alternatives.as_lowered import AsLowered
from relax_tapml.repair.alternatives.compensated_sums import CompensatedSums
from relax_tapml.repair.alternatives.computed_constants import MaximumWithFloor
from relax_tapml.repair.alternatives.dlight_rules import DLIGHT_RULES
from relax_tapml.repair.alternatives.exact_constants import ExactConstants
from relax_tapml.repair.alternatives.float32_sums import Float32Sums
from relax_tapml.repair.alternatives.host_algorithm import HostAlgorithm
from relax_tapml.repair.alternatives.int64_as_words import Int64AsWords
from relax_tapml.repair.alternatives.kept_guards import KeptGuards
from relax_tapml.repair.alternatives.no_shared_memory import NoSharedMemory
from relax_tapml.repair.alternatives.no_vectors import NoVectors
from relax_tapml.repair.alternatives.one_thread_each import OneThreadEach
from relax_tapml.repair.alternatives.packed_bytes import PackedBytes
from relax_tapml.repair.alternatives.smaller_blocks import SmallerBlocks
from relax_tapml.repair.alternatives.together import Together
from relax_tapml.repair.alternatives.unfused import Unfused
from relax_tapml.repair.alternatives.unscheduled import Unscheduled
from relax_tapml.repair.alternatives.word_integers import WordIntegers
from relax_tapml.repair.alternatives.written_otherwise import REWRITES

# The values stay as they are, and only what is generated for them differs.
_GENERATED = (Int64AsWords(), PackedBytes(), ExactConstants())

ALTERNATIVES: tuple[Alternative, ...] = (
    AsLowered(),
    KeptGuards(),  # Before what keeps guards, too.
    AccurateOptions(),
    NoVectors(),
    *_GENERATED,
    Together(
        "generated-otherwise",
        "with words, packed bytes and constants as bits together",
        Layer.CODE_GENERATION,
        _GENERATED,
    ),
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
