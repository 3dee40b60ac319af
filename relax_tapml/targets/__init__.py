"""Everything that depends on a target or on the device that runs its code.

In come a target's name and a session's specification; out go a ``tvm.target.Target``, a platform
that schedules and builds kernels, and a session that runs them. ``open_session`` opens a session or
a device from what the user writes. ``platforms`` has one file for each kind of target, ``session``
the client's half of a device, ``server`` the device's half, ``fleet`` devices lent by a tracker,
``toolchain`` what compiles and schedules; ``web`` and ``arm64`` are runtimes of this package.
"""

__all__ = [
    "arm64",
    "fleet",
    "open_session",
    "opencl",
    "platforms",
    "server",
    "session",
    "toolchain",
    "web",
]
