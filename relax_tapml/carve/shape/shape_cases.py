"""The part of carving a unit that concerns its symbolic dimensions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import tvm
from tvm import relax

from relax_tapml.arrays import Array
from relax_tapml.capture.store import CaptureStore
from relax_tapml.capture.values import CallRecord
from relax_tapml.carve.select.choose_cases import Case
from relax_tapml.carve.shape._seen_dims import SeenDim, seen_dims
from relax_tapml.carve.shape._shape_plans import MOST_PROBES, ShapePlan, shape_plans
from relax_tapml.carve.shape._shape_probes import ShapeProbe, ShapeProber
from relax_tapml.carve.shape._symbolic_call import SymbolicCall, SymbolicFunction
from relax_tapml.carve.unit.unit_module import case_function
from relax_tapml.carve.unit.unit_tolerances import UnitTolerances
from relax_tapml.errors import NotCarvableError
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.kernel_flow.stores import NotAnalyzableError
from relax_tapml.passes.operator_call import CallKind, operator_call
from relax_tapml.passes.site import Site
from relax_tapml.printable import message_line

_MOST_PLANS = 32


@dataclass(kw_only=True)
class ShapeCases:
    """What other extents a unit is tried with.

    Parameters
    ----------
    dims
        Its symbolic dimensions, with the values that recorded calls had.
    record
        The call that the plans are made from; None for no probes.
    plans
        Calls with other sizes, each with the name of the function that does it.
    reasons
        Why there are no probes, or not more of them, each once.
    """

    dims: list[SeenDim]
    record: CallRecord | None = None
    plans: list[tuple[ShapePlan, str]] = field(default_factory=list)
    reasons: dict[str, None] = field(default_factory=dict)

    @classmethod
    def plan(
        cls,
        case: Case | None,
        *,
        lowered: tvm.IRModule,
        calls: Sequence[tuple[Site, relax.Call]],
        store: CaptureStore,
        weight_type: Callable[[str], relax.TensorType],
        add: Callable[[relax.Function], str],
    ) -> ShapeCases:
        """List the sizes that the dimensions of a unit had, and choose others for one of its calls.

        Parameters
        ----------
        case
            The call; None for no probes.
        lowered, store
            As for ``carve_unit``.
        calls
            All operator calls of the unit.
        weight_type
            As for ``case_function``.
        add
            Adds a function that does a case to the unit's module and returns its name.
        """
        functions = {
            site.function: SymbolicFunction.of(lowered[site.function]) for site, _ in calls
        }
        found = cls(dims=seen_dims(lowered, calls, store, functions))
        if case is None or not found.dims:
            return found
        found.record = case.record
        site, call = next(item for item in calls if item[0].id == case.record.site)
        operator = operator_call(call, lowered)
        try:
            if operator is not None and operator.kind is CallKind.FUNCTION and operator.may_write:
                raise NotAnalyzableError("the runtime decides its arguments together")
            if operator is None or operator.kind is not CallKind.TIR:
                raise NotAnalyzableError("the unit is no PrimFunc that only reads its arguments")
            symbolic = SymbolicCall.of(lowered, call, case.record)
        except NotAnalyzableError as error:
            found.reasons[str(error)] = None
            return found
        seen = {dim.variable: frozenset(dim.values) for dim in found.dims}
        for plan in shape_plans(functions[site.function], symbolic, seen)[:_MOST_PLANS]:
            try:
                function = case_function(lowered, call, plan.record, weight_type)
            except NotCarvableError as error:
                found.reasons[str(error)] = None
                continue
            found.plans.append((plan, add(function)))
        if not found.plans and not found.reasons:
            found.reasons["the model allows no other value"] = None
        return found

    def probes(
        self,
        unit: UnitTolerances,
        module: tvm.IRModule,
        function: str,
        inputs: Sequence[Array],
        outputs: Sequence[Array],
    ) -> Iterator[tuple[ShapeProbe, str]]:
        """Yield the probes that can be made, each with the name of its function.

        Parameters
        ----------
        unit, module, function, inputs, outputs
            As for ``ShapeProber``.
        """
        if not self.plans:
            return
        try:
            prober = ShapeProber(unit, module, function, inputs, outputs)
        except NotAnalyzableError as error:
            self.reasons[str(error)] = None
            return
        count = 0
        for seed, (plan, name) in enumerate(self.plans):
            try:
                probe = prober.probe(plan, name, seed)
            except NotAnalyzableError as error:
                self.reasons[str(error)] = None
                continue
            except Exception as error:  # Whatever TVM raises about a kernel that no one foresaw.
                raise_machine_error(error, "making probes of other shapes")
                self.reasons[f"it was not judged: {message_line(error)}"] = None
                continue
            yield probe, name
            count += 1
            if count == MOST_PROBES:
                return

    def named(self, probe: ShapeProbe) -> dict[str, int]:
        """Return the sizes of a probe by the names of the dimensions."""
        names = {dim.variable: dim.name for dim in self.dims}
        return {names[variable]: size for variable, size in probe.sizes.items()}
