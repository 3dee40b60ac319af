"""Checks of a bundle's code before it is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import tvm

from relax_tapml.errors import StoreError
from relax_tapml.foreign.bytecode import BytecodeFault, check_bytecode
from relax_tapml.foreign.calls import is_harmless
from relax_tapml.foreign.loading import ForeignFiles, run_limited
from relax_tapml.foreign.module import TRUST
from relax_tapml.foreign.names import quoted
from relax_tapml.partition.bytecode import load_bytecode
from relax_tapml.printable import message_line
from relax_tapml.processes.fork import ForkChannel

_FIX = "Run the build again"


def check_code(
    bytecode: Mapping[Path, bytes], libraries: Sequence[Path], *, trust: bool = False
) -> None:
    """Refuse bytecode that is not sound, and files that end the process that loads them.

    Libraries are native code and cannot be checked further: they may do anything.

    Parameters
    ----------
    bytecode
        Serialised bytecode by its file.
    libraries
        Shared objects that this process will load.
    trust
        Whether the bytecode may call any function that TVM has registered.

    Raises
    ------
    StoreError
        Bytecode is not sound; or a file ends a child process that loads it; or bytecode calls a
        function that is not on the list of harmless ones and ``trust`` is false.
    """
    for path, data in bytecode.items():
        try:
            names = check_bytecode(data)
        except BytecodeFault as fault:
            raise StoreError(f"{path} is damaged: {fault}. {_FIX}") from None
        strange = [name for name in names if not is_harmless(name) and _is_registered(name)]
        if strange and not trust:
            callees = ", ".join(quoted(name) for name in strange[:3])
            raise StoreError(
                f"{path} calls {callees}, which is not on the list of harmless functions: it may "
                f"do anything with your rights. If you trust the author of the file, pass {TRUST}"
            )

    contents = {str(path): data for path, data in bytecode.items()}
    files = ForeignFiles(contents=contents, libraries=libraries, fix=_FIX)
    run_limited(load_code, files, what="loading")


def load_code(child: ForkChannel, files: ForeignFiles) -> None:
    """Load bytecode and libraries in a child process; a ``Work``."""
    for where, data in files.contents.items():
        child.note(where)
        try:
            executable = load_bytecode(data)
            executable["as_text"]()
            executable["stats"]()
        except Exception as error:  # Whatever TVM raises about it.
            raise StoreError(f"{where} is damaged: {message_line(error)}. {files.fix}") from None
    for path in files.libraries:
        child.note(str(path))
        try:
            tvm.runtime.load_module(str(path))
        except Exception as error:
            raise StoreError(
                f"{path} cannot be loaded: {message_line(error)}. {files.fix}"
            ) from None


def _is_registered(name: str) -> bool:
    return tvm.get_global_func(name, allow_missing=True) is not None
