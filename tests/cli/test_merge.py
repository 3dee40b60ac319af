"""``relax-tapml merge``."""

import shutil

from relax_tapml.cli.main import main


def test_what_came_from_where_is_told(finished, tmp_path, capsys):
    copied = shutil.copytree(finished, tmp_path / "copied")
    out = tmp_path / "merged"
    assert main(["merge", str(out), str(finished), str(copied)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == [finished.name, "copied"]
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert lines[2].startswith(f"{out}: 2 suites, ")
    assert f", {size} bytes; duplicates removed: " in lines[2]
    assert main(["replay", str(out), "--target", "llvm", "--session", "inline"]) == 0
    assert main(["merge", str(out), str(finished)]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["merge", str(out), str(finished), "--force"]) == 0


def test_what_is_no_suite_is_told(tmp_path, capsys):
    assert main(["merge", str(tmp_path / "merged"), str(tmp_path)]) == 3
    assert "is not a suite" in capsys.readouterr().err
