"""Scripts that show why units were repaired."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from relax_tapml.errors import LoweringError, UsageError
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.repair.search import Failing
from relax_tapml.repair.tried import UnitRepair
from relax_tapml.replays.unit.unit_programs import UnitPrograms
from relax_tapml.suite.reproducer import Reproducer, reproducer

_log = logging.getLogger(__name__)


def reproducers(
    failing: Failing, repairs: Sequence[UnitRepair], cases: Mapping[str, str]
) -> list[Reproducer]:
    """Return a script for each unit that has a repair: it runs the kernel that is wrong.

    Parameters
    ----------
    failing, repairs
        Where the units come from, and what was found.
    cases
        Unit to the name of the case that failed; the first case of a unit that is not in it.

    Returns
    -------
    list
        Without those whose kernel has no schedule, or whose tensors fit into no file; the log says
        why.
    """
    suite = failing.suite
    found = []
    for unit in [repair.unit for repair in repairs if repair.kernels]:
        entries = suite.unit(unit).cases
        case = next((one for one in entries if one.name == cases.get(unit)), entries[0])
        try:
            programs = UnitPrograms(
                suite,
                target=failing.target,
                pipeline=None,
                library=KernelLibrary(failing.kernels),
                units=[unit],
                side=failing.units,
            )
            implementation = programs.implementation(unit)
            found.append(
                reproducer(suite, unit, case, implementation=implementation, target=failing.target)
            )
        except (LoweringError, UsageError) as error:
            _log.info("no script shows what is wrong with %s: %s", unit, error)
    return found
