"""The compiler that TVM uses for CUDA code, and its options.

TVM reads both from the environment. Its default, NVRTC, compiles one kernel at a time, about a
second each, because of a lock in the library; ``nvcc`` runs as one process for each kernel.

TVM passes ``--use_fast_math`` by default, under which ``powf`` of a negative number is NaN. Kernels
that are trusted are compiled without it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

_MODE = "TVM_CUDA_COMPILE_MODE"
_NO_FAST_MATH = "TVM_CUDA_NVCC_NO_FAST_MATH"
_PREFIX = "TVM_CUDA_"
_NVRTC = "cuda.bindings.nvrtc"
_FAST_MATH = "--use_fast_math"


@contextmanager
def cuda_compiler(*, is_accurate: bool = False) -> Iterator[dict[str, str]]:
    """Let CUDA kernels be compiled in parallel: by ``nvcc``, where there is one.

    A mode that the user has set in ``TVM_CUDA_COMPILE_MODE`` is kept. The environment is restored
    afterwards.

    Parameters
    ----------
    is_accurate
        Whether kernels are compiled without fast math, whatever the user has set.

    Yields
    ------
    dict
        Everything in the environment that affects how a kernel is compiled, for its cache key.
    """
    before = {name: os.environ.get(name) for name in (_MODE, _NO_FAST_MATH)}
    if _MODE not in os.environ and shutil.which("nvcc") is not None:
        os.environ[_MODE] = "nvcc"
    if is_accurate:
        os.environ[_NO_FAST_MATH] = "1"
    is_nvrtc = os.environ.get(_MODE) != "nvcc"
    try:
        with _nvrtc_without_fast_math() if is_accurate and is_nvrtc else nullcontext():
            yield {name: value for name, value in os.environ.items() if name.startswith(_PREFIX)}
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def found_compiler() -> str | None:
    """Return where ``nvcc`` or NVRTC's Python package is; None if there is neither."""
    found = shutil.which("nvcc")
    if found is not None:
        return found
    try:
        spec = importlib.util.find_spec(_NVRTC)
    except ModuleNotFoundError:
        return None
    return None if spec is None else str(spec.origin)


def fast_math_option() -> str | None:
    """Return the compiler option for fast and less accurate functions; None if it is not used.

    TVM passes it to ``nvcc`` unless ``TVM_CUDA_NVCC_NO_FAST_MATH`` is set, and always to NVRTC.
    """
    compiler = os.environ.get(_MODE) or ("nvcc" if shutil.which("nvcc") else "nvrtc")
    if compiler == "nvcc" and os.environ.get(_NO_FAST_MATH):
        return None
    return f"{compiler} {_FAST_MATH}"


@contextmanager
def _nvrtc_without_fast_math() -> Iterator[None]:
    """Take the option out of what NVRTC is given.

    TVM 0.26 and 0.27 always give it, after everything that the environment can add, and no later
    option undoes what it does to ``powf``. Delete this when they have a setting for it.
    """
    try:
        nvrtc: Any = importlib.import_module(_NVRTC)
    except ImportError:  # TVM says what to install when it wants to compile.
        yield
        return
    original = nvrtc.nvrtcCompileProgram

    def compile_program(program: Any, _count: int, options: Sequence[bytes]) -> Any:
        kept = [option for option in options if option != _FAST_MATH.encode()]
        return original(program, len(kept), kept)

    nvrtc.nvrtcCompileProgram = compile_program
    try:
        yield
    finally:
        nvrtc.nvrtcCompileProgram = original
