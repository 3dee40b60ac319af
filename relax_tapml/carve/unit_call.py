"""The call of a PrimFunc that a case function does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import tvm
from tvm import relax, tirx
from tvm.ir import GlobalVar, Op

from relax_tapml._compat import Constant
from relax_tapml.carve.interval import Interval
from relax_tapml.frontend.model import Array

_CALL_TIR = Op.get("relax.call_tir")
_CALL_TIR_INPLACE = Op.get("relax.call_tir_inplace")


@dataclass(frozen=True, kw_only=True)
class UnitCall:
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
        Integer that the case function holds.
    results
        Number of the parameter that holds each output of the case.
    """

    kernel: tirx.PrimFunc
    inputs: dict[int, int] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    constants: dict[int, Array] = field(default_factory=dict)
    scalars: dict[int, int] = field(default_factory=dict)
    results: list[int] = field(default_factory=list)

    def fixed(self, shapes: Mapping[int, tuple[int, ...]]) -> dict[tirx.Var, Interval]:
        """Return the values of integer parameters and symbolic dimensions.

        Parameters
        ----------
        shapes
            Parameter number to the shape it has in the call.
        """
        params = list(self.kernel.params)
        known = {params[number]: Interval(value, value) for number, value in self.scalars.items()}
        for number, shape in shapes.items():
            for extent, actual in zip(params[number].ty.shape, shape, strict=True):
                if isinstance(extent, tirx.Var):
                    known[extent] = Interval(actual, actual)
        return known


def unit_call(module: tvm.IRModule, function: str) -> UnitCall | None:
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
    if not isinstance(call, relax.Call) or call.op not in (_CALL_TIR, _CALL_TIR_INPLACE):
        return None
    kernel = module[call.args[0]] if isinstance(call.args[0], GlobalVar) else None
    if not isinstance(kernel, tirx.PrimFunc):
        return None
    found = UnitCall(kernel=kernel)
    operands = list(call.args[1].fields)
    params = list(caller.params)
    for number, operand in enumerate(operands):
        if isinstance(operand, tirx.IntImm):
            found.scalars[number] = int(operand.value)
        elif isinstance(operand, relax.Var) and operand in params:
            found.inputs[number] = params.index(operand)
            found.names[number] = operand.name
        elif isinstance(operand, Constant):
            found.constants[number] = operand.data.numpy()
        else:
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
    # Symbolic variables that no shape tells are passed after the outputs.
    for extent in call.args[2].values if len(call.args) > 2 else ():
        found.scalars[number] = int(extent)
        number += 1
    return found
