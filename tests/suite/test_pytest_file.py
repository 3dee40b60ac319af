import ast

import pytest

from relax_tapml.suite.manifest import SuiteCase
from relax_tapml.suite.pytest_file import FileStems, pytest_paths, render_skipped, render_unit

HOSTILE = '"""\n\\N{x}\x00\x0c\u2028import os\r#'


def _case(reason):
    return SuiteCase(
        name="main-000-case0",
        site="main/000/x",
        sample="s",
        frame=0,
        call=0,
        function="main",
        may_write=False,
        inputs=(),
        outputs=(),
        reason=reason,
    )


def _statements(source):
    return [type(node).__name__ for node in ast.parse(source).body]


def test_nothing_in_names_reasons_or_scripts_becomes_code():
    source = render_unit("stem", HOSTILE, [_case(HOSTILE)], script=HOSTILE)
    harmless = render_unit("stem", "unit", [_case("reason")], script="script")
    assert _statements(source) == _statements(harmless)
    constants = [node.value for node in ast.walk(ast.parse(source)) if type(node) is ast.Constant]
    assert HOSTILE in constants


def test_the_list_of_what_was_not_carved_is_data():
    source = render_skipped({HOSTILE: HOSTILE})
    assert _statements(source) == _statements(render_skipped({"unit": "reason"}))


@pytest.mark.parametrize(
    ("units", "stems"),
    [
        (["add", "vm.builtin.reshape"], ["add", "vm_builtin_reshape"]),
        (["a.b", "a_b", "A-B"], ["a_b", "a_b_2", "A_B_3"]),
        (["not_carved"], ["not_carved_2"]),
        (["../../x"], ["______x"]),
    ],
)
def test_stems_are_file_names_and_no_two_are_alike(units, stems):
    names = FileStems()
    assert [names.stem(unit) for unit in units] == stems


def test_a_long_name_still_fits_a_file_system():
    names = FileStems()
    stems = {names.stem("fused_" * 60 + suffix) for suffix in "abc"}
    assert len(stems) == 3
    assert max(map(len, stems)) < 200


def test_the_files_of_units_are_found_by_their_names(suite):
    """A name need not be that of its file, and a unit may have no case."""
    units = ["add", "vm.builtin.reshape", "no such unit"]
    assert pytest_paths(suite, units) == [
        suite / "test_add.py",
        suite / "test_vm_builtin_reshape.py",
    ]
