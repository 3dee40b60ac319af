"""A call that reads a KV cache, on a cache that is brought into the state that the call found.

What happened to the sequences happens again, but for computing anything: passes that append tokens
are begun and ended, which gives each sequence its pages. Then the recorded keys and values are put
into the pages of the call's layer, and the call is made. So the sequences share what they shared,
and have the pages that they had, under whatever numbers. ::

    cache = R.call_pure_packed("vm.builtin.paged_attention_kv_cache_create", R.shape([2, ...]), ...)
    R.call_packed("vm.builtin.kv_state_add_sequence", cache, 0)
    R.call_packed("vm.builtin.kv_state_begin_forward", cache, R.shape([0]), R.shape([20]))
    R.call_packed("vm.builtin.kv_state_end_forward", cache)
    R.call_packed("vm.builtin.kv_state_fork_sequence", cache, 0, 1, 13)
    R.call_packed("vm.builtin.attention_kv_cache_debug_get_kv", cache, 0, 0, 20, keys, values)
    R.call_packed("vm.builtin.attention_kv_cache_debug_get_kv", cache, 1, 0, 13, keys_1, values_1)
    R.call_packed("vm.builtin.kv_state_begin_forward", cache, R.shape([0, 1]), R.shape([1, 1]))
    # The call, and debug_get_kv of each sequence, for what it has left.

The cache has one layer, of the kind of the call's layer. Its kernels are the module's, except that
what shows its content (``CacheKernel.DEBUG``) exchanges it with that of its arguments.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import tvm
from tvm import relax, tirx
from tvm.ir import TupleType

from relax_tapml.capture.cache_state import CacheEvent, CacheState, Happening, Tokens
from relax_tapml.carve.unit.exchange_kernel import exchange_name
from relax_tapml.errors import NotCarvableError
from relax_tapml.passes.cache_creation import (
    AttentionKind,
    CacheCreation,
    CacheKernel,
    cache_creations,
    is_creating_call,
)
from relax_tapml.passes.outline_runtime_callbacks import inline_runtime_callbacks
from relax_tapml.passes.value_leaves import bindings_in

_COPY = relax.ExternFunc("runtime.TVMTensorCopyFromTo")
_COPYING = (Happening.FORK, Happening.POP)
"""Where a cache may copy a page: both may part sequences in the middle of one."""

_LAYER = 1
"""Number of the only layer. Layer 0 belongs to another cache, and has full attention: of layers
that have another kind, TVM does not show the content, and looks at the kinds from 0 on."""


class CacheCase:
    """Emits what a case does to a cache, before and after its call.

    Parameters
    ----------
    builder
        Where to; within an impure function.
    lowered
        The module, from ``with_exchange_kernels``.
    state
        The state that the call found.
    layer
        The layer of the call.

    Raises
    ------
    NotCarvableError
        The module makes its caches in a way that cannot be repeated.
    """

    def __init__(
        self, builder: relax.BlockBuilder, lowered: tvm.IRModule, state: CacheState, layer: int
    ) -> None:
        self._builder = builder
        self._state = state
        self._cache = self._emit_creation(lowered, layer)

    def emit_state(self, before: Sequence[tuple[relax.Var, relax.Var]]) -> list[relax.Expr]:
        """Emit what leads to the state, with the pass begun; return the cache and the layer.

        Parameters
        ----------
        before
            Keys and values of each sequence that has tokens.
        """
        for event in self._state.events[:-1]:
            self._emit_event(event)
        if before and _copies_pages(self._state):
            self._wait_for_copies()
        tokens = iter(before)
        held = zip(self._state.batch.sequences, self._state.held, strict=True)
        for sequence, count in held:
            if count:
                keys, values = (emit_held(self._builder, item) for item in next(tokens))
                self._exchange(sequence, count, keys, values)
        self._begin(self._state.batch)
        return [self._cache, relax.prim_value(_LAYER)]

    def emit_end(self, after: Sequence[Tokens]) -> list[relax.Var]:
        """Emit the end of the pass; return keys and values of each sequence, if asked for."""
        found = []
        for sequence, tokens in zip(self._state.batch.sequences, after, strict=False):
            pair = [self._room(tokens.keys.shape, tokens.keys.dtype) for _ in range(2)]
            self._exchange(sequence, tokens.keys.shape[1], *pair)
            # Another sequence may share them.
            copies = [emit_held(self._builder, one) for one in pair]
            self._exchange(sequence, tokens.keys.shape[1], *copies)
            found += pair
        self._call("kv_state_end_forward", self._cache)
        return found

    def _emit_creation(self, lowered: tvm.IRModule, layer: int) -> relax.Var:
        maker = self._maker(lowered)
        function = inline_runtime_callbacks(lowered[maker.gvar], lowered)
        emitted = _Emitted()
        for binding in bindings_in(function.body):
            value = binding.value
            is_made = isinstance(value, relax.Call) and is_creating_call(value)
            if is_made:
                value = self._one_layer(lowered, maker, value, layer)
            value = emitted.visit_expr(value)
            if emitted.unknown:
                raise NotCarvableError(
                    f"{maker.gvar.name_hint}, which makes its KV cache, takes "
                    f"{', '.join(sorted(emitted.unknown))} for more than sizes"
                )
            emitted.known[binding.var] = self._builder.emit(value, binding.var.name)
            if is_made:
                return emitted.known[binding.var]
        raise NotCarvableError(f"{maker.gvar.name_hint} makes no KV cache")

    def _maker(self, lowered: tvm.IRModule) -> CacheCreation:
        for maker in cache_creations(lowered):
            if maker.gvar.name_hint == self._state.maker:
                return maker
        raise NotCarvableError(f"no function {self._state.maker} makes KV caches from plain shapes")

    def _one_layer(
        self, lowered: tvm.IRModule, maker: CacheCreation, call: relax.Call, layer: int
    ) -> relax.Call:
        """Return a call that makes a cache of one layer, with room for what the case does."""
        kinds = [AttentionKind.FULL, _kind(maker, layer)]
        if AttentionKind.SLIDING in maker.kinds:
            # It makes a difference to the other layers, too.
            kinds.append(AttentionKind.SLIDING)
        args = list(call.args)
        args[1] = relax.ShapeExpr(self._sizes())
        args[2] = relax.ShapeExpr([_LAYER, _LAYER + 1])
        args[7] = relax.ShapeExpr(kinds)
        try:
            exchange = lowered.get_global_var(exchange_name(maker))
        except ValueError:
            raise NotCarvableError("the shape of the pages of its KV cache is not known") from None
        args[CacheKernel.DEBUG + 1] = exchange
        return relax.Call(call.op, args, attrs=call.attrs, ty_args=call.ty_args, span=call.span)

    def _sizes(self) -> list[int]:
        """Return sizes with no more room than the case needs, with ``_wait_for_copies``."""
        state = self._state
        added = [e for e in state.events if e.what in (Happening.ADD, Happening.FORK)]
        pages = 1 + sum(event.what in _COPYING for event in state.events)
        pages += sum(_pages(state))
        sizes = [
            len(added) + 1,
            pages * state.page_size,
            sum(state.batch.numbers),
            *state.config[3:],
        ]
        return [max(1, size) if place < 3 else size for place, size in enumerate(sizes)]

    def _emit_event(self, event: CacheEvent) -> None:
        sequences = [relax.prim_value(sequence) for sequence in event.sequences]
        numbers = [relax.prim_value(number) for number in event.numbers]
        match event.what:
            case Happening.FORWARD:
                self._begin(event)
                self._call("kv_state_end_forward", self._cache)
            case Happening.ADD:
                self._call("kv_state_add_sequence", self._cache, *sequences)
            case Happening.REMOVE:
                self._call("kv_state_remove_sequence", self._cache, *sequences)
            case Happening.FORK:
                self._call("kv_state_fork_sequence", self._cache, *sequences, *numbers)
            case Happening.POP:
                self._call("kv_state_popn", self._cache, *sequences, *numbers)
            case Happening.WINDOW:
                slide = "attention_kv_cache_enable_sliding_window_for_seq"
                self._call(slide, self._cache, *sequences, *numbers)

    def _begin(self, event: CacheEvent) -> None:
        shapes = [event.sequences, event.numbers]
        if event.tree is not None:
            shapes.append(event.tree)
        self._call("kv_state_begin_forward", self._cache, *map(relax.ShapeExpr, shapes))

    def _wait_for_copies(self) -> None:
        """Let what comes after wait for pages that were copied.

        On GPUs a cache copies them in a stream of its own, for which the others wait where a pass
        computes something. They are copies of what was never written, and must not come after the
        tokens that the case puts there. A pass of a sequence for this alone needs little memory.
        """
        used = {sequence for event in self._state.events for sequence in event.sequences}
        other = 1 + max(used)
        self._emit_event(CacheEvent(what=Happening.ADD, sequences=(other,), numbers=()))
        self._begin(CacheEvent(what=Happening.FORWARD, sequences=(other,), numbers=(1,)))
        self._call("attention_kv_cache_get_query_positions", self._cache)
        self._call("kv_state_end_forward", self._cache)
        self._emit_event(CacheEvent(what=Happening.REMOVE, sequences=(other,), numbers=()))

    def _exchange(self, sequence: int, count: int, keys: relax.Var, values: relax.Var) -> None:
        place = [relax.prim_value(number) for number in (sequence, 0, count)]
        self._call("attention_kv_cache_debug_get_kv", self._cache, *place, keys, values)

    def _room(self, shape: Sequence[int], dtype: str) -> relax.Var:
        return self._builder.emit(
            relax.op.builtin.alloc_tensor(relax.ShapeExpr(shape), dtype, 0), "tokens"
        )

    def _call(self, builtin: str, *args: relax.Expr) -> None:
        callee = relax.ExternFunc(f"vm.builtin.{builtin}")
        # TVM's VM needs a place for what a call returns if the call runs a function of the module,
        # as it does where the cache's kernels are outlined.
        self._builder.emit(relax.Call(callee, args, ty_args=[relax.ObjectType()]), "_")


@relax.expr_functor.mutator
class _Emitted(relax.PyExprMutator):  # type: ignore[misc]
    """Puts variables of another function in the place of the variables that they stand for."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[relax.Var, relax.Var] = {}
        self.unknown: set[str] = set()

    def visit_var_(self, var: relax.Var) -> relax.Expr:
        if var not in self.known:
            self.unknown.add(var.name)
        return self.known.get(var, var)

    visit_dataflow_var_ = visit_var_


def layer_of(arg: relax.Expr) -> int:
    """Return the layer of a call. Raises ``NotCarvableError`` if it is no literal."""
    value = getattr(arg, "value", arg)
    if isinstance(value, tirx.IntImm):
        value = value.value
    if not isinstance(value, int):
        raise NotCarvableError(f"its layer {arg} is no literal")
    return int(value)


def emit_held(builder: relax.BlockBuilder, tensor: relax.Var) -> relax.Var:
    """Emit a copy of a tensor that an object may keep, and may change.

    A parameter that comes by RPC is but a view, which functions of the runtime refuse.
    """
    room = relax.op.builtin.alloc_tensor(tensor.ty.shape, str(tensor.ty.dtype), 0)
    held = builder.emit(room, "held")
    builder.emit(relax.Call(_COPY, [tensor, held], ty_args=[TupleType([])]), "_")
    return held


def _copies_pages(state: CacheState) -> bool:
    return any(event.what in _COPYING for event in state.events)


def _kind(maker: CacheCreation, layer: int) -> int:
    return maker.kinds[layer] if layer < len(maker.kinds) else AttentionKind.FULL


def _pages(state: CacheState) -> Iterator[int]:
    """Yield how many pages each sequence needs at most."""
    parts: Counter[int] = Counter()
    tokens: Counter[int] = Counter()
    for event in state.events:
        if event.what is Happening.FORWARD:
            for sequence, count in event.added:
                parts[sequence] += 1  # Each may begin a page.
                tokens[sequence] += count
    for sequence, count in tokens.items():
        yield -(-count // state.page_size) + parts[sequence]
