"""The call of a PrimFunc that a case function does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import tvm
from tvm import relax, tirx
from tvm.ir import GlobalVar, Op

from relax_tapml._compat import Constant, constant_tensor
from relax_tapml.arrays import Array
from relax_tapml.kernel_flow.interval import Interval
from relax_tapml.passes.operator_call import WRITES_ATTR

_CALL_TIR = Op.get("relax.call_tir")
_CALL_TIR_INPLACE = Op.get("relax.call_tir_inplace")


@dataclass(frozen=True, kw_only=True)
class KernelCall:
    """What each parameter of a PrimFunc is given, by number of the parameter.

    Parameters
    ----------
    kernel
        The PrimFunc.
    inputs
        Which input of the case.
    names
        Name of that input in the case function.
    constants
        Tensor that the case function holds.
    scalars
        Number that the case function holds.
    results
        Number of the parameter that holds each output of the case.
    is_runtime_callback
        Whether the runtime calls the kernel, as the cache does its attention.
    """

    kernel: tirx.PrimFunc
    inputs: dict[int, int] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    constants: dict[int, Array] = field(default_factory=dict)
    scalars: dict[int, float] = field(default_factory=dict)
    results: list[int] = field(default_factory=list)
    is_runtime_callback: bool = False

    def fixed(self, shapes: Mapping[int, tuple[int, ...]]) -> dict[tirx.Var, Interval]:
        """Return the values of integer parameters and symbolic dimensions.

        Parameters
        ----------
        shapes
            Parameter number to the shape it has in the call.
        """
        known = dims_of(self.kernel, shapes, self.scalars)
        return {variable: Interval(size, size) for variable, size in known.items()}


def dims_of(
    function: tirx.PrimFunc, shapes: Mapping[int, tuple[int, ...]], scalars: Mapping[int, float]
) -> dict[tirx.Var, int]:
    """Return the values of a PrimFunc's integer parameters and symbolic dimensions.

    Parameters
    ----------
    function
        The PrimFunc.
    shapes, scalars
        Of its parameters in a call, by number.
    """
    params = list(function.params)
    known = {params[n]: value for n, value in scalars.items() if isinstance(value, int)}
    known |= {
        extent: actual
        for number, shape in shapes.items()
        for extent, actual in zip(params[number].ty.shape, shape, strict=True)
        if isinstance(extent, tirx.Var)
    }
    return known


def kernel_call_of(module: tvm.IRModule, function: str) -> KernelCall | None:
    """Find the call that a case function does; None unless it is one of a PrimFunc.

    Parameters
    ----------
    module
        Of a unit, as ``unit_module`` makes it.
    function
        Name of the function of a case.
    """
    caller = module[function]
    call = caller.body.blocks[0].bindings[0].value
    if not isinstance(call, relax.Call):
        return None
    if isinstance(call.op, GlobalVar):
        return _written_call(module, call, list(caller.params))
    if call.op not in (_CALL_TIR, _CALL_TIR_INPLACE):
        return None
    kernel = module[call.args[0]] if isinstance(call.args[0], GlobalVar) else None
    if not isinstance(kernel, tirx.PrimFunc):
        return None
    operands = list(call.args[1].fields)
    found = _given(kernel, operands, list(caller.params))
    if found is None:
        return None
    returned = call.ty_args[0]
    count = len(returned.fields) if isinstance(returned, tvm.ir.TupleType) else 1
    inplace = list(call.attrs.inplace_indices) if call.op.same_as(_CALL_TIR_INPLACE) else []
    number = len(operands)
    for output in range(count):
        if inplace and inplace[output] >= 0:
            found.results.append(int(inplace[output]))
        else:
            found.results.append(number)
            number += 1
    # Symbolic variables that are in no shape are passed after the outputs.
    for extent in call.args[2].values if len(call.args) > 2 else ():
        found.scalars[number] = int(extent)
        number += 1
    return found


def _written_call(
    module: tvm.IRModule, call: relax.Call, params: Sequence[relax.Var]
) -> KernelCall | None:
    """Find the call that is in a unit of ``OutlineRuntimeCallbacks``; None if it is in none."""
    unit = module[call.op]
    if not isinstance(unit, relax.Function) or WRITES_ATTR not in (unit.attrs or {}):
        return None
    run, returned = (binding.value for binding in unit.body.blocks[0].bindings)
    found = _given(module[run.op], list(call.args), params)
    if found is None:
        return None
    results = [list(unit.params).index(result) for result in returned.fields]
    return replace(found, results=results, is_runtime_callback=True)


def _given(
    kernel: tirx.PrimFunc, operands: Sequence[relax.Expr], params: Sequence[relax.Var]
) -> KernelCall | None:
    found = KernelCall(kernel=kernel)
    for number, operand in enumerate(operands):
        if isinstance(operand, tirx.IntImm):
            found.scalars[number] = int(operand.value)
        elif isinstance(operand, tirx.FloatImm):
            found.scalars[number] = float(operand.value)
        elif isinstance(operand, relax.Var) and operand in params:
            found.inputs[number] = params.index(operand)
            found.names[number] = operand.name
        elif isinstance(operand, Constant):
            found.constants[number] = constant_tensor(operand).numpy()
        else:
            return None
    return found
