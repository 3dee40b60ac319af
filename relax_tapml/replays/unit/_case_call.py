"""One call of a case in a device session: what it returns, and what it does to memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from relax_tapml.arrays import Array
from relax_tapml.replays.unit._cases_ahead import CasesAhead
from relax_tapml.replays.unit._poison import pattern_sizes
from relax_tapml.replays.unit.unit_programs import FORGET, UnitPrograms
from relax_tapml.replays.unit.unwritten import both, is_certain, unwritten_text, without
from relax_tapml.suite.manifest import SuiteCase, SuiteOutput
from relax_tapml.suite.open_suite import Suite
from relax_tapml.targets.session.poison import Poison
from relax_tapml.targets.session.session import DeviceModule, DeviceSession, DeviceTensor

# More weights of other units are freed before those of the next unit are uploaded.
_KEPT_BYTES = 1 << 28


@dataclass(frozen=True, kw_only=True)
class Returned:
    """What a call returned, what it wrote behind its outputs, and what of them it did not write.

    ``overruns`` has a sentence for each place; ``untouched`` a bool array for each output, None
    where all of it was written.
    """

    outputs: list[Array]
    overruns: list[str]
    untouched: list[Array | None]


@dataclass(frozen=True, kw_only=True)
class CheckedCall:
    """A call whose memory was checked, too.

    Parameters
    ----------
    outputs
        What it returned.
    violations
        What it did to memory that no kernel may do, a sentence each.
    unwritten
        For each output, bool of its shape: the values that were not written and should have been.
    is_damaging
        Whether the session must not be used again: other units in it would get wrong weights, or
        memory that was overwritten, and their failures would count.
    """

    outputs: list[Array]
    violations: list[str]
    unwritten: tuple[Array | None, ...]
    is_damaging: bool


class CaseCaller:
    """Calls the functions of cases in memory that holds a pattern.

    Parameters
    ----------
    suite, programs
        The cases, and what calls their units.
    poison
        The pattern.
    """

    def __init__(self, suite: Suite, programs: UnitPrograms, poison: Poison) -> None:
        self._suite = suite
        self._programs = programs
        self._poison = poison
        self._ahead = CasesAhead(suite, ())
        # Which session has which weights, and how many bytes.
        self._session: DeviceSession | None = None
        self._weights: dict[str, int] = {}

    def expect(self, cases: Iterable[tuple[str, SuiteCase]]) -> None:
        """Tell which cases follow, with their units; their large tensors are made meanwhile."""
        self._ahead.close()
        self._ahead = CasesAhead(self._suite, cases)
        self._ahead.start()

    def close(self) -> None:
        """End what ``expect`` began."""
        self._ahead.close()

    def arguments(
        self,
        session: DeviceSession,
        case: SuiteCase,
        inputs: Sequence[Array] | None = None,
    ) -> list[DeviceTensor]:
        """Upload the inputs of a case, read unless given, but for weights that the session has.

        Where the weights of the cases before are many, the session forgets them first.
        """
        inputs = inputs or self._inputs(case)
        self._make_room(session, case)
        for item, array in zip(case.inputs, inputs, strict=True):
            if item.weight is not None and not case.may_write:
                self._weights[item.tensor] = array.nbytes
        return [
            session.upload(array)
            if item.weight is None or case.may_write
            # By content: two layers may share a weight, and one name may stand for several.
            else session.parameter(item.tensor, array)
            for item, array in zip(case.inputs, inputs, strict=True)
        ]

    def _make_room(self, session: DeviceSession, case: SuiteCase) -> None:
        if session is not self._session:
            self._session, self._weights = session, {}
        needed = {item.tensor for item in case.inputs}
        others = (size for name, size in self._weights.items() if name not in needed)
        if sum(others) > _KEPT_BYTES:
            self._forget_weights(session)

    def _forget_weights(self, session: DeviceSession) -> None:
        session.release()
        self._weights = {}

    def _inputs(self, case: SuiteCase) -> list[Array]:
        return [self._suite.tensor(item.tensor) for item in case.inputs]

    def call(
        self,
        session: DeviceSession,
        module: DeviceModule,
        unit: str,
        case: SuiteCase,
        arguments: Sequence[DeviceTensor],
        poison: Poison | None = None,
    ) -> Returned:
        """Do the call of a case in memory that holds ``poison``, by default the pattern."""
        poison = poison or self._poison
        results = self._results(session, module, unit, case, arguments, poison)
        return self._returned(session, unit, case, results, poison)

    def _results(
        self,
        session: DeviceSession,
        module: DeviceModule,
        unit: str,
        case: SuiteCase,
        arguments: Sequence[DeviceTensor],
        poison: Poison,
    ) -> list[DeviceTensor]:
        """Do the call of a case; what it returns stays on the device."""
        patterns = [
            session.parameter(poison.name(size), poison.pattern(size))
            for size in pattern_sizes(self._programs.blocks(unit, case.function))
        ]
        function = self._programs.function(unit, case.function)
        return session.call(module, function, [*arguments, *patterns])

    def _returned(
        self,
        session: DeviceSession,
        unit: str,
        case: SuiteCase,
        results: list[DeviceTensor],
        poison: Poison,
    ) -> Returned:
        """Fetch what a call returned, and free it on the device: ``results`` is empty then."""
        blocks = self._programs.blocks(unit, case.function)
        oracles = [*case.outputs, *([None] * (len(results) - len(case.outputs)))]
        values = [
            self._value(session, result, output)
            for result, output in zip(results, oracles, strict=True)
        ]
        results.clear()
        outputs, guards = values[: len(case.outputs)], values[len(case.outputs) :]
        places = [(block, place) for block in blocks for place in block.guards]
        found = [
            block.overrun(place, guard, poison)
            for (block, place), guard in zip(places, guards, strict=True)
        ]
        untouched: list[Array | None] = [None] * len(outputs)
        for block in blocks:
            if block.output is not None:
                untouched[block.output] = block.untouched(outputs[block.output], poison)
        return Returned(
            outputs=outputs, overruns=[text for text in found if text], untouched=untouched
        )

    def _value(
        self, session: DeviceSession, result: DeviceTensor, output: SuiteOutput | None
    ) -> Array:
        """Fetch a result, unless it is large and the bytes of its oracle, which is returned then.

        Parameters
        ----------
        session, result
            Where the result is.
        output
            What it is compared with; None for what is no output of the case.
        """
        if output is not None and self._suite.is_compared_there(output):
            oracle = self._suite.tensor(output.tensor)
            is_like = tuple(result.shape) == oracle.shape and str(result.dtype) == oracle.dtype.name
            if is_like and session.holds(result, oracle):
                return oracle
        return session.download(result)

    def checked_call(
        self, session: DeviceSession, module: DeviceModule, unit: str, case: SuiteCase
    ) -> CheckedCall:
        """Call a unit once and check what it did to its inputs and to memory."""
        self._ahead.begin(unit, case)
        inputs = self._inputs(case)
        arguments = self.arguments(session, case, inputs)
        results = self._results(session, module, unit, case, arguments, self._poison)
        changed = [] if case.may_write else _changed(session, inputs, arguments)
        del inputs, arguments
        self._ahead.called()
        # Large inputs, results on the device, their copies and oracles follow one another.
        is_large = sum(math.prod(one.shape) * one.dtype.itemsize for one in results) > _KEPT_BYTES
        if is_large:
            self._forget_weights(session)
            self._suite.forget_made()
        returned = self._returned(session, unit, case, results, self._poison)
        if is_large:
            session.call(module, FORGET, [])
            session.free_kept()
        untouched = self._untouched(session, module, unit, case, returned)
        unwritten = tuple(
            without(mask, self._suite.tensor(output.unwritten) if output.unwritten else None)
            for mask, output in zip(untouched, case.outputs, strict=True)
        )
        return CheckedCall(
            outputs=returned.outputs,
            violations=[
                *(
                    unwritten_text(number, mask, self._poison)
                    for number, mask in enumerate(unwritten)
                    if mask is not None
                ),
                *(f"it writes to its input {i}, which it may only read" for i in changed[:1]),
                *returned.overruns,
            ],
            unwritten=unwritten,
            is_damaging=bool(returned.overruns)
            or any(case.inputs[index].weight is not None for index in changed),
        )

    def _untouched(
        self,
        session: DeviceSession,
        module: DeviceModule,
        unit: str,
        case: SuiteCase,
        returned: Returned,
    ) -> list[Array | None]:
        """Return which values of each output a call did not write.

        What holds the pattern may have been written by chance where a type has few values: such a
        call is done once more with another pattern.
        """
        pairs = list(zip(returned.untouched, returned.outputs, strict=True))
        if not any(mask is not None and not is_certain(output) for mask, output in pairs):
            return returned.untouched
        arguments = self.arguments(session, case)
        again = self.call(session, module, unit, case, arguments, self._poison.inverted)
        return [
            mask if mask is None or is_certain(output) else both(mask, other)
            for (mask, output), other in zip(pairs, again.untouched, strict=True)
        ]


def _changed(
    session: DeviceSession, inputs: Sequence[Array], arguments: Sequence[DeviceTensor]
) -> list[int]:
    """Return which arguments are not, to the byte, what was uploaded."""
    pairs = zip(inputs, arguments, strict=True)
    return [
        index for index, (array, argument) in enumerate(pairs) if not session.holds(argument, array)
    ]
