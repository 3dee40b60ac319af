"""A kernel that is a function of a shared library."""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvm import tirx
from tvm.ir import PrimType

from relax_tapml.errors import UsageError
from relax_tapml.partition.kernel_interface import KernelInterface, symbols_of
from relax_tapml.targets.toolchain.linked_kernel import FFI_PREFIX, LinkedKernel


@dataclass(frozen=True, kw_only=True)
class LibraryFile:
    """A function of a shared library, which this process never loads.

    Parameters
    ----------
    path, symbol
        The library, and the function in it, with ``FFI_PREFIX`` where it is one of TVM-FFI.
    """

    path: Path
    symbol: str

    @classmethod
    def read(cls, path: Path, name: str) -> LibraryFile:
        """Look for a function in a file.

        Raises
        ------
        UsageError
            None is named, or the file has no such name.
        """
        if not name:
            raise UsageError(f"kernel {path}: name the function: {path}:NAME")
        data = path.read_bytes()
        for symbol in (f"{FFI_PREFIX}{name}", name):
            # Names of symbols stand between zeros.
            if re.search(rb"\0" + symbol.encode() + rb"\0", data):
                return cls(path=path, symbol=symbol)
        raise UsageError(f"kernel {path} exports neither {FFI_PREFIX}{name} nor {name}")

    def primfunc(
        self, own: tirx.PrimFunc, unit: str, *, target: Any, session: str, folder: Path
    ) -> tirx.PrimFunc:
        """Return a PrimFunc that calls it in the place of the kernel of a unit.

        A function of TVM-FFI gets the parameters of that kernel. One of C gets them in this order,
        tensors as pointers and numbers by value, and then its symbols, each as an ``int``.

        Parameters
        ----------
        own, unit
            The kernel, and its unit.
        target, session
            Where it runs: on a CPU, in a process of its own.
        folder
            Where a copy is kept, which nobody changes meanwhile.

        Raises
        ------
        UsageError
            It cannot run there, or be given what the unit's kernel takes.
        """
        if target.kind.name != "llvm" or session != "process":
            raise UsageError(
                f"kernel {self.path}: a library runs with --target llvm and --session process, and "
                f"this is {target.kind.name} and {session}. Or call it from a Python function"
            )
        is_ffi = self.symbol.startswith(FFI_PREFIX)
        if KernelInterface.of(own).offsets and not is_ffi:
            raise UsageError(
                f"unit {unit}: its kernel takes tensors that begin at any offset, which a function "
                "of C cannot be given. Export one of TVM-FFI"
            )
        kept = Path(shutil.copy(self.path, folder / f"candidate-{self.path.name}"))
        kernel = LinkedKernel(
            path=str(kept),
            digest=hashlib.sha256(kept.read_bytes()).hexdigest(),
            symbol=self.symbol,
        )
        values = [p if isinstance(p.ty, PrimType) else p.data for p in own.params]
        extents = [tirx.Cast("int32", one) for one in symbols_of(own).values()]
        return kernel.called_by(own, [*values, *extents])
