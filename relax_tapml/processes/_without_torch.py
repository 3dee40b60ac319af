"""Run a module as ``python -m`` does, in a process in which torch cannot be imported.

TVM imports torch where it is installed, which takes longer than TVM itself. Only the processes of
GPUs may need it: TVM's runtime for CUDA is linked to libraries that come with torch.

Its arguments are the module and the module's arguments.
"""

from __future__ import annotations

import runpy
import sys

from relax_tapml.processes.child import end_with_parent

if __name__ == "__main__":
    sys.modules["torch"] = None  # type: ignore[assignment]
    del sys.argv[0]
    # Before the module imports TVM: that takes seconds, and the parent may be killed meanwhile.
    end_with_parent()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
