"""Connections to the node's hand-out socket: several, because each answers one read at a time.

A channel opens a file when it is first read through it. Channels are taken from the top of a stack, so that a
program with one thread uses one.
"""

from __future__ import annotations

import threading

from headrace import _engine

# Reads under way at once; more wait. A node serves 256 connections, for all programs together.
_CHANNELS_MAX = 8


class Channel:
    """One connection, and the files open on it, by the number of their handle."""

    def __init__(self, socket: str) -> None:
        self._client = _engine.connect(socket)
        self._files: dict[int, _engine.File] = {}

    def file(self, number: int, origin: str, snapshot: str, path: str) -> _engine.File:
        """The file of a handle; opened now if need be."""
        found = self._files.get(number)
        if found is None:
            found = self._files[number] = self._client.open(origin, snapshot, path)
        return found

    def forget(self, number: int) -> None:
        self._files.pop(number, None)


class Channels:
    """At most eight channels to one socket."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._free: list[Channel] = []
        self._all: set[Channel] = set()
        self._lock = threading.RLock()  # a finalizer may come in between
        self._permits = threading.Semaphore(_CHANNELS_MAX)

    def take(self) -> Channel:
        """A channel for one call; waits while all are in use. Give it back, or discard it when it broke."""
        self._permits.acquire()
        try:
            with self._lock:
                if self._free:
                    return self._free.pop()
            channel = Channel(self._socket)
            with self._lock:
                self._all.add(channel)
        except BaseException:
            self._permits.release()
            raise
        return channel

    def give_back(self, channel: Channel) -> None:
        with self._lock:
            self._free.append(channel)
        self._permits.release()

    def discard(self, channel: Channel) -> None:
        with self._lock:
            self._all.discard(channel)
        self._permits.release()

    def forget(self, number: int) -> None:
        """Closes a handle's file on every channel."""
        with self._lock:
            for channel in list(self._all):
                channel.forget(number)
