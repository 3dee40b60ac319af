"""Calls that read the state of a KV cache."""

from __future__ import annotations

from .operator_call import OperatorCall

_PREFIX = "vm.builtin.attention_kv_cache_"
_READING = {
    f"{_PREFIX}{name}" for name in ("attention_with_fused_qkv", "self_attention", "cross_attention")
}

CREATE = "vm.builtin.paged_attention_kv_cache_create"
"""Makes a cache; its first argument says how large."""

SEQUENCE = 0
"""Id of the sequence whose state TVM's caches can give out and take in; they have no other."""

BEFORE = "relax_tapml.cache.before"
AFTER = "relax_tapml.cache.after"
"""What a recording reads of a cache around a call; their arguments are in ``cache_state.cc``."""


def reads_cache(call: OperatorCall) -> bool:
    """Whether a call takes a KV cache and the number of a layer, and depends on what is in it."""
    return call.unit in _READING
