"""What Linux and macOS do differently: others ask here for what they need, not for the system."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from pathlib import Path

IS_MACOS = sys.platform == "darwin"

FORKS_ARE_SAFE = sys.platform == "linux"
"""Whether a fork of this process may call system libraries before it starts another program.

Not on macOS: frameworks that TVM's runtime for Metal and NumPy load end or block a process that
uses them in a fork.
"""

_ZEROS = bytes(1 << 20)
# Of Linux's renameat2 and of macOS's renamex_np.
_AT_FDCWD, _RENAME_EXCHANGE, _RENAME_SWAP = -100, 2, 2


def reserve(descriptor: int, size_bytes: int) -> None:
    """Make a file at least so long, with room on the disk for all of it.

    Writing to a mapped hole of a file, on a full disk, would end the process with SIGBUS.

    Parameters
    ----------
    descriptor
        Of a file that is open for writing. What it holds stays; its position does not move.
    size_bytes
        Its least size.

    Raises
    ------
    OSError
        There is no room.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size_bytes)
        return
    at = os.fstat(descriptor).st_size
    while at < size_bytes:
        at += os.pwrite(descriptor, _ZEROS[: size_bytes - at], at)


def exchange(one: Path, other: Path) -> bool:
    """Exchange two files or folders in one move; return False where the system cannot.

    With two moves the process may be killed between them, and leave nothing at one of the paths.
    """
    names = os.fsencode(one), os.fsencode(other)
    library = ctypes.CDLL(None)
    if hasattr(library, "renameat2"):
        code = library.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE)
    elif hasattr(library, "renamex_np"):
        code = library.renamex_np(*names, _RENAME_SWAP)
    else:
        return False
    return bool(code == 0)


def install_command(*, debian: str, macos: str | None) -> str:
    """Return the command that installs something on this machine, for messages.

    Parameters
    ----------
    debian
        The packages of Debian that have it, with a space between them.
    macos
        The whole command; None if there is none.
    """
    if not IS_MACOS:
        return f"apt-get install -y --no-install-recommends {debian}"
    return macos or "it is not for macOS: use a machine with Linux"


def peak_bytes() -> int:
    """Return the most memory that this process has had so far, without its children."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if IS_MACOS else 1024 * peak
