"""Import a Python file and write down what it holds; started by ``load_kernel``.

Its folder, TMPDIR, gets the answer.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from relax_tapml.judge_kernel._files import FOUND, REFUSED
from relax_tapml.processes.child import end_with_parent


def imported(path: Path) -> ModuleType:
    """Import a file as Python does a script: modules beside it can be imported, too."""
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location("candidate_kernel_file", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Do it."""
    end_with_parent()
    folder = Path(os.environ["TMPDIR"])
    path, name, unit = Path(sys.argv[-3]), sys.argv[-2], sys.argv[-1]
    try:
        answer = _found(imported(path), name, unit)
    except Exception as error:  # Whatever the file raises.
        (folder / REFUSED).write_text(f"{type(error).__name__}: {error}")
        sys.exit(1)
    (folder / FOUND).write_text(json.dumps(answer))


def _found(module: ModuleType, name: str, unit: str) -> dict[str, Any]:
    # A file that does not import TVM, which takes a second, has no PrimFunc.
    tvm = sys.modules.get("tvm")
    kinds = () if tvm is None else (tvm.tirx.PrimFunc, tvm.IRModule)

    def is_kernel(value: Any) -> bool:
        return isinstance(value, kinds)

    own = {
        key: value
        for key, value in vars(module).items()
        if not key.startswith("_")
        and (
            is_kernel(value)
            or (callable(value) and getattr(value, "__module__", None) == module.__name__)
        )
    }
    if not name:
        kernels = [key for key, value in own.items() if is_kernel(value)] or list(own)
        name = unit if unit in kernels else kernels[0] if len(kernels) == 1 else ""
        if not name:
            listed = ", ".join(kernels) or "none"
            raise LookupError(f"it has no single kernel, but {listed}; name one: FILE:NAME")
    value = getattr(module, name, None)
    if tvm is not None and isinstance(value, tvm.tirx.PrimFunc):
        value = tvm.IRModule({tvm.ir.GlobalVar(name): value.with_attr("global_symbol", name)})
        return {"module": tvm.ir.save_json(value), "name": name}
    if tvm is not None and isinstance(value, tvm.IRModule):
        return {"module": tvm.ir.save_json(value), "name": ""}
    if value is None and tvm is not None:
        # The name may be of a PrimFunc in the only module of the file.
        modules = [one for one in own.values() if isinstance(one, tvm.IRModule)]
        if len(modules) == 1:
            return {"module": tvm.ir.save_json(modules[0]), "name": name}
    if value is None:
        raise LookupError(f"it has no {name}; it has {', '.join(own) or 'no kernel'}")
    if not callable(value):
        raise TypeError(f"{name} is a {type(value).__name__}, expected a PrimFunc or a function")
    return {"callable": name}


if __name__ == "__main__":
    main()
