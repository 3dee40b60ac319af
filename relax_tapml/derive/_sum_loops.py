"""Which statements of a kernel add to an element, and what they add."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tvm_ffi
from tvm import tirx

from relax_tapml._compat import prim
from relax_tapml.arrays import is_float
from relax_tapml.kernel_flow.expressions import choice_of, loaded_buffers, loads_element, nodes

SERIAL = (
    tirx.ForKind.SERIAL,
    tirx.ForKind.PARALLEL,
    tirx.ForKind.VECTORIZED,
    tirx.ForKind.UNROLLED,
)
"""Kinds of loops whose turns may run one after the other."""


def added_to(loop: tirx.For, bound: Mapping[Any, Any]) -> list[Any]:
    """Return a store to each element that a loop adds to; none if it does anything else.

    The loop, with those inside it, may also start such an element again, as the initial value of a
    reduction does. It stores nowhere else, the elements do not depend on its variables, and it does
    not read them otherwise.
    """
    bound = dict(bound)
    variables: set[Any] = set()
    stores: list[Any] = []

    def is_simple(statement: Any) -> bool:
        match statement:
            case tirx.For():
                variables.add(statement.loop_var)
                is_serial = statement.kind in SERIAL and statement.step is None
                return is_serial and is_simple(statement.body)
            case tirx.SeqStmt():
                return all(map(is_simple, statement.seq))
            case tirx.IfThenElse():
                parts = (statement.then_case, statement.else_case)
                return all(is_simple(part) for part in parts if part is not None)
            case tirx.Bind():
                variables.add(statement.var)
                bound[statement.var] = statement.value
                return True
            case tirx.BufferStore():
                stores.append(statement)
                return is_float(str(statement.buffer.dtype))
            case tirx.Evaluate():
                return isinstance(statement.value, prim.IntImm)
        return False

    if not is_simple(loop):
        return []
    elements: list[Any] = []
    for store in stores:
        if any(variables & _variables(index) for index in store.indices):
            return []
        is_sum = terms_of(store, bound) is not None
        if is_sum and not any(is_same_element(store, other) for other in elements):
            elements.append(store)
    targets = {store.buffer for store in elements}
    read = {buffer for store in stores for buffer in _read_besides(store, bound)}
    is_separate = len(targets) == len(elements) and not (read & targets)
    are_all_sums = all(any(is_same_element(s, e) for e in elements) for s in stores)
    return elements if is_separate and are_all_sums else []


def _read_besides(store: Any, bound: Mapping[Any, Any]) -> set[Any]:
    """Return the tensors that a store reads, without the element of a sum itself."""
    terms = terms_of(store, bound)
    parts = [store.value] if terms is None else [term for _, term in terms]
    found: set[Any] = set()
    seen: set[Any] = set()
    while parts:
        part = parts.pop()
        found |= loaded_buffers(part)
        for variable in _variables(part) - seen:
            seen.add(variable)
            if variable in bound:
                parts.append(bound[variable])
    return found


def _variables(node: Any) -> set[Any]:
    return set(nodes(node, tirx.Var))


def is_same_element(a: Any, b: Any) -> bool:
    """Return whether two stores store to the same element."""
    return a.buffer.same_as(b.buffer) and all(map(tvm_ffi.structural_equal, a.indices, b.indices))


def terms_of(store: Any, bound: Mapping[Any, Any]) -> list[tuple[bool, Any]] | None:
    """Return what a store adds to the element it stores to; None if it does anything else.

    Parameters
    ----------
    store
        Of a sum, ``B[i] = B[i] + x``, or of one under a condition, ``select(p, B[i] + x, B[i])``.
    bound
        The values of variables.

    Returns
    -------
    list or None
        Each term with whether it is added, not subtracted.
    """
    value = bound.get(store.value, store.value)
    if not is_float(str(store.buffer.dtype)):
        return None
    choice = choice_of(value)
    if choice is not None and not _mentions(choice[0], store):
        condition, yes, no = choice
        for arm, other, held in ((yes, no, condition), (no, yes, prim.Not(condition))):
            if loads_element(other, store):
                terms = _summands(arm, store)
                nothing = tirx.const(0, str(store.buffer.dtype))
                return terms and [(s, tirx.if_then_else(held, t, nothing)) for s, t in terms]
    return _summands(value, store)


def _summands(value: Any, store: Any) -> list[tuple[bool, Any]] | None:
    terms: list[tuple[bool, Any]] = []
    found = 0

    def walk(expr: Any) -> None:
        nonlocal found
        if loads_element(expr, store):
            found += 1
        elif isinstance(expr, prim.Add) and _mentions(expr, store):
            walk(expr.a)
            walk(expr.b)
        elif isinstance(expr, prim.Sub) and _mentions(expr.a, store):
            walk(expr.a)
            terms.append((False, expr.b))
        else:
            terms.append((True, expr))

    walk(value)
    if found != 1 or any(_mentions(term, store) for _, term in terms):
        return None
    return terms


def _mentions(expr: Any, store: Any) -> bool:
    return store.buffer in loaded_buffers(expr)
