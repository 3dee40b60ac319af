"""The functions that a session calls by name on its server: all of them.

A server need not have Python (``arm64/server.cc``). What is called there must be registered by
TVM's C++ runtime or by the server itself, so a function that is new here is new there, or the
session does without it where it is missing. ``tests/targets/server/test_functions.py`` asks the
C++ server for each.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import Any


class Provider(Enum):
    """Which servers have a function."""

    EVERY = "every"
    """Every server of TVM's RPC: it is in the C++ runtime, or all servers register it."""

    EXCHANGE = "exchange"
    """Every server that exchanges tensors through a file."""

    PYTHON = "python"
    """A server with Python; a session does without it."""


class ServerFunction(StrEnum):
    """A function of a server, by its registered name."""

    provider: Provider

    def __new__(cls, name: str, provider: Provider) -> ServerFunction:
        """Make a member of its name and provider."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.provider = provider
        return member

    ARRAY_SIZE = "ffi.ArraySize", Provider.EVERY
    ARRAY_ITEM = "ffi.ArrayGetItem", Provider.EVERY
    SHAPE = "ffi.Shape", Provider.EVERY
    LOAD_BYTECODE = "ffi.Module.load_from_bytes.relax.VMExecutable", Provider.EVERY
    FREE_KEPT = "vm.builtin.memory_manager.clear", Provider.EVERY
    # TVM's client calls these two, for RPCSession.upload and load_module.
    UPLOAD = "tvm.rpc.server.upload", Provider.EVERY
    LOAD_MODULE = "tvm.rpc.server.load_module", Provider.EVERY
    CLOSE = "CloseRPCConnection", Provider.EVERY
    # Of what a program on the device calls: poisoned results are filled with it.
    COPY = "runtime.TVMTensorCopyFromTo", Provider.EVERY

    TENSOR_FROM_FILE = "relax_tapml.targets.tensor_from_file", Provider.EXCHANGE
    TENSOR_TO_FILE = "relax_tapml.targets.tensor_to_file", Provider.EXCHANGE

    PART_FROM_FILE = "relax_tapml.targets.part_from_file", Provider.PYTHON
    TENSOR_HOLDS_FILE = "relax_tapml.targets.tensor_holds_file", Provider.PYTHON
    TENSOR_OF_FILE = "relax_tapml.targets.tensor_of_file", Provider.PYTHON
    CALL = "relax_tapml.targets.call", Provider.PYTHON
    TIMED_CALL = "relax_tapml.targets.timed_call", Provider.PYTHON


def server_function(remote: Any, function: ServerFunction) -> Any:
    """Return a function that the server of a ``tvm.rpc.RPCSession`` must have.

    Raises
    ------
    ValueError
        It is one that a server without Python lacks: ``optional_function`` is for these.
    """
    if function.provider is Provider.PYTHON:
        raise ValueError(f"{function} may be missing on a server: use optional_function")
    return remote.get_function(str(function))


def runtime_function(remote: Any, name: str) -> Any:
    """Return a function of TVM's runtime that the user's own code names, not the session.

    Raises
    ------
    AttributeError
        The server's TVM has none of that name.
    """
    return remote.get_function(name)


def optional_function(remote: Any, function: ServerFunction) -> Any:
    """Return a function of a server; None where it lacks it, as one without Python may."""
    try:
        return remote.get_function(str(function))
    except AttributeError:
        return None
