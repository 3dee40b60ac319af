"""Record every operator's real inputs and outputs while the module runs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

import tvm
from tvm import relax, tirx
from tvm.ir import GlobalVar, TupleType

from relax_tapml._compat import Constant, StringImm

from ._rewriting import packed_call, rewritten, with_bindings, with_body, with_branches
from .cache_call import AFTER, BEFORE, MAKE_LOGGED, appends_to_cache, reads_cache
from .cache_creation import creating_calls, is_creating_call
from .module_pass import ModulePass
from .operator_call import may_write, operator_call, operator_functions
from .site import Site, site_of
from .value_leaves import Leaf, ValueLeaves, bindings_in
from .weights import DERIVED_ATTR, WEIGHTS_OF_ATTR, Weights

_BEGIN_FRAME = "relax_tapml.capture.begin_frame"
_BEGIN_SAMPLED_FRAME = "relax_tapml.capture.begin_sampled_frame"
_INPUTS = "relax_tapml.capture.inputs"
_OUTPUTS = "relax_tapml.capture.outputs"


@dataclass(frozen=True, kw_only=True)
class SiteFilter:
    """Which sites to capture: all for which each of these that is not None holds.

    Parameters
    ----------
    functions, units, sites
        Shell-style patterns, of which one must match.
    ids
        The ids of sites, for many of them.
    """

    functions: Collection[str] | None = None
    units: Collection[str] | None = None
    sites: Collection[str] | None = None
    ids: frozenset[str] | None = None

    def matches(self, site: Site) -> bool:
        """Return whether a site is selected."""
        return (self.ids is None or site.id in self.ids) and all(
            patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns)
            for name, patterns in (
                (site.function, self.functions),
                (site.unit, self.units),
                (site.id, self.sites),
            )
        )


@tvm.transform.module_pass(opt_level=0, name="InsertCapture")
class InsertCapture(ModulePass):
    """Insert calls that capture the inputs and outputs of the selected sites.

    Inputs are captured before the call, so that an in-place operator is recorded right; outputs
    after it. Covered are ``call_tir``, ``call_tir_inplace``, ``call_dps_packed``,
    ``call_pure_packed``, ``call_inplace_packed``, ``call_packed`` and calls of unit functions;
    their arguments may be tensors, tuples, constants, scalars, shapes and opaque objects. Where a
    call reads a KV cache, the state of the cache is recorded before the call, and after it what the
    call has added to it; to know it, caches are made with a log. Function
    parameters after the first ``num_input`` ones, and constants, are weights: they are recorded
    once, by name. So is what a function of ``LiftDerivedWeights`` computes. A value that several
    sites read is captured once per frame and then referred to by number. After a call that may
    write to its arguments, all values are captured again.

    Precondition: ``AnnotateSites`` has run, and after it no pass that rewrites calls into
    destination-passing style. The result computes bit-identical outputs, may be built with the
    default pipeline, and needs ``relax_tapml.passes.native.load()`` (or the native library loaded
    by a C++ program) where it runs; without a recorder the calls return at once. ::

        lv = R.call_tir(cls.matmul, (x, w), out_ty=R.Tensor((4, 8), "float32"))
        # after
        frame = R.call_packed("relax_tapml.capture.begin_frame", "main", ty_args=(R.Object,))
        R.call_packed("relax_tapml.capture.inputs", frame, "main/000/matmul", "+0", x, "@w", w)
        lv = R.call_tir(cls.matmul, (x, w), out_ty=R.Tensor((4, 8), "float32"))
        R.call_packed("relax_tapml.capture.outputs", frame, "main/000/matmul", "+1", lv)

    ``ToNonDataflow`` and ``RemovePurityChecking`` are applied where something is inserted. A module
    with no selected site is returned as it is. Not idempotent: applied twice it captures twice.

    Parameters
    ----------
    select
        Which sites to capture; all by default.
    every
        Capture the first of so many frames of each function, by sample. In the frames between, a
        site is captured if its unit has not been called before. Functions of
        ``LiftDerivedWeights`` run once, and are always captured.
    """

    def __init__(self, select: SiteFilter | None = None, every: int = 1) -> None:
        if every < 1:
            raise ValueError(f"InsertCapture: every: expected at least 1, got {every}")
        self._select = select or SiteFilter()
        self._every = every

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        # Where no recorded call reads a cache, nothing needs to know what happens to caches.
        is_logged = any(
            _reads_cache(mod, call, self._select)
            for _, function in operator_functions(mod)
            for call in _calls(function)
        )

        def rewrite(
            mod: tvm.IRModule, name: str, function: relax.Function
        ) -> relax.Function | None:
            writer = _FunctionInstrumenter(mod, name, function, self._select, self._every)
            is_rewritten = writer.selects_any() or (is_logged and writer.makes_cache())
            return writer.rewrite() if is_rewritten else None

        return rewritten(mod, rewrite)


def _calls(function: relax.Function) -> Iterator[relax.Call]:
    values = (binding.value for binding in bindings_in(function.body))
    return (value for value in values if isinstance(value, relax.Call))


def _selected(mod: tvm.IRModule, call: relax.Call, select: SiteFilter) -> Site | None:
    site = site_of(call)
    if site is None or not select.matches(site):
        return None
    found = operator_call(call, mod)
    return None if found is None or found.skip_reason else site


def _reads_cache(mod: tvm.IRModule, call: relax.Call, select: SiteFilter) -> bool:
    found = operator_call(call, mod)
    return (
        found is not None and reads_cache(found.unit) and _selected(mod, call, select) is not None
    )


class _FunctionInstrumenter:
    """Rewrites one function, binding by binding."""

    def __init__(
        self,
        mod: tvm.IRModule,
        name: str,
        function: relax.Function,
        select: SiteFilter,
        every: int,
    ) -> None:
        self._mod = mod
        self._name = name
        self._function = function
        self._select = select
        self._frame = relax.Var("frame", relax.ObjectType())
        self._values = 0
        self._constants: list[relax.Expr] = []
        self._leaves = ValueLeaves()
        self._numbers: dict[Leaf, int] = {}
        self._states: set[relax.Var] = set()
        self._weights = Weights(function, mod)
        self._derives = DERIVED_ATTR in (function.attrs or {})
        self._every = 1 if self._derives else every

    def selects_any(self) -> bool:
        return any(_selected(self._mod, c, self._select) for c in _calls(self._function))

    def makes_cache(self) -> bool:
        return any(True for _ in creating_calls(self._function))

    def rewrite(self) -> relax.Function:
        attrs = self._function.attrs or {}
        owner = str(attrs.get(WEIGHTS_OF_ATTR, self._name))
        intrinsic, args = _BEGIN_FRAME, [StringImm(owner)]
        if self._every > 1:
            intrinsic = _BEGIN_SAMPLED_FRAME
            args.append(tirx.IntImm("int64", self._every))
        begin = packed_call(intrinsic, args, relax.ObjectType())
        body = self._sequence(self._function.body, [relax.VarBinding(self._frame, begin)])
        return with_body(self._function, body)

    def _sequence(
        self, seq: relax.SeqExpr, bindings: list[relax.Binding] | None = None
    ) -> relax.SeqExpr:
        out = bindings or []
        for block in seq.blocks:
            for binding in block.bindings:
                out.extend(self._binding(binding))
        return with_bindings(seq, out)

    def _binding(self, binding: relax.Binding) -> Iterator[relax.Binding]:
        value = binding.value
        if isinstance(value, relax.If):
            yield relax.VarBinding(binding.var, self._branches(value))
        elif isinstance(value, relax.Call):
            yield from self._call(binding, value)
        else:
            self._leaves.bind(binding)
            yield binding

    def _branches(self, value: relax.If) -> relax.If:
        before = dict(self._numbers)
        true_branch = self._sequence(value.true_branch)
        after_true = self._numbers
        self._numbers = dict(before)
        false_branch = self._sequence(value.false_branch)
        # A value is still valid after both branches if neither captured it anew or wrote to it.
        self._numbers = {
            leaf: number
            for leaf, number in before.items()
            if after_true.get(leaf) == number and self._numbers.get(leaf) == number
        }
        return with_branches(value, true_branch, false_branch)

    def _call(self, binding: relax.Binding, call: relax.Call) -> Iterator[relax.Binding]:
        found = operator_call(call, self._mod)
        site = _selected(self._mod, call, self._select)
        args: list[relax.Expr] = [] if found is None else list(found.args)
        results: list[relax.Expr] = [binding.var]
        read = []
        if site is not None and found is not None and reads_cache(found.unit):
            # The state of the cache is recorded in place of the cache.
            cache = [self._frame, StringImm(site.id), *args[:2]]
            before = relax.Var("before", relax.ObjectType())
            yield relax.VarBinding(before, packed_call(BEFORE, cache, before.ty))
            args[0] = before
            after = relax.Var("after", relax.ObjectType())
            read.append(relax.VarBinding(after, packed_call(AFTER, cache, after.ty)))
            self._states |= {before, after}
            if appends_to_cache(found.unit):
                results.append(after)
        if site is not None:
            yield from self._capture(_INPUTS, site, args)
        if is_creating_call(call):
            binding = relax.VarBinding(binding.var, self._logged(call))
        yield binding
        if may_write(call, found):
            self._numbers.clear()
        yield from read
        if site is not None:
            yield from self._capture(_OUTPUTS, site, results)

    def _logged(self, call: relax.Call) -> relax.Call:
        """Return a call that makes the same cache, with a log."""
        args = [relax.ExternFunc(MAKE_LOGGED), StringImm(self._name), *call.args[1:]]
        logged = relax.Call(call.op, args, attrs=call.attrs, ty_args=call.ty_args, span=call.span)
        relax.expr._update_type(logged, call.ty)
        return logged

    def _capture(
        self, intrinsic: str, site: Site, values: Iterable[relax.Expr]
    ) -> Iterator[relax.Binding]:
        args: list[relax.Expr] = [self._frame, StringImm(site.id)]
        for value in values:
            for leaf in self._leaves.of(value):
                token, access = self._token(leaf)
                args.append(StringImm(token))
                if access:
                    var, bindings = _access(leaf)
                    yield from bindings
                    args.append(var)
        yield relax.VarBinding(
            relax.Var("_", TupleType([])), packed_call(intrinsic, args, TupleType([]))
        )

    def _token(self, leaf: Leaf) -> tuple[str, bool]:
        """Return the capture token of a leaf, and whether its value must follow the token."""
        if isinstance(leaf.root, relax.Var) and leaf.root in self._states:
            return "*", True
        if isinstance(leaf.root, Constant):
            return f"@{self._name}.const{self._constant(leaf.root)}", True
        weight = self._weights.name(leaf)
        if weight is None and self._derives and isinstance(leaf.root, relax.Var):
            weight = ".".join((leaf.root.name, *map(str, leaf.path)))
        if weight is not None:
            return f"@{weight}", True
        if leaf in self._numbers:
            # The call that captured it may be left out in a frame.
            kind = "?" if self._every > 1 else "="
            return f"{kind}{self._numbers[leaf]}", self._every > 1
        number = self._values
        self._values += 1
        if isinstance(leaf.root, relax.Var):
            self._numbers[leaf] = number
        return f"+{number}", True

    def _constant(self, constant: relax.Expr) -> int:
        for index, other in enumerate(self._constants):
            if other.same_as(constant):
                return index
        self._constants.append(constant)
        return len(self._constants) - 1


def _access(leaf: Leaf) -> tuple[relax.Expr, list[relax.Binding]]:
    """Return a leaf of the IR for a value, with the bindings that take it out of its tuple."""
    expr = leaf.root
    if isinstance(expr, GlobalVar):
        return StringImm(expr.name_hint), []
    if isinstance(expr, relax.ExternFunc):
        return StringImm(expr.global_symbol), []
    return leaf.access()
