"""Calls that read the state of a KV cache."""

from __future__ import annotations

_PREFIX = "vm.builtin.attention_kv_cache_"
_APPENDING = f"{_PREFIX}attention_with_fused_qkv"
_READING = {_APPENDING, f"{_PREFIX}self_attention", f"{_PREFIX}cross_attention"}

BEFORE = "relax_tapml.cache.before"
AFTER = "relax_tapml.cache.after"
"""Functions that read a cache before and after a recorded call; see ``cache_state.cc``."""

MAKE_LOGGED = "relax_tapml.cache.create"
"""Makes a cache with a log of what changes it; takes the name of the function that does."""


def reads_cache(unit: str) -> bool:
    """Return whether calls of a unit take a KV cache and a layer, and depend on its state."""
    return unit in _READING


def appends_to_cache(unit: str) -> bool:
    """Return whether calls of a unit add keys and values to the KV cache that they read."""
    return unit == _APPENDING
