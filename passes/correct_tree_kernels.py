"""Set right what TVM does wrong with the kernels that a KV cache for CPUs has for token trees.

Upstream: reported in ``docs/upstream/tree_attention_on_cpus.md``; TVM 0.26 and 0.27, target llvm,
``tvm/relax/frontend/nn/llm/``.

- ``kv_cache.py``, ``TIRPagedKVCache``: the runtime reads argument 20 of
  ``vm.builtin.paged_attention_kv_cache_create`` as the kernel for trees that attend to pages, and
  21 as the one for trees that attend to themselves. For llvm they are passed the other way round.
  Symptom: the first token tree raises, since a kernel gets the other one's arguments.
- ``tree_attn.py``, ``_check_tree_order``: the order of the tree is read at a negative place for
  each token before the tree, since ``tirx.any`` computes all of its arguments. Symptom: with a tree
  that is in the cache the process ends, or not, by what lies before the tensor.

Delete this file when TVM has both right.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.ir import GlobalVar
from tvm.relax.expr_functor import PyExprMutator, mutator

from relax_tapml._compat import TensorLoad, buffer_of

from .cache_creation import CacheCreation, CacheKernel, cache_creations, creating_calls, pages_shape
from .module_pass import ModulePass
from .notes import Note, with_notes

_TREE = (CacheKernel.TREE_PAGED, CacheKernel.TREE_RAGGED)
_ORDER = "tree_order"


@tvm.transform.module_pass(opt_level=0, name="CorrectTreeKernels")
class CorrectTreeKernels(ModulePass):
    """Pass the kernels for token trees in the right order, and let them read inside their tensor.

    What a kernel is for is decided by its parameters: pages have five dimensions. Kernels that bind
    threads stay as they are: the order is right for GPUs. A module that is changed gets a note,
    since TVM alone builds it as it was; any other is returned as it is. Run before
    ``OutlineRuntimeCallbacks``. ::

        R.call_pure_packed("vm.builtin.paged_attention_kv_cache_create", ...,
            ("tirx", cls.batch_tree_attn), ("tirx", cls.tree_attn_paged_kv_cpu), ...)
        # after
        R.call_pure_packed("vm.builtin.paged_attention_kv_cache_create", ...,
            ("tirx", cls.tree_attn_paged_kv_cpu), ("tirx", cls.batch_tree_attn), ...)
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        out, notes = mod.clone(), []
        for made in cache_creations(mod):
            if not _is_swapped(made, mod):
                continue
            out.update_func(made.gvar, _in_order(mod[made.gvar]))
            kernels = [gvar for role in _TREE for gvar in made.kernels[role]]
            for gvar in kernels:
                out.update_func(gvar, _bounded(mod[gvar]))
            notes.append(_note(made, kernels))
        return with_notes(out, notes) if notes else mod


def _is_swapped(made: CacheCreation, mod: tvm.IRModule) -> bool:
    paged, ragged = (made.kernels.get(role, ()) for role in _TREE)
    if len(paged) != 1 or len(ragged) != 1:
        return False
    return not pages_shape(mod[paged[0]]) and bool(pages_shape(mod[ragged[0]]))


def _in_order(function: relax.Function) -> relax.Function:
    turned = _Turned(list(creating_calls(function)))
    return turned.visit_expr(function)


@mutator
class _Turned(PyExprMutator):  # type: ignore[misc]
    """Exchange the two kernels in calls; ``structural_map`` cannot copy all constants of 0.26."""

    def __init__(self, calls: Sequence[relax.Call]) -> None:
        super().__init__()
        self.calls = calls

    def visit_call_(self, call: relax.Call) -> relax.Call:
        if not any(call.same_as(one) for one in self.calls):
            return call
        args = list(call.args)
        first, second = (role + 1 for role in _TREE)
        args[first], args[second] = args[second], args[first]
        changed = relax.Call(call.op, args, call.attrs, call.ty_args, call.span)
        relax.expr._update_type(changed, call.ty)
        return changed


def _bounded(kernel: tirx.PrimFunc) -> tirx.PrimFunc:
    """Return a kernel that reads the order of a tree at no negative place."""

    def bounded(load: TensorLoad) -> TensorLoad:
        buffer = buffer_of(load)
        if buffer.name != _ORDER:
            return load
        place, *rest = load.indices
        return tirx.BufferLoad(buffer, [tirx.max(place, 0), *rest])

    return tvm_ffi.structural_map(kernel, (TensorLoad, bounded))


def _note(made: CacheCreation, kernels: Iterable[GlobalVar]) -> Note:
    names = sorted(gvar.name_hint for gvar in kernels)
    text = (
        f"TVM passes the kernels for token trees on CPUs ({' and '.join(names)}) to the KV cache "
        f"of {made.gvar.name_hint} in the wrong order, and one reads outside its tensor. This run "
        "has both right; in the module as TVM builds it, the first token tree fails"
    )
    return Note(text, tuple(names))
