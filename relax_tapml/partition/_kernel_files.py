"""Compiled kernels on disk, believed only where this user built them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from relax_tapml.errors import StoreError
from relax_tapml.files.names import file_stem
from relax_tapml.files.read import read_bytes
from relax_tapml.files.replace import delete, new_file
from relax_tapml.files.scratch import scratch_folder, sweep
from relax_tapml.files.seals import SEAL_DIGITS, Seals

_MAX_BYTES = 1 << 28
_SHOWN = 3
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class KernelName:
    """What a kernel's file is called by: all of it is known before it is built.

    Parameters
    ----------
    kernel
        Name of the PrimFunc.
    platform, suffix
        Of its target's platform.
    digest
        Of everything that decides what it is compiled to.
    """

    kernel: str
    platform: str
    digest: str
    suffix: str

    def __str__(self) -> str:
        return f"{file_stem(self.kernel)}-{self.platform}-{self.digest}{self.suffix}"


class KernelFiles:
    """The shared objects in a folder.

    Each ends with a seal of its content and name, which only this user can make. One that is
    truncated, changed, renamed or somebody else's is not there for us, so that no code is loaded
    that came with a folder.

    Parameters
    ----------
    folder
        Made when the first kernel is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seals = Seals()

    def find(self, names: Iterable[KernelName]) -> dict[KernelName, Path]:
        """Return the files of some kernels; those that are not there, or not ours, are missing."""
        found: dict[KernelName, Path] = {}
        refused: list[str] = []
        for name in names:
            path = self.folder / str(name)
            if self._is_ours(name, path):
                found[name] = path
            elif path.exists():
                refused.append(path.name)
        if refused:
            more = ", ..." if len(refused) > _SHOWN else ""
            _log.warning(
                "%s: built anew, since damaged or built by somebody else: %s%s",
                *(self.folder, ", ".join(refused[:_SHOWN]), more),
            )
        return found

    def make(self, name: KernelName, compiled: Callable[[Path], None]) -> Path:
        """Make a kernel's file, and return where it is; it is whole whenever it is there.

        Parameters
        ----------
        name
            Of the kernel.
        compiled
            Writes to the path that it is given, whose name is ``name``.

        Raises
        ------
        OSError
            It cannot be written. What ``compiled`` raises passes, too.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with scratch_folder(self.folder) as scratch:
            built = scratch / str(name)
            compiled(built)
            path = self.folder / str(name)
            with built.open("ab") as file:
                file.write(_section(self._seals.seal(str(name), built.read_bytes())))
            if path.is_dir():  # which a file does not replace
                delete(path)
            with new_file(path) as partial:
                built.rename(partial)
        return path

    def sweep(self) -> None:
        """Remove what compilers that died have left."""
        sweep(self.folder)

    def _is_ours(self, name: KernelName, path: Path) -> bool:
        try:
            content = read_bytes(path, fix="", max_bytes=_MAX_BYTES)
        except StoreError:
            return False
        at = max(len(content) - len(_section("")) - SEAL_DIGITS, 0)
        told = content[-SEAL_DIGITS:].decode(errors="replace")
        return content[at:] == _section(told) and self._seals.is_sealed(
            str(name), content[:at], told
        )


def _section(seal: str) -> bytes:
    """Return a seal as the end of a file: a section of WebAssembly that means nothing to others.

    Whoever loads ELF does not read what comes after the last thing that its headers name.
    """
    name, content = b"relax_tapml.seal", seal.encode()
    return bytes([0, 1 + len(name) + SEAL_DIGITS, len(name)]) + name + content
