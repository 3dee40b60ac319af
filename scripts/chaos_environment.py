"""Machines that lack something: the run says what, accuses nobody, and goes on when it is there."""

from __future__ import annotations

import itertools
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from campaign_child import RAISED, Ended
from campaign_readers import command
from campaign_rights import be_another_user, obey_permissions
from chaos_trial import INLINE, PROCESS, Trial, ending, tail, told_in

DISK = ("No space left", "disk", "File too large", "File size limit", "quota")
FILES = ("Too many open files", "descriptor")
MEMORY = ("memory", "Cannot allocate", "bad_alloc", "can't start new thread")
PROCESSES = ("Resource temporarily unavailable", "process", "thread")
COMPILER = ("g++", "clang++", "compiler", "linker")
# Another CPU than this one's default: nothing that is kept can be used again.
_OTHER_TARGET = '{"kind":"llvm","mcpu":"x86-64"}'


def can_mount() -> bool:
    """Whether this user may mount a small file system."""
    with tempfile.TemporaryDirectory() as folder, suppress(OSError):
        try:
            with small_disk(Path(folder), 64):
                return True
        except subprocess.CalledProcessError:
            return False
    return False


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[None]:
    """Mount a file system of that size."""
    folder.mkdir(exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True, capture_output=True)


def _grow(folder: Path) -> None:
    _mount("-o", "remount,size=64m", folder)


def _mount(*words: object) -> None:
    subprocess.run(["mount", *map(str, words)], check=True, capture_output=True)


def _faulty(
    trial: Trial,
    before: Callable[[], None] | None,
    causes: tuple[str, ...],
    *,
    session: str = INLINE,
    out: Path | None = None,
    heal: Callable[[], None] | None = None,
    codes: tuple[int, ...] = (3,),
) -> None:
    """Run with a fault, which may be too small to matter; then without it, to the end."""
    trial.events += 1
    ended = trial.run(trial.build(session, out=out), before)
    trial.expect(ended, (0, *codes), causes)
    trial.expect_nobody_accused(out)
    trial.told.append(ending(ended))
    if heal is not None:
        heal()
    trial.expect_whole(out)
    trial.expect_end(session, out)


def disk_of_out(trial: Trial) -> None:
    """The disk of the output folder is full at some size."""
    kilobytes = 4 * trial.draw.randrange(1, 200)
    trial.told.append(f"--out has {kilobytes} kB")
    if not trial.bench.can_mount:
        _file_size(trial)
        return
    disk = trial.place.case / "disk"
    with small_disk(disk, kilobytes):
        session = trial.draw.choice((INLINE, PROCESS))
        _faulty(trial, None, DISK, session=session, out=disk / "out", heal=lambda: _grow(disk))


def disk_of_temporary(trial: Trial) -> None:
    """The disk of TMPDIR is full at some size, for a run and for a replay of other kernels."""
    kilobytes = 4 * trial.draw.randrange(1, 30)
    trial.told.append(f"TMPDIR has {kilobytes} kB")
    if not trial.bench.can_mount:
        _file_size(trial)
        return
    disk = trial.place.case / "disk"
    with small_disk(disk, kilobytes):
        if trial.index % 2:
            session = trial.draw.choice((INLINE, PROCESS))
            _faulty(trial, lambda: _temporary(disk), DISK, session=session)
        else:
            tests = trial.place.case / "tests"
            shutil.copytree(trial.bench.references[INLINE] / "tests", tests)
            _replay(trial, tests, lambda: _temporary(disk), DISK)


def disk_of_kernels(trial: Trial) -> None:
    """The disk of the cached kernels is full when a suite is replayed on another target."""
    kilobytes = 4 * trial.draw.randrange(1, 30)
    trial.told.append(f"kernels have {kilobytes} kB")
    if not trial.bench.can_mount:
        _file_size(trial)
        return
    run = trial.place.case / "run"
    run.mkdir()
    shutil.copytree(trial.bench.references[INLINE] / "tests", run / "tests")
    with small_disk(run / "kernels", kilobytes):
        _replay(trial, run, None, DISK)
        _grow(run / "kernels")
        ended = trial.run(command("replay", run, "--target", _OTHER_TARGET, "--session", INLINE))
        if ended.exit_code != 0:
            trial.blame(f"with room again: {ending(ended)}: {tail(ended.out)} {tail(ended.err)}")


def file_size(trial: Trial) -> None:
    """No file may be longer than some size."""
    _file_size(trial)


def _file_size(trial: Trial) -> None:
    most = trial.draw.randrange(100, 40_000)
    trial.told.append(f"files of {most} bytes")

    def before() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    _faulty(trial, before, DISK)


def no_compiler(trial: Trial) -> None:
    """Nothing that links a kernel is in PATH, for a run and for a replay of other kernels."""

    def before() -> None:
        os.environ["PATH"] = "/nonexistent"

    if trial.index % 2:
        _faulty(trial, before, COMPILER, session=trial.draw.choice((INLINE, PROCESS)))
    else:
        tests = trial.place.case / "tests"
        shutil.copytree(trial.bench.references[INLINE] / "tests", tests)
        _replay(trial, tests, before, COMPILER)


def descriptors(trial: Trial) -> None:
    """Few more files may be open at once than are open already."""
    more = trial.draw.randrange(16)
    trial.told.append(f"{more} more descriptors")

    def before() -> None:
        opened = set(map(int, os.listdir("/proc/self/fd")))  # noqa: PTH208
        free = (number for number in itertools.count() if number not in opened)
        most = next(itertools.islice(free, more, None))
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    _faulty(trial, before, FILES, session=trial.draw.choice((INLINE, PROCESS)))


def memory(trial: Trial) -> None:
    """There is little memory left.

    Where it is so short that the C library ends the process by itself, saying so, no more is asked
    than that nothing is broken.
    """
    most = trial.draw.randrange(1, 64) << trial.draw.randrange(20, 25)
    trial.told.append(f"{most >> 20} MB of memory")

    def before() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + most
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    session = trial.draw.choice((INLINE, PROCESS))
    trial.events += 1
    ended = trial.run(trial.build(session), before)
    trial.told.append(ending(ended))
    if ended.exit_code in (0, 1, 2, 3, RAISED) or not told_in(MEMORY, ended.err):
        trial.expect(ended, (0, 3), MEMORY)
    trial.expect_nobody_accused()
    trial.expect_whole()
    trial.expect_end(session)


def processes(trial: Trial) -> None:
    """Another user may have few processes and threads; only root can be one."""
    if os.geteuid() != 0:
        trial.is_skipped = True
        return
    most = trial.draw.randrange(1, 12)
    user = trial.draw.randrange(5000)
    trial.told.append(f"{most} processes")

    def before() -> None:
        be_another_user(user)
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))

    session = trial.draw.choice((INLINE, PROCESS))
    _faulty(trial, before, PROCESSES, session=session, heal=lambda: _own(trial.out))


def temporary_folder(trial: Trial) -> None:
    """TMPDIR does not exist, is a file, or may not be written to."""
    way = ("missing", "file", "forbidden")[trial.index % 3]
    trial.told.append(f"TMPDIR is {way}")
    folder = trial.place.case / "tmp"
    if way == "file":
        folder.write_text("")
    elif way == "forbidden":
        folder.mkdir(mode=0o500)

    def before() -> None:
        obey_permissions()
        _temporary(folder)
        # Python looks elsewhere where it can; what it is told is what counts.
        tempfile.tempdir = str(folder)

    _faulty(trial, before, ("tmp", "temporary"), session=trial.draw.choice((INLINE, PROCESS)))


def permissions(trial: Trial) -> None:
    """Files and folders that may not be read or written, for every command that does."""
    trial.events += 1
    run = trial.place.case / "run"
    shutil.copytree(trial.bench.references[INLINE], run)
    hidden = trial.draw.choice(
        (
            *("", "tests/manifest.json", "captures/index.sqlite", "result.json"),
            *("lowered.json", "device.json", "state.json", "kernels"),
        )
    )
    for path in (run, *run.rglob("*")):
        path.chmod(0o500 if path.is_dir() else 0o400)
    if hidden:
        (run / hidden).chmod(0)
    options = ("--target", "llvm", "--session", "inline")
    name, work, reads = trial.draw.choice(
        (
            ("replay", command("replay", run, *options), "tests/manifest.json"),
            ("capture ls", command("capture", "ls", run), "captures/index.sqlite"),
            ("report", command("report", run), "result.json"),
            ("explain", command("explain", run), "lowered.json"),
            ("reproduce", command("reproduce", run, "softmax", "--output", run), ""),
            ("merge", command("merge", run / "merged", run), "tests/manifest.json"),
            ("build --resume", trial.build(INLINE, "--resume", out=run), "state.json"),
            ("build", trial.build(INLINE, out=run / "new"), ""),
        )
    )
    trial.told.append(f"{name}, read-only{f', {hidden} unreadable' if hidden else ''}")
    ended = trial.run(work, obey_permissions)
    for path in (run, *run.rglob("*")):
        path.chmod(0o700)
    trial.expect(ended, (0, 2, 3), ("Permission denied", "read-only", "rights"))
    if hidden and hidden == reads and ended.exit_code == 0:
        trial.blame(f"{name} passes although {hidden} cannot be read")


_STRANGE = (
    *("sp ace", "ünï 漢字", "new\nline", "qu'o\"te;$(x)", "-dash", "%s{0}", "[b]x[/b]"),
    "a" * 200,
)


def names(trial: Trial) -> None:
    """Names of output folders: strange ones work, impossible ones are refused."""
    ways = ("strange", "strange", "long", "longer", "dangling", "link", "file", "loop")
    way = trial.draw.choice(ways)
    case = trial.place.case
    trial.events += 1
    folder = case / "o"
    if way == "strange":
        folder = case / trial.draw.choice(_STRANGE)
    elif way == "long":
        folder = case / ("x" * 300)
    elif way == "longer":
        folder = case / "/".join(["d" * 200] * 30)
    elif way == "dangling":
        folder.symlink_to(case / "nowhere" / "x")
    elif way == "link":
        (case / "real").mkdir()
        folder.symlink_to(case / "real")
    elif way == "file":
        folder.write_text("")
    else:
        folder.symlink_to(folder.name)
    trial.told.append(f"--out {way} {folder.name!r:.30}")
    work = trial.build(INLINE, out=Path(f"{folder}"))
    ended = trial.run(work)
    if way in ("strange", "link"):
        trial.expect(ended, (0,))
        trial.expect_end(INLINE, folder)
    else:
        trial.expect(ended, (2, 3), (folder.name[:60],))


def output(trial: Trial) -> None:
    """Standard output is full, closed, narrow, or its reader leaves."""
    folder = trial.place.case / "run"
    shutil.copytree(trial.bench.references[INLINE], folder)
    start = "import sys; from relax_tapml.cli.main import main; sys.exit(main())"
    program = f"{sys.executable} -c '{start}'"
    read = trial.draw.choice((f"report {folder}", f"report {folder} --json", f"explain {folder}"))
    way = trial.draw.choice(("full", "closed", "reader leaves", "ascii", "ascii", "stderr full"))
    trial.told.append(f"{read.split()[0]}, stdout {way}")
    trial.events += 1
    environment = {**os.environ, "TMPDIR": str(trial.place.temporary)}
    suffix = {
        "full": "> /dev/full",
        "closed": ">&-",
        "reader leaves": "| true; exit ${PIPESTATUS[0]}",
        "ascii": "",
        "stderr full": "2> /dev/full",
    }[way]
    if way == "ascii":
        environment.update(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
        environment.update(PYTHONIOENCODING="ascii")
    done = subprocess.run(
        ["bash", "-c", f"{program} {read} {suffix}"],
        env=environment,
        cwd=folder,
        capture_output=True,
        timeout=240,
    )
    err = done.stderr.decode(errors="replace")
    # A reader that leaves has what it wanted: that is no verdict, and no error of ours.
    codes = {"full": (3,), "closed": (2, 3), "reader leaves": (0, 3, 141)}.get(way, (0,))
    causes = {"full": DISK, "closed": ("stdout", "standard output", "Bad file descriptor")}
    if done.returncode not in codes:
        trial.blame(f"exit code {done.returncode}, expected {codes}: {tail(err)}")
    elif done.returncode and way in causes and not told_in(causes[way], err):
        trial.blame(f"does not tell {' or '.join(causes[way])}: {tail(err)}")
    for text in ("This is a bug", "Traceback", "Exception ignored"):
        if text in err:
            trial.blame(f"{text!r} on stderr: {tail(err)}")


def _replay(
    trial: Trial, folder: Path, before: Callable[[], None] | None, causes: tuple[str, ...]
) -> None:
    """Replay a suite on a target whose kernels have to be built."""
    trial.events += 1
    work = command("replay", folder, "--target", _OTHER_TARGET, "--session", INLINE)
    ended = trial.run(work, before)
    trial.told.append(f"replay: {ending(ended)}")
    trial.expect(ended, (0, 3), causes)
    _expect_no_build_error(trial, ended)


def _expect_no_build_error(trial: Trial, ended: Ended) -> None:
    if ended.exit_code not in (RAISED, 1):
        return
    for line in ended.out.splitlines():
        if "build_error" in line or "crash" in line:
            trial.blame(f"accused: {line[:200]}")
            return


def _temporary(folder: Path) -> None:
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None


def _own(folder: Path) -> None:
    """Give a folder of another user back to this one."""
    for path in (folder, *folder.rglob("*")) if folder.exists() else ():
        os.chown(path, 0, 0, follow_symlinks=False)
