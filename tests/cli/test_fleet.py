"""``relax-tapml fleet``, and what it starts."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys

import psutil
import pytest

from relax_tapml.cli.main import main
from relax_tapml.report.quantities import count_text

COMMAND = "import sys; from relax_tapml.cli.main import main; sys.exit(main())"


@pytest.mark.parametrize(("number", "count"), [(signal.SIGINT, 2), (signal.SIGTERM, 1)])
def test_up_runs_until_a_signal(number, count, finished, capsys):
    """It prints what to paste, which works; afterwards nothing of it is left."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "fleet", "up", str(count), "--key", "k", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        *servers, session = [process.stdout.readline().strip() for _ in range(count + 1)]
        port, key = re.fullmatch(r"--session tracker:127\.0\.0\.1:(\d+):(.+)", session).groups()
        addresses = sorted(line.removeprefix("server ") for line in servers)
        assert key == "k"
        assert main(["fleet", "status", f"127.0.0.1:{port}"]) == 0
        assert capsys.readouterr().out.splitlines() == [
            f"k: {count_text(count, 'server')}, {count} free, 0 busy",
            *(f"  {address}" for address in addresses),
        ]
        if count > 1:
            spec = session.removeprefix("--session ")
            command = ["replay", str(finished), "--target", "llvm", "--session", spec, "--json"]
            assert main(command) == 0
            document = json.loads(capsys.readouterr().out)
            # One may have been so quick that the other got nothing.
            assert set(document["devices"]) <= set(addresses)
            assert sum(record["units"] for record in document["devices"].values()) == 8
            assert {unit["verdict"] for unit in document["units"]} == {"pass"}
            assert {unit["device"] for unit in document["units"]} <= set(document["devices"])
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= count + 1
        process.send_signal(number)
        assert process.wait(60) == 0
        assert psutil.wait_procs(children, timeout=300)[1] == []
        output = process.stderr.read()
        assert "Ctrl-C ends the tracker and its servers" in output
        assert "Only this user" in output
    finally:
        process.kill()
        process.communicate()


def test_no_tracker_is_reported(capsys):
    assert main(["fleet", "status", "127.0.0.1:1"]) == 3
    assert "tracker at 127.0.0.1:1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["up", "0"], "fleet up 0: expected "),
        (["up", "1", "--key", "a b"], "--key 'a b': expected a word"),
        (["status", "nowhere"], "fleet status nowhere: expected "),
        (["up", "1", "--target", "abacus"], "target abacus: expected one of "),
        (["up", "1", "--tracker", "nowhere"], "--tracker nowhere: expected "),
        (["up", "1", "--port", "99999"], "--port 99999: expected a port of at most 65535"),
        (["status", "here:99999"], "fleet status here:99999: expected a port of at most "),
        (["up", "1", "--host", "no.such.invalid"], "give an address of this machine"),
        (["up", "1", "--host", "0.0.0.0"], "with --tracker"),
    ],
)
def test_wrong_usage_is_reported(words, message, capsys):
    assert main(["fleet", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_device_that_is_not_here_cannot_be_lent(capsys):
    assert main(["fleet", "up", "1", "--target", "metal"]) == 3
    assert "metal: there is no such device here" in capsys.readouterr().err
