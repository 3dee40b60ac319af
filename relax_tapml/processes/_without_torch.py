"""Run a module as ``python -m`` does, in a process in which torch cannot be imported.

TVM imports torch where it is installed, which takes longer than TVM itself. Of our processes only
those of GPUs may need it, for what it brings: TVM's runtime for CUDA is linked to libraries of it.

Its arguments are the module and the module's arguments.
"""

from __future__ import annotations

import runpy
import sys

from relax_tapml.processes.child import end_with_parent

if __name__ == "__main__":
    sys.modules["torch"] = None  # type: ignore[assignment]
    del sys.argv[0]
    # Before the module imports TVM, which takes seconds: a parent may be killed meanwhile.
    end_with_parent()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
