"""Runs that are killed, and runs whose device is killed."""

from __future__ import annotations

import signal
import time
from contextlib import suppress

import psutil
from campaign_child import RAISED, Running
from chaos_trial import INLINE, LIMITS, PROCESS, Trial, has_one_of, tail

# A run prints the name of each stage when it is over. Between two names is a stage: how long it
# takes on a quiet machine, and what it begins after.
STAGES = {
    "start": ("", 0.03),
    "model": ("", 0.1),
    "source": ("model", 0.25),
    "capture": ("source", 0.15),
    "carve": ("capture", 0.5),
    "kernels": ("carve", 0.03),
    "replay": ("kernels", 0.9),
    "migrate": ("replay", 0.9),
    "report": ("migrate", 0.1),
}
# Kills of one run before it may go on to its end.
KILLS_OF_A_TRIAL = 5
# What every command is run by, as it stands in a traceback.
_GUARD = "relax_tapml/cli/exit.py"
_DEVICE = "relax_tapml.targets.server._device_process_main"


def kill(trial: Trial) -> None:
    """SIGKILL at random moments of a run that is resumed each time, and then ends as ever."""
    session = trial.draw.choice((INLINE, PROCESS, PROCESS))
    for _ in range(KILLS_OF_A_TRIAL):
        _killed(trial, session, signal.SIGKILL)
        trial.expect_whole()
    trial.expect_end(session)


def signalled(trial: Trial) -> None:
    """SIGTERM, SIGHUP or SIGINT, to the process or to its group: nothing may be left."""
    session = trial.draw.choice((INLINE, PROCESS, PROCESS))
    for _ in range(2):
        number = trial.draw.choice((signal.SIGTERM, signal.SIGHUP, signal.SIGINT))
        _killed(trial, session, number)
        trial.expect_whole()
        trial.expect_no_leftovers(session)
    trial.expect_end(session)


def _killed(trial: Trial, session: str, number: signal.Signals) -> None:
    """Run, and send a signal at a random moment of a random stage."""
    stage = trial.draw.choice(list(STAGES))
    begins_after, seconds = STAGES[stage]
    delay = trial.draw.uniform(0, 1.3 * seconds)
    to_group = number != signal.SIGKILL and trial.draw.random() < 0.5
    has_run = trial.out.is_dir() and any(trial.out.iterdir())
    work = trial.build(session, *(["--resume"] if has_run else []))
    running = trial.place.start(work, LIMITS)
    _wait_for(running, begins_after)
    is_over = running.is_over(delay)
    if not is_over:
        running.send(number, to_group=to_group)
        trial.events += 1
    where = "too late" if is_over else f"{stage} +{delay:.3f} s"
    trial.done.append(f"{number.name} {where}")
    ended = running.wait()
    if ended.is_hung:
        trial.blame(f"did not end after {number.name} in {stage}")
    if ended.processes:
        trial.blame(f"processes left after {number.name} in {stage}: {'; '.join(ended.processes)}")
    if is_over or number == signal.SIGKILL:
        return
    if ended.exit_code == RAISED and _GUARD not in ended.err:
        return  # It came before the command began, or after it ended: Python's own to answer.
    # By its own hand or by the signal's; and a run may be over just before.
    codes = (0, 130, 128 + number)
    if ended.exit_code not in codes and ended.killed_by != number:
        trial.blame(f"exit code {ended.exit_code} after {number.name}: {tail(ended.err)}")
    if "Traceback" in ended.err or "This is a bug" in ended.err:
        trial.blame(f"a traceback after {number.name} in {stage}: {tail(ended.err)}")


def _wait_for(running: Running, stage: str) -> None:
    while stage and not running.is_over(0.002):
        if f"\n{stage} " in f"\n{running.err()}":
            return


def device_at_start(trial: Trial) -> None:
    """The device process is killed as soon as it is there: once, twice, always."""
    count = (1, 2, 1000)[trial.index % 3]
    trial.done.append(f"device killed at its start {count if count < 1000 else 'every'} times")
    _kill_devices(trial, count, delay=trial.draw.uniform(0, 0.02))
    trial.expect_end(PROCESS)


def device_in_call(trial: Trial) -> None:
    """The device process is killed while it works; the unit may crash, the tool may not."""
    delay = trial.draw.uniform(0.3, 1.6)
    trial.done.append(f"device killed after {delay:.2f} s")
    _kill_devices(trial, 1, delay=delay)
    trial.expect_whole()


def _kill_devices(trial: Trial, count: int, delay: float) -> None:
    running = trial.place.start(trial.build(PROCESS), LIMITS)
    killed: set[int] = set()
    while not running.is_over(0.002):
        for device in _devices(running.pid):
            if device.pid not in killed and len(killed) < count:
                killed.add(device.pid)
                if running.is_over(delay):
                    break
                with suppress(psutil.Error):
                    device.kill()
                trial.events += 1
    ended = running.wait()
    if count == 1000:
        trial.expect(ended, (3,), ("device",))
        trial.expect_nobody_blamed()
    elif delay < 0.1:
        trial.expect(ended, (0,))
    else:
        # A unit that was running may be called a crash, by an operator who kills devices.
        trial.expect(ended, (0, 1, 3))


def _devices(pid: int) -> list[psutil.Process]:
    found = []
    with suppress(psutil.Error):
        for child in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.Error):
                if _DEVICE in " ".join(child.cmdline()):
                    found.append(child)
    return found


def pair(trial: Trial) -> None:
    """Two runs in one folder at once: one wins, the other names the process that holds it."""
    mode = ("new", "--resume", "--force")[trial.index % 3]
    if mode != "new":
        ended = trial.run(trial.build(INLINE))
        if ended.exit_code != 0:
            trial.blame(f"the run before ended with {ended.exit_code}")
            return
    first_options = [] if mode == "new" else ["--force"]
    second_options = ["--resume"] if mode == "new" else [mode]
    delay = trial.draw.uniform(0, 1.0)
    trial.done.append(f"a run {' '.join(first_options)}, {delay:.2f} s later one {mode}")
    first = trial.place.start(trial.build(INLINE, *first_options), LIMITS)
    time.sleep(delay)
    second = trial.place.start(trial.build(INLINE, *second_options), LIMITS, "second")
    # The second first: what is not waited for when the first has ended is killed.
    other, one = second.wait(), first.wait()
    trial.events += 1
    codes = sorted(-1 if code is None else code for code in (one.exit_code, other.exit_code))
    if codes not in ([0, 0], [0, 2]):
        blamed = f"{tail(one.err)} / {tail(other.err)}"
        trial.blame(f"exit codes {codes}, expected 0 and 2: {blamed}")
    elif codes == [0, 2]:
        # The second, or one in between two runs, names the process that holds the folder.
        lost = one.err if one.exit_code == 2 else other.err
        if not has_one_of((str(first.pid), str(second.pid), "earlier run"), lost):
            trial.blame(f"the message does not name who holds the folder: {tail(lost)}")
    trial.expect_whole()
    trial.expect_end(INLINE)
