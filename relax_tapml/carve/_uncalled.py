"""Why no call of a unit was recorded, or none whose KV cache could be read."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import tvm
from tvm import relax

from relax_tapml.capture.store import CaptureStore
from relax_tapml.passes.cache_call import reads_cache
from relax_tapml.passes.cache_creation import WHEN_CALLED, cache_creations
from relax_tapml.passes.operator_call import operator_call
from relax_tapml.passes.site import Site
from relax_tapml.printable import names_text
from relax_tapml.suite.manifest import NEVER_CALLED

_NAMED_AT_MOST = 3


def why_uncalled(
    unit: str, sites: Iterable[Site], called: Collection[str], lowered: tvm.IRModule
) -> str:
    """Return the reason in a line.

    Parameters
    ----------
    unit
        Its name.
    sites
        All of its sites.
    called
        Ids of the sites of which calls were recorded.
    lowered
        The module.
    """
    for made in cache_creations(lowered):
        for role, kernels in made.kernels.items():
            if unit in {kernel.name_hint for kernel in kernels}:
                return f"{NEVER_CALLED}: the KV cache calls it {WHEN_CALLED[role]}"
    reached = {site.split("/")[0] for site in called}
    functions = sorted({site.function for site in sites})
    missed = [function for function in functions if function not in reached]
    if not missed:
        return NEVER_CALLED
    return f"{NEVER_CALLED}: the run did not call {names_text(missed, _NAMED_AT_MOST)}"


def unread_caches(
    calls: Iterable[tuple[Site, relax.Call]], store: CaptureStore, lowered: tvm.IRModule
) -> dict[str, str]:
    """Return the sites in all of whose calls the KV cache could not be read, and why not.

    A call that reads a cache has the reason in place of everything else of it.
    """
    found = {}
    for site, call in calls:
        operator = operator_call(call, lowered)
        if operator is None or not reads_cache(operator.unit):
            continue
        first = [record.inputs[0] for record in store.calls(site.id)]
        if first and all(isinstance(value, str) for value in first):
            found[site.id] = str(first[0])
    return found
