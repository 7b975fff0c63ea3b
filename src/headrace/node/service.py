"""The node: owns the engine and every mount, answers commands, and keeps the keeper informed.

A successor resumes the mounts first and does everything else later: programs are waiting.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headrace import settings as configuration
from headrace._engine import Engine, EngineError, __version__
from headrace.errors import HeadraceError, NodeFailure
from headrace.node import parcel, record, slots, task_mounts
from headrace.node.agent.membership import Membership
from headrace.node.answering import Answering
from headrace.node.engines import add_origin, drop_stand_ins, start_engine, start_without_cache
from headrace.node.keeper import Kept, another_keeper
from headrace.node.learning import Learning
from headrace.node.parameters import checked
from headrace.node.protocol import PROTOCOL, Lines, Malformed
from headrace.node.runtime import other_end
from headrace.node.scrubber import Scrubber
from headrace.node.speed import Speed
from headrace.node.upkeep import Troubles, cause_of, close_lists, drop_old_versions, drop_unfinished, keep_log_small
from headrace.node.volume_methods import HeldVolumes, renew_volume
from headrace.node.volumes import remember_numbers

_CONNECTIONS_MAX = 256
# Of a method's name that nobody knows.
_NAME_SHOWN = 80
_UPKEEP_SECONDS = 20.0
# Between tries to start a keeper.
_KEEPER_AGAIN_SECONDS = 0.1
# Temporary credentials are renewed this long before they expire.
_RENEW_SECONDS = 900.0
# A node that was of no use to anybody ends this long after the last one who asked.
_USELESS_SECONDS = 1.0
# A long request that the end has cut off answers within this.
_LAST_ANSWERS_SECONDS = 2.0


class Progress:
    """The way back to whoever asked: takes progress, and remembers what ends with the connection."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._ends: list[Callable[[], None]] = []
        self._untold: list[Callable[[], None]] = []
        self.request: Any = None

    def __call__(self, part: dict[str, Any]) -> bool:
        """Tells how far it has come; False when nobody waits for it any more."""
        try:
            self._lines.send({"id": self.request, "progress": part})
        except OSError:
            return False
        return True

    def at_end(self, undo: Callable[[], None]) -> None:
        """Has `undo` called when the connection ends."""
        self._ends.append(undo)

    def if_untold(self, undo: Callable[[], None]) -> None:
        """Has `undo` called when the answer to this request can't be sent."""
        self._untold.append(undo)

    def answered(self, answer: dict[str, Any]) -> None:
        """Sends the answer, or takes back what nobody was told of. Raises OSError in that case."""
        undoing, self._untold = self._untold, []
        try:
            self._lines.send({"id": self.request, **answer})
        except OSError:
            for undo in reversed(undoing):
                undo()
            raise

    def end(self) -> None:
        for undo in reversed(self._ends):
            undo()


class Node:
    """One process for a cache directory."""

    def __init__(self, channel: socket.socket, kept: Kept, keeper: int) -> None:
        self.settings = configuration.load()
        self.kept = kept
        # As the node before left them: mounts that can't be served are forgotten before there is anybody who tells of their tasks.
        self.tasks_before = [mount["task"] for mount in kept.mounts.values() if "task" in mount]
        self.channel = channel
        self.keeper = keeper
        self.lock = threading.RLock()
        self.commands = threading.Lock()
        self.mounting: set[str] = set()
        self.speed = Speed()
        self.stopping = threading.Event()
        self.ended = False  # the keeper has been told so
        self.connections = 0
        self.answering = Answering()
        self.last_used = time.monotonic()
        self.began = time.time()
        self.useful = False  # has mounted, or done anything else that was asked for
        self.fault: HeadraceError | None = None
        self.cacheless: str | None = None  # why mounts go on without their cache
        self.troubles = Troubles()
        self.volumes = HeldVolumes(self)
        self.learning = Learning(self.settings)
        self.membership = Membership(self)
        try:
            self.engine = self._start_engine()
            self.learning.start()
        except EngineError as error:
            # Commands get the reason; without an engine there is nothing else to do.
            self.fault = HeadraceError(error.code, error.message)
            for mount_id in list(self.kept.mounts):
                self._give_up(mount_id, error.message)

    def _start_engine(self) -> Engine:
        drop_stand_ins(self.settings)
        try:
            engine = start_engine(self.settings, self.kept.locks)
        except EngineError as error:
            if not self.kept.mounts:
                raise
            self.cacheless = error.message
            print(f"node: {error.message}; what is mounted goes on without a cache until the node restarts", file=sys.stderr, flush=True)
            engine = start_without_cache(self.settings)
        origins: set[str] = set()
        for mount_id, mount in list(self.kept.mounts.items()):
            self._resume(engine, mount_id, mount, origins)
        if not self.kept.locks:
            self._tell({"op": "locks"}, engine.lock_fds())
        engine.handout_serve(self.kept.listeners[1])
        return engine

    def _resume(self, engine: Engine, mount_id: str, mount: dict[str, Any], origins: set[str]) -> None:
        if "task" in mount:
            task_mounts.know_origin(self, engine, mount, origins)
        else:
            self.add_origin(engine, mount_id, mount)
        fuse, state = self.kept.fds[mount_id]
        remember_numbers(mount["slots"].values())
        try:
            change = slots.resume(engine, mount_id, mount, fuse, state)
        except (EngineError, HeadraceError) as error:
            self._give_up(mount_id, error.message)
            return
        for reason in change.pop("lost", []):
            print(f"node: files of an earlier version of {mount['directory']} answer ESTALE: {reason}", file=sys.stderr, flush=True)
        if change:
            self.update_mount(mount_id, change)

    def _give_up(self, mount_id: str, reason: str) -> None:
        """Ends a mount that nobody can serve. Its last descriptors are closed, so that programs get ENOTCONN instead of waiting forever."""
        mount = self.kept.mounts[mount_id]
        directory = mount["task"]["path"] if "task" in mount else mount["directory"]
        print(f"node: {directory} can't go on: {reason}. Mount it again", file=sys.stderr, flush=True)
        self.forget_mount(mount_id)

    def add_origin(self, engine: Engine, origin_id: str, mount: dict[str, Any]) -> None:
        add_origin(engine, self.settings, origin_id, mount["bucket"], mount["origin"])
        self.learning.add(engine, origin_id, mount)

    def remove_origin(self, origin_id: str) -> None:
        try:
            self.learning.settle(self.engine, origin_id)
        finally:
            self.engine.remove_origin(origin_id)

    # The keeper

    def _tell(self, message: dict[str, Any], fds: list[int] | None = None) -> None:
        """Makes a change known before it becomes visible; waits for the acknowledgement."""
        with self.lock:
            # Our own copy first: a new keeper gets it from there when this one dies in between.
            if message["op"] != "ready":
                self.kept.apply(message, [os.dup(fd) for fd in fds or []])
            try:
                parcel.send(self.channel, message, fds)
                if parcel.receive(self.channel) is None:
                    raise ConnectionError
            except OSError:
                self._new_keeper()

    def _tell_end(self) -> None:
        """The keeper's last message. It ends, and no other takes its place, which would start this node again."""
        with self.lock:
            self.ended = True
            with contextlib.suppress(OSError):
                parcel.send(self.channel, {"op": "done"})
                parcel.receive(self.channel)

    def keep_mount(self, mount_id: str, mount: dict[str, Any]) -> None:
        fuse, state = self.engine.mount_fds(mount_id)
        self._tell({"op": "mount", "id": mount_id, "mount": mount}, [fuse, state])
        self._record()

    def update_mount(self, mount_id: str, change: dict[str, Any]) -> None:
        """Of a mount that has ended meanwhile nothing is kept."""
        with self.lock:
            if mount_id in self.kept.mounts:
                self._tell({"op": "update", "id": mount_id, "mount": change})

    def forget_mount(self, mount_id: str) -> None:
        self._tell({"op": "forget", "id": mount_id})
        self._record()

    def _record(self) -> None:
        with self.lock:
            record.write(self.settings.socket, [mount["directory"] for mount in self.kept.mounts.values() if "task" not in mount])

    def _new_keeper(self) -> None:
        """The keeper has died: another one gets everything, unless it was time to end."""
        with self.lock:
            if self.ended:
                return
            self.channel.close()  # and stays closed if no other can be started: whoever watches tries again
            with self.troubles.told("starting another keeper"):
                self.channel, self.keeper = another_keeper(self.kept)

    def _watch_keeper(self) -> None:
        while not self.stopping.is_set():
            channel = self.channel
            with contextlib.suppress(OSError, ValueError):
                ready, _, _ = select.select([channel], [], [], 0.5)
                if ready and self.lock.acquire(timeout=5):
                    try:
                        # A message can only be an answer, and those are taken under the lock: so this is the end.
                        if channel is self.channel and select.select([channel], [], [], 0)[0]:
                            self._new_keeper()
                    finally:
                        self.lock.release()
                    continue
            if channel.fileno() < 0:
                time.sleep(_KEEPER_AGAIN_SECONDS)
                with self.lock:
                    if self.channel.fileno() < 0:
                        self._new_keeper()

    # Life

    def run(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: self.stopping.set())
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        with self.troubles.told("closing lists of files to others"):
            close_lists(self.settings.snapshots)
        with self.troubles.told("dropping unfinished listings"):
            drop_unfinished(self.settings.snapshots)  # before a command can begin a listing
        self._tell({"op": "ready"})  # before anybody is greeted: whoever was greeted was served
        threading.Thread(target=self._accept, daemon=True).start()
        threading.Thread(target=self._watch_keeper, daemon=True).start()
        if not self.fault and self.settings.scrub_interval:
            threading.Thread(target=Scrubber(self.engine, self.settings, self.stopping).run, daemon=True).start()
        if not self.fault:
            with self.troubles.told("taking mounts down that no task has got"):
                task_mounts.clear(self)
            with self.troubles.told("beginning to work for the control plane"):
                self.membership.begin()
        renewed = time.monotonic()
        while not self.stopping.wait(0.5):
            self._look_after()
            if time.monotonic() - renewed > _UPKEEP_SECONDS:
                renewed = time.monotonic()
                self._look_after_more()
            if not self._needed() and time.monotonic() - self.last_used > self._patience():
                break
        self._end()

    def _lists_in_use(self) -> list[str]:
        return [path for mount in list(self.kept.mounts.values()) for path in mount["slots"].values()] + self.volumes.paths()

    def _look_after(self) -> None:
        """Twice a second. Each piece by itself: whatever it fails of must neither end the node nor keep it from the others."""
        with self.troubles.told("dropping mounts that have ended"):
            self.drop_dead_mounts()
        if not self.fault:
            with self.troubles.told("measuring the speed"):
                self.speed.note(self.engine.counters())
        with self.troubles.told("keeping the log small"):
            keep_log_small(sys.stderr.fileno(), Path(self.settings.log_file), self.settings.log_size)

    def _look_after_more(self) -> None:
        """The same, of what takes longer."""
        with self.troubles.told("renewing credentials"):
            self._renew_credentials()
        if not self.fault:
            with self.troubles.told("keeping learned orders"):
                self.learning.look(self.engine)
        with self.troubles.told("dropping old versions of lists of files"):
            drop_old_versions(self.settings.snapshots, self.settings.keep_snapshots, self._lists_in_use)

    def _needed(self) -> bool:
        return bool(self.kept.mounts or self.connections or self.membership.joined)

    def _patience(self) -> float:
        """How long it waits for work. One that was started for a mount that failed is no loss."""
        return self.settings.idle if self.useful else min(_USELESS_SECONDS, self.settings.idle)

    def _end(self) -> None:
        from headrace.node.methods import stop_mounts

        self.stopping.set()
        # First: what a task would be given now, nobody would take away again.
        self.membership.take_no_tasks()
        stop_mounts(self)
        if not self.fault:
            self.membership.end(stopped=True)
            self.learning.settle_all(self.engine)
        # Connections that come now find no socket and start a new keeper.
        for path in (self.settings.socket, self.settings.handout_socket):
            with contextlib.suppress(OSError):  # gone already; or it stays, and nobody answers there
                os.unlink(path)
        if not self.fault:
            self.engine.shutdown()
        self._tell_end()
        # Whoever asked for the end is told before it comes.
        self.answering.wait_none(_LAST_ANSWERS_SECONDS)
        os._exit(0)

    def drop_dead_mounts(self) -> None:
        """Mounts that somebody else has unmounted."""
        if self.fault:
            return
        for mount_id in list(self.kept.mounts):
            with contextlib.suppress(EngineError):
                if not self.engine.mount_alive(mount_id):
                    mount = self.kept.mounts.get(mount_id, {})
                    self.engine.mount_forget(mount_id)
                    self.forget_mount(mount_id)
                    if "task" not in mount:
                        self.volumes.retire(mount_id)
                    elif not self.membership.joined:
                        task_mounts.drop_lists(self, mount)

    def _renew_credentials(self) -> None:
        from headrace.node.methods import renew

        for mount_id, mount in list(self.kept.mounts.items()):
            expires = mount["origin"].get("expires")
            if expires and expires - time.time() < _RENEW_SECONDS:
                try:
                    renew(self, mount_id, None)
                except Exception as error:  # others have theirs to be renewed
                    if mount_id in self.kept.mounts:  # else it has ended meanwhile
                        print(f"node: renewing credentials of {mount['directory']}: {cause_of(error)}", file=sys.stderr, flush=True)
        for held in self.volumes.expiring(_RENEW_SECONDS):
            try:
                renew_volume(self, held)
            except Exception as error:
                print(f"node: renewing credentials of s3://{held.entry['bucket']}: {cause_of(error)}", file=sys.stderr, flush=True)

    # Commands

    def _accept(self) -> None:
        listener = socket.socket(fileno=os.dup(self.kept.listeners[0]))
        while not self.stopping.is_set():
            try:
                connection, _ = listener.accept()
            except OSError as error:  # out of descriptors, or a client that has gone already
                print(f"node: a connection could not be taken: {error}", file=sys.stderr, flush=True)
                self.stopping.wait(0.1)
                continue
            if other_end(connection) not in (0, os.geteuid()) or self.connections >= _CONNECTIONS_MAX:
                connection.close()
                continue
            self.connections += 1
            threading.Thread(target=self._serve, args=(Lines(connection),), daemon=True).start()

    def _serve(self, lines: Lines) -> None:
        progress = Progress(lines)
        try:
            lines.send({"headrace": __version__, "protocol": [1, PROTOCOL]})
            for message in lines:
                self.last_used = time.monotonic()
                progress.request = message.get("id")
                with self.answering:
                    progress.answered(self._answer(progress, message))
        except Malformed as error:
            print(f"node: a connection ended: {error}", file=sys.stderr, flush=True)
            with contextlib.suppress(OSError):  # it may not wait for the answer
                lines.send({"id": None, "error": {"code": "bad-request", "message": error.message}})
        except (OSError, NodeFailure) as error:
            # The command has gone away; what it asked for was cancelled with it.
            print(f"node: a command's connection ended: {error}", file=sys.stderr, flush=True)
        finally:
            lines.close()
            progress.end()
            self.last_used = time.monotonic()
            self.connections -= 1

    def _answer(self, progress: Progress, message: dict[str, Any]) -> dict[str, Any]:
        from headrace.node.methods import METHODS

        try:
            name = message.get("method")
            if self.fault:
                # What was wrong may be put right by the next time: then a fresh node finds out.
                self.stopping.set()
                if name != "stop":
                    raise self.fault
            method = METHODS.get(name) if isinstance(name, str) else None
            if method is None:
                shown = name[:_NAME_SHOWN] if isinstance(name, str) else type(name).__name__
                raise NodeFailure(
                    "unknown",
                    f"method: the node knows no {shown!r}; restart it after an upgrade",
                )
            result = method(self, checked(str(name), message.get("params")), progress)
            self.useful = self.useful or name != "ping"
            return {"result": result}
        except (HeadraceError, EngineError) as error:
            return {"error": {"code": error.code, "message": error.message}}
        except Exception as error:
            import traceback

            traceback.print_exc()
            return {
                "error": {
                    "code": "internal",
                    "message": f"the node failed: {type(error).__name__}; its log has the details (`headrace logs`)",
                }
            }
