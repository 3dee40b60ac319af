"""``relax-tapml capture ls``."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pytest

from relax_tapml.capture._writer import StoreWriter
from relax_tapml.capture.host_tensor import HostTensor
from relax_tapml.capture.store import CaptureStore
from relax_tapml.capture.values import SiteRecord
from relax_tapml.cli import capture
from relax_tapml.errors import StoreError


@pytest.fixture
def folder(tmp_path):
    """An output folder whose store has a complete and an incomplete sample."""
    folder = tmp_path / "captures"
    CaptureStore.create(folder, {"model": "m"}).close()
    with StoreWriter(folder) as writer:
        writer.add_sites(
            [SiteRecord(site="main/000/f", function="main", unit="f", kind="call_tir")]
        )
        for name, outputs in (("a [1]", []), ("b", None)):
            writer.begin_sample(name)
            ref = f"t:{writer.add_tensor(HostTensor.of_array(np.arange(3)))}"
            writer.add_call(frame=0, function="main", call=0, site="main/000/f", inputs=[ref])
            writer.end_sample(outputs)
    return tmp_path


def run(*argv):
    parser = argparse.ArgumentParser()
    capture.add_parser(parser.add_subparsers())
    return capture.run(parser.parse_args(["capture", *map(str, argv)]))


@pytest.mark.parametrize("subfolder", [".", "captures"])
def test_json_lists_samples_and_sites(folder, capsys, subfolder):
    """A store or the output folder around it, for machines."""
    assert run("ls", folder / subfolder, "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["manifest"]["model"] == "m"
    assert listed["samples"] == [
        {"name": "a [1]", "complete": True},
        {"name": "b", "complete": False},
    ]
    assert listed["sites"] == [{"site": "main/000/f", "unit": "f", "calls": 2}]
    assert listed["stats"]["tensors"] == 1


def test_listing_is_readable(folder, capsys):
    """For people: names as they are, and what to do about an incomplete sample."""
    assert run("ls", folder) == 0
    text = capsys.readouterr().out
    assert "2 calls of 1 sites, 1 distinct tensors" in text
    assert "sample a [1]: complete" in text
    assert "sample b: incomplete: capture it again" in text
    assert "main/000/f" in text


def test_folder_without_store_is_an_error(tmp_path):
    """The message names the folder."""
    with pytest.raises(StoreError, match="is not a capture store"):
        run("ls", tmp_path)
