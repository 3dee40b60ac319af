"""The parameters of the entry function, and checks that arrays fit them.

Arrays from files, from a framework and from Python are all checked here, so that a wrong dtype or
shape is reported before anything runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import tvm
from tvm import relax, tirx

from relax_tapml._compat import Analyzer
from relax_tapml.arrays import Array
from relax_tapml.errors import UsageError
from relax_tapml.frontend._params import check_names
from relax_tapml.frontend.model import Model, Sample
from relax_tapml.frontend.paged_drive import PagedDrive

Dims = dict[Any, int]


@dataclass(frozen=True, kw_only=True)
class Signature:
    """The entry function's parameters, split into inputs and model parameters.

    Parameters
    ----------
    entry
        The function's name.
    inputs, params
        Its Relax variables, in order.
    casts
        The variables that the function first casts its inputs to, by name of the input; their types
        have more precise shapes.
    """

    entry: str
    inputs: tuple[Any, ...]
    params: tuple[Any, ...]
    casts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return tuple(var.name for var in self.inputs)

    @property
    def param_names(self) -> tuple[str, ...]:
        """Names of the model parameters, in order."""
        return tuple(var.name for var in self.params)


def entry_function(module: tvm.IRModule, entry: str) -> relax.Function:
    """Return the Relax function ``entry``.

    Raises
    ------
    UsageError
        The module has none of that name.
    """
    functions = [
        gv.name_hint for gv, f in module.functions_items() if isinstance(f, relax.Function)
    ]
    if entry not in functions:
        raise UsageError(
            f"the model has no Relax function '{entry}'; it has: {', '.join(functions) or 'none'}. "
            "Name its entry function in Model(entry=...)."
        )
    return module[entry]


def signature_of(module: tvm.IRModule, entry: str, param_count: int) -> Signature:
    """Split the parameters of ``entry`` into inputs and model parameters.

    The function attribute ``num_input`` decides. Without it, the last ``param_count`` parameters
    are the model's.

    Raises
    ------
    UsageError
        There is no Relax function ``entry``, or it has too few parameters, or two of one name.
    """
    function = entry_function(module, entry)
    variables = tuple(function.params)
    attrs = function.attrs or {}
    input_count = int(attrs["num_input"]) if "num_input" in attrs else len(variables) - param_count
    if not 0 <= input_count <= len(variables):
        raise UsageError(
            f"'{entry}' takes {len(variables)} arguments, which cannot include "
            f"{param_count} model parameters. Give one array for each, or set the function's "
            "attribute num_input."
        )
    counts = Counter(var.name for var in variables)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise UsageError(
            f"'{entry}' has several parameters called {', '.join(twice)}. Rename them: arrays are "
            "matched by name."
        )
    inputs = variables[:input_count]
    casts = {
        binding.value.name: binding.var
        for block in function.body.blocks[:1]
        for binding in block.bindings
        if isinstance(binding, relax.MatchCast) and binding.value in inputs
    }
    return Signature(entry=entry, inputs=inputs, params=variables[input_count:], casts=casts)


def check_model(model: Model) -> Signature:
    """Check that a model's parameters and samples fit its entry function.

    Raises
    ------
    UsageError
        A parameter or a sample's array is missing, left over, or of another dtype or shape; or
        there is no sample.
    """
    signature = signature_of(model.module, model.entry, len(model.params))
    dims = check_params(signature, model.params)
    if not model.samples:
        raise UsageError(
            f"model '{model.name}' comes without inputs. Give real ones with --inputs FILE.npz "
            f"(arrays: {', '.join(signature.input_names)})."
        )
    if isinstance(model.drive, PagedDrive):
        model.drive.check(model.module)
    if model.drive is None:
        for sample in model.samples:
            check_sample(signature, sample, dims)
    return signature


def check_params(signature: Signature, params: Mapping[str, Array]) -> Dims:
    """Check parameters by name, order, dtype and shape; return the symbolic dimensions they fix.

    Raises
    ------
    UsageError
        Names, order, dtype or shape differ from the entry function's.
    """
    names = signature.param_names
    check_names(params, names, signature.entry)
    if tuple(params) != names:
        raise UsageError(
            f"the parameters of '{signature.entry}' are in another order: expected "
            f"{', '.join(names)}; got {', '.join(params)}. Give them in the function's order."
        )
    dims: Dims = {}
    for var, array in zip(signature.params, params.values(), strict=True):
        _check_array(var, array, dims, f"parameter '{var.name}' of '{signature.entry}'")
    return dims


def check_sample(signature: Signature, sample: Sample, dims: Dims) -> None:
    """Check one sample by count, dtype and shape.

    ``dims`` are the symbolic dimensions that parameters fix; each sample fixes the others anew.

    Raises
    ------
    UsageError
        Count, dtype or shape differ from the entry function's inputs.
    """
    names = signature.input_names
    if len(sample.arrays) != len(names):
        raise UsageError(
            f"{sample.name}: expected {len(names)} arrays ({', '.join(names)}), "
            f"got {len(sample.arrays)}. Give one array for each input of '{signature.entry}'."
        )
    dims = dict(dims)
    for var, array in zip(signature.inputs, sample.arrays, strict=True):
        _check_array(var, array, dims, f"{sample.name}: input '{var.name}'")
    # A dimension such as 2*n may come before the input that fixes n.
    for var, array in zip(signature.inputs, sample.arrays, strict=True):
        cast = signature.casts.get(var.name, var)
        _check_array(cast, array, dims, f"{sample.name}: input '{var.name}'")


def _check_array(var: Any, array: Array, dims: Dims, where: str) -> None:
    """Check one array against a Relax variable; it fixes dimensions that have no value yet."""
    if not isinstance(var.ty, relax.TensorType):
        raise UsageError(
            f"{where}: the function takes {var.ty}, and only tensors can be given. "
            "Wrap the function in one whose inputs are tensors."
        )
    dtype = str(var.ty.dtype)
    if dtype and dtype != "void" and str(array.dtype) != dtype:
        raise UsageError(
            f"{where}: expected {dtype}, got {array.dtype}. Convert it: array.astype('{dtype}')."
        )
    if not _shape_fits(var.ty, array.shape, dims):
        values = ", ".join(f"{dim.name} = {size}" for dim, size in dims.items())
        raise UsageError(
            f"{where}: expected shape {_shape_text(var.ty)}, got {list(array.shape)}"
            + (f" ({values})" if values else "")
            + ". Give an array of the expected shape."
        )


def _shape_fits(ty: Any, shape: Sequence[int], dims: Dims) -> bool:
    if ty.ndim != -1 and ty.ndim != len(shape):
        return False
    if not isinstance(ty.shape, relax.ShapeExpr):
        return True
    # In a module that was written by hand, the shape may have another rank than ``ndim``.
    if len(ty.shape.values) != len(shape):
        return False
    for dim, size in zip(ty.shape.values, shape, strict=True):
        if isinstance(dim, tirx.Var):
            expected = dims.setdefault(dim, size)
        else:
            value = _evaluate(dim, dims)
            if value is None:
                continue
            expected = value
        if expected != size:
            return False
    return True


def _evaluate(dim: Any, dims: Dims) -> int | None:
    """Return the value of a dimension's expression; None if a variable in it has no value yet."""
    analyzer = Analyzer()
    for var, size in dims.items():
        analyzer.bind(var, tirx.IntImm("int64", size))
    value = analyzer.simplify(dim)
    return int(value) if isinstance(value, tirx.IntImm) else None


def _shape_text(ty: Any) -> str:
    if isinstance(ty.shape, relax.ShapeExpr):
        return str(ty.shape).removeprefix("R.shape(").removesuffix(")")
    return f"of {ty.ndim} dimensions"
