"""Compute what depends on weights alone once, and not in every run."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.ir import GlobalVar, PrimType

from relax_tapml._compat import Constant, StringImm

from ._rewriting import with_bindings
from .module_pass import ModulePass
from .operator_call import (
    CallKind,
    has_run_time_shape,
    is_caller,
    leaf_types,
    may_write,
    operator_call,
    operator_functions,
)
from .site import site_of
from .value_leaves import Leaf, ValueLeaves, bindings_in, pack_leaves
from .weights import DERIVED_ATTR, WEIGHTS_OF_ATTR, Weights, derived_names, weight_params

_KERNELS = {CallKind.TIR, CallKind.FUNCTION}
_LONGEST_NAME = 160


@tvm.transform.module_pass(opt_level=0, name="LiftDerivedWeights")
class LiftDerivedWeights(ModulePass):
    """Move the sites that read weights and constants only into functions that run once.

    A transposed, dequantised or concatenated weight is the same in every run. Such a *derived
    weight* becomes a parameter of the function that reads it, after its weights, and a new function
    computes it. They are named after what computes them, such as ``permute_dims(p_fc_weight)``;
    where two have one expression, the second gets ``#2``.

    Each *chain*, lifted sites that read one another's results, is a function of its own
    (``main_weights``, ``main_weights2``, ...), in the order of their first sites. So whoever runs
    them needs memory for one chain at a time, and computes one anew without the others. Sites that
    nothing reads go with the first chain.

    A site is lifted if it calls a kernel, all its arguments are weights, constants, numbers, shapes
    or results of lifted sites, and nothing writes to its results. Sites in a branch stay there,
    because the branch may not be taken, and functions that other functions call keep their
    parameters. Where only the run knows a shape, the site stays, too. Sites keep their ids; their
    order in either function is the one that they had. Weights that only lifted sites read are no
    longer parameters.

    Precondition: ``AnnotateSites`` has run. ``ToNonDataflow`` is applied where something is lifted;
    otherwise the same module is returned. Applied twice, it changes nothing more. ::

        @R.function
        def main(x: R.Tensor((2, 4), "float32"), w: R.Tensor((8, 4), "float32")):
            R.func_attr({"num_input": 1})
            lv = R.call_tir(cls.permute_dims, (w,), out_ty=R.Tensor((4, 8), "float32"))
            gv = R.call_tir(cls.matmul, (x, lv), out_ty=R.Tensor((2, 8), "float32"))
            return gv
        # after (the parameter's real name is "permute_dims(w)")
        @R.function
        def main(x: R.Tensor((2, 4), "float32"), permute_dims_w_: R.Tensor((4, 8), "float32")):
            R.func_attr({"num_input": 1})
            lv = permute_dims_w_
            gv = R.call_tir(cls.matmul, (x, lv), out_ty=R.Tensor((2, 8), "float32"))
            return gv

        @R.function
        def main_weights(w: R.Tensor((8, 4), "float32")):
            R.func_attr({"num_input": 0, "relax_tapml.weights_of": "main",
                         "relax_tapml.derived_weights": ["permute_dims(w)"]})
            lv = R.call_tir(cls.permute_dims, (w,), out_ty=R.Tensor((4, 8), "float32"))
            return (lv,)
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        flat = relax.transform.ToNonDataflow()(mod)
        names = _Names(flat)
        # In alphabetical order, so that names do not depend on the order of functions.
        lifts = {name: _Lift(flat, name, names) for name in sorted(_liftable_functions(flat))}
        if all(lift.is_empty for lift in lifts.values()):
            return mod
        functions: dict[GlobalVar, tvm.ir.BaseFunc] = {}
        for gvar, function in flat.functions.items():
            name = gvar.name_hint
            if name not in lifts or lifts[name].is_empty:
                functions[gvar] = function
                continue
            for part_name, part in lifts[name].parts(names.functions(name)):
                # The given variable has another type, and belongs to the given module.
                part_gvar = GlobalVar(part_name)
                relax.expr._update_type(part_gvar, part.ty)
                functions[part_gvar] = part
        return tvm.IRModule(functions, attrs=flat.attrs, global_infos=flat.global_infos)


def _liftable_functions(mod: tvm.IRModule) -> Iterator[str]:
    """Yield the entry functions with marked weights that no function of the module calls."""
    called: set[str] = set()
    for function in mod.functions.values():
        if is_caller(function):
            tvm_ffi.structural_walk(function, (GlobalVar, lambda g: called.add(g.name_hint)))
    for gvar, function in operator_functions(mod):
        attrs = function.attrs or {}
        is_entry = "global_symbol" in attrs and "num_input" in attrs and DERIVED_ATTR not in attrs
        if is_entry and gvar.name_hint not in called:
            yield gvar.name_hint


class _Names:
    """Names of a module: of functions, and of its weights, derived ones included."""

    def __init__(self, mod: tvm.IRModule) -> None:
        self._functions: set[str] = set()
        self._weights: set[str] = set()
        for gvar, function in mod.functions.items():
            self._functions.add(gvar.name_hint)
            if function.attrs and "global_symbol" in function.attrs:
                self._functions.add(str(function.attrs["global_symbol"]))
            if isinstance(function, relax.Function):
                self._weights.update(param.name for param in function.params)

    def functions(self, owner: str) -> Iterator[str]:
        """Yield free names for the functions that compute the weights of ``owner``."""
        for count in itertools.count(1):
            name = f"{owner}_weights{count if count > 1 else ''}"
            if name not in self._functions:
                self._functions.add(name)
                yield name

    def weight(self, expression: str) -> str:
        """Return a free name for a weight that is computed by an expression."""
        name, count = expression, 1
        while name in self._weights:
            count += 1
            name = f"{expression}#{count}"
        self._weights.add(name)
        return name


class _Lift:
    """The sites of one function that can be lifted, and the function without them."""

    def __init__(self, mod: tvm.IRModule, name: str, names: _Names) -> None:
        self._mod = mod
        self._name = name
        self._function = mod[name]
        self._weights = Weights(self._function, mod)
        self._leaves = ValueLeaves()
        self._written = _written(self._function, mod)
        self._dims = _plain_dims(weight_params(self._function))
        # Lifted bindings by their variable in the function, with the names of their values.
        self._lifted: dict[relax.Var, relax.VarBinding] = {}
        self._values: dict[relax.Var, str] = {}
        self._rest: list[relax.Binding] = []
        for block in self._function.body.blocks:
            for binding in block.bindings:
                if not self._leaves.bind(binding) and self._is_derived(binding):
                    self._lifted[binding.var] = binding
                    self._values[binding.var] = names.weight(self._expression(binding.value))
                else:
                    self._rest.append(binding)

    @property
    def is_empty(self) -> bool:
        """Whether nothing can be lifted."""
        return not self._lifted

    def parts(self, names: Iterator[str]) -> Iterator[tuple[str, relax.Function]]:
        """Yield the function without the lifted sites, and those that have them, by name."""
        rest, needed = self._without_unread()
        read = [var for var in self._lifted if var in needed]
        yield self._name, self._without_lifted(rest, needed, read)
        for chain, name in zip(self._chains(set(read)), names, strict=False):
            yield name, self._weights_function(name, chain, [var for var in read if var in chain])

    def _chains(self, read: set[relax.Var]) -> list[dict[relax.Var, relax.VarBinding]]:
        """Return the lifted sites, those together that read one another's results, in order.

        Each chain has a result that is read; what is not goes with the first.
        """
        position = {var: index for index, var in enumerate(self._lifted)}
        # By number of a site, the first site of its chain, or one that leads there.
        first = list(range(len(position)))

        def chain_of(index: int) -> int:
            while first[index] != index:
                index = first[index]
            return index

        for index, binding in enumerate(self._lifted.values()):
            for var in relax.analysis.free_vars(binding.value):
                for leaf in self._leaves.of(var):
                    if leaf.root in position:
                        one, other = chain_of(index), chain_of(position[leaf.root])
                        first[max(one, other)] = min(one, other)
        chains: dict[int, dict[relax.Var, relax.VarBinding]] = {}
        for index, (var, binding) in enumerate(self._lifted.items()):
            chains.setdefault(chain_of(index), {})[var] = binding
        needed = [chain for chain in chains.values() if not read.isdisjoint(chain)]
        if not needed:
            return [self._lifted]
        unread = {v for chain in chains.values() if read.isdisjoint(chain) for v in chain}
        with_first = {v: b for v, b in self._lifted.items() if v in needed[0] or v in unread}
        return [with_first, *needed[1:]]

    def _without_lifted(
        self, rest: list[relax.Binding], needed: set[relax.Var], read: Sequence[relax.Var]
    ) -> relax.Function:
        given: list[relax.Var] = []
        bindings: list[relax.Binding] = []
        for var in read:
            params = [
                relax.Var(derived, ty)
                for derived, ty in zip(
                    derived_names(self._values[var], var.ty), leaf_types(var.ty), strict=True
                )
            ]
            given += params
            bindings.append(relax.VarBinding(var, pack_leaves(var.ty, iter(params))))
        function = self._function
        weights = weight_params(function)
        inputs = list(function.params)[: len(function.params) - len(weights)]
        kept = [var for var in weights if var in needed or not _has_numbers_only(var.ty)]
        body = with_bindings(function.body, [*bindings, *rest])
        return relax.Function(
            [*inputs, *kept, *given],
            body,
            function.ret_ty,
            is_pure=function.is_pure,
            attrs=function.attrs,
            span=function.span,
        )

    def _without_unread(self) -> tuple[list[relax.Binding], set[relax.Var]]:
        """Return what stays, without renamings that nothing there reads, and what it reads."""
        needed = set(relax.analysis.free_vars(self._function.body.body))
        kept: list[relax.Binding] = []
        for binding in reversed(self._rest):
            if binding.var in needed or not ValueLeaves().bind(binding):
                kept.append(binding)
                needed.update(relax.analysis.free_vars(binding.value))
        return kept[::-1], needed

    def _weights_function(
        self,
        name: str,
        chain: Mapping[relax.Var, relax.VarBinding],
        read: Sequence[relax.Var],
    ) -> relax.Function:
        own: dict[relax.Var, relax.Var] = {}
        bindings: list[relax.Binding] = []
        for var, binding in chain.items():
            value = binding.value
            args = []
            for arg in value.args:
                operand, unpacked = self._operand(arg, own)
                bindings += unpacked
                args.append(operand)
            call = relax.Call(
                value.op, args, attrs=value.attrs, ty_args=value.ty_args, span=value.span
            )
            relax.expr._update_type(call, value.ty)
            own[var] = relax.Var(self._values[var], var.ty)
            bindings.append(relax.VarBinding(own[var], call))
        results: list[str] = []
        items: list[relax.Expr] = []
        for var in read:
            results += derived_names(self._values[var], var.ty)
            for leaf in ValueLeaves().of(own[var]):
                item, unpacked = leaf.access()
                bindings += unpacked
                items.append(item)
        outputs = relax.Tuple(items)
        result = relax.Var("outputs", outputs.ty)
        bindings.append(relax.VarBinding(result, outputs))
        body = relax.SeqExpr([relax.BindingBlock(bindings)], result)
        used = set(relax.analysis.free_vars(body))
        params = [var for var in weight_params(self._function) if var in used]
        function = relax.Function(params, body, outputs.ty)
        # A dimension may be defined by a weight that no lifted site reads.
        dims = set(relax.analysis.free_symbolic_vars(function))
        for var in weight_params(self._function):
            if var not in used and dims & _plain_dims([var]):
                params.append(var)
                dims -= _plain_dims([var])
        function = relax.Function(params, body, outputs.ty)
        function = relax.utils.copy_with_new_vars(function)
        return function.with_attrs(
            {
                "global_symbol": name,
                "num_input": 0,
                WEIGHTS_OF_ATTR: self._name,
                DERIVED_ATTR: results,
            }
        )

    def _operand(
        self, arg: relax.Expr, own: dict[relax.Var, relax.Var]
    ) -> tuple[relax.Expr, list[relax.Binding]]:
        """Return an argument in terms of weights and lifted values."""
        if isinstance(arg, relax.Tuple):
            pairs = [self._operand(item, own) for item in arg.fields]
            return relax.Tuple([item for item, _ in pairs]), [b for _, some in pairs for b in some]
        if not isinstance(arg, relax.Var | relax.TupleGetItem) or isinstance(arg.ty, PrimType):
            return arg, []
        items: list[relax.Expr] = []
        bindings: list[relax.Binding] = []
        for leaf in self._leaves.of(arg):
            item, unpacked = Leaf(own.get(leaf.root, leaf.root), leaf.path).access()
            items.append(item)
            bindings += unpacked
        return pack_leaves(arg.ty, iter(items)), bindings

    def _is_derived(self, binding: relax.Binding) -> bool:
        call = binding.value
        if not isinstance(binding, relax.VarBinding) or not isinstance(call, relax.Call):
            return False
        found = operator_call(call, self._mod)
        if site_of(call) is None or found is None or found.kind not in _KERNELS:
            return False
        if found.may_write or not self._is_known_type(call.ty):
            return False
        if any(leaf in self._written for leaf in self._leaves.of(binding.var)):
            return False
        return all(map(self._is_constant, found.args))

    def _is_constant(self, arg: relax.Expr) -> bool:
        if isinstance(arg, tirx.IntImm | tirx.FloatImm | StringImm | Constant):
            return True
        if isinstance(arg, relax.ShapeExpr):
            return self._dims.issuperset(_variables(arg.values))
        if not isinstance(arg, relax.Var | relax.Tuple | relax.TupleGetItem):
            return False
        return all(map(self._is_constant_leaf, self._leaves.of(arg)))

    def _is_constant_leaf(self, leaf: Leaf) -> bool:
        if not isinstance(leaf.root, relax.Var):
            return self._is_constant(leaf.root)
        if leaf.root in self._lifted:
            return True
        # An item of a weight has no name by which it could be given alone.
        return not leaf.path and self._weights.name(leaf) is not None

    def _is_known_type(self, ty: tvm.ir.Type) -> bool:
        """Whether a result is tensors, of shapes that the weights determine."""
        leaves = leaf_types(ty)
        return bool(leaves) and all(
            isinstance(leaf, relax.TensorType)
            and leaf.shape is not None
            and not has_run_time_shape(leaf)
            and self._dims.issuperset(_variables(leaf.shape.values))
            for leaf in leaves
        )

    def _expression(self, call: relax.Call) -> str:
        """Return what computes a value, for people: ``concat(permute_dims(a), b)``."""
        found = operator_call(call, self._mod)
        assert found is not None
        leaves = [leaf for arg in found.args for leaf in self._leaves.of(arg)]
        text = f"{found.unit}({', '.join(map(self._text, leaves))})"
        if len(text) <= _LONGEST_NAME:
            return text
        first = next((name for leaf in leaves if (name := self._root(leaf))), "")
        return f"{found.unit}({first}, ...)"

    def _text(self, leaf: Leaf) -> str:
        if isinstance(leaf.root, Constant):
            return "const"
        if isinstance(leaf.root, relax.ShapeExpr):
            return f"[{', '.join(map(str, leaf.root.values))}]"
        if isinstance(leaf.root, relax.Var):
            name = self._values.get(leaf.root) or leaf.root.name
            return ".".join((name, *map(str, leaf.path)))
        return str(getattr(leaf.root, "value", leaf.root))

    def _root(self, leaf: Leaf) -> str:
        """Return the first weight that a value is computed from, empty if there is none."""
        if leaf.root not in self._lifted:
            return leaf.root.name if isinstance(leaf.root, relax.Var) else ""
        found = operator_call(self._lifted[leaf.root].value, self._mod)
        assert found is not None
        roots = (self._root(other) for arg in found.args for other in self._leaves.of(arg))
        return next(filter(None, roots), "")


def _written(function: relax.Function, mod: tvm.IRModule) -> set[Leaf]:
    """Return the values that a call may write to, or a function that is called."""
    leaves = ValueLeaves()
    written: set[Leaf] = set()
    for binding in bindings_in(function.body):
        if leaves.bind(binding) or not isinstance(binding.value, relax.Call):
            continue
        found = operator_call(binding.value, mod)
        if may_write(binding.value, found):
            for arg in binding.value.args if found is None else found.args:
                written.update(leaves.of(arg))
    return written


def _plain_dims(params: Iterable[relax.Var]) -> set[tirx.Var]:
    """Return the symbolic dimensions that are themselves the extent of an axis of a parameter."""
    return {
        extent
        for param in params
        for ty in leaf_types(param.ty)
        if isinstance(ty, relax.TensorType) and isinstance(ty.shape, relax.ShapeExpr)
        for extent in ty.shape.values
        if isinstance(extent, tirx.Var)
    }


def _variables(extents: Iterable[relax.Expr]) -> set[tirx.Var]:
    found: set[tirx.Var] = set()
    for extent in extents:
        tvm_ffi.structural_walk(extent, (tirx.Var, found.add))
    return found


def _has_numbers_only(ty: tvm.ir.Type) -> bool:
    """Whether a type defines no symbolic dimension that a function without it would lack."""
    return all(
        isinstance(leaf, relax.TensorType)
        and isinstance(leaf.shape, relax.ShapeExpr)
        and not _variables(leaf.shape.values)
        for leaf in leaf_types(ty)
    )
