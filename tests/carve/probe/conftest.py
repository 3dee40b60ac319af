"""A PrimFunc with one recorded call, its probes, and what they find in other PrimFuncs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest
import tvm
from operator_kernels import module_of

from mutation.detection import SUITE, Detector
from mutation.guarded import GuardedTensor
from mutation.kernel import build_kernels, output_tensors
from mutation.unit_cases import KernelCase, KernelCases
from mutation.variants import variants
from relax_tapml.carve.probe.unit_probes import probes
from relax_tapml.carve.unit.call_tensors import CallTensors
from relax_tapml.carve.unit.constant_inputs import holds_one_value
from relax_tapml.carve.unit.unit_tolerances import UnitTolerances

HEADER = "@T.prim_func(s_tir=True)\ndef main"


def parsed(source):
    """Return the PrimFunc of ``(PARAMETERS): BODY`` in TVMScript."""
    return tvm.script.from_source(HEADER + source)


@dataclass(frozen=True, kw_only=True)
class Probed:
    """A kernel, one call of it, and the probes made from that."""

    source: str
    inputs: tuple[np.ndarray, ...]
    output: np.ndarray
    probes: tuple
    inexact: str

    @cached_property
    def function(self):
        """The kernel."""
        return parsed(self.source)

    def cases(self, found):
        """Return the recorded call and some probes as cases of a kernel."""
        unit = UnitTolerances(module_of(self.function, self.inputs, self.output))
        recorded = KernelCase(
            name="recorded",
            inputs=self.inputs,
            oracles=(self.output,),
            tolerances=tuple(unit.of("main", self.inputs, [self.output])),
            scalars=(),
        )
        probed = [
            KernelCase(
                name=probe.name,
                inputs=probe.inputs,
                oracles=probe.outputs,
                tolerances=probe.tolerances,
                scalars=(),
                is_probe=True,
            )
            for probe in found
        ]
        return KernelCases(unit="main", function=self.function, cases=(recorded, *probed))

    def finds(self, old, new, found=None):
        """Return what is found in the kernel with one text in place of another; None: nothing."""
        assert old in self.source
        broken = parsed(self.source.replace(old, new))
        return self.finds_in(broken, self.probes if found is None else found)

    def finds_in(self, function, found):
        """Return what the recorded call and some probes find in a kernel."""
        [kernel] = build_kernels([function])
        return self._carved(kernel, found)

    def rejected(self, every=3, found=None):
        """Return which of every few right variants its probes find wrong, and what they find."""
        rejected = {}
        for variant, kernel in _built(list(variants(self.function))[::every]):
            text = self._carved(kernel, self.probes if found is None else found)
            if text is not None:
                rejected[f"{variant.kind}: {variant.where}"] = text
        return rejected

    def _carved(self, kernel, found):
        return Detector(self.cases(found)).carved(kernel).get(SUITE)

    def reasons(self):
        """Return how each probe came about, by name."""
        return {probe.name: probe.reason for probe in self.probes}

    def values(self, place):
        """Return one input of every probe."""
        return [probe.inputs[place] for probe in self.probes]


def _built(made):
    """Build variants together, or one by one if not every schedule has code for the CPU."""
    try:
        return zip(made, build_kernels([v.function for v in made]), strict=True)
    except Exception:
        if len(made) < 2:
            return []
    half = len(made) // 2
    return [*_built(made[:half]), *_built(made[half:])]


@pytest.fixture(scope="session")
def probed():
    """A function from a kernel's source, its inputs and an empty output to a ``Probed``."""

    def make(source, inputs, output, *, fixed=()):
        function = parsed(source)
        [kernel] = build_kernels([function])
        outputs = output_tensors([output])
        [recorded] = kernel([GuardedTensor(array) for array in inputs], outputs)
        fixed = frozenset(fixed)
        constant = {
            n
            for n, array in enumerate(inputs)
            if n not in fixed and array.size and holds_one_value([array])
        }
        call = CallTensors(
            function="main",
            inputs=tuple(inputs),
            outputs=(recorded,),
            weights=(None,) * len(inputs),
        )
        found = probes(
            UnitTolerances(module_of(function, inputs, recorded)),
            call,
            exact=call,
            fixed=fixed,
            constant=frozenset(constant),
            base="recorded",
        )
        return Probed(
            source=source,
            inputs=tuple(inputs),
            output=recorded,
            probes=found.found,
            inexact=found.inexact,
        )

    return make
