"""What a session calls by name on a server is there, also where the server has no Python."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import server_without_python

from relax_tapml import targets
from relax_tapml.passes import poison_results
from relax_tapml.targets.server.functions import (
    Provider,
    ServerFunction,
    optional_function,
    server_function,
)

# They may take a function by its name; the web's server is JavaScript of this package.
ASKING = {"server/functions.py", "web/session.py"}


@pytest.fixture(scope="module")
def remote(program_without_python):
    """The connection to a server that has TVM's C++ runtime and no Python."""
    session = server_without_python.open_session(program_without_python)
    yield session._remote
    session.close()


@pytest.mark.parametrize("function", ServerFunction)
def test_a_server_without_python_has_all_that_a_session_needs(remote, function):
    """Or the session is told that it is missing, and does without."""
    if function.provider is Provider.PYTHON:
        optional_function(remote, function)
        with pytest.raises(ValueError, match="use optional_function"):
            server_function(remote, function)
    else:
        assert server_function(remote, function) is not None


def test_a_function_that_is_missing_is_seen(remote):
    """A name that nobody registers is an error, and not a function that fails when it is called."""
    with pytest.raises(AttributeError):
        remote.get_function("relax_tapml.targets.no_such_function")


def test_names_are_taken_from_the_list_only():
    """Sessions and what they use ask a server by ``ServerFunction``, and so does nothing else."""
    folder = Path(targets.__file__).parent
    asking = {
        str(path.relative_to(folder))
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "get_function"
    }
    assert asking == ASKING


def test_programs_of_a_device_copy_by_a_function_of_the_list():
    """The pass that poisons results cannot import the list."""
    assert poison_results._COPY.global_symbol == ServerFunction.COPY
