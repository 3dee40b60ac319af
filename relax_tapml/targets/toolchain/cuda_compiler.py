"""The compiler that TVM uses for CUDA code, and its options.

TVM reads both from the environment. Its default, NVRTC, compiles one kernel at a time, about a
second each, because of a lock in the library; ``nvcc`` runs as one process for each kernel.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

_MODE = "TVM_CUDA_COMPILE_MODE"
_NO_FAST_MATH = "TVM_CUDA_NVCC_NO_FAST_MATH"
_PREFIX = "TVM_CUDA_"


@contextmanager
def cuda_compiler() -> Iterator[dict[str, str]]:
    """Let CUDA kernels be compiled in parallel: by ``nvcc``, where there is one.

    A mode that the user has set in ``TVM_CUDA_COMPILE_MODE`` is kept. The variable is restored
    afterwards.

    Yields
    ------
    dict
        Everything in the environment that affects how a kernel is compiled, for its cache key.
    """
    is_set_here = _MODE not in os.environ and shutil.which("nvcc") is not None
    if is_set_here:
        os.environ[_MODE] = "nvcc"
    try:
        yield {name: value for name, value in os.environ.items() if name.startswith(_PREFIX)}
    finally:
        if is_set_here:
            del os.environ[_MODE]


def found_compiler() -> str | None:
    """Return where ``nvcc`` or NVRTC's Python package is; None if there is neither."""
    found = shutil.which("nvcc")
    if found is not None:
        return found
    try:
        spec = importlib.util.find_spec("cuda.bindings.nvrtc")
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
    return f"{compiler} --use_fast_math"
