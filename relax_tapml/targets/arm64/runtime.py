"""TVM's runtime libraries for 64-bit ARM Linux, taken out of the wheels that TVM publishes.

The runtime itself, its additions (sorting, random numbers) and tvm-ffi are 6 MB of 100 MB. They
need the C and C++ libraries of the system and nothing else: the compiler with LLVM, CUDA and Python
stay in the wheels.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from relax_tapml.errors import DeviceUnavailable
from relax_tapml.files.cache_folder import cache_folder
from relax_tapml.files.replace import write_file
from relax_tapml.targets.toolchain.requirement import Requirement
from relax_tapml.versions import versions

LIBRARIES = ("libtvm_ffi.so", "libtvm_runtime.so", "libtvm_runtime_extra.so")
_PACKAGES = ("apache-tvm", "apache-tvm-ffi")


def runtime() -> Requirement:
    """Return the requirement of the libraries, or of the wheels to take them out of."""
    wanted = " ".join(f"{package}=={versions()[package]}" for package in _PACKAGES)
    is_there = _is_complete(_folder()) or all(_wheels(package) for package in _PACKAGES)
    return Requirement(
        name="TVM's runtime for ARM64",
        use="runs kernels in the server, here and on a board",
        found=str(_folder()) if is_there else None,
        install="pip download --no-deps --only-binary=:all: --python-version 3.11 "
        f"--platform manylinux_2_28_aarch64 -d {_wheel_folder()} {wanted}",
        is_needed=False,
    )


def runtime_folder() -> Path:
    """Return a folder with ``LIBRARIES``, taken out of the wheels on first use.

    Raises
    ------
    DeviceUnavailable
        The wheels have not been downloaded, or lack a library.
    """
    folder = _folder()
    if _is_complete(folder):
        return folder
    needed = runtime()
    if not needed.found:
        raise DeviceUnavailable(f"{needed.name} is missing ({needed.install})")
    folder.mkdir(parents=True, exist_ok=True)
    for package in _PACKAGES:
        with zipfile.ZipFile(_wheels(package)[-1]) as wheel:
            for member in wheel.namelist():
                if (name := Path(member).name) in LIBRARIES:
                    write_file(folder / name, wheel.read(member))
    if not _is_complete(folder):
        raise DeviceUnavailable(
            f"the wheels in {_wheel_folder()} lack one of {', '.join(LIBRARIES)}; remove them and "
            f"run: {needed.install}"
        )
    return folder


def _folder() -> Path:
    """Return the folder of the libraries for the installed TVM."""
    return cache_folder() / "arm64" / "-".join(versions()[package] for package in _PACKAGES)


def _is_complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in LIBRARIES)


def _wheel_folder() -> Path:
    return cache_folder() / "arm64" / "wheels"


def _wheels(package: str) -> list[Path]:
    name = f"{package.replace('-', '_')}-{versions()[package]}"
    return sorted(_wheel_folder().glob(f"{name}-*aarch64.whl"))
