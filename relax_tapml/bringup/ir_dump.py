"""Write the module after each pass of each phase."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tvm

from relax_tapml.errors import UsageError
from relax_tapml.files.replace import write_file


class IrDump:
    """A folder with the module after each TVM pass, for ``--dump-ir``.

    A phase is a folder in it, a pass is a file: ``00_lower/001_LegalizeOps.py``, TVMScript as TVM
    prints it. The phases are ``lower``, ``source``, ``target``, ``capture`` and ``partition``, in
    the order in which they run. What happens to a single kernel when it is compiled is not dumped.

    Parameters
    ----------
    folder
        New or empty. None to dump nothing.

    Raises
    ------
    UsageError
        It is a file, or a folder with files.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._count = 0
        is_new = folder is None or not folder.exists()
        if folder is not None and not is_new and (folder.is_file() or any(folder.iterdir())):
            raise UsageError(f"--dump-ir {folder}: expected a new or empty folder")

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Dump the module after each pass that is applied meanwhile."""
        if self._folder is None:
            yield
            return
        folder = self._folder / f"{self._count:02d}_{name}"
        self._count += 1
        folder.mkdir(parents=True)
        with tvm.transform.PassContext(instruments=[_AfterEachPass(folder)]):
            yield


@tvm.ir.instrument.pass_instrument
class _AfterEachPass:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0

    def run_after_pass(self, module: tvm.IRModule, info: Any) -> None:
        """Write the module; TVM calls this."""
        name = re.sub(r"[^\w.-]", "_", str(info.name))
        write_file(self.folder / f"{self.count:03d}_{name}.py", module.script() + "\n")
        self.count += 1


NO_DUMP = IrDump()
