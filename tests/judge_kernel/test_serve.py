"""A client of the Model Context Protocol gets the verdicts of the command."""

import asyncio

import pytest

from relax_tapml.cli import main as command

mcp = pytest.importorskip("mcp")


def test_a_client_sees_a_unit_and_gets_a_verdict_on_a_kernel(suite, models, tmp_path):
    from relax_tapml.judge_kernel.serve import server

    out = tmp_path / "out-of-server"
    served = server(suite, "llvm", out, session="inline", trust=True)
    before = {p: p.read_bytes() for p in suite.rglob("*") if p.is_file()}

    async def talk():
        async with mcp.Client(served) as client:
            tools = await client.list_tools()
            assert {tool.name for tool in tools.tools} == {"verify", "unit", "cases", "reproduce"}

            async def call(name, **arguments):
                return await client.call_tool(name, arguments)

            unit = await call("unit", unit="increment")
            assert "s0, 4]" in unit.structured_content["interface"]
            cases = (await call("cases", unit="increment")).structured_content["cases"]
            assert [case["inputs"] for case in cases] == [
                ["float32[5, 4]"],
                ["float32[3, 4]"],
                ["float32[3, 4]"],
            ]
            kernel = f"{models / 'candidate_callables.py'}:zeros"
            report = await call("verify", unit="increment", kernel=kernel, held_out=1)
            assert report.structured_content["verdict"] == "mismatch"
            assert "held-out" not in str(report.structured_content["cases"])
            made = await call("reproduce", unit="increment", case=cases[0]["name"])
            assert made.structured_content["script"].startswith(str(out))
            wrong = await call("unit", unit="no_such_unit")
            assert wrong.is_error
            assert "no_such_unit" in wrong.content[0].text

    asyncio.run(talk())
    assert {p: p.read_bytes() for p in suite.rglob("*") if p.is_file()} == before


def test_what_a_client_gives_is_no_argument_of_the_server(suite, capsys):
    for rest in (["increment", "--serve"], ["--serve", "--json"], ["increment"]):
        assert command.main(["verify", str(suite), *rest, "--target", "llvm"]) == 2
    assert "--kernel" in capsys.readouterr().err
