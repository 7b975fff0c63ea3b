"""`headrace task run`: this process becomes the command, with the task's mounts in a mount namespace of its own.

The control plane hears of the task and its mounts, never of the command. This machine's node makes the mounts and hands them over; this process
hangs them into its own namespace and then becomes the command by exec: same pid, and its signals and exit code are the command's.
Nothing stays beside it. The lease is the node's to renew; it ends when the last process that has the namespace ends.

Until the exec everything can be taken back, and is: the task ends, and mount points that were made are removed. Should this process be killed
meanwhile, the node sees the connection end and does the same, but for directories that were made.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from headrace import settings as configuration
from headrace.cli import show
from headrace.cli.logged_in import control
from headrace.cli.task_door import Door, Mount, open_door
from headrace.cli.task_line import Line, mount_of
from headrace.cli.task_places import Places, check_hung, look, own_namespace
from headrace.errors import CommandFailure, CommandNotFound, HeadraceError, MountFailure, NodeFailure, UsageError
from headrace.mount_paths import is_within
from headrace.node import namespaces
from headrace.node.task_paths import allowed_roots, checked_paths

if TYPE_CHECKING:
    from types import FrameType

    from headrace.client import ControlClient
    from headrace.settings import Settings

_SHELL = "/bin/sh"
# What is answered, or 0 for no answer, where nobody is there at the moment.
_AWAY = (0, 502, 503, 504)
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOOK_SECONDS = 0.1
_LOOK_SECONDS_MAX = 1.0
# Of a lease of two minutes.
_RENEW_SECONDS = 20.0
_END_SECONDS = 10.0
# A replica that has died has others beside it, or a successor long before this; together with the above it is less than the lease.
_AWAY_SECONDS = 60.0


class Interrupted(HeadraceError):
    """A signal came before the command began."""

    def __init__(self, number: int) -> None:
        super().__init__("interrupted", f"interrupted by {signal.Signals(number).name} before the command began; the task has ended")
        self.exit_code = 128 + number  # type: ignore[assignment]


@dataclass(frozen=True)
class Wanted:
    """A task as it is asked for; each mount as the control plane takes it."""

    region: str
    mounts: Sequence[dict[str, Any]]
    name: str | None
    command: Sequence[str]
    wait_seconds: float


@dataclass
class Times:
    """How long each part took, for whoever asks."""

    shown: bool
    parts: list[tuple[str, float]] = field(default_factory=list)
    _last: float = field(default_factory=time.monotonic)

    def part(self, name: str) -> None:
        now = time.monotonic()
        self.parts.append((name, now - self._last))
        self._last = now

    def show(self) -> None:
        if self.shown:
            told = ", ".join(f"{name} {1000 * seconds:.0f}" for name, seconds in self.parts)
            print(f"ms: {told}; {1000 * _since_start():.0f} since this process began", file=sys.stderr, flush=True)


def begin(line: Line) -> NoReturn:
    """Becomes the command of a line. Raises HeadraceError with nothing left behind."""
    times = Times(line.times)
    settings = configuration.load()
    said = [mount_of(text, follow=line.follow) for text in line.mounts]
    for one in said:
        if one["path"] is None:
            raise UsageError("bad-path", f"mount: {one['volume']} has no path; write it like {one['volume']}:/mnt/models")
    paths = checked_paths([one["path"] for one in said], allowed_roots(settings.task_paths, os.geteuid()))
    mounts = [{**one, "path": path} for one, path in zip(said, paths, strict=True)]
    with control() as client:
        run(Wanted(line.region, mounts, line.name, line.command, line.wait_seconds), settings, client, times)


def run(wanted: Wanted, settings: Settings, client: ControlClient, times: Times) -> NoReturn:
    """Becomes the command, or raises HeadraceError with nothing left behind."""
    paths = [str(mount["path"]) for mount in wanted.mounts]
    for path in paths:
        look(path)
    program = _program(wanted.command[0], paths)
    times.part("what is loaded, and checks")
    with _heeding_signals(), contextlib.closing(open_door(settings, wanted.region)) as door:
        times.part("door")
        with _task(client, wanted, door.node) as task, Places(paths) as places:
            times.part("task")
            _wait_mountable(client, task, door, wanted.wait_seconds)
            mounts = door.mounts(task["id"])
            times.part("mounts")
            places.make()
            _place(mounts, places)
            door.placed()
            times.part("namespace")
            times.show()
            _become(program or _found(wanted.command[0]), wanted.command, task["id"])


def _since_start() -> float:
    """Seconds since the kernel made this process."""
    with open("/proc/self/stat") as file:
        began = int(file.read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began


def _program(command: str, paths: Sequence[str]) -> str | None:
    """The command's file; None for one that may lie in what will be mounted, which can't be told yet."""
    try:
        place = os.path.abspath(command)
    except OSError:  # the working directory is there no more
        place = ""
    return None if any(is_within(place, path) for path in paths) else _found(command)


def _found(command: str) -> str:
    if found := shutil.which(command):
        return found
    if os.sep in command and os.path.exists(command):
        raise CommandFailure("not-executable", f"command: {command} can't be executed; give a program")
    raise CommandNotFound("command-not-found", f"command: {command} is not found; give its path, or correct PATH")


@contextlib.contextmanager
def _task(client: ControlClient, wanted: Wanted, node: str) -> Iterator[dict[str, Any]]:
    """A task that ends when this is left: only an exec leaves it without."""
    said = {"region": wanted.region, "node": node, "user": os.geteuid(), "mounts": list(wanted.mounts)}
    said |= {"name": wanted.name} if wanted.name else {}
    task, key = None, secrets.token_hex(16)
    try:
        task = _created(client, said, key)
        yield task
    except Interrupted:
        _end_in_time(client, task, said, key)
        raise
    except BaseException:
        if task is not None:
            _end_in_time(client, task, said, key)
        raise


def _created(client: ControlClient, said: dict[str, Any], key: str) -> dict[str, Any]:
    """The task. Asked for once more where the answer was lost: the same key asks for the same task."""
    from headrace.client import ControlFailure

    try:
        return client.create_task(said, key)
    except ControlFailure as failure:
        if failure.status not in _AWAY:
            raise
    time.sleep(_LOOK_SECONDS)
    return client.create_task(said, key)


def _end_in_time(client: ControlClient, task: dict[str, Any] | None, said: dict[str, Any], key: str) -> None:
    """The node does so too, when the connection to it ends; so a control plane that is away now is not waited for."""
    from headrace.client import ControlFailure

    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)  # whoever asks again does not want to wait
    signal.signal(signal.SIGALRM, lambda *_: _give_up())
    signal.setitimer(signal.ITIMER_REAL, _END_SECONDS)
    try:
        # It may be there although the answer did not come: the same key asks for the same task.
        task = task or client.create_task(said, key)
        client.end_task(task["id"], task["lease"])
    except (ControlFailure, TimeoutError) as error:
        print(f"the end of the task could not be told: {error}; its lease ends by itself", file=sys.stderr)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _give_up() -> NoReturn:
    raise TimeoutError("no answer in time")


def _wait_mountable(client: ControlClient, task: dict[str, Any], door: Door, seconds: float) -> None:
    """Until everything can be mounted. A task for which that takes a while ends with this process meanwhile."""
    if task["state"] == "running":
        return
    from headrace.client import ControlFailure

    door.watch(task["id"])
    began = renewed = heard = time.monotonic()
    progress, pause = show.Progress(False), _LOOK_SECONDS
    try:
        while task["state"] == "waiting":
            waits = ", ".join(dict.fromkeys(str(mount["volume"]) for mount in task["mounts"] if not mount["mountable"]))
            if time.monotonic() - began > seconds:
                raise MountFailure(
                    "not-mountable",
                    f"mount: {waits} can't be mounted yet after {seconds:g} s: its files are still being listed; give --wait-seconds, or try again",
                )
            progress.say(f"waiting for {waits}: its files are being listed")
            time.sleep(pause)
            pause = min(2 * pause, _LOOK_SECONDS_MAX)
            due = time.monotonic() - renewed > _RENEW_SECONDS
            try:
                task |= client.renew_task(task["id"], task["lease"]) if due else client.task(task["id"])
            except ControlFailure as failure:
                if failure.status not in _AWAY or time.monotonic() - heard > _AWAY_SECONDS:
                    raise
                continue
            heard = time.monotonic()
            renewed = heard if due else renewed
    finally:
        progress.done()
    if task["state"] == "ended":
        raise MountFailure("lease-ended", f"task: it has ended: {task['ended_because'].get('en') or 'nobody said why'}; start it again")


def _place(mounts: Sequence[Mount], places: Places) -> None:
    """Hangs the mounts into a namespace of this process's own."""
    try:
        own_namespace()
        for mount in mounts:
            _hang(mount, places)
            check_hung(mount.path)
    except OSError as error:
        raise MountFailure(
            "mount-failed", f"namespace: the mounts can't be placed ({error.strerror}); a container needs the right to mount (CAP_SYS_ADMIN)"
        ) from None


def _hang(mount: Mount, places: Places) -> None:
    tree = mount.tree if mount.tree is not None else namespaces.clone_tree(mount.directory)
    try:
        if os.fstat(tree).st_dev != mount.device:
            raise NodeFailure("node-unreachable", f"the node took the mount for {mount.path} away (it may have been restarted); start it again")
        places.hang(mount.path, tree)
    finally:
        os.close(tree)


def _become(program: str, command: Sequence[str], task: str) -> NoReturn:
    """Replaces this process. Returns only by an error."""
    with contextlib.suppress(OSError):  # where the working directory is covered now, it is what covers it
        os.chdir(os.getcwd())
    environment = {**os.environ, "HEADRACE_TASK": task}
    sys.stdout.flush()
    sys.stderr.flush()
    before = _give_signals_back()
    try:
        _exec(program, command, environment)
    except OSError as error:
        for number, handler in before:
            signal.signal(number, handler)
        if error.errno == errno.ENOENT:
            raise CommandNotFound("command-not-found", f"command: {program} is not found, or what it is a script of; give its path") from None
        raise CommandFailure("not-executable", f"command: {program} can't be executed ({error.strerror}); give a program") from None


def _exec(program: str, command: Sequence[str], environment: dict[str, str]) -> NoReturn:
    """As execvp(3): a script that does not say of what is the shell's."""
    try:
        os.execve(program, list(command), environment)  # noqa: S606 - that is what was asked for
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        os.execve(_SHELL, [_SHELL, program, *command[1:]], environment)  # noqa: S606 - the same


def _give_signals_back() -> list[tuple[int, Any]]:
    """What this process heeds, the command gets as it was. None is lost: one that comes now ends this process."""
    ours = (*_SIGNALS, signal.SIGPIPE, signal.SIGXFSZ)  # Python ignores the last two
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ours)
    before = []
    for number in ours:
        handler = signal.getsignal(number)
        if handler is not signal.SIG_IGN or number in (signal.SIGPIPE, signal.SIGXFSZ):
            before.append((int(number), signal.signal(number, signal.SIG_DFL)))
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return before


@contextlib.contextmanager
def _heeding_signals() -> Iterator[None]:
    """A signal is an error like others in here; one that was ignored stays so."""

    def interrupt(number: int, _: FrameType | None) -> NoReturn:
        raise Interrupted(number)

    before = [(number, signal.signal(number, interrupt)) for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
