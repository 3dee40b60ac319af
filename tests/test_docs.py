"""What the docs show is what happens."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"


def test_the_example_for_python_does_what_it_says(tmp_path: Path) -> None:
    """Partition, explain, and a search that finds the broken kernel."""
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "python.md").read_text(), flags=re.DOTALL)
    script = tmp_path / "example.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "{}",
        "main_region0 ('main/000/matmul', 'main/001/softmax', 'main/002/matmul') 256",
        "['softmax']",
        "['matmul']",
    ]


def test_the_example_of_a_model_with_a_cache_does_what_it_says(tmp_path: Path) -> None:
    """What computes tensors moves, what touches the cache stays."""
    code, *_ = re.findall(r"```python\n(.*?)```", (DOCS / "models.md").read_text(), flags=re.DOTALL)
    script = tmp_path / "example.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "pass ['matmul', 'softmax', 'tir_exp']",
        "2 sites of the runtime stay on the host",
    ]


def test_modules_the_table_names_exist() -> None:
    """No documented name is made up."""
    text = (DOCS / "python.md").read_text()
    names = re.findall(r"`((?:partition|migrate|passes)\.[a-z_.]+)", text)
    root = DOCS.parent
    assert names
    for name in names:
        folder = root if name.startswith("passes.") else root / "relax_tapml"
        parts = name.split(".")
        files = [folder.joinpath(*parts[:n]).with_suffix(".py") for n in range(2, len(parts) + 1)]
        assert any(file.exists() for file in files), name
