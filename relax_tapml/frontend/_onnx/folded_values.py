"""Whether a folded graph computes the values of the file that it was made from.

Nodes of the folded graph are judged with the arguments that it has. What folding itself got wrong,
a constant that is none or a branch that is not taken, lies before them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import onnx

from relax_tapml.arrays import Array
from relax_tapml.frontend._onnx.evaluate import differs, node_runs
from relax_tapml.frontend._onnx.fold import Folded
from relax_tapml.frontend._onnx.nodes import static_shape
from relax_tapml.frontend._onnx.runtime import run_values

_BATCH_VALUES = 1 << 26  # Of the file, that are held at once.


@dataclass(frozen=True, kw_only=True)
class FileValue:
    """A value that a file computes.

    Parameters
    ----------
    node, place
        What computes it, and its place in the file's main graph, from 0.
    name
        Of the value.
    """

    node: onnx.NodeProto
    place: int
    name: str


@dataclass(frozen=True, kw_only=True)
class FoldedValue:
    """A value of the file, and what folding made of it.

    Parameters
    ----------
    value
        In the file.
    expected, got
        The value that the file computes in onnxruntime, and that of the folded graph.
    is_constant
        Whether folding made it a constant.
    """

    value: FileValue
    expected: Array
    got: Array
    is_constant: bool


def first_wrong_value(
    original: onnx.ModelProto, folded: Folded, feeds: Mapping[str, Array]
) -> FoldedValue | None:
    """Return the first value of a file, in its order, that the folded graph computes differently.

    Parameters
    ----------
    original
        The file, before anything was done to it.
    folded
        For the sizes of ``feeds``.
    feeds
        The inputs by name.

    Returns
    -------
    FoldedValue or None
        None where all values agree that both have by one name.
    """
    own = {name for node in folded.model.graph.node for name in node.output}
    both = [one for one in _values(original) if one.name in own or one.name in folded.decided]
    both = [one for one in both if folded.dtypes.get(one.name, "bfloat16") != "bfloat16"]
    later = node_runs(folded.model, feeds)
    wanted, computed = own & {one.name for one in both}, dict[str, Array]()
    for batch in _batches(both, folded):
        theirs = run_values(original, feeds, [one.name for one in batch])
        for one, expected in zip(batch, theirs, strict=True):
            is_constant = one.name in folded.decided
            while not is_constant and one.name not in computed:
                outputs = next(later).outputs
                computed |= {name: outputs[name] for name in outputs.keys() & wanted}
            got = folded.decided[one.name] if is_constant else computed.pop(one.name)
            if differs([got], [expected]):
                return FoldedValue(value=one, expected=expected, got=got, is_constant=is_constant)
    return None


def _values(original: onnx.ModelProto) -> list[FileValue]:
    return [
        FileValue(node=node, place=place, name=name)
        for place, node in enumerate(original.graph.node)
        for name in node.output
        if name
    ]


def _batches(values: Sequence[FileValue], folded: Folded) -> Iterator[list[FileValue]]:
    batch: list[FileValue] = []
    size = 0
    for one in values:
        own = prod(static_shape(folded.types.get(one.name)) or ())
        if batch and size + own > _BATCH_VALUES:
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += own
    if batch:
        yield batch
