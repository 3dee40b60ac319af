"""The native library is C++17 without extensions, so that the compiler of a Mac takes it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import tvm_ffi

SOURCES = sorted((Path(__file__).resolve().parents[2] / "passes").glob("*.cc"))
INCLUDES = (tvm_ffi.libinfo.find_include_path(), tvm_ffi.libinfo.find_dlpack_include_path())
STRICT = ("-std=c++17", "-pedantic", "-Wgnu", "-Wall", "-Wextra", "-Werror", "-fsyntax-only")


@pytest.fixture(scope="session")
def compiler() -> list[str]:
    """Clang with its own library, as on macOS."""
    found = shutil.which("clang++")
    command = [found or "", "-stdlib=libc++"]
    has_library = (
        found
        and not subprocess.run(
            [*command, "-fsyntax-only", "-x", "c++", "-"],
            input=b"#include <string>\n",
            capture_output=True,
            check=False,
        ).returncode
    )
    if not has_library:
        pytest.skip("there is no clang++ with libc++ (apt-get install -y clang libc++-dev)")
    return command


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_clang_takes_it_without_a_warning(source: Path, compiler: list[str]) -> None:
    includes = [option for folder in INCLUDES for option in ("-isystem", str(folder))]
    command = [*compiler, *STRICT, *includes, str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
