"""How a build is written."""

import pytest

from relax_tapml.errors import UsageError
from relax_tapml.two_builds.build_spec import BuildSpec, parse_build


def test_a_build_is_written_as_keys_and_values():
    """A comma divides only where a key follows, so the JSON of a target is written as it is."""
    target = '{"kind": "llvm", "mcpu": "znver3","opt-level":0}'
    text = f"target={target},name=old,session=rpc:board:9090,env:A=x,y,env:PATH=/a=b,pipeline=m:p"
    assert parse_build(text) == BuildSpec(
        target=target,
        name="old",
        session="rpc:board:9090",
        device_pipeline="m:p",
        environment={"A": "x,y", "PATH": "/a=b"},
    )
    assert parse_build("target=cuda") == BuildSpec(target="cuda")


def test_a_build_may_be_a_file(tmp_path):
    toml = tmp_path / "old.toml"
    toml.write_text('name = "old"\n[target]\nkind = "llvm"\n[env]\nFLAGS = "-a,b=c"\n')
    assert parse_build(str(toml)) == BuildSpec(
        target='{"kind": "llvm"}', name="old", environment={"FLAGS": "-a,b=c"}
    )
    document = tmp_path / "old.json"
    document.write_text('{"target": "cuda"}')
    assert parse_build(str(document)) == BuildSpec(target="cuda")
    for text, message in (("[", "it is no JSON"), ("[1]", "expected a table")):
        document.write_text(text)
        with pytest.raises(UsageError, match=message):
            parse_build(str(document))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("llvm", "'llvm' has no key"),
        ("", "has no key"),
        ("name=old", "it has no target; write target=llvm"),
        ("target=llvm,sesion=inline", "unknown key 'sesion'.* Did you mean session"),
        ("target=llvm,target=cuda", "target is given twice"),
        ("target=llvm,env:=x", "has no key"),
        ("target=llvm,env=x", "is given twice or has no name"),
        ("no_such.toml", "there is no such file"),
    ],
)
def test_a_wrong_build_is_refused_with_the_form(text, message):
    with pytest.raises(UsageError, match=message) as error:
        parse_build(text)
    assert f"--on {text}" in str(error.value)


def test_values_of_a_file_are_strings(tmp_path):
    file = tmp_path / "old.toml"
    for line in ('target = "llvm"\nname = 3', 'target = "llvm"\nenv = {A = 1}', 'target = ["a"]'):
        file.write_text(line)
        with pytest.raises(UsageError, match="every value must be a string"):
            parse_build(str(file))
