"""What the parts of a run cost: seconds by what units do and by how fast the machine is.

The constants were measured with Llamas and MiniLM on two cores of an x86 server. Those of Python
and of compilers follow a machine by the kernel that ``machine_speed`` compiles there, those of
products by the one that it runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from relax_tapml.bringup._machine_speed import BUILD_S, MachineSpeed
from relax_tapml.bringup._work import LoopKind, UnitLoad, Work
from relax_tapml.cores import usable_cores
from relax_tapml.cpu_schedule.schedule_for_cpu import LEAST_ITERATIONS

# A call of a kernel; an iteration of its loops without a schedule; one that computes a value.
_CALL_S = 5e-5
_PLAIN_S = 2e-9
_EACH_S = 1e-9
# A sum waits for memory: bytes of a term.
_TERM_BYTES = 4
# A real product keeps so many times less of the processor busy than a small one.
_LARGE_PRODUCT = 2.0
_GPU_CALL_S = 2e-5
_GPU_ITERATION_S = 1e-12

_CPU_KERNEL_S = 0.12
_GPU_KERNEL_S = 3.0
_DISK_BYTES_PER_S = 5e8
# A framework's own run: a term of a product; a low dtype is run a second time in float64.
_FRAMEWORK_TERM_S = 2e-11
_FRAMEWORK_LOW_TERM_S = 1e-10

# Carving: a unit; an iteration of an evaluation in float64 in which all sums are followed, up to
# so many, and in which only a sample of them is; a value that is computed by itself, or judged; and
# one that is only read, or drawn. Of a large result so many values are evaluated.
_CARVED_UNIT_S = 0.1
_FOLLOWED_S = 2e-8
_FOLLOWED = 3e7
_SAMPLED_S = 1.6e-9
_CARVED_VALUE_S = 2.5e-7
_CARVED_WEIGHT_S = 1e-8
_READ_S = 1e-8
_HELD_VALUES = 1 << 19

# Replaying: a unit with its cases; of each case, a value that is compared, and one that is given.
_REPLAYED_UNIT_S = 0.03
_CASES = 4
_COMPARED_S = 1.5e-8
_GIVEN_S = 2e-9

# A step: the partition of a module, and a run of both sides compared with one of the source.
_SHIFT_S = 0.02
_SITE_SHIFT_S = 4e-4
_HYBRID = 1.3


def step_seconds(run_s: float, sites: int, slowness: float = 1.0) -> float:
    """Return about how long a step of a migration takes.

    Parameters
    ----------
    run_s
        In which the source runs all samples, without deriving weights.
    sites
        Of the module.
    slowness
        As of ``Costs``.
    """
    return slowness * (_SHIFT_S + sites * _SITE_SHIFT_S) + _HYBRID * run_s


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds of the parts of a run on one machine.

    Parameters
    ----------
    work
        What is to be done.
    speed
        Of the machine.
    """

    work: Work
    speed: MachineSpeed

    @property
    def slowness(self) -> float:
        """How many times longer than on the machine of the constants Python takes."""
        return self.speed.busy * self.speed.build_s / BUILD_S

    def fixed_s(self, seconds: float) -> float:
        """Return what takes so long on the machine of the constants."""
        return self.slowness * seconds

    def build_s(self, kernels: int, kind: str) -> float:
        """Return the seconds of building kernels on all cores."""
        each = self.fixed_s(_CPU_KERNEL_S) if kind == "cpu" else _GPU_KERNEL_S
        return kernels * each / usable_cores()

    def disk_s(self, size_bytes: int) -> float:
        """Return the seconds of hashing and writing so much."""
        return self.fixed_s(size_bytes / _DISK_BYTES_PER_S)

    def call_s(self, unit: UnitLoad, kind: str) -> float:
        """Return the seconds of one call of a unit's kernel."""
        if kind != "cpu":
            return _GPU_CALL_S + unit.iterations * _GPU_ITERATION_S
        product_s = self.speed.busy * self.speed.product_s * _LARGE_PRODUCT
        rates = {
            LoopKind.PRODUCT: product_s,
            LoopKind.SUM: self.speed.busy * _TERM_BYTES / self.speed.copy_bytes_per_s,
            LoopKind.EACH: self.fixed_s(_EACH_S),
        }
        is_scheduled = unit.iterations >= LEAST_ITERATIONS
        each_s = rates[unit.kind] if is_scheduled else self.fixed_s(_PLAIN_S)
        return self.fixed_s(_CALL_S) + unit.iterations * each_s

    def run_s(self, kind: str) -> float:
        """Return the seconds of one run of all samples, without what derives weights."""
        calls = (unit.calls * self.call_s(unit, kind) for unit in self._units)
        return self.work.samples * sum(calls)

    def derive_s(self, kind: str) -> float:
        """Return the seconds of deriving all weights once."""
        return sum(unit.derivations * self.call_s(unit, kind) for unit in self._units)

    @property
    def framework_s(self) -> float:
        """Seconds of the framework's own runs of the samples."""
        if not self.work.has_framework:
            return 0.0
        low = ("float16", "bfloat16")
        terms = (
            (_FRAMEWORK_LOW_TERM_S if unit.dtype in low else _FRAMEWORK_TERM_S)
            * unit.calls
            * unit.iterations
            for unit in self._units
        )
        return self.fixed_s(self.work.samples * sum(terms))

    @property
    def carve_s(self) -> float:
        """Seconds of writing the cases and probes of all units, without replaying them.

        Units are carved beside each other, the largest in this estimate by one core, though
        products use all.
        """
        each = [self._carved_s(unit) for unit in self._units]
        return max(sum(each) / usable_cores(), max(each, default=0.0))

    def replay_s(self, call_factor: float, kind: str) -> float:
        """Return the seconds of replaying all cases.

        Parameters
        ----------
        call_factor
            How many times longer calls take than ``call_s`` says.
        kind
            Of the device.
        """
        return sum(
            self.fixed_s(_REPLAYED_UNIT_S + _CASES * _judged_s(unit))
            + _CASES * call_factor * self.call_s(unit, kind)
            for unit in self._units
        )

    @property
    def _units(self) -> Iterable[UnitLoad]:
        return self.work.units.values()

    def _carved_s(self, unit: UnitLoad) -> float:
        if unit.derivations:  # Of a weight that is derived, rows are carved.
            each_s = _CARVED_WEIGHT_S * unit.iterations
            return self.fixed_s(_CARVED_UNIT_S + each_s)
        values = min(unit.values, _HELD_VALUES)
        iterations = unit.iterations * values / max(unit.values, 1)
        read_s = _READ_S * (unit.values + unit.taken)
        if unit.kind is LoopKind.EACH:
            evaluated_s = _CARVED_VALUE_S * iterations
        else:
            followed = min(iterations, _FOLLOWED)
            evaluated_s = _FOLLOWED_S * followed + _SAMPLED_S * (iterations - followed)
            evaluated_s += _CARVED_VALUE_S * values
        return self.fixed_s(_CARVED_UNIT_S + read_s + evaluated_s)


def _judged_s(unit: UnitLoad) -> float:
    returned_s = _GIVEN_S if unit.derivations else _COMPARED_S
    return unit.values * returned_s + unit.taken * _GIVEN_S
