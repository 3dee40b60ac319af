"""The rule for nests that share rows: softmax, norms, chains of elementwise operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tvm_ffi
from tvm import tirx

from relax_tapml._compat import TensorLoad, buffer_of
from relax_tapml.cpu_schedule._groups import Group, row_places
from relax_tapml.cpu_schedule._loops import fused, point, sequence, with_buffers


def rows(group: Group, inner: Sequence[Any], *, is_parallel: bool = True) -> Any:
    """Return nests that share rows as one loop over the rows, in parallel.

    Parameters
    ----------
    group
        Two nests or more.
    inner
        Buffers that nothing outside of the group uses. A thread has one row of each at a time.
    is_parallel
        Whether rows run in parallel.
    """
    axes = group.nests[0].spatial[: group.depth]
    own = {buffer: _OfRow(group, buffer) for buffer in inner}

    def row(values: Sequence[Any]) -> Any:
        statements = []
        for nest in group.nests:
            known = {
                axis.var: value.astype(axis.dtype)
                for axis, value in zip(nest.spatial, values, strict=False)
            }
            statements.append(_moved(point(nest, known), own))
        return with_buffers([one.buffer for one in own.values()], sequence(statements))

    return fused([axis.extent for axis in axes], row, is_parallel=is_parallel)


class _OfRow:
    """A buffer for one row of another."""

    def __init__(self, group: Group, buffer: Any) -> None:
        places = row_places(group.nests, buffer, group.depth)
        assert places is not None
        self._kept = [at for at in range(len(buffer.shape)) if at not in places]
        shape = [buffer.shape[at] for at in self._kept] or [1]
        self.buffer = tirx.decl_buffer(shape, str(buffer.dtype), str(buffer.name))

    def at(self, indices: Any) -> list[Any]:
        """Return the place of an element of the other buffer."""
        return [indices[at] for at in self._kept] or [tirx.IntImm("int64", 0)]


def _moved(statement: Any, own: Mapping[Any, _OfRow]) -> Any:
    def load(node: Any) -> Any:
        one = own.get(buffer_of(node))
        return node if one is None else tirx.BufferLoad(one.buffer, one.at(node.indices))

    def store(node: Any) -> Any:
        one = own.get(node.buffer)
        if one is None:
            return node
        return tirx.BufferStore(one.buffer, node.value, one.at(node.indices))

    return tvm_ffi.structural_map(statement, [(TensorLoad, load), (tirx.BufferStore, store)])
