"""The client's half of a device: upload, load, call, download, and what can fail.

``session.DeviceSession`` is what others program against; ``inline`` and ``rpc_session`` implement
it. ``device.Device`` reopens a session after a fault, ``attempts`` repeats what was killed from
outside. ``tensors``, ``traffic``, ``poison`` and ``tvm_device`` are what callers share with
sessions. Every failure is a ``DeviceFault``, ``DeviceUnavailable`` if the machine causes it.
"""

__all__ = [
    "attempts",
    "device",
    "inline",
    "poison",
    "rpc_session",
    "session",
    "tensors",
    "traffic",
    "tvm_device",
]
