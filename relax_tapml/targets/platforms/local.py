"""This machine's CPU, and every other target that a process here can run."""

from __future__ import annotations

from typing import Any

from relax_tapml.targets.platform import Platform


class Local(Platform):
    """Kernels that are shared objects of this machine's kind."""

    name = "llvm"
    summary = "this machine's CPU, or one like it over RPC"
    tried_on = "x86-64"

    def owns(self, target: Any) -> bool:
        """Whether kernels of a ``tvm.target.Target`` are this platform's: yes."""
        del target
        return True
