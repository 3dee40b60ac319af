"""The mark of a target whose kernels are trusted: it is part of the target's keys."""

from __future__ import annotations

import json
from typing import Any

import tvm

# Keys reach every place that compiles for a target. TVM looks for none of this name.
_TRUSTED = "trusted"


def trusted(target: Any) -> Any:
    """Return a ``tvm.target.Target`` with the mark; the same target if it has it."""
    if is_trusted(target):
        return target
    attributes = json.loads(str(target))
    attributes["keys"] = [*attributes["keys"], _TRUSTED]
    return tvm.target.Target(attributes)


def is_trusted(target: Any) -> bool:
    """Whether a ``tvm.target.Target`` has the mark."""
    return _TRUSTED in target.keys
