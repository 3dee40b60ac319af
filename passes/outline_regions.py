"""Gather the device sites of a function into as few device calls as its data flow allows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import tvm
from tvm import relax
from tvm.ir import PrimType, StringImm, TupleType

from relax_tapml._compat import Constant

from .assign_sides import DEVICE_SITES_ATTR
from .operator_call import operator_call
from .site import site_of
from .value_leaves import Leaf, ValueLeaves, bindings_in
from .weights import Weights

REGION_ATTR = "relax_tapml.region"
"""Function attribute: the name of the function whose operators a device function holds."""

UPLOAD = "relax_tapml.device.upload"
PARAMETER = "relax_tapml.device.parameter"
RUN = "relax_tapml.device.run"
DOWNLOAD = "relax_tapml.device.download"


@tvm.transform.module_pass(opt_level=0, name="OutlineRegions")
class OutlineRegions:
    """Move the device sites of every function into region functions, called over explicit copies.

    A region is a maximal convex group of device sites: whatever can run without a host operator in
    between runs in one call, so the number of device calls is the number of times the data flow
    changes over to the device. Each value crosses at most once in each direction, again only after
    a host call that may have written to it, and values that only other regions read stay on the
    device. Weights are named, not sent: the device keeps them.

    Precondition: ``AssignSides`` has run. ``ToNonDataflow`` is applied where something moves. ::

        R.func_attr({"num_input": 1, "relax_tapml.device_sites": ["main/000/matmul"]})
        lv = R.call_tir(cls.matmul, (x, w), out_ty=R.Tensor((4, 8), "float32"))
        gv = R.call_tir(cls.relu, (lv,), out_ty=R.Tensor((4, 8), "float32"))
        # after
        x_device = R.call_packed("relax_tapml.device.upload", x, ty_args=(R.Object,))
        w_device = R.call_packed("relax_tapml.device.parameter", "w", ty_args=(R.Object,))
        result = R.call_packed("relax_tapml.device.run", "main_region0", x_device, w_device,
                               ty_args=(R.Tuple(R.Object),))
        lv_device = result[0]
        lv = R.call_packed("relax_tapml.device.download", lv_device,
                           ty_args=(R.Tensor((4, 8), "float32"),))
        gv = R.call_tir(cls.relu, (lv,), out_ty=R.Tensor((4, 8), "float32"))

        @R.function
        def main_region0(x: R.Tensor((2, 4), "float32"), w: R.Tensor((4, 8), "float32")):
            R.func_attr({"relax_tapml.region": "main"})
            lv = R.call_tir(cls.matmul, (x, w), out_ty=R.Tensor((4, 8), "float32"))
            return (lv,)

    A branch of an ``If`` is outlined by itself. Symbolic dimensions that no tensor argument of a
    region defines are passed as one shape argument, the last. A module in which no site is on the
    device is returned as it is.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        names = [
            gvar.name_hint
            for gvar, function in mod.functions.items()
            if function.attrs and DEVICE_SITES_ATTR in function.attrs
        ]
        if not names:
            return mod
        out = relax.transform.ToNonDataflow()(mod).clone()
        for name in names:
            outliner = _FunctionOutliner(out, name)
            host = outliner.rewrite()
            out.update_func(out.get_global_var(name), host)
            for region_name, region in outliner.regions.items():
                out[region_name] = region
        return relax.transform.RemovePurityChecking()(out)


@dataclass
class _Region:
    """The device sites of one phase of a scope."""

    bindings: list[relax.Binding] = field(default_factory=list)
    produced: set[relax.Var] = field(default_factory=set)


@dataclass
class _Scope:
    """The bindings of one sequence, each with the phase it runs in.

    Even phases run on the host, odd ones on the device; a value of one side is ready for the other
    in the next phase. Placing each binding as early as its operands allow makes the number of
    phases, and so of regions, as small as the longest alternation of sides in the data flow. Host
    bindings are then moved as late as their readers allow, so that no value is kept for longer than
    in the original program (transposed weights, above all).

    ``reads`` has the leaves each binding reads; ``ordered`` what must keep its
    place; ``wanted`` the variables that the host reads.
    """

    order: list[relax.Binding]
    phase: dict[relax.Var, int] = field(default_factory=dict)
    renames: list[relax.Binding] = field(default_factory=list)
    regions: dict[int, _Region] = field(default_factory=dict)
    reads: dict[relax.Var, list[Leaf]] = field(default_factory=dict)
    ordered: set[relax.Var] = field(default_factory=set)
    wanted: set[relax.Var] = field(default_factory=set)

    @property
    def last_phase(self) -> int:
        return max(self.phase.values(), default=0)


class _FunctionOutliner:
    """Rewrites one function and collects its region functions."""

    def __init__(self, mod: tvm.IRModule, name: str) -> None:
        self._mod = mod
        self._name = name
        self._function = mod[name]
        self._device_sites = set(map(str, self._function.attrs[DEVICE_SITES_ATTR]))
        self._weights = Weights(self._function, mod)
        self._leaves = ValueLeaves()
        self.regions: dict[str, relax.Function] = {}

    def rewrite(self) -> relax.Function:
        function = self._function
        body = self._sequence(function.body)
        return relax.Function(
            function.params,
            body,
            function.ret_ty,
            is_pure=function.is_pure,
            attrs=function.attrs,
            span=function.span,
        ).without_attr(DEVICE_SITES_ATTR)

    def _sequence(self, seq: relax.SeqExpr) -> relax.SeqExpr:
        scope = self._schedule([b for block in seq.blocks for b in block.bindings])
        scope.wanted = self._wanted_on_host(scope, seq.body)
        self._delay_host_bindings(scope, seq.body)
        bindings = list(_HostWriter(self, scope).write())
        out = relax.SeqExpr([relax.BindingBlock(bindings)], seq.body)
        relax.expr._update_type(out, seq.ty)
        return out

    def _branch(self, seq: relax.SeqExpr) -> relax.SeqExpr:
        """Rewrite a branch, to which values from outside are roots: the host has bound them."""
        outside = self._leaves
        self._leaves = outside.of_parameters(self._function.params)
        rewritten = self._sequence(seq)
        self._leaves = outside
        return rewritten

    def _schedule(self, bindings: list[relax.Binding]) -> _Scope:
        scope = _Scope(order=bindings)
        side: dict[relax.Var, bool] = {}
        readers: dict[relax.Var, list[relax.Var]] = {}
        writer: dict[relax.Var, relax.Var] = {}
        barrier: relax.Var | None = None
        for binding in bindings:
            if self._leaves.bind(binding):
                scope.renames.append(binding)
                continue
            on_device = self._is_on_device(binding)
            reads = [leaf for var in _free_vars(binding.value) for leaf in self._leaves.of(var)]
            roots = {leaf.root for leaf in reads if isinstance(leaf.root, relax.Var)}
            scope.reads[binding.var] = reads
            after = {root for root in roots if root in scope.phase}
            after.update(writer[root] for root in roots if root in writer)
            if barrier is not None:
                after.add(barrier)
            if self._may_write(binding):
                for root in roots:
                    after.update(readers.get(root, ()))
                    writer[root] = binding.var
                scope.ordered.update(roots)
            # Host bindings with effects, and those that define symbolic dimensions, keep their
            # place among all that follow.
            if not on_device and self._is_ordered(binding):
                barrier = binding.var
                scope.ordered.add(binding.var)
            phase = int(on_device)
            for var in after:
                phase = max(phase, scope.phase[var] + (side[var] != on_device))
            scope.phase[binding.var] = phase
            side[binding.var] = on_device
            for root in roots:
                readers.setdefault(root, []).append(binding.var)
            if on_device:
                region = scope.regions.setdefault(phase, _Region())
                region.bindings.append(binding)
                region.produced.add(binding.var)
        return scope

    def _is_on_device(self, binding: relax.Binding) -> bool:
        if not isinstance(binding, relax.VarBinding) or not isinstance(binding.value, relax.Call):
            return False
        site = site_of(binding.value)
        return site is not None and site.id in self._device_sites

    def _may_write(self, binding: relax.Binding) -> bool:
        value = binding.value
        if isinstance(value, relax.If):
            branches = (value.true_branch, value.false_branch)
            return any(self._may_write(b) for branch in branches for b in bindings_in(branch))
        if not isinstance(value, relax.Call):
            return False
        found = operator_call(value, self._mod)
        return found.may_write if found is not None else _is_subroutine(value)

    def _is_ordered(self, binding: relax.Binding) -> bool:
        return (
            isinstance(binding, relax.MatchCast)
            or isinstance(binding.value, relax.If)
            or self._may_write(binding)
            or _is_effect(binding.value)
        )

    def _delay_host_bindings(self, scope: _Scope, result: relax.Expr) -> None:
        device = {var for region in scope.regions.values() for var in region.produced}
        last = scope.last_phase + scope.last_phase % 2
        kept = [*_free_vars(result), *(b.var for b in scope.renames if b.var in scope.wanted)]
        latest = {leaf.root: last for var in kept for leaf in self._leaves.of(var)}
        if scope.ordered:
            return
        for binding in reversed(scope.order):
            var = binding.var
            if var not in scope.phase:
                continue
            if var not in device:
                scope.phase[var] = max(scope.phase[var], latest.get(var, scope.phase[var]))
            ready_by = scope.phase[var] - (var in device)
            for leaf in scope.reads[var]:
                latest[leaf.root] = min(latest.get(leaf.root, last), ready_by)

    def _wanted_on_host(self, scope: _Scope, result: relax.Expr) -> set[relax.Var]:
        """Variables that the host reads; what they rename or pack is not wanted for that."""
        device = {var for region in scope.regions.values() for var in region.produced}
        wanted = set(_free_vars(result))
        for binding in scope.order:
            if binding.var in scope.phase and binding.var not in device:
                wanted.update(_free_vars(binding.value))
        return wanted


class _HostWriter:
    """Emits the host's bindings of one scope, with the region calls and copies between them."""

    def __init__(self, function: _FunctionOutliner, scope: _Scope) -> None:
        self._function = function
        self._scope = scope
        self._wanted = scope.wanted
        self._leaves = function._leaves
        self._device_vars = {v for r in scope.regions.values() for v in r.produced}
        self._read_in: dict[Leaf, set[int]] = {}
        for phase, region in scope.regions.items():
            for binding in region.bindings:
                for leaf in scope.reads[binding.var]:
                    self._read_in.setdefault(leaf, set()).add(phase)
        self._read_on_host = {leaf for var in self._wanted for leaf in self._leaves.of(var)}
        self._on_device: dict[Leaf, relax.Var] = {}
        self._on_host: dict[Leaf, relax.Var] = {}

    def write(self) -> Iterator[relax.Binding]:
        scope = self._scope
        by_phase: dict[int, list[relax.Binding]] = {}
        for binding in scope.order:
            phase = scope.phase.get(binding.var)
            if phase is None and binding.var in self._wanted:
                phase = self._rename_phase(binding)
            if phase is not None:
                by_phase.setdefault(phase, []).append(binding)
        for phase, bindings in sorted(by_phase.items()):
            if phase in scope.regions:
                yield from self._region(phase, scope.regions[phase])
                continue
            for binding in bindings:
                if binding.var in scope.phase:
                    yield self._descend(binding)
                    if self._function._may_write(binding):
                        self._forget_copies(binding)
                else:
                    yield from self._rename(binding)

    def _forget_copies(self, binding: relax.Binding) -> None:
        """Let the device get anew what the host may have written to."""
        for leaf in self._scope.reads[binding.var]:
            self._on_device.pop(leaf, None)

    def _descend(self, binding: relax.Binding) -> relax.Binding:
        value = binding.value
        if not isinstance(value, relax.If):
            return binding
        rewritten = relax.If(
            value.cond,
            self._function._branch(value.true_branch),
            self._function._branch(value.false_branch),
        )
        relax.expr._update_type(rewritten, value.ty)
        return relax.VarBinding(binding.var, rewritten)

    def _rename_phase(self, binding: relax.Binding) -> int:
        phases = [
            self._scope.phase.get(leaf.root, 0) + (leaf.root in self._device_vars)
            for leaf in self._leaves.of(binding.var)
        ]
        return max(phases, default=0)

    def _rename(self, binding: relax.Binding) -> Iterator[relax.Binding]:
        leaves = self._leaves.of(binding.var)
        roots = {leaf.root for leaf in leaves}
        # What it renames may have been bound in a later phase, or not at all.
        if roots.isdisjoint(self._device_vars) and roots.issuperset(_free_vars(binding.value)):
            yield binding
        else:
            yield from self._bind_from_leaves(binding.var, leaves)

    def _bind_from_leaves(self, var: relax.Var, leaves: list[Leaf]) -> Iterator[relax.Binding]:
        """Bind a variable to host copies of device values."""
        if leaves == [Leaf(var)] and leaves[0] not in self._on_host:
            yield relax.VarBinding(var, _packed(DOWNLOAD, [self._on_device[leaves[0]]], var.ty))
            self._on_host[leaves[0]] = var
            return
        copies: list[relax.Expr] = []
        for leaf in leaves:
            if leaf.root not in self._device_vars:
                item, bindings = leaf.access()
                yield from bindings
                copies.append(item)
            else:
                yield from self._download(leaf)
                copies.append(self._on_host[leaf])
        yield relax.VarBinding(var, _pack(var.ty, iter(copies)))

    def _download(self, leaf: Leaf) -> Iterator[relax.Binding]:
        if leaf in self._on_host:
            return
        copy = relax.Var(f"{leaf.root.name}_host", leaf.type)
        yield relax.VarBinding(copy, _packed(DOWNLOAD, [self._on_device[leaf]], leaf.type))
        self._on_host[leaf] = copy

    def _region(self, phase: int, region: _Region) -> Iterator[relax.Binding]:
        builder = _RegionBuilder(self._leaves, region)
        outputs = self._outputs(phase, region)
        function, shape_args = builder.build(outputs)
        name = f"{self._function._name}_region{len(self._function.regions)}"
        self._function.regions[name] = function.with_attr("global_symbol", name).with_attr(
            REGION_ATTR, self._function._name
        )
        for leaf in builder.inputs:
            yield from self._send(leaf)
        args = [self._on_device[leaf] for leaf in builder.inputs]
        handles_ty = TupleType([relax.ObjectType() for _ in outputs])
        result = relax.Var("result", handles_ty)
        yield relax.VarBinding(
            result, _packed(RUN, [StringImm(name), *args, *shape_args], handles_ty)
        )
        for index, leaf in enumerate(outputs):
            handle = relax.Var(f"{leaf.root.name}_device", relax.ObjectType())
            yield relax.VarBinding(handle, relax.TupleGetItem(result, index))
            self._on_device[leaf] = handle
        for binding in region.bindings:
            if binding.var in self._wanted:
                yield from self._bind_from_leaves(binding.var, self._leaves.of(binding.var))

    def _send(self, leaf: Leaf) -> Iterator[relax.Binding]:
        if leaf in self._on_device:
            return
        handle = relax.Var(f"{leaf.root.name}_device", relax.ObjectType())
        weight = self._function._weights.name(leaf)
        if weight is not None:
            call = _packed(PARAMETER, [StringImm(weight)], relax.ObjectType())
        else:
            copy = self._on_host.get(leaf)
            value, bindings = leaf.access() if copy is None else (copy, [])
            yield from bindings
            if isinstance(leaf.type, relax.ShapeType):
                self._on_device[leaf] = value
                return
            call = _packed(UPLOAD, [value], relax.ObjectType())
        yield relax.VarBinding(handle, call)
        self._on_device[leaf] = handle

    def _outputs(self, phase: int, region: _Region) -> list[Leaf]:
        """Leaves of a region that anything outside it reads."""
        return [
            leaf
            for binding in region.bindings
            for leaf in self._leaves.of(binding.var)
            if leaf in self._read_on_host or self._read_in.get(leaf, set()) - {phase}
        ]


class _RegionBuilder:
    """Builds the device function of one region."""

    def __init__(self, leaves: ValueLeaves, region: _Region) -> None:
        self._leaves = leaves
        self._region = region
        self._params: dict[Leaf, relax.Var] = {}
        self._bindings: list[relax.Binding] = []
        self._aliases: set[relax.Var] = set()

    @property
    def inputs(self) -> list[Leaf]:
        """The leaves the region takes, in the order of its parameters."""
        return list(self._params)

    def build(self, outputs: list[Leaf]) -> tuple[relax.Function, list[relax.Expr]]:
        """Return the function, and the shape argument it needs besides ``inputs``, if any."""
        bindings = self._bindings
        for binding in self._region.bindings:
            value = self._inside(binding.value)
            if not _is_new(value):
                self._aliases.add(binding.var)
            bindings.append(relax.VarBinding(binding.var, value))
        result = relax.Tuple([self._result(leaf) for leaf in outputs])
        result_var = relax.Var("outputs", result.ty)
        bindings.append(relax.VarBinding(result_var, result))
        body = relax.SeqExpr([relax.BindingBlock(bindings)], result_var)
        params = list(self._params.values())
        function = relax.Function(params, body, result.ty)
        dims = list(relax.analysis.free_symbolic_vars(function))
        shape_args: list[relax.Expr] = []
        if dims:
            shape = relax.ShapeExpr(dims)
            params.append(relax.Var("shape", relax.ShapeType(dims)))
            function = relax.Function(params, body, result.ty)
            shape_args.append(shape)
        return relax.utils.copy_with_new_vars(function), shape_args

    def _inside(self, value: relax.Call) -> relax.Call:
        args = [self._argument(arg) for arg in value.args]
        call = relax.Call(value.op, args, attrs=value.attrs, ty_args=value.ty_args, span=value.span)
        relax.expr._update_type(call, value.ty)
        return call

    def _argument(self, arg: relax.Expr) -> relax.Expr:
        if isinstance(arg, relax.Tuple):
            return relax.Tuple([self._argument(item) for item in arg.fields])
        if not isinstance(arg, relax.Var | relax.TupleGetItem):
            return arg
        if isinstance(arg.ty, PrimType):
            return arg  # A symbolic dimension, defined by a tensor or by the shape argument.
        leaves = [self._leaf(leaf) for leaf in self._leaves.of(arg)]
        return _pack(arg.ty, iter(leaves))

    def _leaf(self, leaf: Leaf) -> relax.Expr:
        if isinstance(leaf.root, Constant) or leaf.root in self._region.produced:
            return self._item(leaf)
        if leaf not in self._params:
            self._params[leaf] = relax.Var(leaf.root.name, leaf.type)
        return self._params[leaf]

    def _result(self, leaf: Leaf) -> relax.Expr:
        item = self._item(leaf)
        if leaf.root not in self._aliases or item.ty.shape is None:
            return item
        # A result that is an argument, written in place, would not outlive the call on every
        # device; a view of it does.
        reshape = relax.ExternFunc("vm.builtin.reshape")
        view = relax.Var(leaf.root.name, item.ty)
        value = relax.op.call_pure_packed(reshape, item, item.ty.shape, ty_args=item.ty)
        self._bindings.append(relax.VarBinding(view, value))
        return view

    def _item(self, leaf: Leaf) -> relax.Expr:
        item, bindings = leaf.access()
        self._bindings.extend(bindings)
        return item


def _pack(ty: tvm.ir.Type, leaves: Iterator[relax.Expr]) -> relax.Expr:
    if isinstance(ty, TupleType):
        return relax.Tuple([_pack(field, leaves) for field in ty.fields])
    return next(leaves)


def _packed(name: str, args: Iterable[relax.Expr], ty: tvm.ir.Type) -> relax.Call:
    return relax.Call(relax.ExternFunc(name), list(args), ty_args=[ty])


def _free_vars(expr: relax.Expr) -> list[relax.Var]:
    return list(relax.analysis.free_vars(expr))


def _is_new(value: relax.Call) -> bool:
    """Whether a device site's results are never one of its arguments."""
    return isinstance(value.op, tvm.ir.Op) and bool(value.op.name == "relax.call_tir")


def _is_subroutine(call: relax.Call) -> bool:
    return isinstance(call.op, tvm.ir.GlobalVar | relax.Var)


def _is_effect(value: relax.Expr) -> bool:
    return (
        isinstance(value, relax.Call)
        and isinstance(value.op, tvm.ir.Op)
        and value.op.name in ("relax.assert_op", "relax.print")
    )
