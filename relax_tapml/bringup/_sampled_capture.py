"""Choose which calls of a model are captured, and make the module that captures them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import tvm
from tvm import relax

from relax_tapml.bringup._capture_size import CaptureSize, FunctionCall, capture_size
from relax_tapml.bringup.capture_plan import CapturePlan
from relax_tapml.passes.insert_capture import InsertCapture, SiteFilter
from relax_tapml.passes.operator_call import operator_call, operator_functions
from relax_tapml.passes.site import site_of
from relax_tapml.passes.weights import DERIVED_ATTR, WEIGHTS_OF_ATTR


@dataclass(frozen=True, kw_only=True)
class SampledCapture:
    """The module that captures what was chosen.

    Parameters
    ----------
    module
        With capture calls.
    size
        What it is expected to store.
    left_out
        Ids of the sites that it does not capture.
    """

    module: tvm.IRModule
    size: CaptureSize
    left_out: frozenset[str]


def sampled_capture(
    lifted: tvm.IRModule,
    plan: CapturePlan,
    samples: Sequence[Sequence[FunctionCall]],
    weights: Mapping[str, int],
) -> SampledCapture:
    """Insert capture calls at the sites that a plan chooses.

    The sites of a unit that are called in the same runs, those of one function or of one branch in
    it, are a group; of each group at least one site is chosen. So a unit that is called at all is
    captured.

    Parameters
    ----------
    lifted
        Of ``LiftDerivedWeights``.
    plan
        What is chosen.
    samples, weights
        As for ``capture_size``.
    """
    groups = list(_groups(lifted))
    most = max(map(len, groups), default=1)

    def captured(count: int) -> SampledCapture:
        chosen = frozenset(site for group in groups for site in _spread(group, count))
        ids = None if count == most else chosen
        module = InsertCapture(SiteFilter(ids=ids), plan.every)(lifted)
        return SampledCapture(
            module=module,
            size=capture_size(module, samples, weights, plan.every),
            left_out=frozenset(site for group in groups for site in group) - chosen,
        )

    if plan.most_bytes is None:
        return captured(min(plan.most_calls or most, most))
    found = captured(most)
    if found.size.activation_bytes <= plan.most_bytes:
        return found
    low, high = 1, most  # So many fit, if any do; so many do not.
    while high - low > 1:
        middle = (low + high) // 2
        if captured(middle).size.activation_bytes <= plan.most_bytes:
            low = middle
        else:
            high = middle
    return captured(low)


def _spread(group: Sequence[str], count: int) -> list[str]:
    """Return so many of a group: the first, the last, and others evenly between."""
    if count >= len(group):
        return list(group)
    if count == 1:
        return [group[0]]
    last = len(group) - 1
    return [group[(2 * i * last + count - 1) // (2 * (count - 1))] for i in range(count)]


def _groups(module: tvm.IRModule) -> Iterator[list[str]]:
    """Yield the sites of each unit that can be captured, by function and branch, in order.

    The functions that derive weights of one function count as one: each of them runs once.
    """
    deriving: dict[str, dict[str, list[str]]] = {}
    for _, function in operator_functions(module):
        attrs = function.attrs or {}
        if DERIVED_ATTR in attrs:
            found = deriving.setdefault(str(attrs[WEIGHTS_OF_ATTR]), {})
            _add_sites(module, function.body, found)
            continue
        pending = [function.body]
        while pending:
            found = {}
            pending += _add_sites(module, pending.pop(), found)
            yield from found.values()
    for found in deriving.values():
        yield from found.values()


def _add_sites(
    module: tvm.IRModule, body: relax.SeqExpr, found: dict[str, list[str]]
) -> list[relax.SeqExpr]:
    """Add the sites of a body by unit, without those of its branches; return its branches."""
    branches: list[relax.SeqExpr] = []
    for block in body.blocks:
        for binding in block.bindings:
            value = binding.value
            if isinstance(value, relax.If):
                branches += [value.true_branch, value.false_branch]
            site = site_of(value) if isinstance(value, relax.Call) else None
            operator = None if site is None else operator_call(value, module)
            if site is not None and operator is not None and not operator.skip_reason:
                found.setdefault(site.unit, []).append(site.id)
    return branches
