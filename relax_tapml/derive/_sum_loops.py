"""Which statements of a kernel add to an element, and what they add."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import expr as ir_expr

from relax_tapml._compat import TensorLoad, buffer_of, prim, prim_op
from relax_tapml.derive.bounded import is_float

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
        found |= loaded_tensors(part)
        for variable in _variables(part) - seen:
            seen.add(variable)
            if variable in bound:
                parts.append(bound[variable])
    return found


def _variables(node: Any) -> set[Any]:
    found: set[Any] = set()
    tvm_ffi.structural_walk(node, [(tirx.Var, found.add)])
    return found


def is_same_element(a: Any, b: Any) -> bool:
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
    condition, arms = _choice_of(value)
    if condition is not None and not _mentions(condition, store):
        for arm, other, held in ((0, 1, condition), (1, 0, prim.Not(condition))):
            if _is_itself(arms[other], store):
                terms = _summands(arms[arm], store)
                nothing = tirx.const(0, str(store.buffer.dtype))
                return terms and [(s, tirx.if_then_else(held, t, nothing)) for s, t in terms]
    return _summands(value, store)


def _choice_of(value: Any) -> tuple[Any, tuple[Any, ...]]:
    if isinstance(value, prim.Select):
        return value.condition, (value.true_value, value.false_value)
    if isinstance(value, ir_expr.Call) and getattr(value.op, "name", "") == prim_op("if_then_else"):
        return value.args[0], (value.args[1], value.args[2])
    return None, ()


def _summands(value: Any, store: Any) -> list[tuple[bool, Any]] | None:
    terms: list[tuple[bool, Any]] = []
    found = 0

    def walk(expr: Any) -> None:
        nonlocal found
        if _is_itself(expr, store):
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


def _is_itself(expr: Any, store: Any) -> bool:
    return (
        isinstance(expr, TensorLoad)
        and buffer_of(expr).same_as(store.buffer)
        and all(map(tvm_ffi.structural_equal, expr.indices, store.indices))
    )


def _mentions(expr: Any, store: Any) -> bool:
    return store.buffer in loaded_tensors(expr)


def loaded_tensors(node: Any) -> set[Any]:
    """Return the tensors that are read anywhere in a statement or expression."""
    found: set[Any] = set()
    tvm_ffi.structural_walk(node, [(TensorLoad, lambda load: found.add(buffer_of(load)))])
    return found
