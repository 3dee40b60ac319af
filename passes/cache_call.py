"""Calls that read the state of a KV cache."""

from __future__ import annotations

from .operator_call import OperatorCall

_PREFIX = "vm.builtin.attention_kv_cache_"
_READING = {
    f"{_PREFIX}{name}" for name in ("attention_with_fused_qkv", "self_attention", "cross_attention")
}

SEQUENCE = 0
"""Id of the one sequence whose state TVM's caches can export and import."""

BEFORE = "relax_tapml.cache.before"
AFTER = "relax_tapml.cache.after"
"""Functions that read a cache before and after a recorded call; see ``cache_state.cc``."""


def reads_cache(call: OperatorCall) -> bool:
    """Return whether a call takes a KV cache and a layer, and depends on the cache's content."""
    return call.unit in _READING
