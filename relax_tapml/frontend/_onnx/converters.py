"""Converters in place of TVM's: for operators that it lacks, or converts wrongly.

Each docstring describes what TVM's own converter does wrong. Delete a converter here when TVM's
passes the tests and ``scripts/onnx_import_sweep.py``.
"""

from __future__ import annotations

from relax_tapml.frontend._onnx.node_call import Converter
from relax_tapml.frontend._onnx.recurrent import gru, lstm, rnn

WRONG: dict[str, str] = {}
"""Operators that TVM converts to wrong values in some cases, with what is wrong.

They are replaced by ONNX's definition where there is one, else refused."""

CONVERTERS: dict[str, Converter] = {"GRU": gru, "LSTM": lstm, "RNN": rnn}
"""By operator, ``Slice`` or ``com.microsoft::FusedConv``."""
