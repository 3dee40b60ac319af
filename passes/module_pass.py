"""The type of a class that ``tvm.transform.module_pass`` decorates."""

from __future__ import annotations

import tvm


class ModulePass:
    """A base for types: a pass is called with a module and returns one.

    TVM's decorator replaces the class by one that has this method. Type checkers do not see that.
    """

    def __call__(self, mod: tvm.IRModule) -> tvm.IRModule:
        """Return the module as the pass leaves it."""
        raise NotImplementedError
