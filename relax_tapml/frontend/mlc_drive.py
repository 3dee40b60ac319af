"""How MLC's runtime would run a model, read from its module and metadata."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import tvm
from tvm import relax

from relax_tapml.errors import UsageError
from relax_tapml.frontend.mlc_pipeline import Metadata
from relax_tapml.frontend.model import Sample
from relax_tapml.frontend.paged_drive import PagedDrive
from relax_tapml.frontend.paged_engine import SlidingWindow
from relax_tapml.passes.call_loose_kernels import CallLooseKernels

_BATCH = 3
"""The most sequences at once, if the model takes as many."""


def mlc_drive(
    module: tvm.IRModule,
    metadata: Metadata,
    samples: Iterable[Sample],
    target: tvm.target.Target | None = None,
) -> PagedDrive:
    """Return a drive with all scenarios that a model allows.

    The longest prompt is prefilled in at least two parts, of which the second attends to tokens in
    the cache, with other kernels than the first. Sequences have the window that the model has.

    Parameters
    ----------
    module, metadata
        From ``each_module``.
    samples
        Of ``prompt_sample``.
    target
        What the module was compiled for, if that is known.

    Raises
    ------
    UsageError
        The model is no decoder with a paged KV cache.
    """
    half = -(-max(sample.arrays[0].shape[1] for sample in samples) // 2)
    limit = _positive(metadata, "prefill_chunk_size", half)
    size = _positive(metadata, "sliding_window_size", 0)
    drive = PagedDrive(
        is_flat=True,
        chunk=min(half, limit),
        batch=min(_BATCH, _positive(metadata, "max_batch_size", _BATCH)),
        window=SlidingWindow(size=size, sink=_sink(metadata, size)) if size else None,
    )
    functions = {
        gvar.name_hint
        for gvar, function in module.functions_items()
        if isinstance(function, relax.Function)
    }
    missing = {drive.embed, drive.prefill, drive.decode, drive.create} - functions
    if missing:
        raise UsageError(
            f"{metadata.get('model_type', 'the model')} has no {', '.join(sorted(missing))}: only "
            "decoders with a paged KV cache are run without a drive of your own. For others, use "
            "relax_tapml.mlc.carving(drive=...) in a build script of MLC"
        )
    return drive.with_all(CallLooseKernels()(module), target)


def for_batches(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config of a model that takes several sequences at once.

    Where a config does not say how many, as those of Hugging Face do not, MLC's models take one,
    and compilers plan memory for that. One that says it stays as it is.
    """
    inner = config.get("model_config")
    if "max_batch_size" in config or "max_batch_size" in (inner or {}):
        return dict(config)
    if isinstance(inner, dict):
        return {**config, "model_config": {**inner, "max_batch_size": _BATCH}}
    return {**config, "max_batch_size": _BATCH}


def _positive(metadata: Metadata, name: str, otherwise: int) -> int:
    value = int(metadata.get(name) or -1)
    return value if value > 0 else otherwise


def _sink(metadata: Metadata, size: int) -> int:
    return min(_positive(metadata, "attention_sink_size", 0), max(0, size - 1))
