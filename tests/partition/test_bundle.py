"""A bundle runs anywhere, and a damaged one is refused."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tvm
from damaged_json import damaged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import refused
from same_kernels import LLVM

from relax_tapml.cpu_schedule import native_cpu
from relax_tapml.errors import StoreError, TapmlError
from relax_tapml.partition.boundary import Boundary
from relax_tapml.partition.bundle import load, write_bundle
from relax_tapml.system import FORKS_ARE_SAFE


@pytest.fixture
def write(part, kernels, tiny):
    """Write a bundle with some units on the device."""

    def write(folder: Path, *boundary: str) -> Path:
        write_bundle(
            folder,
            part(*boundary),
            source=LLVM,
            target=LLVM,
            host_kernels=kernels.files(),
            device_kernels=kernels.files(frozenset(boundary)),
            params=tiny.params,
        )
        return folder

    return write


@pytest.fixture
def bundle(write, tmp_path) -> Path:
    """One with two units on the device."""
    return write(tmp_path / "bundle", "softmax", "cumsum")


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("session", ["inline", "process"])
def test_a_bundle_computes_what_the_model_does(bundle, expected, tiny, session):
    """Bit for bit, wherever its device is."""
    with load(bundle, session=session) as loaded:
        assert loaded.boundary == Boundary(units={"softmax", "cumsum"})
        for sample, wanted in zip(tiny.samples, expected, strict=True):
            outputs = loaded["main"](*sample.arrays)
            assert [a.tobytes() for a in outputs] == [a.tobytes() for a in wanted]
    loaded.close()


def test_a_bundle_may_have_no_device(write, expected, tiny, tmp_path):
    """Then no session is opened, whichever is requested."""
    folder = write(tmp_path / "all_host")
    loaded = load(folder, session="rpc:no.such.host:1")
    outputs = loaded["main"](*tiny.samples[0].arrays)
    assert [a.tobytes() for a in outputs] == [a.tobytes() for a in expected[0]]


def test_a_bundle_runs_in_another_process_and_folder(bundle, expected, tiny, tmp_path):
    """It refers to nothing outside itself, and may be moved."""
    moved = shutil.move(bundle, tmp_path / "moved")
    np.save(tmp_path / "x.npy", tiny.samples[0].arrays[0])
    script = (
        "import sys, numpy as np, relax_tapml\n"
        "outputs = relax_tapml.load(sys.argv[1])['main'](np.load(sys.argv[2]))\n"
        "np.savez(sys.argv[3], *outputs)\n"
    )
    arguments = [moved, tmp_path / "x.npy", tmp_path / "out.npz"]
    subprocess.run([sys.executable, "-c", script, *arguments], check=True, cwd="/")
    with np.load(tmp_path / "out.npz") as outputs:
        assert [outputs[name].tobytes() for name in outputs] == [a.tobytes() for a in expected[0]]


def test_a_bundle_replaces_an_older_one(write, tmp_path):
    """With nothing of the old one left, and nothing beside it."""
    folder = write(tmp_path / "bundle", "softmax", "cumsum", "sum")
    first = content(folder)
    write(folder)
    second = content(folder)
    assert not any(name.startswith("device") for name in second)
    assert first.keys() - second.keys()
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert load(folder).boundary == Boundary()


def test_a_bundle_that_cannot_be_written_leaves_the_old_one(bundle, part, tiny, tmp_path):
    """For example if a kernel is missing."""
    before = content(bundle)
    with pytest.raises(FileNotFoundError):
        write_bundle(
            bundle,
            part("sum"),
            source=LLVM,
            target=LLVM,
            host_kernels=[tmp_path / "no_such_kernel.so"],
            device_kernels=[],
            params=tiny.params,
        )
    assert content(bundle) == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def not_loaded(folder: Path, *named: str) -> None:
    with refused(StoreError, *named, "build"):
        load(folder)


def edit(folder: Path, change) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_every_file_is_checked(bundle):
    """One flipped bit anywhere, or a file less, and it is not loaded."""
    names = [name for name in content(bundle) if name != "manifest.json"]
    assert {"host.vm", "device.vm", "params.safetensors"} < set(names)
    for name in names:
        file = bundle / name
        data = file.read_bytes()
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        not_loaded(bundle, f"{bundle}/{name} ", "SHA-256")
        file.unlink()
        not_loaded(bundle, f"{bundle}/{name} ", "No such file")
        file.write_bytes(data)
    load(bundle)


@settings(
    max_examples=60,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_other_value_in_the_manifest_is_refused_or_harmless(bundle, data):
    """It never ends in another error than one of ours."""
    path = bundle / "manifest.json"
    original = path.read_bytes()
    path.write_text(json.dumps(data.draw(damaged(json.loads(original)))))
    try:
        with contextlib.suppress(TapmlError):
            load(bundle)
    finally:
        path.write_bytes(original)


def test_another_schema_is_refused(bundle):
    """It may mean something else."""
    edit(bundle, lambda manifest: manifest.update(schema=1))
    not_loaded(bundle, "manifest.json: expected schema 4, got 1")


@pytest.mark.parametrize("name", ["../outside.so", "/etc/hostname"])
@pytest.mark.parametrize("listed", [True, False], ids=["listed", "unlisted"])
def test_a_file_outside_the_bundle_is_refused(bundle, name, listed):
    """Whether or not the manifest has a checksum of it."""

    def change(manifest):
        manifest["host"]["kernels"].append(name)
        if listed:
            manifest["sha256"][name] = "0" * 64

    edit(bundle, change)
    not_loaded(bundle, f"manifest.json names '{name}'", "outside")


@pytest.mark.parametrize("boundary", [None, ["softmax"], {"kind": "relax_tapml.boundary"}])
def test_a_bundle_without_a_boundary_is_damaged(bundle, boundary):
    """It is not a usage error, since the manifest is not written by hand."""
    edit(bundle, lambda manifest: manifest.update(boundary=boundary))
    with pytest.raises(StoreError, match=r"manifest\.json is damaged: .*Run the build again$"):
        load(bundle)


def test_a_file_without_a_checksum_is_refused(bundle):
    """Nothing is loaded that was not checked."""
    shutil.copy(bundle / "host.vm", bundle / "host" / "added.so")
    edit(bundle, lambda manifest: manifest["host"]["kernels"].append("host/added.so"))
    not_loaded(bundle, f"{bundle}/host/added.so", "SHA-256")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (None, "has no manifest.json"),
        ("{", "Expecting property name"),
        ('{"kind": "relax_tapml.suite"}', "manifest.json"),
        ("[]", "manifest.json"),
        ('{"kind": "relax_tapml.bundle", "schema": 4}', "`boundary`"),
    ],
    ids=["none", "no json", "other kind", "no object", "incomplete"],
)
def test_something_else_is_no_bundle(tmp_path, text, named):
    """The message describes what was expected there."""
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    not_loaded(tmp_path, named)


def sealed(folder: Path, name: str, data: bytes) -> None:
    """Replace a file of a bundle, with its hash."""
    (folder / name).write_bytes(data)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["sha256"][name] = hashlib.sha256(data).hexdigest()
    path.write_text(json.dumps(manifest))


def test_bytecode_that_leads_out_of_its_tables_is_refused(bundle):
    """With a right hash, which every author of a file can write; it must not end the process."""
    data = (bundle / "host.vm").read_bytes()
    # The last instruction returns a register.
    sealed(bundle, "host.vm", data[:-8] + (1 << 40).to_bytes(8, "little"))
    with pytest.raises(StoreError, match=r"host\.vm is damaged.*register"):
        load(bundle)


@pytest.mark.parametrize("is_forked", [True, False])
def test_a_library_that_ends_its_process_is_refused(bundle, tmp_path, monkeypatch, is_forked):
    """Loading it runs code of it: a child does that first, a new process where forks are unsafe."""
    monkeypatch.setattr("relax_tapml.foreign.loading.FORKS_ARE_SAFE", is_forked and FORKS_ARE_SAFE)
    source = tmp_path / "evil.c"
    source.write_text("#include <stdlib.h>\n__attribute__((constructor)) void f(void) {abort();}\n")
    name = next(path for path in (bundle / "host").iterdir()).relative_to(bundle).as_posix()
    subprocess.run(["cc", "-shared", "-fPIC", "-o", bundle / name, source], check=True)
    sealed(bundle, name, (bundle / name).read_bytes())
    with pytest.raises(StoreError, match=f"{re.escape(name)}.*SIGABRT"):
        load(bundle)


def test_bytecode_that_calls_what_may_do_harm_needs_trust(bundle):
    """The name of a kernel may be that of any function of TVM."""
    data = (bundle / "host.vm").read_bytes()
    # Of the same length, so that nothing else changes.
    assert b"relax_tapml.device.upload" in data
    name = b"test_bundle.anything_else"
    tvm.register_global_func(name.decode(), lambda *_: None, override=True)
    sealed(bundle, "host.vm", data.replace(b"relax_tapml.device.upload", name))
    with pytest.raises(StoreError, match=r"host\.vm calls.*--trust"):
        load(bundle)
    load(bundle, trust=True).close()


def test_a_bundle_for_another_cpu_is_refused(bundle, monkeypatch):
    """It names the CPU, what this one lacks, and what to do; loading would be a crash."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["source"] = '{"kind": "llvm", "mcpu": "znver5"}'
    manifest["host"]["instruction_sets"] = ["sse3", "avx512f"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setattr(native_cpu, "_listed", lambda: {"sse3", "avx2"})
    with pytest.raises(
        StoreError, match=r"built for znver5; .* lacks 'avx512f'\. Run the build again on this"
    ):
        load(bundle)
    monkeypatch.setattr(native_cpu, "_listed", lambda: {"sse3", "avx512f"})
    load(bundle).close()
