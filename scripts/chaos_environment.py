"""Machines that lack something: the run names it, blames no unit, and goes on when it is there."""

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

from campaign_child import RAISED
from campaign_readers import command
from campaign_rights import be_another_user, obey_permissions
from chaos_trial import INLINE, PROCESS, Trial, ending, has_one_of, tail

DISK = ("No space left", "disk", "File too large", "File size limit", "quota")
FILES = ("Too many open files", "descriptor")
MEMORY = ("memory", "Cannot allocate", "bad_alloc", "can't start new thread")
PROCESSES = ("Resource temporarily unavailable", "process", "thread")
COMPILER = ("g++", "clang++", "compiler", "linker")
# Another CPU than this one's default: nothing that is kept can be used again.
_OTHER_TARGET = ("--target", '{"kind":"llvm","mcpu":"x86-64"}', "--session", INLINE)


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


Before = Callable[[], None]


def _build(
    trial: Trial,
    before: Before | None,
    causes: tuple[str, ...],
    *,
    out: Path | None = None,
    heal: Before | None = None,
) -> None:
    """Run with a fault, which may be too small to matter; then without it, to the end."""
    trial.events += 1
    session = trial.draw.choice((INLINE, PROCESS))
    ended = trial.run(trial.build(session, out=out), before)
    trial.done.append(ending(ended))
    # A C library without memory ends the process itself, with a message.
    is_killed = ended.exit_code not in (0, 1, 2, 3, RAISED) and has_one_of(causes, ended.err)
    if causes is not MEMORY or not is_killed:
        trial.expect(ended, (0, 3), causes)
    trial.expect_nobody_blamed(out)
    if heal is not None:
        heal()
    trial.expect_whole(out)
    trial.expect_end(session, out)


def _replay(trial: Trial, folder: Path, before: Before | None, causes: tuple[str, ...]) -> None:
    """Replay a suite on a target whose kernels have to be built."""
    trial.events += 1
    ended = trial.run(command("replay", folder, *_OTHER_TARGET), before)
    trial.done.append(f"replay: {ending(ended)}")
    trial.expect(ended, (0, 3), causes)
    blamed = [line for line in ended.out.splitlines() if "build_error" in line or "crash" in line]
    if ended.exit_code in (RAISED, 1) and blamed:
        trial.blame(f"blamed: {blamed[0][:200]}")


def _build_or_replay(trial: Trial, before: Before, causes: tuple[str, ...]) -> None:
    """Run with a fault, or replay a suite of other kernels with it."""
    if trial.index % 2:
        _build(trial, before, causes)
    else:
        _replay(trial, _suite(trial, trial.place.case / "tests"), before, causes)


def _suite(trial: Trial, to: Path) -> Path:
    shutil.copytree(trial.bench.references[INLINE] / "tests", to)
    return to


@contextmanager
def _full_disk(trial: Trial, name: str, pages: int, folder: Path) -> Iterator[bool]:
    """Mount a disk of up to some pages; False where mounting is not allowed.

    There a limit of file size takes its place.
    """
    kilobytes = 4 * trial.draw.randrange(1, pages)
    trial.done.append(f"{name} has {kilobytes} kB")
    if not trial.bench.can_mount:
        file_size(trial)
        yield False
        return
    folder.parent.mkdir(exist_ok=True)
    with small_disk(folder, kilobytes):
        yield True


def disk_of_out(trial: Trial) -> None:
    """The disk of the output folder is full at some size."""
    disk = trial.place.case / "disk"
    with _full_disk(trial, "--out", 200, disk) as is_mounted:
        if is_mounted:
            _build(trial, None, DISK, out=disk / "out", heal=lambda: _grow(disk))


def disk_of_temporary(trial: Trial) -> None:
    """The disk of TMPDIR is full at some size, for a run and for a replay of other kernels."""
    disk = trial.place.case / "disk"
    with _full_disk(trial, "TMPDIR", 30, disk) as is_mounted:
        if is_mounted:
            _build_or_replay(trial, lambda: _temporary(disk), DISK)


def disk_of_kernels(trial: Trial) -> None:
    """The disk of the cached kernels is full when a suite is replayed on another target."""
    run = trial.place.case / "run"
    with _full_disk(trial, "kernels", 30, run / "kernels") as is_mounted:
        if not is_mounted:
            return
        _suite(trial, run / "tests")
        _replay(trial, run, None, DISK)
        _grow(run / "kernels")
        ended = trial.run(command("replay", run, *_OTHER_TARGET))
        if ended.exit_code != 0:
            trial.blame(f"with room again: {ending(ended)}: {tail(ended.out)} {tail(ended.err)}")


def file_size(trial: Trial) -> None:
    """No file may be longer than some size."""
    most = trial.draw.randrange(100, 40_000)
    trial.done.append(f"files of {most} bytes")

    def before() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    _build(trial, before, DISK)


def no_compiler(trial: Trial) -> None:
    """Nothing that links a kernel is in PATH, for a run and for a replay of other kernels."""
    _build_or_replay(trial, lambda: os.environ.update(PATH="/nonexistent"), COMPILER)


def descriptors(trial: Trial) -> None:
    """Few more files may be open at once than are open already."""
    more = trial.draw.randrange(16)
    trial.done.append(f"{more} more descriptors")

    def before() -> None:
        opened = set(map(int, os.listdir("/proc/self/fd")))  # noqa: PTH208
        free = (number for number in itertools.count() if number not in opened)
        most = next(itertools.islice(free, more, None))
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    _build(trial, before, FILES)


def memory(trial: Trial) -> None:
    """There is little memory left."""
    most = trial.draw.randrange(1, 64) << trial.draw.randrange(20, 25)
    trial.done.append(f"{most >> 20} MB of memory")

    def before() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + most
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    _build(trial, before, MEMORY)


def processes(trial: Trial) -> None:
    """Another user may have few processes and threads; only root can be one."""
    if os.geteuid() != 0:
        trial.is_skipped = True
        return
    most = trial.draw.randrange(1, 12)
    user = trial.draw.randrange(5000)
    trial.done.append(f"{most} processes")

    def before() -> None:
        be_another_user(user)
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))

    _build(trial, before, PROCESSES, heal=lambda: _own(trial.out))


def temporary_folder(trial: Trial) -> None:
    """TMPDIR does not exist, is a file, or may not be written to."""
    way = ("missing", "file", "forbidden")[trial.index % 3]
    trial.done.append(f"TMPDIR is {way}")
    folder = trial.place.case / "tmp"
    if way == "file":
        folder.write_text("")
    elif way == "forbidden":
        folder.mkdir(mode=0o500)

    def before() -> None:
        obey_permissions()
        _temporary(folder)
        # Python looks elsewhere where it can; only TMPDIR counts.
        tempfile.tempdir = str(folder)

    _build(trial, before, ("tmp", "temporary"))


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
    trial.done.append(f"{name}, read-only{f', {hidden} unreadable' if hidden else ''}")
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
    case = trial.place.case
    trial.events += 1
    folders = {
        "strange": case / trial.draw.choice(_STRANGE),
        "long": case / ("x" * 300),
        "longer": case / "/".join(["d" * 200] * 30),
    }
    links = {"dangling": case / "nowhere" / "x", "link": case / "real", "loop": "o"}
    way = trial.draw.choice((*folders, "strange", "file", *links))
    folder = folders.get(way, case / "o")
    if way == "link":
        (case / "real").mkdir()
    if way in links:
        folder.symlink_to(links[way])
    elif way == "file":
        folder.write_text("")
    trial.done.append(f"--out {way} {folder.name!r:.30}")
    ended = trial.run(trial.build(INLINE, out=folder))
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
    # What is appended to the command, which exit codes are right, and what an error must name.
    # A reader that leaves has what it wanted: that is no verdict, and no error of ours.
    ways: dict[str, tuple[str, tuple[int, ...], tuple[str, ...]]] = {
        "stdout full": ("> /dev/full", (3,), DISK),
        "stdout closed": (">&-", (2, 3), ("stdout", "standard output", "Bad file descriptor")),
        "reader leaves": ("| true; exit ${PIPESTATUS[0]}", (0, 3, 141), ()),
        "ascii": ("", (0,), ()),
        "stderr full": ("2> /dev/full", (0,), ()),
    }
    way = trial.draw.choice([*ways, "ascii"])
    suffix, codes, causes = ways[way]
    trial.done.append(f"{read.split()[0]}, {way}")
    trial.events += 1
    environment = {**os.environ, "TMPDIR": str(trial.place.temporary)}
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
    if done.returncode not in codes:
        trial.blame(f"exit code {done.returncode}, expected {codes}: {tail(err)}")
    elif done.returncode and causes and not has_one_of(causes, err):
        trial.blame(f"does not name {' or '.join(causes)}: {tail(err)}")
    for text in ("This is a bug", "Traceback", "Exception ignored"):
        if text in err:
            trial.blame(f"{text!r} on stderr: {tail(err)}")


def _temporary(folder: Path) -> None:
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None


def _own(folder: Path) -> None:
    """Give a folder of another user back to this one."""
    for path in (folder, *folder.rglob("*")) if folder.exists() else ():
        os.chown(path, 0, 0, follow_symlinks=False)
