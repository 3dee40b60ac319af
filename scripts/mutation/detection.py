"""Whether a set of cases tells a kernel from the correct one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from mutation.guarded import GuardedTensor
from mutation.kernel import Kernel, build_kernels, output_tensors
from mutation.random_inputs import normal_inputs, wide_inputs
from mutation.unit_cases import KernelCases
from relax_tapml.arrays import Array
from relax_tapml.compare.comparison import compare
from relax_tapml.compare.tolerances.rule import RuleTolerance, tolerance_for
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.compare.verdict import Verdict

SUITE = "suite"
RANDOM = "random inputs"
# What others compare with, whatever the kernel.
FIXED = {
    "numpy 1e-5, 1e-8": RuleTolerance(rtol=1e-5, atol=1e-8, origin="defaults of numpy.allclose"),
    "1e-5, 1e-5": RuleTolerance(rtol=1e-5, atol=1e-5, origin="a usual choice"),
    "MLC 1e-2, 1": RuleTolerance(rtol=1e-2, atol=1.0, origin="debug_compare of MLC-LLM"),
}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Inputs that a kernel is run on, and what it must return.

    Parameters
    ----------
    name
        For people.
    inputs, outputs
        Memory for the call; reused.
    scalars
        Symbolic dimensions.
    oracles
        What the correct kernel returns.
    tolerances
        For each of several ways to compare, by name, one for each oracle.
    """

    name: str
    inputs: tuple[GuardedTensor, ...]
    outputs: tuple[GuardedTensor, ...]
    scalars: tuple[int, ...]
    oracles: tuple[Array, ...]
    tolerances: Mapping[str, tuple[Tolerance, ...]]

    def reasons(self, kernel: Kernel) -> dict[str, str]:
        """Run the kernel; return, for each way that finds a mismatch, what it found."""
        actuals = kernel(self.inputs, self.outputs, self.scalars)
        found: dict[str, str] = {}
        for way, tolerances in self.tolerances.items():
            for oracle, actual, tolerance in zip(self.oracles, actuals, tolerances, strict=True):
                comparison = compare(oracle, actual, tolerance)
                if comparison.verdict is not Verdict.PASS and comparison.total:
                    found.setdefault(way, f"{self.name}: {comparison.reason}")
        if not all(tensor.is_unchanged for tensor in self.inputs):
            raise ValueError(f"{self.name}: the kernel wrote to its inputs")
        return found


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Where two kernels differ.

    Parameters
    ----------
    text
        The kind of inputs, and what was found.
    is_near
        Whether these are like the recorded ones; if not, no input that the model gives may ever
        show it.
    """

    text: str
    is_near: bool


class Detector:
    """The carved cases of one kernel, and random inputs to compare them with.

    Parameters
    ----------
    unit
        The kernel and its carved cases.
    seed
        Of the random inputs.
    """

    def __init__(self, unit: KernelCases, *, seed: int = 0) -> None:
        self._unit = unit
        self._seed = seed

    def carved(self, kernel: Kernel) -> dict[str, str]:
        """Return what the carved cases find, by ``SUITE`` and the names of ``FIXED``."""
        return _reasons(self._carved, kernel)

    def random(self, kernel: Kernel) -> dict[str, str]:
        """Return what as many sets of normal inputs find, by ``RANDOM``."""
        return _reasons(self._random, kernel)

    def difference(self, kernel: Kernel) -> Difference | None:
        """Say where the kernel differs from the correct one on any of many kinds of inputs.

        Returns
        -------
        Difference or None
            The first one, inputs near the recorded ones first. None if the kernel is equivalent:
            within ``tolerance_for`` on all of them.
        """
        for trial, is_near in self._wide():
            found = trial.reasons(kernel)
            if found:
                return Difference(text=found[RANDOM], is_near=is_near)
        return None

    @cached_property
    def _correct(self) -> Kernel:
        return build_kernels([self._unit.function])[0]

    @cached_property
    def _carved(self) -> list[Trial]:
        shared: dict[int, GuardedTensor] = {}
        for case in self._unit.cases:
            for array in case.inputs:
                shared.setdefault(id(array), GuardedTensor(array))
        trials = []
        for case in self._unit.cases:
            ways: dict[str, tuple[Tolerance, ...]] = {SUITE: case.tolerances}
            if not case.is_probe:
                # Those who compare with fixed tolerances have recorded inputs only.
                ways |= {way: (rule,) * len(case.oracles) for way, rule in FIXED.items()}
            trials.append(
                Trial(
                    name=case.name,
                    inputs=tuple(shared[id(array)] for array in case.inputs),
                    outputs=tuple(output_tensors(case.oracles)),
                    scalars=case.scalars,
                    oracles=case.oracles,
                    tolerances=ways,
                )
            )
        return trials

    @cached_property
    def _random(self) -> list[Trial]:
        return [
            self._trial("normal", normal_inputs(case.inputs, self._seed + number), number)
            for number, case in enumerate(self._unit.cases)
            if not case.is_probe
        ]

    def _wide(self) -> Iterator[tuple[Trial, bool]]:
        # Cases of one shape would lead to the same kinds of inputs. Few kernels come this far, so
        # the inputs, which may be large, are made again for each.
        shapes = set()
        for number, case in enumerate(self._unit.cases):
            if case.is_probe:
                continue
            shape = tuple(array.shape for array in case.inputs)
            if shape not in shapes:
                shapes.add(shape)
                for wide in wide_inputs(case.inputs, self._seed):
                    yield self._trial(wide.name, wide.arrays, number), wide.is_near

    def _trial(self, name: str, inputs: Sequence[Array], number: int) -> Trial:
        case = self._unit.cases[number]
        tensors = tuple(GuardedTensor(array) for array in inputs)
        outputs = tuple(output_tensors(case.oracles))
        oracles = tuple(self._correct(tensors, outputs, case.scalars))
        return Trial(
            name=name,
            inputs=tensors,
            outputs=outputs,
            scalars=case.scalars,
            oracles=oracles,
            tolerances={RANDOM: tuple(tolerance_for(oracle) for oracle in oracles)},
        )


def _reasons(trials: Sequence[Trial], kernel: Kernel) -> dict[str, str]:
    """Return the first finding of each way of comparing; stop when all have found something."""
    ways = {way for trial in trials for way in trial.tolerances}
    found: dict[str, str] = {}
    for trial in trials:
        found = {**trial.reasons(kernel), **found}
        if len(found) == len(ways):
            break
    return found
