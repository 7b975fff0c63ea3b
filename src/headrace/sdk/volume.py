"""Volumes: a bucket, or a directory of it, at one version."""

from __future__ import annotations

import builtins
import errno
import io
import os
from collections.abc import Callable, Iterable
from typing import Any, Self

from headrace import settings as configuration
from headrace.errors import CacheFailure, OriginFailure, PathNotFound, UsageError
from headrace.node.resolver import captured
from headrace.node.volumes import parse_uri
from headrace.sdk.entry import Entry, WarmProgress
from headrace.sdk.file import BUFFER_BYTES, File
from headrace.sdk.ground import Ground
from headrace.sdk.lease import HeldByNode
from headrace.sdk.mapping import mapped
from headrace.sdk.own_engine import OwnEngine


class Volume:
    """A bucket, or a directory of it, at one version that never changes while it is open.

    It stands on this machine's node, which is started when none runs, and so on the same cache as mounts: what one door has
    fetched, no other fetches again. No mount is needed. A node that dies is followed by another, and reads go on. A volume
    may be used from several threads; after a fork the child connects anew; pickled, it opens again at the same version.

    Example:
        >>> with headrace.Volume("s3://models/qwen") as volume:
        ...     for entry in volume.list():
        ...         print(entry.path, entry.size)
        ...     with volume.open("config.json") as file:
        ...         config = json.load(file)
        ...     weights = volume.map("model.safetensors")

    Args:
        source: `s3://BUCKET[/PREFIX]`; the prefix is a directory.
        snapshot: A version held ("v3"), or "current" for the newest one held: nothing is asked of the bucket, and what is
            cached can be read even while the bucket is away. None lists the bucket and takes what is there now.
        endpoint: Address of the S3 endpoint, such as "https://s3.example.org". None: as AWS tools find it.
        region: Region of the bucket. None: as AWS tools find it.
        addressing: "path" or "virtual". None: by the endpoint.
        profile: Name of a profile in the AWS files. None: AWS_PROFILE, or the default.
        anonymous: Sign nothing: for public buckets.
        cache_dir: Cache directories as in HEADRACE_CACHE_DIR; each choice has a node of its own. None: the usual one.
        cache_size: Size of the cache, such as "200Gi"; matters when this starts the node, or without one.
        memory: Budget for buffers, such as "256Mi"; matters as above.
        node: False runs an engine inside this process, with `cache_dir` for itself alone. It learns no order of loads, and goes by none.
        progress: Called with {"phase": "list", "files": int, "bytes": int} about five times a second while the bucket is listed.

    Credentials come from the environment of this process, as AWS tools read it; the node keeps them in memory only.

    Raises:
        UsageError: An argument is wrong; the message names it.
        CredentialFailure: No credentials, or the bucket refuses them.
        OriginFailure: The bucket can't be reached, or does not exist.
        NotFound: Nothing is under the prefix, or the snapshot is not held.
        CacheFailure: The cache directory can't be used, or belongs to another process.
        NodeFailure: The node can't be reached or started.
    """

    def __init__(
        self,
        source: str,
        snapshot: str | None = None,
        *,
        endpoint: str | None = None,
        region: str | None = None,
        addressing: str | None = None,
        profile: str | None = None,
        anonymous: bool = False,
        cache_dir: str | os.PathLike[str] | None = None,
        cache_size: str | None = None,
        memory: str | None = None,
        node: bool = True,
        progress: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        bucket, prefix = parse_uri(source)
        if not node and cache_dir is None:
            raise UsageError("bad-setting", "cache_dir: an engine of its own needs a directory of its own; name one")
        directory = None if cache_dir is None else os.fspath(cache_dir)
        settings = configuration.load({"cache_dir": directory, "cache_size": cache_size, "memory": memory})
        chosen = {"endpoint": endpoint, "region": region, "addressing": addressing, "profile": profile, "anonymous": anonymous}
        origin = {name: value for name, value in chosen.items() if value}
        request = {"source": source, "snapshot": snapshot, "environment": captured(dict(os.environ)), "origin": origin}
        self._source = f"s3://{bucket}/{prefix}".rstrip("/")
        self._again = {**chosen, "cache_dir": directory, "cache_size": cache_size, "memory": memory, "node": node}
        self._ground: Ground = (HeldByNode if node else OwnEngine)(settings, request, progress)
        self._closed = False

    @property
    def source(self) -> str:
        """`s3://BUCKET[/PREFIX]`."""
        return self._source

    @property
    def snapshot(self) -> str:
        """The version that this volume shows, such as "v3"."""
        return self._ground.version

    def list(self, path: str = "", *, recursive: bool = False) -> builtins.list[Entry]:
        """The entries of a directory, by name; with `recursive` everything below it, a directory before what it holds.

        Raises:
            PathNotFound: There is no such directory (also a FileNotFoundError).
            NotADirectoryError: It is a file.
        """
        top = self.stat(path)
        if top.is_file:
            raise NotADirectoryError(errno.ENOTDIR, "path: it is a file, which has no entries", self._name(path))
        return self._list(top.path, recursive)

    def _list(self, directory: str, recursive: bool) -> builtins.list[Entry]:
        found = []
        for listed in self._ground.entries(directory):
            entry = Entry.from_listing(f"{directory}/{listed['name']}".lstrip("/"), listed)
            found.append(entry)
            if recursive and entry.is_dir:
                found += self._list(entry.path, True)
        return found

    def stat(self, path: str) -> Entry:
        """One file or directory; "" is the volume itself.

        Raises:
            PathNotFound: There is none (also a FileNotFoundError).
        """
        clean = path.strip("/")
        listed = self._ground.stat(clean)
        if listed is None:
            raise PathNotFound(self._name(path), f"path: there is none in snapshot {self.snapshot}; `list` tells what there is")
        return Entry.from_listing(clean, listed)

    def exists(self, path: str) -> bool:
        """Whether there is a file or directory of this path."""
        return self._ground.stat(path.strip("/")) is not None

    def open(self, path: str, mode: str = "rb", buffering: int = -1) -> File | io.BufferedReader:
        """Opens a file for reading, complete or not: what is missing is fetched as it is read.

        Args:
            path: Path within the volume.
            mode: "rb".
            buffering: Size of the buffer in bytes; -1 takes 256 KiB, 0 gives the unbuffered `File`, whose `pread`
                may be called from several threads.

        Raises:
            PathNotFound: There is no such file (also a FileNotFoundError).
            IsADirectoryError: It is a directory.
        """
        return self._open(path, mode, buffering)

    def _open(self, path: str, mode: str, buffering: int, at_close: Callable[[], None] | None = None) -> File | io.BufferedReader:
        if mode != "rb":
            raise UsageError("bad-setting", f"mode: {mode!r} can't be; files of a volume are read-only and binary: use 'rb'")
        entry = self._file(path)
        raw = File(self._ground.handle(entry.path), self._name(entry.path), entry.size, at_close)
        return raw if buffering == 0 else io.BufferedReader(raw, BUFFER_BYTES if buffering < 0 else buffering)

    def map(self, path: str, progress: Callable[[WarmProgress], None] | None = None) -> memoryview:
        """The whole file as read-only memory, without a copy: the cache file itself, mapped.

        An incomplete file is warmed first, with `progress` as for `warm`. The view stays valid when the volume is closed, and
        when the file is evicted meanwhile.

        Example:
            >>> view = volume.map("model.safetensors")
            >>> header_bytes = int.from_bytes(view[:8], "little")
            >>> tensors = numpy.frombuffer(view, dtype="uint8", offset=8 + header_bytes)

        Raises:
            PathNotFound, IsADirectoryError: As for `open`.
            OriginFailure: The bytes can't be fetched; the message says why.
            CacheFailure: The cache has no room for the whole file.
        """
        entry = self._file(path)
        if entry.size == 0:
            return memoryview(b"")
        handle = self._ground.handle(entry.path)
        descriptor = handle.descriptor()
        if descriptor is None:
            self.warm([entry.path], progress)
            descriptor = handle.descriptor()
        if descriptor is None:
            raise CacheFailure(
                "cache-unkept",
                f"{self._name(path)}: it was fetched, but the cache no longer holds it whole ({entry.size} bytes); raise HEADRACE_CACHE_SIZE",
            )
        return mapped(handle, descriptor, entry.size)

    def warm(self, paths: str | Iterable[str] = (), progress: Callable[[WarmProgress], None] | None = None) -> WarmProgress:
        """Pulls files into the cache ahead of use; what is there already is not fetched again.

        Interrupting it is safe: what has arrived stays, and the next call goes on from there.

        Args:
            paths: A file or directory, or several; none means the whole volume.
            progress: Called about five times a second; raising stops the warm-up.

        Returns:
            How far it came: everything, or it raises.

        Raises:
            PathNotFound: There is no such path (also a FileNotFoundError).
            CacheFailure: It can't fit into the cache; told before anything is fetched.
            OriginFailure: Some files could not be fetched whole; the message counts them and says why. The others are held.
        """
        chosen = [paths] if isinstance(paths, str) else list(paths)
        inside = [self.stat(path).path for path in chosen]

        def report(part: dict[str, Any]) -> None:
            if progress and "files_total" in part:
                progress(WarmProgress.from_report(part))

        answer = self._ground.warm([] if "" in inside else inside, report)
        if answer["failed"]:
            key, message = answer["failed"][0]
            raise OriginFailure("warm-failed", f"{len(answer['failed'])} of {answer['files_total']} files are not held; first {key}: {message}")
        return WarmProgress.from_report(answer)

    def close(self) -> None:
        """Lets go of the node. Files that are open, and memory that is mapped, stay readable as far as they are complete."""
        self._closed = True
        self._ground.close()

    def _file(self, path: str) -> Entry:
        entry = self.stat(path)
        if entry.is_dir:
            raise IsADirectoryError(errno.EISDIR, "path: it is a directory; open a file in it", self._name(path))
        return entry

    def _name(self, path: str) -> str:
        return f"{self._source}/{path.strip('/')}".rstrip("/")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        # No credentials: the process that unpickles has its own environment.
        return _reopen, (self._source, self.snapshot, self._again)

    def __repr__(self) -> str:
        return f"<headrace.Volume {self._source!r} {self.snapshot}{' closed' if self._closed else ''}>"


def _reopen(source: str, snapshot: str, options: dict[str, Any]) -> Volume:
    return Volume(source, snapshot, **options)


def open(source: str, mode: str = "rb", buffering: int = -1, **options: Any) -> File | io.BufferedReader:  # noqa: A001 - headrace.open
    """Opens one object for reading, as the built-in `open` does a local file.

    The directory that the object is in is listed, as `Volume` does; for many files of one directory open a `Volume` once.

    Example:
        >>> with headrace.open("s3://models/qwen/config.json") as file:
        ...     config = json.load(file)

    Args:
        source: `s3://BUCKET/KEY`.
        mode: "rb".
        buffering: As for `Volume.open`.
        **options: As for `Volume`; `snapshot="current"` asks nothing of the bucket.

    Raises:
        What `Volume` and `Volume.open` raise.
    """
    directory, _, name = source.rstrip("/").rpartition("/")
    if not source.startswith("s3://") or not name or directory.rstrip("/") == "s3:":
        raise UsageError("bad-setting", f"source: {source!r} is not s3://BUCKET/KEY; name one object, such as s3://models/qwen/config.json")
    volume = Volume(directory, **options)
    try:
        return volume._open(name, mode, buffering, volume.close)
    except BaseException:
        volume.close()
        raise
