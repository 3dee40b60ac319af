"""What every session does alike, inline, in a process and over the network."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import server_without_python
from transferred import ARRAYS, check_round_trip

from relax_tapml.errors import DeviceError, UsageError
from relax_tapml.targets.open_session import open_session
from relax_tapml.targets.platforms.parse_target import parse_target
from relax_tapml.targets.session.traffic import Traffic

LLVM = parse_target("llvm")
X = np.linspace(-3, 3, 32, dtype="float32").reshape(4, 8)
W = np.linspace(1, 2, 32, dtype="float32").reshape(4, 8)


@pytest.fixture(scope="module", params=["inline", "process", "rpc", "without Python"])
def session(request):
    """One session of each kind, shared: opening one imports TVM in another process."""
    spec = request.param
    if spec == "without Python":
        program = request.getfixturevalue("program_without_python")
        session = server_without_python.open_session(program)
        yield session
        session.close()
        return
    if spec == "rpc":
        spec = f"rpc:127.0.0.1:{request.getfixturevalue('rpc_port')}"
    session = open_session(spec, LLVM)
    yield session
    session.close()


@pytest.mark.parametrize("name", ARRAYS)
def test_round_trip_is_exact(session, name):
    """Upload and download give back shape, dtype and every bit."""
    check_round_trip(session, ARRAYS[name])


@pytest.mark.parametrize("dtype", [ml_dtypes.int4, np.complex64, object, "U3", "M8[s]"])
def test_upload_refuses_what_no_tensor_holds(session, dtype):
    """A dtype that would need a conversion is refused by name."""
    with pytest.raises(UsageError, match="cannot be copied to a device"):
        session.upload(np.zeros(2, dtype))


def test_traffic_counts_both_ways(session):
    """Both directions count, in bytes of the array's own dtype."""
    before = session.traffic
    session.download(session.upload(np.zeros(10, "float16")))
    assert session.traffic - before == Traffic(to_device=20, to_host=20)


def test_parameter_is_uploaded_once(session):
    """The second use of a name moves nothing; another shape under it is refused."""
    first = session.parameter("encoder.weight", W)
    before = session.traffic.total
    assert session.parameter("encoder.weight", W) is first
    assert session.traffic.total == before
    with pytest.raises(UsageError, match=r"encoder.weight: expected float32\[4, 8\].*float32\[8\]"):
        session.parameter("encoder.weight", W[0, :])


def test_prebuilt_kernels_run(session, units):
    """Results come flattened and equal, to the bit, those of this process."""
    module = session.load(units.bytecode, units.kernels)
    results = session.call(module, "works", [session.upload(X), session.parameter("w", W)])
    inline = open_session("inline", LLVM)
    expected = inline.call(
        inline.load(units.bytecode, units.kernels), "works", [inline.upload(X), inline.upload(W)]
    )
    assert len(results) == len(expected) == 2
    for result, wanted in zip(results, expected, strict=True):
        assert session.download(result).tobytes() == inline.download(wanted).tobytes()
    np.testing.assert_allclose(session.download(results[0]), np.exp(X) / 10, rtol=1e-5)


def test_kernels_may_be_loaded_again(session, units, tmp_path):
    """The same content under another path is not sent again; the first module keeps working."""
    first = session.load(units.bytecode, units.kernels)
    copies = []
    for path in units.kernels:
        copies.append(tmp_path / path.name)
        copies[-1].write_bytes(path.read_bytes())
    second = session.load(units.bytecode, copies)
    for module in (first, second):
        assert session.call(module, "works", [session.upload(X), session.upload(W)])


def test_view_of_an_argument_outlives_it(session, units):
    """A reshape result keeps its values after its argument is gone."""
    module = session.load(units.bytecode, units.kernels)
    argument = session.upload(X)
    (view,) = session.call(module, "views", [argument])
    del argument
    others = [session.upload(np.full((4, 8), i, "float32")) for i in range(20)]
    np.testing.assert_array_equal(session.download(view), X.reshape(2, 16))
    assert len(others) == 20


def test_shapes_are_passed(session, units):
    """A tuple of ints reaches the function as a shape, which gives it its symbolic sizes."""
    module = session.load(units.bytecode, units.kernels)
    (result,) = session.call(module, "reshapes", [session.upload(X), (8, 4)])
    assert session.download(result).shape == (8, 4)


def test_raising_call_is_an_error_and_the_session_lives(session, units):
    """The message is the device's own, without a stack of the client."""
    module = session.load(units.bytecode, units.kernels)
    with pytest.raises(DeviceError, match="call of raises failed") as caught:
        session.call(module, "raises", [session.upload(X)])
    assert caught.value.text == (
        "Cannot find function tapml_test.no_such_function in the imported modules or global "
        "registry."
    )
    assert session.call(module, "works", [session.upload(X), session.upload(W)])


def test_unknown_function_and_broken_bytecode_are_errors(session, units):
    """What cannot be loaded or found is a fault of the device that leaves the session alive."""
    with pytest.raises(DeviceError, match="load failed"):
        session.load(b"not bytecode at all", [])
    module = session.load(units.bytecode, units.kernels)
    with pytest.raises(DeviceError, match="call of no_such_function failed"):
        session.call(module, "no_such_function", [])
    with pytest.raises(DeviceError, match="call of works failed"):
        session.call(module, "works", [session.upload(X)])
    assert session.download(session.upload(X)).shape == X.shape
