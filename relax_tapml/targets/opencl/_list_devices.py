"""Print the OpenCL devices of this machine as JSON: fields of ``OpenCLDevice``, and extensions.

A program of its own, since drivers start threads and may crash; see ``devices.list_devices``.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

# Those of cl.cc: loaders of Linux and, where one is installed, of macOS, whose own comes last.
_LIBRARIES = (
    "libOpenCL.so.1",
    "libOpenCL.so",
    "libOpenCL.1.dylib",
    "libOpenCL.dylib",
    "/System/Library/Frameworks/OpenCL.framework/OpenCL",
)
# Numbers of the OpenCL standard.
_ALL_TYPES, _CPU, _GPU = 0xFFFFFFFF, 2, 4
_PLATFORM_NAME = 0x0902
_TYPE, _MAX_GROUP, _LOCAL_MEMORY, _DOUBLES = 0x1000, 0x1004, 0x1023, 0x1032
_NAME, _DRIVER, _EXTENSIONS = 0x102B, 0x102D, 0x1030


def main() -> None:
    """List all devices of all platforms, GPUs first and CPUs last."""
    library = _library()
    found = [] if library is None else _devices(library)
    found.sort(key=lambda item: item[0])  # Stable: the order of the platforms stays.
    json.dump([fields for _, fields in found], sys.stdout)


def _library() -> Any:
    for name in _LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def _devices(library: Any) -> list[tuple[int, dict[str, Any]]]:
    found = []
    for platform in _handles(library.clGetPlatformIDs):
        name = _text(library.clGetPlatformInfo, platform, _PLATFORM_NAME)
        for device in _handles(library.clGetDeviceIDs, platform, ctypes.c_uint64(_ALL_TYPES)):
            kind = _number(library, device, _TYPE)
            extensions = _text(library.clGetDeviceInfo, device, _EXTENSIONS).split()
            if _number(library, device, _DOUBLES):  # Since OpenCL 1.2 it need not be listed.
                extensions.append("cl_khr_fp64")
            rank = 0 if kind & _GPU else 2 if kind & _CPU else 1
            fields = {
                "name": _text(library.clGetDeviceInfo, device, _NAME),
                "platform": name,
                "driver": _text(library.clGetDeviceInfo, device, _DRIVER),
                "is_cpu": bool(kind & _CPU),
                "max_threads": _number(library, device, _MAX_GROUP),
                "local_memory_bytes": _number(library, device, _LOCAL_MEMORY),
                "extensions": extensions,
            }
            found.append((rank, fields))
    return found


def _handles(function: Any, *first: Any) -> list[ctypes.c_void_p]:
    """Return the platforms, or the devices of one; none where the loader or the driver has none."""
    count = ctypes.c_uint32()
    if function(*first, 0, None, ctypes.byref(count)):
        return []
    handles = (ctypes.c_void_p * count.value)()
    return [] if function(*first, count, handles, None) else list(map(ctypes.c_void_p, handles))


def _text(function: Any, handle: ctypes.c_void_p, what: int) -> str:
    size = ctypes.c_size_t()
    function(handle, what, ctypes.c_size_t(), None, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value + 1)
    function(handle, what, size, text, None)
    return text.value.decode(errors="replace").strip()


def _number(library: Any, device: ctypes.c_void_p, what: int) -> int:
    value = ctypes.c_uint64()  # Zero above what the driver writes.
    size = ctypes.c_size_t(ctypes.sizeof(value))
    library.clGetDeviceInfo(device, what, size, ctypes.byref(value), None)
    return value.value


if __name__ == "__main__":
    main()
