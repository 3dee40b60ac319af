"""Takes the module out of MLC-LLM's pipeline after its kernels are fused, before schedules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import tvm
from tvm import relax

from relax_tapml.errors import LoweringError, UsageError

PIPELINE = "mlc_llm"
LAST_BEFORE_SCHEDULES = "CleanUpTIRAttrs"
"""The pass of that pipeline after which kernels are fused and not yet scheduled."""

INSTALL = (
    "MLC-LLM is not on a package registry: build it from source or use its own wheel index, see "
    "https://llm.mlc.ai/docs/install/mlc_llm.html"
)

Metadata = Mapping[str, Any]
"""MLC's description of a model. Its item ``params`` has the ``name``, the ``shape`` (numbers, or
names of dimensions) and the ``dtype`` of each weight."""


@contextmanager
def each_module(
    use: Callable[[tvm.IRModule, Metadata], None],
    *,
    pipeline: str = PIPELINE,
    after: str = LAST_BEFORE_SCHEDULES,
) -> Iterator[None]:
    """Call ``use`` with the module of every compilation in the block, which then continues.

    An exception of ``use`` ends the compilation and leaves the block unchanged.

    Parameters
    ----------
    use
        Takes the module and MLC's metadata.
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
    use: Callable[[tvm.IRModule, Metadata], None],
    raised: list[Exception],
) -> Callable[..., Any]:
    """Return a factory of pipelines that call ``use`` and then run as before.

    An exception before the end of ``use`` is also added to ``raised``.
    """

    def factory(**arguments: Any) -> tvm.transform.Pass:
        inner = original(**arguments)
        metadata = arguments.get("metadata") or {}

        @tvm.transform.module_pass(opt_level=0, name="Carving")  # type: ignore[untyped-decorator]
        def outer(module: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
            try:
                taken = _taken(inner, module, after)
                # Not in the compilation's own context, whose options are for its target.
                with tvm.transform.PassContext():
                    use(taken, metadata)
            except Exception as error:
                raised.append(error)
                raise
            return inner(module)

        return outer

    return factory


class _Taken(Exception):  # noqa: N818 - it is not an error
    """Ends a pipeline after its module was taken."""


def _taken(inner: tvm.transform.Pass, module: tvm.IRModule, after: str) -> tvm.IRModule:
    """Run a pipeline up to the end of a pass, and return the module."""
    found: list[tvm.IRModule] = []

    @tvm.instrument.pass_instrument
    class Take:
        def run_after_pass(self, taken: tvm.IRModule, info: Any) -> None:
            if info.name == after and not found:
                found.append(taken)
                raise _Taken

    context = tvm.transform.PassContext.current()
    try:
        with tvm.transform.PassContext(
            opt_level=context.opt_level, config=dict(context.config), instruments=[Take()]
        ):
            inner(module)
    except Exception:
        if not found:
            raise
    if not found:
        raise LoweringError(
            f"the pipeline has no pass '{after}', after which its module is taken. Name another "
            "pass with after="
        )
    return found[0]
