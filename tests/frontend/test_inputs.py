import contextlib
import zipfile

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import refused

from relax_tapml.errors import UsageError
from relax_tapml.frontend.inputs import load_samples
from relax_tapml.frontend.signature import signature_of
from relax_tapml.tensor_file import dump_tensors

X = np.arange(8, dtype="float32").reshape(2, 4)
Y = np.arange(4)


@pytest.fixture
def signature(affine):
    return signature_of(affine.module, "main", 1)


def save_safetensors(file, **arrays):
    file.write_bytes(dump_tensors(arrays))


SAVE = {".npz": np.savez_compressed, ".safetensors": save_safetensors}


@pytest.mark.parametrize(
    ("file_name", "save"),
    [("a.npz", np.savez), ("a.npz", np.savez_compressed), ("a.safetensors", save_safetensors)],
)
def test_arrays_are_matched_by_name(tmp_path, signature, file_name, save):
    save(tmp_path / file_name, y=Y, x=X)
    (sample,) = load_samples([tmp_path / file_name], signature)
    assert sample.name == file_name
    np.testing.assert_array_equal(sample.arrays[0], X)
    np.testing.assert_array_equal(sample.arrays[1], Y)


def test_unnamed_arrays_are_matched_by_position(tmp_path, signature):
    np.savez(tmp_path / "a.npz", X, Y)
    (sample,) = load_samples([tmp_path / "a.npz"], signature)
    assert [array.dtype.name for array in sample.arrays] == ["float32", "int64"]


def test_a_folder_is_read_in_the_order_of_names(tmp_path, signature):
    for name in ("b", "a", "c"):
        np.savez(tmp_path / f"{name}.npz", X, Y)
    (tmp_path / ".hidden").write_text("")
    samples = load_samples([tmp_path, tmp_path / "a.npz"], signature)
    assert [sample.name for sample in samples] == ["a.npz", "b.npz", "c.npz", "a.npz"]


def test_bfloat16_is_kept(tmp_path, signature):
    save_safetensors(tmp_path / "a.safetensors", x=X.astype(ml_dtypes.bfloat16), y=Y)
    (sample,) = load_samples([tmp_path / "a.safetensors"], signature)
    assert sample.arrays[0].dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize(
    ("path", "named"), [("no.npz", ("/no.npz", "no such file")), ("", ("empty", ".npz"))]
)
def test_a_path_without_samples_is_refused(tmp_path, signature, path, named):
    with refused(UsageError, tmp_path, *named):
        load_samples([tmp_path / path], signature)


def test_another_kind_of_file_is_not_skipped(tmp_path, signature):
    np.savez(tmp_path / "a.npz", X, Y)
    np.save(tmp_path / "b.npy", X)
    with refused(UsageError, f"{tmp_path}/b.npy", ".npz or .safetensors"):
        load_samples([tmp_path], signature)


@pytest.mark.parametrize(
    ("arrays", "named"),
    [
        ({"x": X, "z": Y}, ("x, y of 'main', got x, z", "arr_0, arr_1")),
        ({"arr_0": X, "arr_1": Y, "arr_2": Y}, ("x, y of 'main', got arr_0, arr_1, arr_2",)),
        ({"x": X.astype(ml_dtypes.bfloat16), "y": Y}, ("'x'", "bfloat16", ".safetensors")),
        ({"x": np.array([None]), "y": Y}, ("allow_pickle=False",)),
    ],
    ids=["other names", "wrong count", "a dtype that npz loses", "a pickle"],
)
def test_arrays_that_cannot_be_inputs_are_refused(tmp_path, signature, arrays, named):
    np.savez(tmp_path / "a.npz", **arrays)
    with refused(UsageError, f"{tmp_path}/a.npz", *named):
        load_samples([tmp_path / "a.npz"], signature)


@settings(
    max_examples=200,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data(), suffix=st.sampled_from(list(SAVE)))
def test_any_changed_bytes_are_refused_or_harmless(tmp_path, signature, data, suffix):
    file = tmp_path / f"changed{suffix}"
    SAVE[suffix](file, x=X, y=Y)
    content = bytearray(file.read_bytes())
    where = data.draw(st.integers(0, len(content) - 1))
    content[where : where + data.draw(st.integers(1, 8))] = data.draw(st.binary(max_size=8))
    file.write_bytes(content)
    with contextlib.suppress(UsageError):
        load_samples([file], signature)


def test_an_archive_that_unpacks_to_more_than_memory_is_refused(tmp_path, signature):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", b"")
        archive.infolist()[0].file_size = 2**40
    with pytest.raises(UsageError, match="unpacks to 1099511627776"):
        load_samples([tmp_path / "a.npz"], signature)


@pytest.mark.parametrize("suffix", SAVE)
def test_a_cut_file_is_refused(tmp_path, signature, suffix):
    file = tmp_path / f"a{suffix}"
    SAVE[suffix](file, x=X, y=Y)
    file.write_bytes(file.read_bytes()[:-40])
    with refused(UsageError, file, "cannot be read", "again"):
        load_samples([file], signature)
