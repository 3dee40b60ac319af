"""Models of MLC-LLM, taken out of its own compile flow: after fusion, before target schedules.

It needs one line around the call in a build script; MLC is neither forked nor patched::

    with relax_tapml.mlc.carving("dist/llama", prompts=[[1, 5, 9, 2]], target="cuda"):
        mlc_llm.interface.compile.compile(...)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import tvm

from relax_tapml.arrays import Array
from relax_tapml.bringup.main_job import bring_up
from relax_tapml.bringup.options import OptionFields
from relax_tapml.frontend.mlc_compat import tvm_for_mlc
from relax_tapml.frontend.mlc_drive import mlc_drive
from relax_tapml.frontend.mlc_model import mlc_model, prompt_sample
from relax_tapml.frontend.mlc_pipeline import (
    LAST_BEFORE_SCHEDULES,
    PIPELINE,
    Taken,
    each_module,
)
from relax_tapml.frontend.model import Model
from relax_tapml.frontend.paged_drive import PagedDrive
from relax_tapml.results.run_result import RunResult

__all__ = ["Carved", "carving", "tvm_for_mlc"]


@dataclass
class Carved:
    """The results of a compilation within ``carving``.

    Parameters
    ----------
    model
        The model as it was run; None before a compilation.
    result
        The result of ``bring_up``.
    """

    model: Model | None = None
    result: RunResult | None = None


@contextmanager
def carving(
    out: Path | str,
    *,
    prompts: Sequence[Sequence[int]],
    following: Sequence[int] = (),
    params: Mapping[str, Array] | None = None,
    dims: Mapping[str, int] | None = None,
    drive: PagedDrive | None = None,
    pipeline: str = PIPELINE,
    after: str = LAST_BEFORE_SCHEDULES,
    resume: bool = False,
    force: bool = False,
    **options: Unpack[OptionFields],
) -> Iterator[Carved]:
    """Bring up every model that is compiled within the block; its compilation then continues.

    Parameters
    ----------
    out
        The output folder of the run.
    prompts
        Token ids of each sample.
    following
        Token ids that are decoded after each prompt.
    params
        Weights by MLC's names; random ones by default.
    dims
        Extents of dimensions that MLC leaves open, such as ``vocab_size``, for random weights.
    drive
        Runs a sample; by default all scenarios that the model allows, as MLC's runtime would.
    pipeline, after
        Name of the registered pipeline, and of the pass in it after which the module is taken.
    resume, force, options
        Of ``relax_tapml.bring_up``: ``target``, ``session``, ``strategy``, ``device_pipeline``, ...

    Raises
    ------
    UsageError
        No such pipeline is registered: MLC-LLM is not imported, or has another version.
    LoweringError
        The pipeline ended without that pass.
    """
    carved = Carved()

    def bring(taken: Taken) -> None:
        samples = [
            prompt_sample(f"prompt {number}", prompt, following)
            for number, prompt in enumerate(prompts)
        ]
        target = tvm.target.Target.current(allow_none=True)
        carved.model = mlc_model(
            taken,
            name="MLC model",
            samples=samples,
            drive=drive or mlc_drive(taken.module, taken.metadata, samples, target),
            params=params,
            dims=dims,
        )
        carved.result = bring_up(carved.model, out=Path(out), resume=resume, force=force, **options)

    with each_module(bring, pipeline=pipeline, after=after):
        yield carved
