"""The frontends there are; read by the command line, so it must not load TVM."""

from __future__ import annotations

from relax_tapml.frontend.load.frontend import Frontend
from relax_tapml.frontend.load.minilm import MiniLM
from relax_tapml.frontend.load.mlc import MLC
from relax_tapml.frontend.load.python_callable import PythonCallable
from relax_tapml.frontend.load.relax_module import RelaxModule
from relax_tapml.frontend.load.saved_folder import SavedFolder
from relax_tapml.frontend.load.torch_program import TorchProgram

# The first that a name matches loads it.
FRONTENDS: tuple[Frontend, ...] = (
    MiniLM(),
    MLC(),
    SavedFolder(),
    RelaxModule(),
    TorchProgram(),
    PythonCallable(),
)
