"""Use the weights in a capture store in place of those in memory."""

from __future__ import annotations

import ctypes
import dataclasses
import gc
from contextlib import suppress

from relax_tapml.arrays import Array, are_same_arrays
from relax_tapml.bringup.trusted_source import Trusted
from relax_tapml.capture.store import CaptureStore
from relax_tapml.files.mapped import drop_pages

_LEAST_FREED_BYTES = 1 << 26


def with_stored_weights(trusted: Trusted, store: CaptureStore) -> Trusted:
    """Return the same source with its weights as the store has them: mapped, not held.

    Host, device process and bundle then share the pages of these files. The framework's own run is
    left out; it has been compared, and has the framework's weights. Weights that the store lacks,
    or has with another content because the model overwrote them, stay as they are. Derived weights
    of a source on a CPU are taken from the store too, and not computed again.

    Parameters
    ----------
    trusted
        The source; it uses the weights of the store from now on.
    store
        Of ``capture``.

    Raises
    ------
    StoreError
        The store is damaged.
    """
    built = trusted.built
    names = set(store.parameters())
    params = {
        name: _stored(store, name, array) if name in names else array
        for name, array in built.model.params.items()
    }
    model = dataclasses.replace(built.model, params=params, reference=None, accurate=None)
    derived = {
        name: _checked(store.parameter(name, verify=True))
        for name in names & built.source.derived_names
    }
    built.source.take_model(model, derived, built.lowered.module)
    return dataclasses.replace(trusted, built=dataclasses.replace(built, model=model))


def free_memory(store: CaptureStore) -> None:
    """Give back to the system what nobody refers to any more, if the model's weights are large."""
    if store.stats().parameter_bytes < _LEAST_FREED_BYTES:
        return
    gc.collect()  # A module of a framework is full of cycles.
    with suppress(OSError, AttributeError):  # Another C library than glibc.
        ctypes.CDLL(None).malloc_trim(0)


def _stored(store: CaptureStore, name: str, array: Array) -> Array:
    stored = store.parameter(name)
    return _checked(stored) if are_same_arrays([stored], [array]) else array


def _checked(stored: Array) -> Array:
    """Return an array that has been read once; it takes no memory until it is read again."""
    drop_pages(stored)
    return stored
