"""Tensors to the device process and back, through its file."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tvm

from relax_tapml.errors import DeviceUnavailable
from relax_tapml.files.mapped import FilePlace, map_file
from relax_tapml.targets.open_session import open_session
from relax_tapml.targets.platforms.parse_target import parse_target
from relax_tapml.targets.server.file_exchange import FileExchange
from relax_tapml.tensor_file import parse_tensors, raw_tensors, write_tensors

LLVM = parse_target("llvm")
DTYPES = [
    *("bool", "int8", "uint16", "int32", "int64", "float16", "float32", "float64", "bfloat16"),
    *(name for name in dir(ml_dtypes) if name.startswith("float8")),
]


@pytest.fixture(scope="module")
def session():
    """A session on a device process."""
    with closing(open_session("process", LLVM)) as session:
        yield session


@pytest.fixture
def fresh_session():
    """One whose file has its first size."""
    with closing(open_session("process", LLVM)) as session:
        yield session


def _random(size_bytes: int, dtype: str) -> np.ndarray:
    data = np.random.default_rng(size_bytes).integers(0, 256, size_bytes, np.uint8)
    return data % 2 == 1 if dtype == "bool" else data.view(dtype)


def _check(session, array) -> None:
    tensor = session._files.upload(array, session._device)
    others = [session._files.upload(np.zeros_like(array), session._device) for _ in range(2)]
    back = session._files.download(tensor)
    session._files.download(others[0])
    assert (str(tensor.dtype), tuple(tensor.shape)) == (array.dtype.name, array.shape)
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trip_keeps_dtype_and_bits(session, dtype):
    """What comes back is the caller's own, unchanged by later transfers."""
    _check(session, _random(4800, dtype).reshape(2, -1, 3))


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,)])
def test_small_shapes(session, shape):
    """Scalars, and arrays without a byte, first and later."""
    _check(session, np.full(shape, 1.5, "float32"))


@pytest.mark.parametrize("kind", ["hexagon", "webgpu"])
def test_upload_goes_to_the_device_it_names(session, kind):
    """The kind of a device reaches the server, whose TVM has none of these."""
    with pytest.raises(RuntimeError, match=f"Device API {kind} is not enabled"):
        session._files.upload(np.zeros(2, "float32"), session._remote.device(kind))


@pytest.mark.parametrize("size_bytes", [4092, 4096, 4100])
def test_tensors_from_the_threshold_on_use_the_file(session, size_bytes, monkeypatch):
    """The session takes the file for those large enough, both ways."""
    used = []
    for name in ("upload", "download"):
        whole = getattr(FileExchange, name)
        monkeypatch.setattr(
            FileExchange, name, lambda *args, w=whole, n=name: used.append(n) or w(*args)
        )
    array = _random(size_bytes, "float32")
    assert session.download(session.upload(array)).tobytes() == array.tobytes()
    assert used == ([] if size_bytes < 4096 else ["upload", "download"])


def test_file_grows_with_the_tensors():
    """Later tensors may be larger or smaller; a result may be larger than all that was sent."""
    session = open_session("process", LLVM)
    path = session._server.folder / "tensor"
    for size_bytes in (4096, 3 << 20, 4096, 5 << 20):
        _check(session, _random(size_bytes, "uint8"))
    assert path.stat().st_size == 5 << 20
    ones = tvm.runtime.empty((7 << 20,), "uint8", session._device)
    assert session.download(ones).nbytes == 7 << 20
    content = session._files._file._content
    session.close()
    assert content.closed
    session.close()


def test_large_tensors_cross_in_parts(session):
    """A difference is found in each of them; and the file is not larger than one."""
    array = _random((70 << 20) + 3, "uint8")
    tensor = session.upload(array)
    assert session.holds(tensor, array)
    assert session.download(tensor).tobytes() == array.tobytes()
    for place in (0, 40 << 20, array.size - 1):
        array[place] ^= 1
        assert not session.holds(tensor, array)
        array[place] ^= 1


def test_what_the_server_cannot_map_is_uploaded(session):
    """As where the memory of a process is hidden from others."""
    place = FilePlace(path=Path("/proc/1/fd/no"), offset=0, size_bytes=4096)
    array = _random(4096, "uint8")
    tensor = session._files.map(place, array, session._device)
    assert session.download(tensor).tobytes() == array.tobytes()


def test_space_is_reserved_before_it_is_written(session):
    """The file has no holes, which a full disk would turn into a SIGBUS."""
    _check(session, _random(4096, "uint8"))
    status = (session._server.folder / "tensor").stat()
    assert status.st_blocks * 512 >= status.st_size >= 1 << 20


def test_file_that_cannot_grow_is_an_error(fresh_session):
    """Without space for a tensor its transfer fails and the session lives."""
    _check(fresh_session, _random(4096, "uint8"))
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 20, limits[1]))
    try:
        with pytest.raises(
            DeviceUnavailable, match=r"upload of uint8.* failed on .*File too large"
        ):
            fresh_session.upload(np.zeros(24 << 20, "uint8"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    _check(fresh_session, _random(4096, "uint8"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "bool"])
def test_what_lies_in_a_file_is_mapped_by_the_server(session, dtype, tmp_path, monkeypatch):
    """Nothing is copied through the exchange, and the server's copy is its own."""
    array = _random(64 * 96, dtype).reshape(-1, 32)
    write_tensors(tmp_path / "w", raw_tensors({"w": array}))
    found = parse_tensors(map_file(tmp_path / "w", fix="", max_bytes=1 << 20))["w"]
    monkeypatch.setattr(FileExchange, "upload", lambda *_: pytest.fail("it was copied"))
    tensor = session.upload(found)
    assert session.download(tensor).tobytes() == array.tobytes()
    zeros = tvm.runtime.empty(tensor.shape, tensor.dtype, session._device)
    zeros.copyto(tensor)
    changed = session.download(tensor).tobytes()
    assert changed == session.download(zeros).tobytes()
    assert found.tobytes() == array.tobytes()
    assert (tmp_path / "w").read_bytes().endswith(array.tobytes())
