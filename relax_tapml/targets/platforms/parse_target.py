"""Parse target strings."""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi

from relax_tapml.errors import UsageError
from relax_tapml.targets.platforms.registry import PLATFORMS, platform_of


def parse_target(text: str, session: str | None = None) -> Any:
    """Return the ``tvm.target.Target`` of a kind (``cuda``), a tag, a JSON object or a platform.

    Parameters
    ----------
    text
        What people write.
    session
        Where its code will run. With a session of this machine, code for a CPU uses all of its
        instructions, unless ``text`` names a CPU, features or a triple. None if that is not known.

    Raises
    ------
    UsageError
        TVM does not know the target, or this build of TVM has no code generator for its kind.
    """
    own = (json for platform in PLATFORMS if (json := platform.target_json(text)))
    try:
        target = tvm.target.Target(next(own, text))
    except (ValueError, RuntimeError) as error:
        raise UsageError(
            f"target {text!r} is not known to TVM: {error}. Expected one of "
            f"{', '.join(_names())}, a tag such as nvidia/nvidia-a100, or JSON such as "
            '\'{"kind": "llvm", "mcpu": "native"}\''
        ) from error
    kind = target.kind.name
    if tvm.get_global_func(f"target.build.{kind}", allow_missing=True) is None:
        raise UsageError(
            f"target {text!r}: this build of TVM cannot generate code for {kind}; it can for "
            f"{', '.join(_built_kinds())}"
        )
    platform = platform_of(target)
    target = platform.complete(target)
    return platform.here(target) if session in platform.sessions() else target


def portable_text(target: Any) -> str:
    """Return a target as text, for any machine: without what only says which CPU this one has."""
    return str(platform_of(target).portable(target))


def _names() -> list[str]:
    return sorted({*_built_kinds(), *(platform.name for platform in PLATFORMS)})


def _built_kinds() -> list[str]:
    names = tvm_ffi.registry.list_global_func_names()
    known = set(tvm.target.Target.list_kinds())
    built = (name.removeprefix("target.build.") for name in names if "target.build." in name)
    return sorted(kind for kind in built if kind in known)
