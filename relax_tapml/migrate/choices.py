"""The source's choices, call by call, and whether a device may make other choices.

Among equal scores any choice is right, and so it is among scores that rounding may swap. All later
values depend on the choice, and cannot be compared with those of another choice. So a model that
differs is run once more, with the device's choices replaced by the source's where both are right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import tvm
import tvm_ffi

from relax_tapml.arrays import Array, as_float64, is_float, is_same_value
from relax_tapml.carve.sensitivity import output_tolerances
from relax_tapml.compare.tolerances.choices import ChoiceTolerance
from relax_tapml.compare.tolerances.index import IndexTolerance
from relax_tapml.compare.tolerances.rule import tolerance_for
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.migrate._choosing_units import Judge, choosing_units
from relax_tapml.passes.replace_choices import OBSERVE, REPLACE
from relax_tapml.passes.site import Site
from relax_tapml.targets.session.tensors import plain, to_device, to_host


@dataclass(kw_only=True)
class ChoiceCall:
    """One call of a unit that chooses, on the source.

    Parameters
    ----------
    judge
        Of the unit.
    inputs
        Its inputs.
    outputs
        Its outputs.
    disturbed
        Its inputs in runs with noise.
    """

    judge: Judge
    inputs: list[Array]
    outputs: list[Array] = field(default_factory=list)
    disturbed: list[list[Array]] = field(default_factory=list)

    @cached_property
    def tolerances(self) -> list[Tolerance]:
        """The tolerances of a right device, whose inputs differ as much as in the runs with noise.

        Without runs with noise, inputs may differ as much as their dtype allows.
        """
        runs = [
            run
            for run in self.disturbed
            if [a.shape for a in run] == [a.shape for a in self.inputs]
        ]
        moved = output_tolerances(self.inputs, runs) if runs else map(tolerance_for, self.inputs)
        slack = [how.allowed(array) for how, array in zip(moved, self.inputs, strict=True)]
        slack = [np.where(np.isnan(far), np.inf, far) for far in slack]
        return self.judge(self.inputs, slack, self.outputs)


class SourceChoices:
    """The choices of a model's source, sample by sample.

    Parameters
    ----------
    lowered
        The annotated module.
    """

    def __init__(self, lowered: tvm.IRModule) -> None:
        self._judges = choosing_units(lowered)
        self._samples: dict[int, dict[str, list[ChoiceCall]]] = {}
        self._run: _Run | None = None

    @property
    def units(self) -> frozenset[str]:
        """The units that choose; none in most models."""
        return frozenset(self._judges)

    def callbacks(self, device: Any) -> Mapping[str, Callable[..., Any]]:
        """Return the functions that ``ReplaceChoices`` calls, for a host with this device."""

        def observe(site: str, *values: Any) -> None:
            assert self._run is not None
            self._run.observe(str(site), [to_host(value) for value in values])

        def replace(site: str, *values: Any) -> Any:
            assert self._run is not None
            arrays = [to_host(value) for value in values]
            chosen = self._run.replace(str(site), arrays)
            tensors = [
                value if new is old else to_device(plain(new), device)
                for value, new, old in zip(values, chosen, arrays, strict=True)
            ]
            return tensors[0] if len(tensors) == 1 else tvm_ffi.convert(tensors)

        return {OBSERVE: observe, REPLACE: replace}

    @contextmanager
    def recording(self, sample: int) -> Iterator[None]:
        """Record what the source chooses in a sample."""
        calls = self._samples[sample] = {}
        with self._running(_Recording(self._judges, calls)):
            yield

    @contextmanager
    def disturbed(self, sample: int) -> Iterator[None]:
        """Replace choices by the recorded ones, and record how much scores have changed."""
        with self._running(_Disturbed(self._samples[sample])):
            yield

    def recorded(self, sample: int) -> tuple[dict[str, list[list[int]]], list[Array]]:
        """Return the recorded calls of a sample, to be sent to another process.

        Returns
        -------
        tuple
            For each site, call by call: how many inputs, outputs and runs with noise it has; and
            their arrays in this order.
        """
        counts: dict[str, list[list[int]]] = {}
        arrays: list[Array] = []
        for site, calls in self._samples[sample].items():
            for call in calls:
                sizes = [len(call.inputs), len(call.outputs), len(call.disturbed)]
                counts.setdefault(site, []).append(sizes)
                arrays += [*call.inputs, *call.outputs]
                arrays += [array for run in call.disturbed for array in run]
        return counts, arrays

    def restore(
        self, sample: int, counts: Mapping[str, list[list[int]]], arrays: Sequence[Array]
    ) -> None:
        """Restore the calls that another process has recorded of a sample; see ``recorded``."""
        pending = iter(arrays)
        calls = self._samples[sample] = {}
        for site, found in counts.items():
            judge = self._judges[Site.parse(site).unit]
            calls[site] = [
                ChoiceCall(
                    judge=judge,
                    inputs=list(islice(pending, inputs)),
                    outputs=list(islice(pending, outputs)),
                    disturbed=[list(islice(pending, inputs)) for _ in range(runs)],
                )
                for inputs, outputs, runs in found
            ]

    @contextmanager
    def replaced(self, sample: int) -> Iterator[Ties]:
        """Replace choices by the recorded ones where both are right, and count these."""
        ties = Ties()
        with self._running(_Replacing(self._samples.get(sample, {}), ties)):
            yield ties

    @contextmanager
    def alternative(self, turn: int) -> Iterator[None]:
        """Replace the source's choices by others that are right, too; ``turn`` selects them."""
        with self._running(_Alternative(self._judges, turn)):
            yield

    @contextmanager
    def _running(self, run: _Run) -> Iterator[None]:
        self._run = run
        try:
            yield
        finally:
            self._run = None


@dataclass
class Ties:
    """How many values are another right choice, by site, and how many values there are."""

    found: Counter[str] = field(default_factory=Counter)
    total: Counter[str] = field(default_factory=Counter)

    def sentences(self, sample: str) -> list[str]:
        """Return a sentence for each site."""
        return [
            f"on {sample!r}, {site}: {count} of {self.total[site]} values are another choice "
            "among equal scores, or scores that rounding may swap"
            for site, count in self.found.items()
            if count
        ]


class _Run:
    """Counts calls by site, which come in the same order in every run of a sample."""

    def __init__(self, calls: Mapping[str, list[ChoiceCall]]) -> None:
        self._calls = calls
        self._seen: Counter[str] = Counter()

    def observe(self, site: str, inputs: list[Array]) -> None:
        """Record the inputs of a site."""

    def replace(self, site: str, outputs: list[Array]) -> list[Array]:
        """Return the outputs to use in place of a site's; the same arrays if they are kept."""
        place = self._seen[site]
        self._seen[site] += 1
        recorded = self._calls.get(site, [])
        if place >= len(recorded) or not _are_alike(recorded[place].outputs, outputs):
            return outputs
        return self._replaced(site, recorded[place], outputs)

    def _replaced(self, site: str, call: ChoiceCall, outputs: list[Array]) -> list[Array]:  # noqa: ARG002
        return outputs


class _Recording(_Run):
    def __init__(self, judges: Mapping[str, Judge], calls: dict[str, list[ChoiceCall]]) -> None:
        super().__init__(calls)
        self._judges = judges
        self._into = calls

    def observe(self, site: str, inputs: list[Array]) -> None:
        judge = self._judges[Site.parse(site).unit]
        self._into.setdefault(site, []).append(ChoiceCall(judge=judge, inputs=inputs))

    def replace(self, site: str, outputs: list[Array]) -> list[Array]:
        self._into[site][-1].outputs = outputs
        return outputs


class _Disturbed(_Run):
    def observe(self, site: str, inputs: list[Array]) -> None:
        recorded = self._calls.get(site, [])
        if self._seen[site] < len(recorded):
            recorded[self._seen[site]].disturbed.append(inputs)

    def _replaced(self, site: str, call: ChoiceCall, outputs: list[Array]) -> list[Array]:  # noqa: ARG002
        # Noise must change no choice, but only the values beside it.
        return [
            output if is_float(output.dtype) else oracle
            for oracle, output in zip(call.outputs, outputs, strict=True)
        ]


class _Replacing(_Run):
    def __init__(self, calls: Mapping[str, list[ChoiceCall]], ties: Ties) -> None:
        super().__init__(calls)
        self._ties = ties

    def _replaced(self, site: str, call: ChoiceCall, outputs: list[Array]) -> list[Array]:
        results = []
        for number, (oracle, output) in enumerate(zip(call.outputs, outputs, strict=True)):
            self._ties.total[site] += output.size
            if np.array_equal(oracle, output):
                results.append(output)
                continue
            is_tie = _ties(oracle, output, call.tolerances[number])
            self._ties.found[site] += int(np.count_nonzero(is_tie))
            results.append(np.where(is_tie, oracle, output).astype(output.dtype))
        return results


class _Alternative(_Run):
    """Makes other choices that are right, too; a number selects them."""

    def __init__(self, judges: Mapping[str, Judge], turn: int) -> None:
        super().__init__({})
        self._judges = judges
        self._turn = turn
        self._inputs: dict[str, list[Array]] = {}

    def observe(self, site: str, inputs: list[Array]) -> None:
        self._inputs[site] = inputs

    def replace(self, site: str, outputs: list[Array]) -> list[Array]:
        judge = self._judges[Site.parse(site).unit]
        # After another earlier choice, the inputs are not the recorded ones.
        call = ChoiceCall(judge=judge, inputs=self._inputs[site], outputs=outputs)
        return [
            other_choice(output, tolerance, self._turn)
            for output, tolerance in zip(outputs, call.tolerances, strict=True)
        ]


def other_choice(oracle: Array, tolerance: Tolerance, turn: int) -> Array:
    """Return another result that a tolerance of choices allows, the oracle where there is none.

    Parameters
    ----------
    oracle, tolerance
        A result, and its tolerance.
    turn
        Selects the result: 0 prefers the last of equal scores; 1 takes each of equal scores in the
        place of the next one, so that none keeps its place; others take the scores in a random
        order, after random changes within their slack.
    """
    if isinstance(tolerance, ChoiceTolerance):
        others = tolerance.alternatives
        return np.asarray(others[(len(others) - 1 - turn) % len(others)])
    if not isinstance(tolerance, IndexTolerance) or oracle.size == 0:
        return oracle
    axis, values = tolerance.axis % tolerance.values.ndim, as_float64(tolerance.values)
    has_axis = oracle.ndim == values.ndim
    mine = oracle if has_axis else np.expand_dims(oracle, axis)
    order = np.arange(values.shape[axis])
    if turn == 0:
        order = order[::-1]
    elif turn > 1:
        rng = np.random.default_rng(turn)
        order = rng.permutation(order)
        if tolerance.slack is not None:
            slack = np.where(np.isfinite(tolerance.slack), tolerance.slack, 0.0)
            values = values + rng.uniform(-slack, slack)
    shuffled = np.take(values, order, axis)
    for sign in (-1.0, 1.0):
        places = np.argsort(sign * shuffled, axis=axis, kind="stable")
        if turn == 1:
            places = _rotated(places, shuffled, axis)
        other = np.take(order[places], np.arange(mine.shape[axis]), axis).astype(oracle.dtype)
        other = other if has_axis else other.squeeze(axis)
        if (tolerance.distance(oracle, other) <= tolerance.allowed(oracle)).all():
            return np.asarray(other)
    return oracle


def _rotated(places: Array, scores: Array, axis: int) -> Array:
    """Return places of sorted scores with each of equal ones in the place of the next one."""
    ordered = np.moveaxis(np.take_along_axis(scores, places, axis), axis, -1)
    is_first = np.ones(ordered.shape, bool)
    is_first[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    number = np.broadcast_to(np.arange(ordered.shape[-1]), ordered.shape)
    first = np.maximum.accumulate(np.where(is_first, number, 0), axis=-1)
    is_last = np.ones_like(is_first)
    is_last[..., :-1] = is_first[..., 1:]
    following = np.where(is_last, first, number + 1)
    return np.asarray(np.take_along_axis(places, np.moveaxis(following, -1, axis), axis))


def _ties(oracle: Array, actual: Array, tolerance: Tolerance) -> Array:
    """Return where a result is another choice than the oracle's, and right."""
    differs = ~is_same_value(oracle, actual)
    if not is_float(oracle.dtype):
        too_far = tolerance.distance(oracle, actual) > tolerance.allowed(oracle)
        return np.asarray(differs & ~too_far)
    if not isinstance(tolerance, ChoiceTolerance):
        return np.zeros(oracle.shape, bool)
    # A value that is off, but not another choice, is kept as it is.
    return ~is_same_value(tolerance.nearest(oracle, actual), oracle)


def _are_alike(mine: list[Array], others: list[Array]) -> bool:
    return [(a.shape, a.dtype) for a in mine] == [(a.shape, a.dtype) for a in others]
