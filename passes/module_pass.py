"""What a class gains that ``tvm.transform.module_pass`` makes a pass of."""

from __future__ import annotations

import tvm


class ModulePass:
    """A base for types: a pass is called with a module and returns one.

    TVM's decorator replaces the class by one that has this method. Type checkers do not see that.
    """

    def __call__(self, mod: tvm.IRModule) -> tvm.IRModule:
        """Return the module as the pass leaves it."""
        raise NotImplementedError
