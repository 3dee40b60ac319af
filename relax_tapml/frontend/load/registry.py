"""All frontends. The command line reads this module, so it must not import TVM."""

from __future__ import annotations

from relax_tapml.frontend.load._hf import HuggingFace
from relax_tapml.frontend.load._minilm import MiniLM
from relax_tapml.frontend.load._mlc import MLC
from relax_tapml.frontend.load._onnx_file import OnnxFile
from relax_tapml.frontend.load._python_callable import PythonCallable
from relax_tapml.frontend.load._relax_module import RelaxModule
from relax_tapml.frontend.load._saved_folder import SavedFolder
from relax_tapml.frontend.load._tflite_file import TfliteFile
from relax_tapml.frontend.load._torch_program import TorchProgram
from relax_tapml.frontend.load.frontend import Frontend

# The first frontend that matches a name loads the model.
FRONTENDS: tuple[Frontend, ...] = (
    MiniLM(),
    MLC(),
    HuggingFace(),
    SavedFolder(),
    RelaxModule(),
    TorchProgram(),
    OnnxFile(),
    TfliteFile(),
    PythonCallable(),
)
