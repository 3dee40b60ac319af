"""The README's commands are the ones that are run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from tvm import relax

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
QUICKSTART = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_ci_runs_the_readme_test_command() -> None:
    """What README promises to a reader is what is checked."""
    (command,) = [line for line in commands() if "&& pytest" in line]
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    places = [run.index(part) for part in command.split(" && ")]
    assert places == sorted(places)


def test_ci_samples_the_oldest_tvm_as_the_readme_installs_it() -> None:
    """The file that README names for it is there, and is what the sample is installed with."""
    (option,) = set(re.findall(r"-c requirements/[\w.-]+\.txt", README))
    assert (ROOT / option.removeprefix("-c ")).exists()
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert [line for line in run if line.startswith("pip install") and option in line]


def test_build_options_in_the_readme_exist() -> None:
    """No documented option is made up."""
    documented = [shlex.split(c) for c in commands() if "relax_tapml.build" in c]
    options = {word for words in documented for word in words if word.startswith("--")}
    assert options >= {"--text", "--out", "--inputs", "--target", "--device-pipeline"}
    help_text = subprocess.run(
        [sys.executable, "-m", "relax_tapml.build", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert {o for o in options if not re.search(rf"{o}\b", help_text)} == set()


def test_the_wrong_kernel_example_changes_the_kernel_and_nothing_else(tmp_path: Path) -> None:
    """The example breaks what it says it breaks, and leaves its input alone."""
    (code,) = re.findall(r"```python\n(# wrong_kernels.py\n.*?)```", QUICKSTART, flags=re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(compile(code, "wrong_kernels.py", "exec"), namespace)
    block = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((4,), "float32"))
    with block.function("main", [x]):
        block.emit_func_output(block.emit(relax.op.exp(block.emit(relax.op.nn.gelu(x)))))
    module = relax.get_pipeline("zero")(block.finalize())
    before = module.script()
    changed = namespace["pipeline"](module).script()
    assert module.script() == before
    assert "T.erf(" in before
    assert changed == before.replace("T.erf(", "T.tanh(")
