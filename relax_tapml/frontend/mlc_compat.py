"""What MLC-LLM expects of TVM that releases of TVM do differently, while MLC runs.

MLC is developed with a fork of TVM between two releases. Names that it uses and a release has not
are added to TVM, and some functions of TVM are replaced by ones that also take what MLC gives them.
TVM is as before when the block ends. No file of MLC or TVM is changed.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import tvm
import tvm.tirx.script.parser.entry as script_parser
import tvm_ffi
from tvm import ir, relax, tirx, topi
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn.llm import position_embedding
from tvm.script import tirx as script

from relax_tapml._compat import (
    Constant,
    SBlock,
    SBlockRealize,
    StringImm,
    TensorLoad,
    TensorRegion,
)

FITTING = "commit a2bcc5c8 of 2026-07-07 or a later one; 79d603f0 of 2026-07-23 is tested"
"""The commits of MLC-LLM that run with TVM 0.26 and 0.27. Older ones use names that both lack."""


@contextmanager
def tvm_for_mlc() -> Iterator[None]:
    """Let MLC-LLM run with a release of TVM in the block; see ``FITTING`` for its commits.

    Blocks may be nested. ``mlc:CONFIG`` and ``carving`` do this by themselves. A build script needs
    it only around what it imports of ``mlc_llm`` where that fails without.
    """
    with ExitStack() as restored:
        for owner, name, value in (*_missing(), *_replaced()):
            restored.callback(_restore, owner, name, vars(owner).get(name, _ABSENT))
            setattr(owner, name, value)
        yield


_ABSENT = object()
_NODES = {
    "BufferLoad": TensorLoad,
    "BufferRegion": TensorRegion,
    "SBlock": SBlock,
    "SBlockRealize": SBlockRealize,
}
"""Names that nodes had in ``tirx``."""


def _restore(owner: Any, name: str, value: Any) -> None:
    if value is _ABSENT:
        delattr(owner, name)
    else:
        setattr(owner, name, value)


def _missing() -> Iterator[tuple[Any, str, Any]]:
    """Yield the names that this release has not."""
    names: list[tuple[Any, str, Any]] = [
        (relax, "Constant", Constant),
        (relax, "StringImm", StringImm),
        (relax, "DataTypeImm", _DataTypeImm),
        *((tirx, name, node) for name, node in _NODES.items()),
        (Constant, "data", property(lambda constant: constant.value)),
        (ir.Var, "name_hint", property(lambda var: var.name)),
        (tirx.PrimFunc, "buffer_map", property(_buffer_map)),
    ]
    return (item for item in names if not hasattr(item[0], item[1]))


def _buffer_map(function: Any) -> dict[Any, Any]:
    """Return the buffer of each parameter: since 0.26, parameters are buffers themselves."""
    return {param: param for param in function.params if _is_buffer(param)}


def _is_buffer(param: Any) -> bool:
    return not isinstance(param.ty, ir.PrimType)


class _DataType(type):
    """Makes a class of the constants whose value is a dtype, which have no class since 0.27."""

    def __call__(cls, dtype: str) -> Any:
        return Constant(tvm.DataType(dtype), relax.AnyType())

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, Constant) and isinstance(value.value, tvm.DataType)


class _DataTypeImm(metaclass=_DataType):
    """A dtype as an expression."""


def _replaced() -> Iterator[tuple[Any, str, Any]]:
    for owner in (nn, nn.op):
        yield owner, "tensor_ir_op", _scalars_last(owner.tensor_ir_op)
    yield topi, "full", _full_of_type(topi.full)
    name = "switch_rope_freq_func"
    yield position_embedding, name, _yarn_of_any_base(getattr(position_embedding, name))
    yield script_parser, "parse", _unchecked(script_parser.parse)
    for name in ("reads", "writes"):
        yield script, name, _at_any_place(getattr(script, name))


def _scalars_last(emit: Callable[..., Any]) -> Callable[..., Any]:
    """Also take PrimFuncs with scalar parameters after all buffers, as older releases wanted them.

    A call ``f(x, n) -> out`` of such a PrimFunc, ``f(x, out, n)``, becomes one of ``f(n, x, out)``:
    releases want arguments before results, and a dimension before a buffer that has it. A number of
    32 bits becomes one of 64 where it gets a dimension, which has 64 in Relax.
    """

    @functools.wraps(emit)
    def emit_in_order(func: Any, name_hint: str, args: Any, *rest: Any, **named: Any) -> Any:
        tensors, numbers = _apart(_each_argument(args), lambda arg: isinstance(arg, nn.Tensor))
        buffers, scalars = _apart(func.params, _is_buffer)
        is_last = all(map(_is_buffer, func.params[: len(buffers)]))
        if numbers and is_last and len(numbers) == len(scalars):
            args = [*numbers, *tensors]
            func = _with_wide(scalars, buffers, numbers, func)
        return emit(func, name_hint, args, *rest, **named)

    return emit_in_order


def _with_wide(scalars: list[Any], buffers: list[Any], numbers: list[Any], func: Any) -> Any:
    """Return a PrimFunc with the scalars first, each as wide as the number that it gets."""
    wide = {
        scalar: tirx.Var(scalar.name, "int64")
        for scalar, number in zip(scalars, numbers, strict=True)
        if (_dtype(scalar), _dtype(number)) == ("int32", "int64")
    }

    def narrowed(var: Any) -> Any:
        return tirx.Cast("int32", wide[var]) if var in wide else var

    body = tvm_ffi.structural_map(func.body, (tirx.Var, narrowed)) if wide else func.body
    params = [*(wide.get(scalar, scalar) for scalar in scalars), *buffers]
    return tirx.PrimFunc(params, body, func.ret_type, func.attrs, func.span)


def _dtype(number: Any) -> str:
    """Return the dtype of an expression of one number; empty for anything else."""
    ty = getattr(number, "ty", None)
    return str(ty.dtype) if isinstance(ty, ir.PrimType) else ""


def _apart(items: Iterable[Any], is_one: Callable[[Any], bool]) -> tuple[list[Any], list[Any]]:
    """Return those of the items that are such ones, and the others."""
    listed = list(items)
    return list(filter(is_one, listed)), list(itertools.filterfalse(is_one, listed))


def _each_argument(args: Any) -> list[Any]:
    """Return arguments one by one; those that a shape has are its numbers."""
    given = args if isinstance(args, list | tuple) else [args]
    shape = relax.ShapeExpr
    return [part for arg in given for part in (arg.values if isinstance(arg, shape) else [arg])]


def _full_of_type(full: Callable[..., Any]) -> Callable[..., Any]:
    """Also take a dtype as a type, as ``relax.op.full`` gives it: TVM fails where it fills inf."""

    @functools.wraps(full)
    def full_of_type(shape: Any, dtype: Any, fill_value: Any) -> Any:
        name = str(dtype.dtype) if isinstance(dtype, ir.PrimType) else dtype
        return full(shape, name, fill_value)

    return full_of_type


def _yarn_of_any_base(switch: Callable[..., Any]) -> Callable[..., Any]:
    """Also take the scaling ``yarn`` without 1 / (2 ln base), which releases want to be given."""

    @functools.wraps(switch)
    def switch_by_base(rope_scaling: dict[str, Any]) -> Any:
        key = "inv_theta_log_scale"
        if rope_scaling.get("rope_type") != "yarn" or key in rope_scaling:
            return switch(rope_scaling)

        def frequency(s: Any, d: Any, d_range: Any, theta: float, dtype: str) -> Any:
            complete = {**rope_scaling, key: 1 / (2 * math.log(theta))}
            return switch(complete)(s, d, d_range, theta, dtype)

        return frequency

    return switch_by_base


def _unchecked(parse: Callable[..., Any]) -> Callable[..., Any]:
    """Parse MLC's PrimFuncs without the check that they are well-formed.

    It refuses a block that assigns to a name, as in ``x: T.int32 = indices[i]``: TVM makes a buffer
    of ``x`` within the block, and lists it in the regions that it finds for the block itself.
    """

    @functools.wraps(parse)
    def parse_unchecked(program: Any, *args: Any, **named: Any) -> Any:
        if inspect.isfunction(program) and program.__module__.split(".")[0] == "mlc_llm":
            named["check_well_formed"] = False
        return parse(program, *args, **named)

    return parse_unchecked


def _at_any_place(declare: Callable[..., None]) -> Callable[..., None]:
    """Leave out ``T.reads`` and ``T.writes`` within a branch of a block.

    There releases of TVM refuse them, and find the regions of the block themselves.
    """

    @functools.wraps(declare)
    def declare_at_top(*regions: Any) -> None:
        try:
            declare(*regions)
        except Exception as error:
            if "must be called at the top" not in str(error):
                raise

    return declare_at_top
