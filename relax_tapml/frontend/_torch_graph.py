"""The nodes of an exported program, each with the Relax that it became.

A node's Relax is what lies between its value and the values of other nodes in the imported
function. It is cut out as a function of these values. So every node can be run on the arguments
that PyTorch computes for it, and errors of earlier nodes do not reach it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import tvm
import tvm_ffi
from torch.export.graph_signature import InputKind
from torch.fx import Interpreter, Node
from torch.fx.node import map_arg
from torch.utils._pytree import tree_leaves, tree_map
from tvm import relax, tirx

from relax_tapml._compat import Analyzer, Constant, constant_tensor
from relax_tapml.arrays import Array
from relax_tapml.errors import TapmlError
from relax_tapml.frontend._arrays import to_array, to_torch
from relax_tapml.frontend._node_script import NodeScript, node_script
from relax_tapml.frontend._torch_import import Imported
from relax_tapml.frontend._torch_node import module_path, source_line
from relax_tapml.frontend._torch_ops.complex_numbers import Complex
from relax_tapml.frontend._wide_run import run_wide
from relax_tapml.frontend.model import NODE, GraphNode, NodeCall, Sample
from relax_tapml.printable import error_line

_SHOWN = 6  # Values of a tensor in a text.


@dataclass(frozen=True, kw_only=True)
class _Slice:
    """The Relax of one node.

    Parameters
    ----------
    function
        Name in the module.
    inputs
        Where its arguments come from: a node, an item of a node's results, or a constant.
    """

    function: str
    inputs: tuple[Node | tuple[Node, int] | Array, ...]


class TorchGraph:
    """A ``FrameworkGraph`` of an imported program.

    Parameters
    ----------
    imported
        The program, and what became of it.
    sample
        Arrays in the order of the program's inputs; they set its symbolic dimensions.

    Attributes
    ----------
    module, nodes, unjudged
        As in ``FrameworkGraph``.
    """

    def __init__(self, imported: Imported, sample: Sample) -> None:
        self._program = imported.program
        self._sample = sample
        self._values = imported.values
        self._cutter = _Cutter(imported, sample)
        self._slices: dict[Node, _Slice] = {}
        self.unjudged: dict[str, str] = {}
        computing = [node for node in self._program.graph.nodes if node.op == "call_function"]
        for node in computing:
            if not isinstance(node.meta.get("val"), torch.Tensor):
                continue
            try:
                self._slices[node] = self._cutter.slice_of(node)
            except Exception as error:  # Of whatever a converter left behind.
                self.unjudged[node.name] = error_line(error)
        self.module = self._cutter.module()
        self.nodes = len(computing)

    def calls(self, *, is_whole: bool = False) -> Iterator[NodeCall]:
        """Run the program; yield a call for each tensor that one of its nodes computes."""
        graph_module = self._program.graph_module
        own = Interpreter(graph_module, garbage_collect_values=True)
        own.args_iter = iter(self._arguments())
        wide: dict[Node, Any] = {}
        for node in graph_module.graph.nodes:
            if node.op == "output":
                return
            with torch.no_grad():
                value = own.env[node] = own.run_node(node)
            if node.op == "call_function":
                run = _Run.of(node, own.env, wide)
                if is_whole:
                    wide[node] = run.wide_value(value)
                yield from self._calls_of(run, value, own.env)
            for dead in own.user_to_last_uses.get(node, ()):
                own.env.pop(dead, None)
                wide.pop(dead, None)

    def _arguments(self) -> list[Any]:
        inputs = iter(self._sample.arrays)
        program = self._program
        found = []
        for spec in program.graph_signature.input_specs:
            if spec.kind is InputKind.USER_INPUT:
                found.append(to_torch(next(inputs)))
            elif spec.target in program.state_dict:
                found.append(program.state_dict[spec.target])
            else:
                found.append(program.constants[spec.target])
        return found

    def _calls_of(self, run: _Run, value: Any, env: Mapping[Node, Any]) -> Iterator[NodeCall]:
        node = run.node
        if isinstance(value, torch.Tensor):
            if not _is_item(node):
                yield from self._call(run, node, None, value, env)
        elif isinstance(value, int | float) and not _is_item(node):
            yield from self._number(run, value)
        elif isinstance(value, list | tuple):
            for user in node.users:
                if _is_item(user) and isinstance(user.args[1], int):
                    item = value[user.args[1]]
                    if isinstance(item, torch.Tensor):
                        yield from self._call(run, user, user.args[1], item, env)

    def _call(
        self, run: _Run, node: Node, item: int | None, value: torch.Tensor, env: Mapping[Node, Any]
    ) -> Iterator[NodeCall]:
        cut = self._slices.get(node)
        if cut is None:
            return
        try:
            inputs = tuple(self._input(source, run.node, env) for source in cut.inputs)
        except _NoValueError as error:
            self.unjudged[node.name] = str(error)
            return
        yield NodeCall(
            node=_graph_node(run.node),
            value=node.name,
            call=run.text,
            function=cut.function,
            inputs=inputs,
            expected=(to_array(value),),
            accurate=lambda: run.wide(item),
            files=lambda allowed, stem: node_script(
                NodeScript(
                    node=_graph_node(run.node),
                    call=run.text,
                    target=run.target,
                    args=run.args,
                    kwargs=run.kwargs,
                    item=item,
                    inputs=inputs,
                    module=self._cutter.module(cut.function),
                    function=cut.function,
                    allowed=allowed,
                    stem=stem,
                )
            ),
        )

    def _input(self, source: Any, node: Node, env: Mapping[Node, Any]) -> Array:
        """Return the framework's value for an argument of a node's Relax."""
        if not isinstance(source, tvm.ir.Expr | relax.Expr):
            constant: Array = source
            return constant
        holders = [
            value
            for near in node.all_input_nodes
            for mine, value in _pairs(self._values.get(near), env.get(near))
            if mine.same_as(source)
        ] or [
            value
            for far in env
            for mine, value in _pairs(self._values.get(far), env.get(far))
            if mine.same_as(source)
        ]
        if not holders:
            raise _NoValueError("it reads a value that the framework has no node for")
        first, *others = holders
        if not all(_is_equal(first, other) for other in others):
            raise _NoValueError("two of its arguments differ, and are one value in Relax")
        return to_array(first)

    def _number(self, run: _Run, value: float) -> Iterator[NodeCall]:
        """Yield a call for a node that computes a dimension."""
        got = self._cutter.number(self._values.get(run.node))
        if got is None:
            self.unjudged[run.node.name] = "it is a number that Relax computes when it runs"
            return
        as_array = to_array(torch.tensor(value))
        yield NodeCall(
            node=_graph_node(run.node),
            value=run.node.name,
            call=run.text,
            expected=(as_array,),
            accurate=lambda: [as_array],
            got=(to_array(torch.tensor(got, dtype=torch.tensor(value).dtype)),),
            files=lambda _allowed, _stem: {},
        )


class _NoValueError(TapmlError):
    """The framework's value of an argument is not known."""


class _Cutter:
    """Cuts the Relax of single nodes out of an imported function."""

    def __init__(self, imported: Imported, sample: Sample) -> None:
        before = imported.module["main"]
        self._symbols = _symbol_values(before, sample)
        function = before.bind_symbolic_vars(self._symbols) if self._symbols else before
        self._new = dict(zip(_variables(before), _variables(function), strict=True))
        self._bindings = {binding.var: binding for binding in _bindings(function)}
        self._values = imported.values
        self._order = {node: place for place, node in enumerate(imported.program.graph.nodes)}
        self._owners: dict[Any, list[Node]] = {}
        for node, value in imported.values.items():
            for one in (value.real, value.imag) if isinstance(value, Complex) else (value,):
                if _is_tensor_value(one) and node in self._order:
                    self._owners.setdefault(self._bound(one), []).append(node)
        # Others are bound inside of an expression, or are dimensions.
        self._known = {*self._new.values(), *self._owners}
        self._old = {new: old for old, new in self._new.items()}
        self._callees = {
            gvar: called
            for gvar, called in imported.module.functions.items()
            if gvar.name_hint != "main"
        }
        self._functions: dict[int, list[tuple[str, relax.Function]]] = {}

    def module(self, name: str | None = None) -> tvm.IRModule:
        """Return all functions that were cut out, or the named one, with what they call."""
        found = {
            tvm.ir.GlobalVar(own): function.with_attr("global_symbol", own)
            for same in self._functions.values()
            for own, function in same
            if name in (None, own)
        }
        return tvm.IRModule({**self._callees, **found})

    def number(self, value: Any) -> int | float | None:
        """Return the value of a dimension; None if it is none, or depends on computed values."""
        if isinstance(value, int | float):
            return value
        if not tvm.ir.is_prim_expr(value):
            return None
        found = Analyzer().simplify(
            tvm_ffi.structural_map(value, (tirx.Var, lambda var: self._symbols.get(var, var)))
        )
        return found.value if isinstance(found, tirx.IntImm | tirx.FloatImm) else None

    def slice_of(self, node: Node) -> _Slice:
        """Return the Relax of a node whose value is one tensor."""
        if isinstance(self._values[node], Complex):
            raise _NoValueError("it has complex values, of which Relax has two tensors")
        result = self._bound(self._values[node])
        place = self._order[node.args[0] if _is_item(node) else node]
        needed: dict[Any, Any] = {}
        inputs: dict[Any, relax.Var] = {}

        def visit(var: Any, *, is_result: bool = False) -> None:
            if var in needed or var in inputs or var not in self._known:
                return
            owned = [self._order[owner] for owner in self._owners.get(var, ())]
            is_own = is_result and all(at >= place for at in owned)
            binding = self._bindings.get(var)
            if binding is None or (not is_own and any(at < place for at in owned)):
                inputs[var] = relax.Var(f"x{len(inputs)}", var.ty)
                return
            needed[var] = binding
            tvm_ffi.structural_walk(binding.value, (relax.Var, visit))

        if isinstance(result, relax.Var):
            visit(result, is_result=True)
        ordered = [self._bindings[var] for var in self._bindings if var in needed]
        function, constants = _function(inputs, ordered, result)
        return _Slice(
            function=self._name_of(function, node),
            inputs=(*(self._old.get(var, var) for var in inputs), *constants),
        )

    def _bound(self, value: Any) -> Any:
        """Return an expression of the imported function in the one without symbols."""
        return self._new.get(value, value) if isinstance(value, relax.Var) else value

    def _name_of(self, function: relax.Function, node: Node) -> str:
        same = self._functions.setdefault(tvm_ffi.structural_hash(function), [])
        for name, other in same:
            if tvm_ffi.structural_equal(function, other):
                return name
        same.append((f"{NODE}{node.name}", function))
        return same[-1][0]


def _function(
    inputs: Mapping[Any, relax.Var], bindings: Sequence[Any], result: Any
) -> tuple[relax.Function, list[Array]]:
    """Return bindings as a function of its inputs and of the tensors that are constants in it."""
    lifted: list[tuple[relax.Var, Array]] = []

    def lift(constant: Any) -> Any:
        array = to_array(constant_tensor(constant))
        if not array.ndim:
            return constant
        lifted.append((relax.Var(f"c{len(lifted)}", constant.ty), array))
        return lifted[-1][0]

    kept = [tvm_ffi.structural_map(binding.value, (Constant, lift)) for binding in bindings]
    values: dict[Any, Any] = dict(inputs)
    builder = relax.BlockBuilder()
    is_flow = not any(isinstance(value, relax.If) for value in kept)
    returned = lift(result) if isinstance(result, Constant) else result
    parameters = [*inputs.values(), *(var for var, _ in lifted)]

    def bound(value: Any) -> Any:
        return tvm_ffi.structural_map(value, (relax.Var, lambda var: values.get(var, var)))

    def emit() -> Any:
        for binding, value in zip(bindings, kept, strict=True):
            if isinstance(binding, relax.MatchCast):
                values[binding.var] = builder.match_cast(bound(value), binding.ty)
            else:
                values[binding.var] = builder.emit(bound(value))
        return bound(returned)

    with builder.function("node", parameters):
        if is_flow:
            with builder.dataflow():
                output = builder.emit_output(emit())
        else:
            output = emit()
        builder.emit_func_output(output)
    return builder.get()["node"].without_attr("global_symbol"), [array for _, array in lifted]


@dataclass(frozen=True, kw_only=True)
class _Run:
    """One call of the framework.

    Parameters
    ----------
    node
        Whose call it is.
    target
        What is called.
    args, kwargs
        With tensors and numbers in place of nodes.
    wide_args, wide_kwargs
        The same with what more accurate runs of the nodes before have returned, where there are
        some.
    text
        The call, for people.
    """

    node: Node
    target: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    wide_args: tuple[Any, ...]
    wide_kwargs: Mapping[str, Any]
    text: str

    @classmethod
    def of(cls, node: Node, env: Mapping[Node, Any], wide: Mapping[Node, Any]) -> _Run:
        given = (node.args, node.kwargs)
        args, kwargs = map_arg(given, env.__getitem__)
        wide_args, wide_kwargs = map_arg(given, lambda arg: wide.get(arg, env[arg]))
        names, named = map_arg(given, lambda arg: _Named(arg.name, env[arg]))
        parts = [_text(arg) for arg in names]
        parts += [f"{name}={_text(arg)}" for name, arg in named.items()]
        target: Any = node.target
        return cls(
            node=node,
            target=target,
            args=args,
            kwargs=kwargs,
            wide_args=wide_args,
            wide_kwargs=wide_kwargs,
            text=f"{_operator(node)}({', '.join(parts)})",
        )

    def wide_value(self, value: Any) -> Any:
        """Return the result of a more accurate run; ``value`` where there is none."""
        try:
            return self._in(torch.float64)
        except Exception:  # Of whatever PyTorch has no float64 kernel for.
            return value

    def wide(self, item: int | None) -> list[Array]:
        """Return the result in float64, or in float32 if PyTorch has no float64 kernel for it."""
        narrow = [
            leaf.dtype
            for leaf in tree_leaves((self.args, self.kwargs))
            if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()
        ]
        try:
            found = self._in(torch.float64)
        except Exception as error:
            if all(dtype.itemsize > 2 for dtype in narrow):
                raise RuntimeError(f"in float64: {error_line(error)}") from error
            found = self._in(torch.float32)
        return [to_array(found if item is None else found[item])]

    def _in(self, dtype: torch.dtype) -> Any:
        def widened(leaf: Any) -> Any:
            is_float = isinstance(leaf, torch.Tensor) and leaf.is_floating_point()
            return leaf.to(dtype) if is_float and leaf.dtype.itemsize < dtype.itemsize else leaf

        args, kwargs = tree_map(widened, (self.wide_args, dict(self.wide_kwargs)))
        return run_wide(lambda: self.target(*args, **kwargs), dtype)


@dataclass(frozen=True)
class _Named:
    name: str
    value: Any


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    if not isinstance(value, _Named):
        return str(value)
    if not isinstance(value.value, torch.Tensor):
        return f"{value.name} = {value.value}" if not isinstance(value.value, list) else value.name
    tensor = value.value
    dtype = str(tensor.dtype).removeprefix("torch.")
    shown = tensor.detach().flatten()[:_SHOWN].tolist() if tensor.numel() else []
    more = ", ..." if tensor.numel() > _SHOWN else ""
    numbers = ", ".join(f"{n:.4g}" if isinstance(n, float) else str(n) for n in shown)
    return f"{value.name}: {dtype}{list(tensor.shape)} = {numbers}{more}"


def _graph_node(node: Node) -> GraphNode:
    return GraphNode(
        name=node.name, operator=_operator(node), module=module_path(node), source=source_line(node)
    )


def _operator(node: Node) -> str:
    target: Any = node.target
    return str(target) if isinstance(target, torch._ops.OpOverload) else target.__name__


def _is_item(node: Node) -> bool:
    return getattr(node.target, "__name__", "") == "getitem"


def _is_tensor_value(value: Any) -> bool:
    return isinstance(value, relax.Var) and isinstance(value.ty, relax.TensorType)


def _pairs(mine: Any, theirs: Any) -> Iterator[tuple[Any, torch.Tensor]]:
    if isinstance(mine, Complex) and isinstance(theirs, torch.Tensor):
        parts = torch.view_as_real(theirs.resolve_conj()).unbind(-1)
        yield from zip((mine.real, mine.imag), parts, strict=True)
    elif _is_tensor_value(mine) and isinstance(theirs, torch.Tensor):
        yield mine, theirs


def _is_equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a is b or (
        a.dtype == b.dtype and a.shape == b.shape and bool(torch.all((a == b) | (a != a)))
    )


def _variables(function: relax.Function) -> list[Any]:
    return [*function.params, *(binding.var for binding in _bindings(function))]


def _bindings(function: relax.Function) -> Iterator[Any]:
    for block in function.body.blocks:
        yield from block.bindings


def _symbol_values(function: relax.Function, sample: Sample) -> dict[Any, Any]:
    """Return the symbols of a function's inputs, each with its value for a sample."""
    analyzer, found = Analyzer(), {}
    dims = [
        (dim, size)
        for param, array in zip(function.params, sample.arrays, strict=False)
        for dim, size in zip(param.ty.shape.values, array.shape, strict=True)
    ]
    for dim, size in dims:
        if isinstance(dim, tirx.Var):
            found[dim] = tirx.IntImm("int64", size)
    for dim, size in dims:
        unknown = set(tirx.analysis.undefined_vars(dim)) - found.keys()
        if len(unknown) != 1:
            continue
        (symbol,) = unknown
        at = [
            analyzer.simplify(
                tvm_ffi.structural_map(
                    dim,
                    (
                        tirx.Var,
                        lambda var, n=number, own=symbol: (
                            tirx.IntImm("int64", n) if var.same_as(own) else found.get(var, var)
                        ),
                    ),
                )
            )
            for number in (0, 1)
        ]
        if all(isinstance(value, tirx.IntImm) for value in at):
            start, step = int(at[0]), int(at[1]) - int(at[0])
            if step and not (size - start) % step:
                found[symbol] = tirx.IntImm("int64", (size - start) // step)
    free = set(relax.analysis.free_symbolic_vars(function)) | set(
        relax.analysis.defined_symbolic_vars(function)
    )
    return {symbol: value for symbol, value in found.items() if symbol in free}
