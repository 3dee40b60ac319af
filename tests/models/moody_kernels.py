"""Right kernels for three units of the small recorded model, on devices that are not right.

Each adds what the server's environment says in TAPML_TEST_LIE, and sends the signal of
TAPML_TEST_SIGNAL (0 is none) to the server and to itself.
"""

from __future__ import annotations

import tvm
from broken_pipelines import breaks, storing
from tvm import tirx

from relax_tapml._compat import TirStringImm

RIGHT = {"TAPML_TEST_LIE": "0", "TAPML_TEST_SIGNAL": "0"}
# The mark is what ``broken_pipelines.minds_mark`` minds.
LYING = {**RIGHT, "TAPML_TEST_LIE": "1", "RELAX_TAPML_TEST_MARK": "1"}
DYING = {**RIGHT, "TAPML_TEST_SIGNAL": "9"}
# The environments of the servers of a key.
FLEETS = {
    "three": [LYING, RIGHT, RIGHT],
    "two": [LYING, RIGHT],
    "mortal": [DYING, RIGHT],
    "fatal": [DYING, DYING],
    "doomed": [RIGHT, RIGHT],
    "doomed_too": [RIGHT, RIGHT],
}
UNITS = ["increment", "add_and_subtract", "double_inplace"]


def environment(name):
    value = tirx.call_extern("handle", "getenv", TirStringImm(name))
    return tirx.call_extern("int32", "atoi", value)


def moody(kernel):
    signal = environment("TAPML_TEST_SIGNAL")
    sent = [
        tirx.call_extern("int32", "kill", tirx.call_extern("int32", "getppid"), signal),
        tirx.call_extern("int32", "raise", signal),
    ]
    wrong = tirx.Cast("float32", environment("TAPML_TEST_LIE"))
    body = storing(lambda value: value + wrong)(kernel).body
    return kernel.with_body(tirx.SeqStmt([*map(tirx.Evaluate, sent), body]))


pipeline = tvm.transform.Sequential([breaks(unit, moody) for unit in UNITS])
