"""What the docs show is what happens, and what they name exists."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relax_tapml import build
from relax_tapml.bringup.main_job import run_stages
from relax_tapml.cli import main as command
from relax_tapml.compare.verdict import Verdict
from relax_tapml.testing.plugin import pytest_addoption

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
_WRITTEN_BY_HAND = [
    page for page in PAGES if "make_reference.py. Do not edit" not in page.read_text()
]
_PATH = r"`((?:relax_tapml|passes|scripts|tests|requirements)/[\w./-]+)"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a language; "" for those without one."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [block for name, block in found if name == language]


def printed(code: str, folder: Path, **environment: str) -> list[str]:
    """What a Python example prints, run as a script of its own."""
    script = folder / "example.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, script],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_example_for_python_prints_what_the_page_says(tmp_path: Path) -> None:
    """All stages, on a target whose softmax is wrong."""
    page = DOCS / "python.md"
    code, *_ = blocks(page, "python")
    (output,) = blocks(page, "")
    assert printed(code, tmp_path) == output.splitlines()


def test_the_example_of_a_model_with_a_cache_prints_what_the_page_says(tmp_path: Path) -> None:
    """What computes tensors moves, what touches the cache stays."""
    code, *_ = blocks(DOCS / "models.md", "python")
    assert printed(code, tmp_path) == [
        "pass ['matmul', 'softmax', 'tir_exp']",
        "2 sites of the runtime stay on the host",
    ]


def test_the_model_of_ones_own_is_imported(tmp_path: Path) -> None:
    """The function that the page gives to the command line returns a model."""
    pytest.importorskip("torch")
    (code,) = blocks(DOCS / "howto" / "own_model.md", "python")
    shown = printed(f"{code}\nprint(load().name)", tmp_path, RELAX_TAPML_TEST_TORCH="1")
    assert shown == ["Mlp"]


def test_output_of_the_small_model_is_what_the_commands_print(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run with a wrong pass, and what other commands print about its folder."""
    monkeypatch.chdir(tmp_path)
    page = DOCS / "howto" / "wrong_pass.md"
    (line,) = _commands(page)
    words = shlex.split(line)
    assert build.main(words[words.index("relax_tapml.build") + 1 :]) == 1
    run = "".join(capsys.readouterr())
    folder = words[-1]
    assert _missing(blocks(page, "")[0], run) == []
    shown = [block for block in blocks(DOCS / "concepts.md", "") if block.startswith("$ relax-")]
    assert len(shown) == 2
    for block in shown:
        line, _, output = block.partition("\n")
        command.main(line.replace("dist/tiny", folder).split()[2:])
        assert _missing(output.replace("dist/tiny", folder), capsys.readouterr().out) == []


def _missing(shown: str, output: str) -> list[str]:
    """Paragraphs of a page that are not in an output; numbers may differ, and line breaks."""
    return [part for part in shown.split("\n\n") if _plain(part) not in _plain(output)]


def _plain(text: str) -> str:
    text = re.sub(r"\d+(\.\d+)?(e[-+]?\d+)?( m?s\b)?", "#", text)
    return " ".join(text.split())


def test_links_lead_somewhere() -> None:
    """Files exist, and the headings that links point to, as GitHub names them."""
    broken = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in PAGES
        for link in re.findall(r"\[[^\]\"]*\]\((?!https?:)([^)\s]+)\)", page.read_text())
        if not _is_there(page, link)
    ]
    assert broken == []


def _is_there(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    file = (page.parent / name).resolve() if name else page
    return file.exists() and (not anchor or anchor in _anchors(file.read_text()))


def _anchors(text: str) -> set[str]:
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    heads = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_page_is_on_the_map() -> None:
    """docs/README.md links every page."""
    links = set(re.findall(r"\]\(([^)#]+)", (DOCS / "README.md").read_text()))
    pages = {str(page.relative_to(DOCS)) for page in PAGES if DOCS in page.parents}
    assert pages - links == {"README.md"}


def test_modules_and_files_that_the_docs_name_exist() -> None:
    """No documented module, and no documented path, is made up."""
    missing = []
    for page in PAGES:
        text = page.read_text()
        if page.name in ("extending.md", "own_tolerance.md"):  # shows files that are to be written
            text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
        names = set(re.findall(r"\brelax_tapml(?:\.\w+)+", text))
        missing += [f"{page.name}: {name}" for name in names if not _exists(name)]
        paths = set(re.findall(_PATH, text))
        missing += [f"{page.name}: {path}" for path in paths if not (ROOT / path).exists()]
    assert sorted(missing) == []


def _exists(name: str) -> bool:
    """Whether a dotted name is a module, something in one, or the name of a packed function."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(found, part):
                return name in _REGISTERED
            found = getattr(found, part)
        return True
    return False


_REGISTERED = {
    name
    for folder in ("passes", "relax_tapml")
    for suffix in ("*.cc", "*.py")
    for file in (ROOT / folder).rglob(suffix)
    for name in re.findall(r'"(relax_tapml(?:\.\w+)+)', file.read_text())
}


def test_classes_and_passes_that_the_docs_name_exist() -> None:
    """Every name in ``CamelCase`` is one that the source has, of its own or of TVM."""
    source = "\n".join(
        file.read_text()
        for folder in ("relax_tapml", "passes", "scripts")
        for file in (ROOT / folder).rglob("*.py")
    )
    missing = {
        f"{page.name}: {name}"
        for page in _WRITTEN_BY_HAND
        for name in re.findall(r"`([A-Z][a-z]+[A-Z]\w+)", page.read_text())
        if not re.search(rf"\b{name}\b", source)
    }
    assert sorted(missing) == []


def test_json_fields_of_the_glossary_exist() -> None:
    """A term that has another name in JSON names a field that a document has."""
    from make_reference import json_fields

    text = (DOCS / "glossary.md").read_text()
    named = {
        name
        for sentence in re.findall(r"JSON: (.*?)(?:\n\n|Code:)", text, flags=re.DOTALL)
        for name in re.findall(r"`(\w+)`", sentence)
    }
    assert named
    assert named - json_fields() == set()


def test_the_glossary_is_sorted_and_has_every_verdict() -> None:
    """A reader finds a term by its first letter, and each value of a verdict in the table."""
    text = (DOCS / "glossary.md").read_text()
    terms = re.findall(r"^### (.+)$", text, flags=re.MULTILINE)
    assert terms == sorted(terms, key=str.lower)
    assert set(re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE)) == set(Verdict)


def test_commands_of_the_docs_are_understood() -> None:
    """No documented command, option or choice is made up."""
    refused = [
        f"{page.relative_to(ROOT)}: {line}"
        for page in _WRITTEN_BY_HAND
        for line in _commands(page)
        if not _is_understood(line)
    ]
    assert refused == []


def _commands(page: Path) -> Iterator[str]:
    for block in blocks(page, "bash"):
        yield from block.replace("\\\n", " ").splitlines()


def _is_understood(line: str) -> bool:
    words = shlex.split(line, comments=True)
    while words and re.fullmatch(r"\w+=.*", words[0]):
        words.pop(0)
    for stop in ("|", ">", "&&"):
        if stop in words and words[0] != "pip":
            words = words[: words.index(stop)]
    if words[:3] == ["python", "-m", "relax_tapml.build"]:
        return _parses(build.parser(), words[3:])
    if words[:1] == ["relax-tapml"]:
        return _parses(command.parser(), words[1:])
    if words[:1] == ["pytest"]:
        options = {word.partition("=")[0] for word in words if word.startswith("--tapml")}
        return options <= set(_plugin_options())
    return True


def _parses(parser: ArgumentParser, words: list[str]) -> bool:
    try:
        parser.parse_args(words)
    except SystemExit as end:
        return end.code == 0
    return True


def _plugin_options() -> list[str]:
    found: list[str] = []

    class Group:
        def addoption(self, name: str, **_: Any) -> None:
            found.append(name)

    class Parser:
        def getgroup(self, *_: Any) -> Group:
            return Group()

    pytest_addoption(Parser())  # type: ignore[arg-type]
    return found


def test_the_reference_is_what_the_code_says() -> None:
    """Run ``python scripts/make_reference.py`` after a change of options, results or docstrings."""
    from make_reference import pages

    stale = [name for name, text in pages().items() if _text(DOCS / "reference" / name) != text]
    assert stale == []


def _text(page: Path) -> str:
    return page.read_text() if page.exists() else ""


def test_public_names_stay_functions_and_classes() -> None:
    """A subpackage with the name of a public function would replace it once it is imported."""
    code = (
        "import json, relax_tapml\n"
        "for name in relax_tapml.__all__: getattr(relax_tapml, name)\n"
        "import relax_tapml.bringup.main_job\n"
        "kinds = {n: type(getattr(relax_tapml, n)).__name__ for n in relax_tapml.__all__}\n"
        "print(json.dumps(kinds))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kinds = json.loads(done.stdout)
    assert [name for name, kind in kinds.items() if kind == "module"] == []


def test_no_page_is_too_long() -> None:
    """A page that needs more is two pages; what is generated may be long."""
    long = {page.name: len(page.read_text().splitlines()) for page in _WRITTEN_BY_HAND}
    assert {name: count for name, count in long.items() if count > 250} == {}


def test_the_main_job_is_shown_as_it_is() -> None:
    """The function that calls the stages, and nothing else, in the page about the architecture."""
    page = (DOCS / "architecture.md").read_text()
    assert inspect.getsource(run_stages) in page
