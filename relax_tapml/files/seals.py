"""Recognise files that this user wrote, by a secret that only this user can read."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from contextlib import suppress
from functools import cache
from pathlib import Path

from relax_tapml.files.cache_folder import cache_folder

_FILE = "secret"
_BYTES = 32
SEAL_DIGITS = 32


class Seals:
    """Seals for what this user writes, so that files of other users are not taken for it.

    Where no secret can be kept on disk, seals are recognised in this process only.
    """

    def __init__(self) -> None:
        # Read at once: a fork would draw another secret, whose seals this process refuses.
        self._secret = _secret(cache_folder())

    def seal(self, name: str, content: bytes) -> str:
        """Return the seal of a file's name and content, ``SEAL_DIGITS`` hexadecimal digits.

        Only this user can compute it.
        """
        code = hmac.new(self._secret, digestmod=hashlib.sha256)
        code.update(f"{len(name)}:{name}".encode(errors="surrogatepass"))
        code.update(content)
        return code.hexdigest()[:SEAL_DIGITS]

    def is_sealed(self, name: str, content: bytes, seal: str) -> bool:
        """Whether ``seal`` is that of a name and content."""
        expected = self.seal(name, content).encode()
        return hmac.compare_digest(expected, seal.encode(errors="replace"))


@cache
def _secret(folder: Path) -> bytes:
    """Return the user's secret; one of this process where none can be kept."""
    path = folder / _FILE
    with suppress(OSError):
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                _write(path)
        found = _read(path)
        if found is not None:
            return found
        path.unlink()
        _write(path)
        found = _read(path)
        if found is not None:
            return found
    return secrets.token_bytes(_BYTES)


def _write(path: Path) -> None:
    """Write the file atomically, unless there is one."""
    partial = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - of a descriptor
            file.write(secrets.token_bytes(_BYTES))
        os.link(partial, path)
    finally:
        partial.unlink()


def _read(path: Path) -> bytes | None:
    """Return the secret; None where other users have access to it, or it is damaged."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - of a descriptor
        status = os.fstat(descriptor)
        is_private = status.st_uid == os.getuid() and not status.st_mode & 0o077
        if not stat.S_ISREG(status.st_mode) or not is_private:
            return None
        found = file.read(_BYTES + 1)
    return found if len(found) == _BYTES else None
