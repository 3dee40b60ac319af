"""Right kernels for three units of the small recorded model, on devices that are not right.

Each adds what the server's environment says in TAPML_TEST_LIE, and sends the signal of
TAPML_TEST_SIGNAL (0 is none) to the server and to itself.
"""

from __future__ import annotations

import tvm
from tvm.script import tirx as T  # noqa: N812

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


def environment(name):
    return T.call_extern("int32", "atoi", T.call_extern("handle", "getenv", name))


def error():
    return T.Cast("float32", environment("TAPML_TEST_LIE"))


def end_server():
    server = T.call_extern("int32", "getppid")
    return T.call_extern("int32", "kill", server, environment("TAPML_TEST_SIGNAL"))


def end_device():
    return T.call_extern("int32", "raise", environment("TAPML_TEST_SIGNAL"))


@T.prim_func(private=True, s_tir=True)
def increment(x: T.handle, y: T.handle):
    n = T.int64()
    X = T.match_buffer(x, (n, 4))
    Y = T.match_buffer(y, (n, 4))
    T.evaluate(end_server())
    T.evaluate(end_device())
    for i, j in T.grid(n, 4):
        with T.sblock("Y"):
            vi, vj = T.axis.remap("SS", [i, j])
            Y[vi, vj] = X[vi, vj] + T.float32(1) + error()


@T.prim_func(private=True, s_tir=True)
def double_inplace(x: T.handle):
    n = T.int64()
    X = T.match_buffer(x, (n, 4))
    T.evaluate(end_server())
    T.evaluate(end_device())
    for i, j in T.grid(n, 4):
        with T.sblock("X"):
            vi, vj = T.axis.remap("SS", [i, j])
            X[vi, vj] = X[vi, vj] * T.float32(2) + error()


@T.prim_func(private=True, s_tir=True)
def add_and_subtract(
    X: T.Buffer((2, 4), "float32"),
    k: T.int64,
    Y: T.Buffer((2, 4), "float32"),
    Z: T.Buffer((2, 4), "float32"),
):
    T.evaluate(end_server())
    T.evaluate(end_device())
    for i, j in T.grid(2, 4):
        with T.sblock("Y"):
            vi, vj = T.axis.remap("SS", [i, j])
            Y[vi, vj] = X[vi, vj] + T.Cast("float32", k) + error()
            Z[vi, vj] = X[vi, vj] - T.Cast("float32", k)


UNITS = ["increment", "add_and_subtract", "double_inplace"]


@tvm.transform.module_pass(opt_level=0, name="Moody")
def pipeline(module, _context):
    """Give the three units these kernels."""
    out = module.clone()
    for name in UNITS:
        out.update_func(module.get_global_var(name), globals()[name])
    return out
