"""The message of a TVM error, without the stack traces of TVM and of the client."""

from __future__ import annotations

import re

_STACK = re.compile(r"\n(Stack trace|Traceback \(most recent call last\)):?.*", re.DOTALL)
_RELAYED = re.compile(r"^(RPCError: )?Error caught from RPC call:\s*", re.MULTILINE)


def fault_text(error: BaseException) -> str:
    """Return the message of ``error``, stripped of stack traces; its type's name if it has none."""
    text = _STACK.sub("", _RELAYED.sub("", str(error))).strip()
    return text or type(error).__name__
