"""A kernel on disk is used only if this user wrote it and it is unchanged."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess

import pytest
import tvm
from same_kernels import LLVM
from tiny_model import UNITS
from tvm.ir import GlobalVar

from relax_tapml.partition._kernel_files import KernelFiles, KernelName
from relax_tapml.partition.kernel_library import KernelLibrary


@pytest.fixture
def softmax(tmp_path, units):
    """The kernel of softmax in a folder of all kernels, and the path of another one."""
    built = KernelLibrary(tmp_path / "kernels").build(units, LLVM)
    (path,), (other,) = built.paths["softmax"], built.paths["matmul"]
    return path, other


def flip(path, other) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def pipe(path, other) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path, other) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").touch()


def plant(path, other) -> None:
    code = "#include <stdlib.h>\n__attribute__((constructor)) void f(void) { abort(); }\n"
    (path.parent / "planted.c").write_text(code)
    command = ["cc", "-shared", "-fPIC", "-o", str(path), str(path.parent / "planted.c")]
    subprocess.run(command, check=True)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path, other: path.write_bytes(path.read_bytes()[:1000]),
        lambda path, other: path.write_bytes(b""),
        lambda path, other: shutil.copyfile(other, path),
        *(flip, pipe, folder, plant),
    ],
    ids=["truncate", "empty", "swap", "flip", "pipe", "folder", "plant"],
)
def test_a_damaged_kernel_is_built_again(softmax, units, damage, caplog):
    """It alone, with a note; what is returned can be loaded."""
    path, other = softmax
    damage(path, other)
    again = KernelLibrary(path.parent).build(units, LLVM)
    assert again.built == ("softmax",)
    for file in again.files():
        tvm.runtime.load_module(str(file))
    assert "rebuilding" in caplog.text
    assert path.name in caplog.text
    assert KernelLibrary(path.parent).build(units, LLVM).built == ()


def test_kernels_of_another_user_are_built_again(tmp_path, softmax, units, monkeypatch):
    """A file that was sealed with another secret is not loaded."""
    monkeypatch.setenv("RELAX_TAPML_CACHE", str(tmp_path / "theirs"))
    again = KernelLibrary(softmax[0].parent).build(units, LLVM)
    assert len(again.built) == len(UNITS)
    secret = tmp_path / "theirs" / "secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_a_secret_that_others_may_know_is_replaced(tmp_path, units, monkeypatch):
    monkeypatch.setenv("RELAX_TAPML_CACHE", str(tmp_path / "cache"))
    secret = tmp_path / "cache" / "secret"
    secret.parent.mkdir()
    secret.write_bytes(b"\0" * 32)
    secret.chmod(0o644)
    KernelLibrary(tmp_path / "kernels").build(units, LLVM)
    assert secret.read_bytes() != b"\0" * 32
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_without_a_place_for_a_secret_kernels_are_for_one_process(tmp_path, units, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("RELAX_TAPML_CACHE", str(tmp_path / "file" / "cache"))
    KernelLibrary(tmp_path / "kernels").build(units, LLVM)
    assert KernelLibrary(tmp_path / "kernels").build(units, LLVM).built == ()


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a\nb", "n" * 300, "ünï"])
def test_a_kernel_has_a_file_whatever_its_name(tmp_path, units, name):
    """In its folder."""
    module = tvm.IRModule({GlobalVar(name): units["softmax"]})
    built = KernelLibrary(tmp_path / "kernels").build(module, LLVM)
    ((path,),) = built.paths.values()
    assert path.parent == tmp_path / "kernels"
    assert [child.name for child in tmp_path.iterdir()] == ["kernels"]
    assert path.is_file()


@pytest.mark.parametrize(
    "damage",
    [
        lambda kernel, seal: flip(kernel, None),
        lambda kernel, seal: flip(seal, None),
        lambda kernel, seal: seal.unlink(),
        lambda kernel, seal: kernel.write_bytes(kernel.read_bytes() + seal.read_bytes()),
        lambda kernel, seal: shutil.copyfile(kernel.with_name("other"), kernel),
    ],
    ids=["kernel", "seal", "no seal", "appended", "swap"],
)
def test_nothing_is_added_to_a_signed_library(tmp_path, damage):
    """As those of macOS are: the seal is beside it, and guards it as well."""
    files = KernelFiles(tmp_path)
    content = b"\xcf\xfa\xed\xfe of some kernel, with a signature at its end"
    name = KernelName(kernel="softmax", platform="metal", digest="12", suffix=".so")
    made = files.make(name, lambda path: path.write_bytes(content))
    assert made.read_bytes() == content
    assert files.find([name]) == {name: made}
    (tmp_path / "other").write_bytes(content + b"!")
    damage(made, tmp_path / f"{name}.seal")
    assert files.find([name]) == {}
    files.make(name, lambda path: path.write_bytes(content))
    assert files.find([name]) == {name: made}
