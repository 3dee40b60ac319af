"""The statements of a shadow kernel as they come about, with cells for intermediate values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx

from relax_tapml._compat import TensorLoad, buffer_of
from relax_tapml.derive.bounded import F64, dtype_of


class Emitted:
    """Statements, one after the other; those of a loop or branch are emitted apart."""

    def __init__(self) -> None:
        self._statements: list[Any] = []
        self._cells: set[Any] = set()

    def add(self, *statements: Any) -> None:
        """Emit statements."""
        self._statements += statements

    def bind(self, value: Any) -> Any:
        """Emit the evaluation of an expression; return what it may be read from again."""
        is_cell = isinstance(value, TensorLoad) and buffer_of(value) in self._cells
        if is_cell or isinstance(value, tirx.Var):
            return value
        name, dtype = f"t{len(self._statements)}", dtype_of(value)
        is_guarded = isinstance(value, TensorLoad) and any(
            isinstance(index, tirx.Select) for index in value.indices
        )
        if dtype != F64 and not is_guarded:
            var = tirx.Var(name, dtype)
            self.add(tirx.Bind(var, value))
            return var
        # TVM's simplifier substitutes variables into each other without limit, but not cells. A
        # guarded load may be in the guard of the next one, and so on.
        return self.new_cell(name, value)

    def new_cell(self, name: str, value: Any) -> Any:
        """Emit a cell with an initial value, of its dtype; return the expression that loads it."""
        cell = tirx.decl_buffer((1,), dtype_of(value), name, scope="local")
        self._cells.add(cell)
        self.add(tirx.AllocBuffer(cell), tirx.BufferStore(cell, value, [0]))
        return tirx.BufferLoad(cell, [0])

    def store_cell(self, cell: Any, value: Any) -> None:
        """Emit a store to a cell."""
        self.add(tirx.BufferStore(buffer_of(cell), value, [0]))

    def apart(self, emit: Callable[[], None]) -> Any:
        """Return what ``emit`` emits as one statement, without adding it."""
        outer, self._statements = self._statements, []
        emit()
        done, self._statements = self._statements, outer
        if not done:
            return tirx.Evaluate(0)
        return done[0] if len(done) == 1 else tirx.SeqStmt(done)
