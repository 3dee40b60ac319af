"""The model with its KV cache on the device, as it is shipped: one more step."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import tvm

from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import LoweringError, TapmlError
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.migrate.trial import Trial
from relax_tapml.migrate.whole_trial import WholeTrial
from relax_tapml.partition.shipped_module import shipped
from relax_tapml.partition.split_functions import ObjectsMeet
from relax_tapml.printable import error_line, names_text
from relax_tapml.results.cache_result import CacheResult, kept_text
from relax_tapml.results.step_result import Purpose, StepResult

_MISSING = "Cannot find ffi::Function"


def judge_cache(
    trial: Trial,
    units: Sequence[str],
    obstacles: Mapping[str, Collection[str]],
    unjudged: Collection[str],
) -> tuple[StepResult | None, CacheResult]:
    """Run a model with its KV cache on the device, so that a decode step runs there as a whole.

    So it is shown what no boundary shows: the kernels as the runtime itself calls them there, with
    parts of larger buffers, and what the runtime does on that device.

    Parameters
    ----------
    trial
        What runs.
    units
        The functions of the runtime that make caches, at least one.
    obstacles
        Why it cannot be run: what is wrong, "is wrong", to units. Empty entries do not count.
    unjudged
        Units that were called and of which nothing is known: they run here for the first time.

    Returns
    -------
    tuple
        The step, None where it was not run; and the result for the cache.

    Raises
    ------
    DeviceUnavailable
        No session could be opened.
    """
    unit = units[0]
    reasons = [f"{names_text(sorted(names))} {what}" for what, names in obstacles.items() if names]
    if reasons:
        return None, _not_run(unit, Verdict.SKIPPED, "; ".join(reasons))
    try:
        module = shipped(trial.sides.device_units)
        step = WholeTrial(trial=trial, purpose=Purpose.CACHE).step(module)
    except LoweringError as error:
        return None, _not_run(unit, Verdict.INCONCLUSIVE, str(error))
    except TapmlError:
        raise
    except Exception as error:  # Of the drive: what the device raises is a fault of the step.
        raise_machine_error(error, "running the model as a whole")
        why = (
            f"its drive raised {error_line(error)}. A drive must call functions of TVM's runtime "
            "by functions.runtime, so that they are called where the object is"
        )
        return None, _not_run(unit, Verdict.SKIPPED, why)
    if step.verdict is Verdict.PASS:
        return step, CacheResult(unit=unit, verdict=Verdict.PASS, others=tuple(units[1:]))
    if _MISSING in step.reason:
        # A function of the user's own process, which the device's runtime does not have.
        return step, _not_run(unit, Verdict.SKIPPED, step.reason)
    wrong, separation = {unit: step}, ""
    if len(units) > 1:
        wrong, separation = _wrong_alone(trial, module, units)
    first, *more = wrong or units
    others = [*unjudged, *(() if wrong else more)]
    if others:
        reason = (
            f"with its {kept_text(first)} on the device the model fails {step.reason}; it may be "
            f"{names_text(sorted(others))} as well as {first}{separation}"
        )
        return step, CacheResult(unit=first, verdict=Verdict.INCONCLUSIVE, reason=reason)
    reason = (
        f"every unit is right alone and with the {kept_text(first)} on the host, but with it on "
        f"the device the model fails {wrong[first].reason}{separation}"
    )
    verdict = wrong[first].verdict
    return step, CacheResult(unit=first, verdict=verdict, reason=reason, others=tuple(more))


def _wrong_alone(
    trial: Trial, module: tvm.IRModule, makers: Sequence[str]
) -> tuple[dict[str, StepResult], str]:
    """Run a model once for each maker of objects, with its objects alone on the device.

    Returns
    -------
    tuple
        The steps that fail, by maker; and a clause about the others, empty if nothing is to be
        said.
    """
    failed: dict[str, StepResult] = {}
    for maker in makers:
        trial.device.close()
        one = WholeTrial(trial=trial, purpose=Purpose.CACHE, makers=(maker,))
        try:
            step = one.step(module)
        except ObjectsMeet as call:
            return {}, f": {call} takes objects of more than one, so none can be moved alone"
        except TapmlError:
            raise
        except Exception as error:  # Of the drive, as for all of them together.
            raise_machine_error(error, f"running the model with its {kept_text(maker)} there")
            return {}, f": its drive raised {error_line(error)} when one was moved alone"
        if step.verdict is not Verdict.PASS:
            failed[maker] = step
    right = [maker for maker in makers if maker not in failed]
    if not failed:
        return {}, ": with what each of them makes alone on the device it is right"
    return failed, f"; with what {names_text(right)} makes there alone it is right" if right else ""


def _not_run(unit: str, verdict: Verdict, why: str) -> CacheResult:
    reason = f"the model was not run with its {kept_text(unit)} on the device: {why}"
    return CacheResult(unit=unit, verdict=verdict, reason=reason)
