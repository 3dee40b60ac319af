"""A function of a shared library is judged in the device's process."""

import os
import subprocess
from pathlib import Path

import pytest
import tvm

from relax_tapml import verify
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import UsageError

SOURCE = """
#include <stdio.h>
#include <unistd.h>
#include <stdlib.h>
__attribute__((constructor)) static void loaded(void) {
  char name[512];
  snprintf(name, sizeof name, "%s/loaded-%d", FOLDER, getpid());
  fclose(fopen(name, "w"));
}
void add_one(const float* x, float* y, int rows) {
  for (int i = 0; i < rows * 4; ++i) y[i] = x[i] + 1;
}
void add_more(const float* x, float* y, int rows) {
  for (int i = 0; i < rows * 4; ++i) y[i] = x[i] + 1.001f;
}
void ends(const float* x, float* y, int rows) { abort(); }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("library")
    source, path = folder / "kernel.c", folder / "kernel.so"
    define = f'-DFOLDER="{folder}"'
    source.write_text(SOURCE)
    subprocess.run(["cc", define, "-shared", "-fPIC", "-o", path, source], check=True)
    return path


@pytest.mark.parametrize(
    ("name", "verdicts"),
    [
        ("add_one", {Verdict.PASS}),
        ("add_more", {Verdict.MISMATCH}),
        ("ends", {Verdict.CRASH}),
    ],
)
def test_a_library_is_judged_and_not_loaded_here(suite, library, name, verdicts):
    report = verify(suite, "increment", f"{library}:{name}", held_out=1, repeat=1)
    assert report.verdict in verdicts, report.reason
    assert (report.speed is not None) == (report.verdict is Verdict.PASS)
    loaded = {path.name for path in library.parent.glob("loaded-*")}
    assert loaded
    assert f"loaded-{os.getpid()}" not in loaded
    assert "/kernel.so" not in Path("/proc/self/maps").read_text()


def test_a_library_that_tvm_exports_is_judged(suite, tmp_path):
    import candidate_script

    for name, source in (("right", "increment"), ("wrong", "mutated")):
        holder = candidate_script.Right if name == "right" else candidate_script.Wrong
        kernel = holder[source].with_attr("global_symbol", "exported")
        path = tmp_path / f"{name}.so"
        tvm.tirx.build(tvm.IRModule({"exported": kernel}), target="llvm").export_library(str(path))
        report = verify(
            suite, "increment", f"{path}:exported", held_out=1, repeat=1, is_timed=False
        )
        assert report.verdict is (Verdict.PASS if name == "right" else Verdict.MISMATCH)


def test_what_cannot_be_called_is_refused(suite, library):
    for text, options, sign in (
        (f"{library}", {}, "NAME"),
        (f"{library}:missing", {}, "exports neither"),
        (f"{library}:add_one", {"session": "inline"}, "session process"),
    ):
        with pytest.raises(UsageError, match=sign):
            verify(suite, "increment", text, **options)
