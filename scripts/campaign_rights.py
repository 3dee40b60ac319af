"""Fewer rights for this process, which is a fork of its own: for tests run by root, who has all."""

from __future__ import annotations

import ctypes
import os

_PR_SET_KEEPCAPS, _PR_SET_SECUREBITS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 8, 28, 47, 2
_NO_ROOT = 0b11  # SECBIT_NOROOT, locked: a program that root starts has no rights for being root's
_VERSION_3 = 0x20080522
_DAC_OVERRIDE, _DAC_READ_SEARCH = 1, 2
_FIRST_USER, _USERS = 60_000, 5_000


def obey_permissions() -> None:
    """Let the permission bits of files count for root, as they do for everyone else."""
    if os.geteuid() == 0:
        _control(_PR_SET_SECUREBITS, _NO_ROOT)
        _keep(())


def be_another_user(number: int) -> None:
    """Become a user who has no other process, and still may read and write all files.

    Limits of processes do not hold for root.
    """
    _control(_PR_SET_KEEPCAPS, 1)
    user = _FIRST_USER + number % _USERS
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    kept = (_DAC_OVERRIDE, _DAC_READ_SEARCH)
    _keep(kept)
    for right in kept:
        _control(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, right)


def _keep(rights: tuple[int, ...]) -> None:
    bits = sum(1 << right for right in rights)
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(bits, bits, bits, 0, 0, 0)
    if ctypes.CDLL(None, use_errno=True).capset(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def _control(*numbers: int) -> None:
    padded = [*map(ctypes.c_ulong, numbers), *[ctypes.c_ulong(0)] * (5 - len(numbers))]
    if ctypes.CDLL(None, use_errno=True).prctl(*padded) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
