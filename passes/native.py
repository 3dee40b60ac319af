"""The native library: capture intrinsics and callback modules."""

from __future__ import annotations

from functools import cache

from tvm_ffi.libinfo import load_lib_module

from relax_tapml.errors import InstallationError


@cache
def load() -> None:
    """Register the library's global functions, ``relax_tapml.*``.

    It may be called any number of times; the library stays loaded.

    Raises
    ------
    InstallationError
        An ``ImportError``: the installation has no native library, or one that this tvm-ffi cannot
        load.
    """
    try:
        load_lib_module("relax-tapml", "relax_tapml")
    except (RuntimeError, OSError) as error:
        raise InstallationError(
            "relax_tapml's native library cannot be loaded; expected relax_tapml/passes/"
            f"librelax_tapml.so in this installation. Build it with: pip install -e . ({error})"
        ) from error
