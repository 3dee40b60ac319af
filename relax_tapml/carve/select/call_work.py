"""How much recorded calls of a unit do, where that differs between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import tvm
from tvm import relax, tirx
from tvm.ir import GlobalVar

from relax_tapml.arrays import Array
from relax_tapml.capture.cache_state import CacheState
from relax_tapml.capture.values import CallRecord, ParameterValue, TensorValue
from relax_tapml.carve.select.call_facts import Layout, Recorded, tensors
from relax_tapml.errors import NotCarvableError
from relax_tapml.kernel_flow.loop_counts import LoopCounts, Loops
from relax_tapml.passes.cache_call import reads_cache
from relax_tapml.passes.cache_creation import AttentionKind, cache_creations
from relax_tapml.passes.operator_call import WRITES_ATTR, CallKind, OperatorCall, operator_call

_INTEGERS = ("int", "uint", "bool")
_TIR_KINDS = {CallKind.TIR, CallKind.TIR_INPLACE}


@dataclass(frozen=True, kw_only=True)
class CallWork:
    """How much one call does, compared with the other calls of its unit.

    Parameters
    ----------
    iterations
        How often the innermost statements of its loops run.
    context
        The most passes of a loop that adds up, or whose end a tensor decides, among those loops
        that do not make the same number of passes in every call; None if there are none. Of an
        attention kernel this is the number of tokens that are attended to.
    state
        What is special about the state of the KV cache that it reads, in words; None if it reads
        none.
    """

    iterations: int
    context: int | None
    state: str | None = None


class UnitWork:
    """Counts how much calls do, from the kernels that they call.

    Parameters
    ----------
    lowered
        The annotated module that the calls were recorded from.
    calls
        Its operator calls, by the id of the site.
    """

    def __init__(self, lowered: tvm.IRModule, calls: Mapping[str, relax.Call]) -> None:
        self._lowered = lowered
        self._calls = calls
        self._loops: dict[GlobalVar, Loops] = {}
        self._makers = list(cache_creations(lowered))

    def of(
        self,
        records: Sequence[CallRecord],
        layouts: Mapping[Recorded, Layout],
        read: Callable[[Recorded], Array],
    ) -> list[CallWork] | None:
        """Return how much each call of a unit does.

        Parameters
        ----------
        records
            Calls of one unit.
        layouts
            Of their tensors.
        read
            Returns a tensor; called for those of whole numbers that decide how much is done.

        Returns
        -------
        list of CallWork or None
            None where all do the same, and where one of them cannot be counted: the unit is no
            PrimFunc, or one with loops that are not followed.
        """
        if len(records) < 2:
            return None
        if all(map(self._reads_cache, records)):
            return [self._of_cache(record) for record in records]
        counts = []
        for record in records:
            found = self._counts(record, layouts, read)
            if found is None:
                return None
            counts.append(found)
        differing = [
            place
            for place, passes in enumerate(zip(*(c.passes for c in counts), strict=False))
            if len(set(passes)) > 1
        ]
        if not differing and len({c.iterations for c in counts}) == 1:
            return None
        return [
            CallWork(
                iterations=c.iterations,
                context=max((c.passes[place] for place in differing), default=None),
            )
            for c in counts
        ]

    def _reads_cache(self, record: CallRecord) -> bool:
        call = self._calls.get(record.site)
        operator = None if call is None else operator_call(call, self._lowered)
        return operator is not None and reads_cache(operator.unit)

    def _of_cache(self, record: CallRecord) -> CallWork:
        """Return what attention does: every token that is added looks at all of its sequence.

        A cache that could not be read is in a state of its own, so that the reason is told.
        """
        try:
            state = CacheState.of(record.inputs)
        except NotCarvableError as error:
            return CallWork(iterations=0, context=None, state=str(error))
        looks = zip(state.held, state.batch.numbers, strict=True)
        layer = record.inputs[state.behind]
        kinds = {m.gvar.name_hint: m.kinds for m in self._makers}.get(state.maker, ())
        is_sliding = isinstance(layer, int) and kinds[layer : layer + 1] == (AttentionKind.SLIDING,)
        return CallWork(
            iterations=sum(added * (held + added) for held, added in looks),
            context=state.context,
            state=state.kind + (", in a layer with a window of its own" if is_sliding else ""),
        )

    def _counts(
        self,
        record: CallRecord,
        layouts: Mapping[Recorded, Layout],
        read: Callable[[Recorded], Array],
    ) -> LoopCounts | None:
        call = self._calls.get(record.site)
        operator = None if call is None else operator_call(call, self._lowered)
        if call is None or operator is None:
            return None
        gvar = called_kernel(self._lowered, call, operator)
        if gvar is None:
            return None
        if gvar not in self._loops:
            self._loops[gvar] = Loops(self._lowered[gvar])
        loops = self._loops[gvar]
        if not loops.varies:
            return None
        params = list(self._lowered[gvar].params)
        given = [value for value in record.inputs if not isinstance(value, tuple)]
        fixed: dict[tirx.Var, int] = {}
        for shape in record.inputs:
            if isinstance(shape, tuple):
                # Symbolic variables that are in no shape are the last parameters.
                fixed.update(zip(params[len(params) - len(shape) :], shape, strict=True))
        arrays: dict[int, Array] = {}
        for number, value in enumerate(given):
            if isinstance(value, TensorValue | ParameterValue):
                layout = layouts[value]
                _learn(params[number], layout.shape, fixed)
                if loops.reads and layout.dtype.startswith(_INTEGERS):
                    arrays[number] = read(value)
            elif isinstance(value, int):
                fixed[params[number]] = int(value)
        if operator.kind is CallKind.TIR:
            for number, value in enumerate(tensors(record.outputs), len(given)):
                _learn(params[number], layouts[value].shape, fixed)
        return loops.counts(arrays, fixed)


def called_kernel(
    lowered: tvm.IRModule, call: relax.Call, operator: OperatorCall
) -> GlobalVar | None:
    """Return the PrimFunc that is called with the arguments of a call, in order; None if none."""
    if operator.kind in _TIR_KINDS:
        callee = call.args[0]
    elif operator.kind is CallKind.FUNCTION and WRITES_ATTR in lowered[call.op].attrs:
        unit = lowered[call.op]
        run = unit.body.blocks[0].bindings[0].value
        callee = run.op if list(run.args) == list(unit.params) else None
    else:
        return None
    is_kernel = isinstance(callee, GlobalVar)
    return callee if is_kernel and isinstance(lowered[callee], tirx.PrimFunc) else None


def _learn(param: tirx.Var, shape: Sequence[int], fixed: dict[tirx.Var, int]) -> None:
    """Note the symbolic dimensions of a parameter."""
    extents = zip(getattr(param.ty, "shape", ()), shape, strict=False)
    fixed.update({extent: actual for extent, actual in extents if isinstance(extent, tirx.Var)})
