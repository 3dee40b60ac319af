"""What a store says about how it was captured, beside the calls."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from relax_tapml.bringup.capture_plan import ALL, CapturePlan
from relax_tapml.capture.index import INDEX_FILE
from relax_tapml.capture.store import CaptureStore
from relax_tapml.capture.values import SiteRecord
from relax_tapml.errors import UsageError
from relax_tapml.files.read import typed

_NOT_CAPTURED = "not_captured"


@dataclass(frozen=True, kw_only=True)
class CaptureNotes:
    """What the manifest of a store says.

    Parameters
    ----------
    model, source
        What was run, and its target.
    capture_calls
        Which calls were captured, as given.
    expected_bytes
        What was expected to be stored at most.
    waited
        Why a GPU waited for the copy of each tensor; empty where it did not. A ``Recorder`` adds
        it.
    """

    model: str = ""
    source: str = ""
    capture_calls: str = ALL.text
    expected_bytes: int = 0
    waited: str = ""

    @classmethod
    def of(cls, store: CaptureStore) -> CaptureNotes:
        """Read the notes of a store. Raises ``StoreError`` if they are damaged."""
        return typed(store.manifest, cls, store.folder, fix="Delete the store and capture again")

    @property
    def manifest(self) -> dict[str, Any]:
        """What ``CaptureStore.create`` takes; without what a recorder adds."""
        return {key: value for key, value in asdict(self).items() if key != "waited"}


def left_out(capture_calls: str) -> dict[str, str]:
    """Return the description of a site that is not captured."""
    return {_NOT_CAPTURED: f"not captured: --capture-calls {capture_calls}"}


def why_left_out(site: SiteRecord) -> str:
    """Return why a site was not captured; empty if it was chosen."""
    return str(site.description.get(_NOT_CAPTURED, ""))


def require_plan(folder: Path, plan: CapturePlan) -> None:
    """Check that a store, if there is one, has the calls of a plan.

    Raises
    ------
    UsageError
        It was captured with another plan.
    """
    if not (folder / INDEX_FILE).exists():
        return
    with CaptureStore.open(folder) as store:
        known = CaptureNotes.of(store).capture_calls
    if known != plan.text:
        raise UsageError(
            f"--capture-calls {plan.text}: calls were captured into {folder} with "
            f"--capture-calls {known}. Give the same, delete that folder, or start anew with "
            "--force"
        )
