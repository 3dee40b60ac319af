"""Tries of a campaign, made in workers until the time is over."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from campaign_child import Place


@dataclass(frozen=True, kw_only=True)
class Pool:
    """What every worker is forked with.

    Parameters
    ----------
    attempt
        Makes the try of a name in a place.
    scratch
        Where workers have their places.
    until
        When no try begins any more, by ``time.monotonic``.
    """

    attempt: Callable[[str, Place], Any]
    scratch: Path
    until: float


_pool: Pool | None = None
_place: Place | None = None


def run_all(names: Sequence[str], pool: Pool, jobs: int) -> Iterator[Any]:
    """Make tries in workers, and yield what came of them."""
    global _pool
    _pool = pool
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(jobs, mp_context=context) as executor:
        yield from (one for one in executor.map(_attempted, names) if one is not None)


def _attempted(name: str) -> Any:
    global _place
    assert _pool is not None
    if time.monotonic() > _pool.until:
        return None
    if _place is None:
        _place = Place(_pool.scratch / f"place-{os.getpid()}")
    return _pool.attempt(name, _place)


def mixed_names(seed: int, counts: Mapping[str, int]) -> list[str]:
    """Return names ``SEED:KIND:INDEX``, kinds mixed, so that a budget cuts all of them alike."""
    places = [
        ((index + 0.5) / count, kind, index)
        for kind, count in counts.items()
        for index in range(count)
    ]
    return [f"{seed}:{kind}:{index}" for _, kind, index in sorted(places)]
