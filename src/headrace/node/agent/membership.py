"""What the node knows of the control plane: whether it has joined one, and the agent that works for it."""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from headrace.errors import CacheFailure, HeadraceError, NotFound, UsageError
from headrace.node.agent import identity as identities
from headrace.node.agent.disk import drop_parts
from headrace.node.agent.identity import Identity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.node.agent.loop import Agent
    from headrace.node.agent.traffic import Counts
    from headrace.node.service import Node


class Membership:
    """Joins, begins at the node's start what was joined before, and leaves. An HTTP client is loaded only then."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._directory: Path = node.settings.snapshots.parent / "control"
        self._lock = threading.Lock()
        self._identity: Identity | None = None
        self._agent: Agent | None = None
        self._error = ""

    @property
    def joined(self) -> bool:
        """One that has joined works for others too, so it does not end by itself."""
        return self._identity is not None

    def begin(self) -> None:
        """At the node's start. A node without its cache can hold nothing, so it waits for better days."""
        if self._node.cacheless:
            self._error = "the cache can't be used; the agent begins when the node restarts with it"
            return
        try:
            drop_parts(self._directory)
            self._identity = identities.kept(self._directory)
        except (HeadraceError, OSError) as error:
            self._error = getattr(error, "message", str(error))
            print(f"node: {self._error}", file=sys.stderr, flush=True)
        if self._identity is not None:
            # Loading what speaks HTTP takes a while: commands don't wait for it.
            threading.Thread(target=self._start, args=({},), name="agent", daemon=True).start()

    def join(self, url: str, token: str, name: str | None, labels: dict[str, str], certificates: str | None) -> dict[str, Any]:
        """Enrols this node. Raises UsageError where it has joined already, ControlFailure as the control plane refuses it."""
        url = _checked(url)
        if self._node.cacheless:
            raise CacheFailure("cache-unusable", f"cache directory: {self._node.cacheless}; a node without a cache can't join")
        with self._lock:
            if self._identity is not None:
                raise UsageError(
                    "already-joined",
                    f"node: it is {self._identity.node_id} of the region {self._identity.region} at {self._identity.url}; "
                    "run `headrace node leave` first",
                )
            self._identity = self._enrol(url, token, name or _own_name(), labels, certificates)
            self._error = ""
        # What the engine has counted was another membership's, and told by that.
        self._start(self._node.engine.traffic())
        return self.status() or {}

    def _enrol(self, url: str, token: str, name: str, labels: dict[str, str], certificates: str | None) -> Identity:
        from headrace.client import ControlClient
        from headrace.node.agent.loop import report

        try:
            client = ControlClient(url, token, certificates=certificates)
        except OSError as error:  # an SSLError too
            raise UsageError("bad-setting", f"ca: {certificates} can't be used ({error}); give a file of certificates in PEM") from None
        with client:
            said = client.enrol(name, labels, report(self._node, 0))
        identity = Identity(url, str(said["id"]), str(said["region"]), str(said["token"]), certificates)
        try:
            identities.keep(self._directory, identity)
        except OSError as error:
            raise CacheFailure(
                "cache-unusable",
                f"cache directory: the identity can't be kept in {self._directory} ({error}); put that right, have an administrator remove "
                f"the node {identity.node_id}, and join again",
            ) from None
        return identity

    def leave(self) -> dict[str, Any]:
        """Ends the agent and forgets who this node was. Raises NotFound where there is nothing to forget."""
        with self._lock:
            before = self.status()
            if before is None:
                raise NotFound("not-joined", "node: it has not joined a control plane; there is nothing to leave")
            self.end()
            from headrace.node.agent.loop import forget

            identities.forget(self._directory)
            forget(self._directory, self._node)
            self._identity, self._agent, self._error = None, None, ""
        return before

    def status(self) -> dict[str, Any] | None:
        """For `headrace status`; None where it has not joined, and nothing is wrong with that."""
        identity, agent = self._identity, self._agent
        if identity is None and not self._error:
            return None
        who = {"url": identity.url, "region": identity.region, "node_id": identity.node_id} if identity else {"url": "", "region": "", "node_id": ""}
        quiet = {"heard": False, "heard_at": None, "error": self._error}
        return {**who, **(agent.status() if agent else quiet)}

    def events(self) -> list[dict[str, Any]]:
        """What has happened lately, as the engine tells its events."""
        return self._agent.events() if self._agent else []

    def take_no_tasks(self) -> None:
        """Nothing is mounted for tasks any more."""
        if self._agent is not None:
            self._agent.take_no_tasks()

    def end(self, *, stopped: bool = False) -> None:
        """At the node's end, when everything is `stopped`, or before it forgets."""
        if self._agent is not None:
            self._agent.end(stopped=stopped)

    def _start(self, before: Mapping[str, Counts]) -> None:
        from headrace.node.agent.loop import Agent

        identity = self._identity
        if identity is None:
            return
        try:
            self._agent = Agent(self._node, identity, self._directory, before)
            self._agent.start()
        except OSError as error:  # the CA file is gone, or the disk is full
            self._error = f"the agent could not begin: {error}; restart the node when that is put right"
            print(f"node: {self._error}", file=sys.stderr, flush=True)


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(
            "bad-setting", f"url: {url.rpartition('@')[2]!r} is no address of a control plane; give one like https://headrace.example.com:7370"
        )
    return url.rstrip("/")


def _own_name() -> str:
    """The machine's, as far as a node may be called that."""
    name = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in socket.gethostname())[:63]
    return name.strip("-_.") or "node"
