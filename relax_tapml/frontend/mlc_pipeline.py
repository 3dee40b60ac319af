"""Takes the module out of MLC-LLM's pipeline after its kernels are fused, before schedules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax

from relax_tapml.errors import LoweringError, UsageError
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.frontend.mlc_compat import FITTING, tvm_for_mlc
from relax_tapml.passes.notes import Note, with_notes
from relax_tapml.printable import error_text

PIPELINE = "mlc_llm"
LAST_BEFORE_SCHEDULES = "CleanUpTIRAttrs"
"""The pass of that pipeline after which kernels are fused and not yet scheduled."""

INSTALL = (
    "MLC-LLM is not on a package registry: take its source or use its own wheel index, see "
    f"https://llm.mlc.ai/docs/install/mlc_llm.html. With TVM {tvm.__version__} use {FITTING}"
)

Metadata = Mapping[str, Any]
"""MLC's description of a model. Its item ``params`` has the ``name``, the ``shape`` (numbers, or
names of dimensions) and the ``dtype`` of each weight."""

_LIBRARIES = ("flashinfer", "cublas_gemm", "faster_transformer")
"""Arguments of the pipeline that choose libraries of the platform it compiles for."""

_OTHER_CUT = ("FuseAddRMSNorm",)
"""Passes for some targets only that divide the model into other kernels than without them."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What was taken out of a compilation.

    Parameters
    ----------
    module
        Fused and not scheduled, for the target of the compilation.
    metadata
        MLC's.
    for_target
        Runs the pipeline again for another target, on the module and the metadata that it was
        given, and returns the module as it is after the same pass. Libraries of the platform
        (FlashInfer, cuBLAS) are off, as are passes that would divide the model into other kernels
        than ``module`` has; its notes (``relax_tapml.passes.notes``) name them. The context is
        that of the compilation, but for the target. Raises ``LoweringError`` where the pipeline
        fails for that target.
    """

    module: tvm.IRModule
    metadata: Metadata
    for_target: Callable[[Any], tvm.IRModule]


@contextmanager
def each_module(
    use: Callable[[Taken], None],
    *,
    pipeline: str = PIPELINE,
    after: str = LAST_BEFORE_SCHEDULES,
) -> Iterator[None]:
    """Call ``use`` with what was taken out of every compilation in the block, which then continues.

    In the block TVM has what MLC expects of it (``tvm_for_mlc``).

    An exception of ``use`` ends the compilation and leaves the block unchanged.

    Parameters
    ----------
    use
        Takes the module, MLC's metadata, and the way to make the module for another target.
    pipeline, after
        Name of the registered pipeline, and of the pass in it after which the module is taken.

    Raises
    ------
    UsageError
        No such pipeline is registered: MLC-LLM is not imported, or has another version.
    LoweringError
        The pipeline ended without that pass.
    """
    registered = relax.pipeline.PIPELINE_MAP
    if pipeline not in registered:
        raise UsageError(
            f"no Relax pipeline '{pipeline}' is registered; registered are: "
            f"{', '.join(sorted(registered))}. Import mlc_llm first. {INSTALL}"
        )
    original = registered[pipeline]
    raised: list[Exception] = []
    registered[pipeline] = _wrapped(original, after, use, raised)
    try:
        with tvm_for_mlc():
            yield
    except Exception as error:
        # TVM replaces an exception by one of another class.
        if raised and error is not raised[0]:
            raise raised[0] from error
        raise
    finally:
        registered[pipeline] = original


def _wrapped(
    original: Callable[..., Any],
    after: str,
    use: Callable[[Taken], None],
    raised: list[Exception],
) -> Callable[..., Any]:
    """Return a factory of pipelines that call ``use`` and then run as before.

    An exception before the end of ``use`` is also added to ``raised``.
    """

    def factory(**arguments: Any) -> tvm.transform.Pass:
        inner = original(**arguments)
        metadata = arguments.get("metadata") or {}
        # Passes of the pipeline add to it.
        original_metadata = deepcopy(metadata)

        @tvm.transform.module_pass(opt_level=0, name="Carving")  # type: ignore[untyped-decorator]
        def outer(module: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
            context = _Context.current()
            given = module.clone()
            ran: set[str] = set()

            def for_target(target: Any) -> tvm.IRModule:
                changed = {**arguments, **{name: False for name in _LIBRARIES if name in arguments}}
                changed |= {"target": target} if "target" in arguments else {}
                if "metadata" in arguments:
                    changed["metadata"] = deepcopy(original_metadata)
                off = [name for name in _OTHER_CUT if name not in ran]
                try:
                    with tvm_for_mlc(), target:
                        made = _taken(original(**changed), given, after, context, off)
                except Exception as error:
                    raise_machine_error(error, f"making the module for {target}")
                    raise LoweringError(
                        f"the pipeline that made the module fails for the target {target}: "
                        f"{error_text(error)}"
                    ) from error
                notes = [_note(name) for name in made.off]
                return with_notes(made.module, notes)

            try:
                first = _taken(inner, given, after, context)
                ran.update(first.ran)
                # Not in the compilation's own context, whose options are for its target.
                with tvm.transform.PassContext():
                    use(Taken(module=first.module, metadata=metadata, for_target=for_target))
            except Exception as error:
                raised.append(error)
                raise
            return inner(module)

        return outer

    return factory


@dataclass(frozen=True)
class _Context:
    """The options of a ``PassContext``, which is no longer valid when its block has ended."""

    opt_level: int
    config: Mapping[str, Any]

    @staticmethod
    def current() -> _Context:
        current = tvm.transform.PassContext.current()
        return _Context(current.opt_level, dict(current.config))


class _Enough(Exception):  # noqa: N818 - it is not an error
    """Ends a pipeline after its module was taken."""


@dataclass(frozen=True, kw_only=True)
class _Run:
    """A run of a pipeline: its module, the passes that ran, and those that were skipped as off."""

    module: tvm.IRModule
    ran: set[str]
    off: list[str]


def _taken(
    inner: tvm.transform.Pass,
    module: tvm.IRModule,
    after: str,
    context: _Context,
    off: Sequence[str] = (),
) -> _Run:
    """Run a pipeline on a copy of a module up to the end of a pass, without passes that are off.

    A copy, because some of MLC's passes change the module that they are given.
    """
    found: list[tvm.IRModule] = []
    ran: set[str] = set()
    skipped: list[str] = []

    @tvm.instrument.pass_instrument
    class Take:
        def should_run(self, _module: tvm.IRModule, info: Any) -> bool:
            if info.name not in off:
                return True
            skipped.append(info.name)
            return False

        def run_after_pass(self, taken: tvm.IRModule, info: Any) -> None:
            ran.add(info.name)
            if info.name == after and not found:
                found.append(taken)
                raise _Enough

    try:
        with tvm.transform.PassContext(
            opt_level=context.opt_level, config=dict(context.config), instruments=[Take()]
        ):
            inner(module.clone())
    except Exception:
        if not found:
            raise
    if not found:
        raise LoweringError(
            f"the pipeline has no pass '{after}', after which its module is taken. Name another "
            "pass with after="
        )
    return _Run(module=found[0], ran=ran, off=skipped)


def _note(name: str) -> Note:
    return Note(
        f"pass {name} of MLC-LLM was left out: it did not run for the source, and the kernels of "
        "both targets would not correspond"
    )
