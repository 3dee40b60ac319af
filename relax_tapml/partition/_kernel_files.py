"""Compiled kernels on disk, used only if this user built them."""

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
_LISTED = 3
_MACHO = b"\xcf\xfa\xed\xfe"  # The first bytes of such a file of 64 bits.
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class KernelName:
    """The name of a kernel's file, which is known before the kernel is built.

    Parameters
    ----------
    kernel
        Name of the PrimFunc.
    platform, suffix
        Of its target's platform.
    digest
        Of all inputs of its compilation.
    """

    kernel: str
    platform: str
    digest: str
    suffix: str

    def __str__(self) -> str:
        return f"{file_stem(self.kernel)}-{self.platform}-{self.digest}{self.suffix}"


class KernelFiles:
    """The shared objects in a folder.

    Each ends with a seal of its content and name, which only this user can make, or has it in a
    file beside it. A file that is truncated, changed, renamed or built by another user is ignored,
    so that no code is loaded that came with a folder from somewhere else.

    Parameters
    ----------
    folder
        Created when the first kernel is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seals = Seals()

    def find(self, names: Iterable[KernelName]) -> dict[KernelName, Path]:
        """Return the files of some kernels, without those that are missing or not sealed by us."""
        found: dict[KernelName, Path] = {}
        refused: list[str] = []
        for name in names:
            path = self.folder / str(name)
            if self._is_ours(name, path):
                found[name] = path
            elif path.exists():
                refused.append(path.name)
        if refused:
            more = ", ..." if len(refused) > _LISTED else ""
            _log.warning(
                "%s: rebuilding kernels that are damaged or built by another user: %s%s",
                *(self.folder, ", ".join(refused[:_LISTED]), more),
            )
        return found

    def make(self, name: KernelName, compiled: Callable[[Path], None]) -> Path:
        """Write a kernel's file atomically and return its path.

        Parameters
        ----------
        name
            Of the kernel.
        compiled
            Writes to the path that it gets, whose name is ``name``.

        Raises
        ------
        OSError
            The file cannot be written. Exceptions of ``compiled`` are not caught.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with scratch_folder(self.folder) as scratch:
            built = scratch / str(name)
            compiled(built)
            path = self.folder / str(name)
            content = built.read_bytes()
            section = _section(self._seals.seal(str(name), content))
            if _is_macho(content):
                self._replace(_beside(path), lambda partial: partial.write_bytes(section))
            else:
                with built.open("ab") as file:
                    file.write(section)
            self._replace(path, built.rename)
        return path

    def _replace(self, path: Path, write: Callable[[Path], object]) -> None:
        if path.is_dir():  # which a file does not replace
            delete(path)
        with new_file(path) as partial:
            write(partial)

    def sweep(self) -> None:
        """Remove the files of compilers that died."""
        sweep(self.folder)

    def _is_ours(self, name: KernelName, path: Path) -> bool:
        try:
            content = read_bytes(path, fix="", max_bytes=_MAX_BYTES)
            at = len(content)
            if _is_macho(content):
                section = read_bytes(_beside(path), fix="", max_bytes=_MAX_BYTES)
            else:
                at = max(at - len(_section("")) - SEAL_DIGITS, 0)
                section = content[at:]
        except StoreError:
            return False
        seal = section[-SEAL_DIGITS:].decode(errors="replace")
        return section == _section(seal) and self._seals.is_sealed(str(name), content[:at], seal)


def _is_macho(content: bytes) -> bool:
    """Whether a file is a library of macOS, which is signed: nothing may be added at its end."""
    return content.startswith(_MACHO)


def _beside(path: Path) -> Path:
    """Return the path of a file for the seal of another."""
    return path.with_name(f"{path.name}.seal")


def _section(seal: str) -> bytes:
    """Return a seal as the end of a file: a custom section of WebAssembly, which loaders ignore.

    A loader of ELF does not read beyond the parts that the headers name.
    """
    name, content = b"relax_tapml.seal", seal.encode()
    return bytes([0, 1 + len(name) + SEAL_DIGITS, len(name)]) + name + content
