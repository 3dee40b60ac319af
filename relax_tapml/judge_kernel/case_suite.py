"""A suite of one unit, of which some cases exist in memory only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import tvm

from relax_tapml.arrays import Array
from relax_tapml.carve.unit.call_tensors import CallTensors
from relax_tapml.compare.tolerances.stored import TensorWriter
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.suite.manifest import SuiteCase, SuiteInput, SuiteOutput, SuiteTensor
from relax_tapml.suite.open_suite import Suite, digest_of_array
from relax_tapml.suite.tolerances import store_tolerance

_Write = Callable[[Array], str]


@dataclass(frozen=True, kw_only=True, eq=False)
class CaseSuite(Suite):
    """A suite with tensors that no file holds.

    Parameters
    ----------
    arrays
        Those tensors, by digest.
    """

    arrays: Mapping[str, Array] = field(default_factory=dict, repr=False)

    def tensor(self, digest: str) -> Array:
        """Return a tensor, from memory or a file; it must not be changed."""
        found = self.arrays.get(digest)
        return super().tensor(digest) if found is None else found


@dataclass(frozen=True, kw_only=True)
class MadeCase:
    """A case to be added: its call, and the tolerances of its outputs."""

    name: str
    call: CallTensors
    tolerances: Sequence[Tolerance]


def case_suite(
    suite: Suite, unit: str, module: tvm.IRModule, made: Sequence[MadeCase]
) -> CaseSuite:
    """Return a suite that has one unit of another one, with more cases.

    Parameters
    ----------
    suite, unit
        The other suite, and the unit.
    module
        The unit's module with the functions of all cases.
    made
        Cases to be added behind those of the suite.
    """
    arrays: dict[str, Array] = {}
    tensors: dict[str, SuiteTensor] = {}

    def write(array: Array) -> str:
        held = np.ascontiguousarray(array)
        digest = digest_of_array(held)
        arrays[digest] = held
        tensors[digest] = SuiteTensor(file="", dtype=held.dtype.name, shape=held.shape)
        return digest

    entry = suite.manifest.units[unit]
    like = next(case for case in entry.cases if not case.is_probe)
    added = tuple(_described(one, like, write) for one in made)
    manifest = replace(
        suite.manifest,
        units={unit: replace(entry, cases=(*entry.cases, *added))},
        tensors={**tensors, **suite.manifest.tensors},
    )
    own = {item.name: getattr(suite, item.name) for item in fields(Suite)}
    modules = {
        name: one for name, one in suite._modules.items() if name not in suite.manifest.units
    }
    return CaseSuite(
        **{**own, "manifest": manifest, "_modules": {**modules, unit: module}}, arrays=arrays
    )


def with_cases(suite: CaseSuite, cases: Sequence[SuiteCase]) -> CaseSuite:
    """Return the suite with other cases of its unit, in that order."""
    [(unit, entry)] = suite.manifest.units.items()
    units = {unit: replace(entry, cases=tuple(cases))}
    return replace(suite, manifest=replace(suite.manifest, units=units))


def _described(made: MadeCase, like: SuiteCase, write: _Write) -> SuiteCase:
    writer = TensorWriter(oracle=write, bound=write)
    call = made.call
    return replace(
        like,
        name=made.name,
        function=call.function,
        inputs=tuple(SuiteInput(tensor=write(array), weight=None) for array in call.inputs),
        outputs=tuple(
            SuiteOutput(
                tensor=write(array),
                tolerance=store_tolerance(tolerance, write=writer, inputs=call.inputs),
            )
            for array, tolerance in zip(call.outputs, made.tolerances, strict=True)
        ),
        reason="held out",
        is_probe=True,
    )
