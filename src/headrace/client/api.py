"""Speaks to the control plane's API; one method for each thing that can be asked."""

from __future__ import annotations

import functools
import json
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from headrace.client.http import httpx
from headrace.errors import Exit, HeadraceError, UsageError
from headrace.printable import printable

# A connection check takes up to a minute.
_SECONDS = 90.0
# A node's heartbeats come every ten seconds, and by the same connection; the control plane keeps it a little longer.
_KEEP_SECONDS = 60.0
_PAGE = 200
# Between two streams of an operation that goes on.
_AGAIN_SECONDS = 0.5
_EXITS = {401: Exit.DENIED, 403: Exit.DENIED, 404: Exit.NOT_FOUND, 409: Exit.BUSY, 422: Exit.USAGE, 503: Exit.UNREACHABLE}

Document = dict[str, Any]


class ControlFailure(HeadraceError):
    """The control plane refused or could not be reached. `problem` is its problem document, empty where there was none."""

    def __init__(self, code: str, message: str, problem: Document | None = None, status: int = 0) -> None:
        super().__init__(code, message)
        self.problem = problem or {}
        self.status = status
        self.exit_code = _EXITS.get(status, Exit.FAILED if status else Exit.UNREACHABLE)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.message, self.problem, self.status)


class ControlClient:
    """A control plane at a URL, called with a token. Use with `with`, or `close` it."""

    def __init__(self, url: str, token: str, *, certificates: str | None = None, language: str = "en") -> None:
        self._url = url.rstrip("/")
        self._certificates = certificates
        headers = {"Authorization": f"Bearer {token}", "Accept-Language": language}
        self._http = httpx.Client(
            base_url=self._url,
            headers=headers,
            timeout=_SECONDS,
            limits=httpx.Limits(keepalive_expiry=_KEEP_SECONDS),
            verify=_trust(self._url, certificates),
            trust_env=False,
        )

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def as_bearer(self, token: str) -> ControlClient:
        """The same control plane, called with another token."""
        return ControlClient(self._url, token, certificates=self._certificates, language=self._http.headers["accept-language"])

    def login(self) -> Document:
        """Exchanges the one-time token that this client was made with."""
        return self._document("POST", "/v1/login")

    def providers(self) -> list[Document]:
        return self._list("/v1/providers")

    def create_volume(self, volume: Mapping[str, Any], key: str | None = None) -> Document:
        return self._document("POST", "/v1/volumes", json=volume, headers=_keyed(key))

    def check_new_volume(self, volume: Mapping[str, Any]) -> Document:
        return self._document("POST", "/v1/volumes/check", json=volume)

    def volumes(self, **filters: str) -> Iterator[Document]:
        return self._pages("/v1/volumes", filters)

    def volume(self, name: str) -> Document:
        return self._document("GET", _path("volumes", name))

    def edit_volume(self, name: str, changes: Mapping[str, Any], etag: str) -> Document:
        """Changes a volume as it was when it was read: `etag` is in its document."""
        return self._document("PATCH", _path("volumes", name), json=changes, headers={"If-Match": etag})

    def check_volume(self, name: str, check_region: str | None = None) -> Document:
        return self._document("POST", _path("volumes", name, "check"), json={"check_region": check_region})

    def rotate_credentials(self, name: str, keys: Mapping[str, Any]) -> Document:
        return self._document("POST", _path("volumes", name, "credentials"), json=keys)

    def delete_volume(self, name: str) -> None:
        self._answer("DELETE", _path("volumes", name))

    def create_token(self, token: Mapping[str, Any], key: str | None = None) -> Document:
        return self._document("POST", "/v1/tokens", json=token, headers=_keyed(key))

    def tokens(self) -> Iterator[Document]:
        return self._pages("/v1/tokens", {})

    def revoke_token(self, identifier: str) -> None:
        self._answer("DELETE", _path("tokens", identifier))

    def events(self, **filters: str) -> Iterator[Document]:
        """Newest first. Filters: `noun`, `object_id`, and times in RFC 3339: from `since` on, before `until`."""
        return self._pages("/v1/events", filters)

    def usage(self, **filters: str) -> Iterator[Document]:
        """加速用量 by hour, oldest first, with bytes received from the bucket, bytes that reads were answered with, and bytes of files that were
        opened to be read without the node."""
        return self._pages("/v1/usage", filters)

    def start_acceleration(self, volume: str, said: Mapping[str, Any], key: str | None = None) -> Document:
        return self._document("POST", _path("volumes", volume, "accelerations"), json=said, headers=_keyed(key))

    def accelerations(self, **filters: str) -> Iterator[Document]:
        return self._pages("/v1/accelerations", filters)

    def acceleration(self, volume: str, region: str) -> Document:
        return self._document("GET", _path("volumes", volume, "accelerations", region))

    def edit_acceleration(self, volume: str, region: str, changes: Mapping[str, Any], etag: str) -> Document:
        """Changes how long it is kept and its schedule, as it was when it was read: `etag` is in its document."""
        return self._document("PATCH", _path("volumes", volume, "accelerations", region), json=changes, headers={"If-Match": etag})

    def release(self, volume: str, region: str, *, force: bool = False) -> Document:
        return self._document("POST", _path("volumes", volume, "accelerations", region, "release"), json={"force": force})

    def refresh(self, volume: str, region: str, *, at_once: bool = False) -> Document:
        return self._document("POST", _path("volumes", volume, "accelerations", region, "refresh"), json={"at_once": at_once})

    def follow(self, *path: str) -> Iterator[Document]:
        """Documents of a long operation as they change, until it is over: `follow("warmups", id)`, `follow("volumes", v, "accelerations", r)`.

        Connects again where a stream ends before the operation does. Raises ControlFailure as any other call.
        """
        while True:
            try:
                with self._http.stream("GET", _path(*path, "stream")) as answer:
                    if not answer.is_success:
                        answer.read()
                        raise _failure(answer)
                    for kind, document in _events(answer.iter_lines()):
                        if kind == "problem":
                            raise ControlFailure(str(document["code"]), printable(str(document["detail"])), document, int(document["status"]))
                        yield document
                        if kind == "end":
                            return
            except httpx.HTTPError as error:
                raise self._unreachable(error) from None
            except ValueError:
                raise self._foreign("no events") from None
            time.sleep(_AGAIN_SECONDS)

    def start_warmup(self, volume: str, region: str, said: Mapping[str, Any], key: str | None = None) -> Document:
        return self._document("POST", _path("volumes", volume, "accelerations", region, "warmups"), json=said, headers=_keyed(key))

    def warmups(self, **filters: str) -> Iterator[Document]:
        """Newest first."""
        return self._pages("/v1/warmups", filters)

    def warmup(self, identifier: str) -> Document:
        return self._document("GET", _path("warmups", identifier))

    def cancel_warmup(self, identifier: str) -> Document:
        return self._document("POST", _path("warmups", identifier, "cancel"))

    def compare(self, volume: str, region: str) -> Document:
        """Asks what a refresh would bring; `comparison` has the answer once a node gave it."""
        return self._document("POST", _path("volumes", volume, "accelerations", region, "comparisons"))

    def comparison(self, volume: str, region: str, identifier: str) -> Document:
        return self._document("GET", _path("volumes", volume, "accelerations", region, "comparisons", identifier))

    def cancel_pull(self, volume: str, region: str) -> Document:
        return self._document("POST", _path("volumes", volume, "accelerations", region, "cancel"))

    def roll_back(self, volume: str, region: str, version: int) -> Document:
        return self._document("POST", _path("volumes", volume, "accelerations", region, "rollback"), json={"version": version})

    def versions(self, volume: str, region: str) -> list[Document]:
        return self._list(_path("volumes", volume, "accelerations", region, "versions"))

    def label_version(self, volume: str, region: str, version: int, label: str) -> Document:
        """Calls a version something; an empty label takes it away."""
        return self._document("PATCH", _path("volumes", volume, "accelerations", region, "versions", str(version)), json={"label": label})

    def create_task(self, task: Mapping[str, Any], key: str | None = None) -> Document:
        return self._document("POST", "/v1/tasks", json=task, headers=_keyed(key))

    def tasks(self, **filters: str) -> Iterator[Document]:
        """Newest first."""
        return self._pages("/v1/tasks", filters)

    def task(self, identifier: str) -> Document:
        return self._document("GET", _path("tasks", identifier))

    def renew_task(self, identifier: str, lease: int) -> Document:
        return self._document("POST", _path("tasks", identifier, "renew"), json={"lease": lease})

    def attach_task(self, identifier: str, lasts_seconds: int = 120) -> Document:
        """Takes the lease over."""
        return self._document("POST", _path("tasks", identifier, "attach"), json={"lasts_seconds": lasts_seconds})

    def end_task(self, identifier: str, lease: int | None = None) -> Document:
        return self._document("POST", _path("tasks", identifier, "end"), json={"lease": lease})

    def place_task(self, wanted: Mapping[str, Any]) -> Document:
        """A node that a task had best run on."""
        return self._document("POST", _path("tasks", "place"), json=wanted)

    def create_region(self, region: Mapping[str, Any], key: str | None = None) -> Document:
        return self._document("POST", "/v1/regions", json=region, headers=_keyed(key))

    def regions(self) -> Iterator[Document]:
        return self._pages("/v1/regions", {})

    def region(self, name: str) -> Document:
        return self._document("GET", _path("regions", name))

    def edit_region(self, name: str, changes: Mapping[str, Any], etag: str) -> Document:
        """Changes how a region is shown, as it was when it was read: `etag` is in its document."""
        return self._document("PATCH", _path("regions", name), json=changes, headers={"If-Match": etag})

    def delete_region(self, name: str) -> None:
        self._answer("DELETE", _path("regions", name))

    def create_join_token(self, region: str, lasts_seconds: int = 3600, key: str | None = None) -> Document:
        said = {"region": region, "lasts_seconds": lasts_seconds}
        return self._document("POST", "/v1/join-tokens", json=said, headers=_keyed(key))

    def nodes(self, **filters: str) -> Iterator[Document]:
        return self._pages("/v1/nodes", filters)

    def node(self, identifier: str) -> Document:
        return self._document("GET", _path("nodes", identifier))

    def drain_node(self, identifier: str, *, draining: bool = True) -> Document:
        return self._document("PATCH", _path("nodes", identifier), json={"draining": draining})

    def label_node(self, identifier: str, labels: Mapping[str, str | None]) -> Document:
        """Sets labels, and takes away those that are None; others stay."""
        return self._document("PATCH", _path("nodes", identifier), json={"labels": labels})

    def remove_node(self, identifier: str) -> None:
        self._answer("DELETE", _path("nodes", identifier))

    def enrol(self, name: str, labels: Mapping[str, str], told: Mapping[str, Any]) -> Document:
        """Joins a region as a node, with the join token that this client was made with."""
        return self._document("POST", "/v1/enrol", json={"name": name, "labels": labels, "told": told})

    def heartbeat(self, told: Mapping[str, Any]) -> Document:
        """A node is alive; this client was made with its identity."""
        return self._document("POST", "/v1/node/heartbeat", json=told)

    def desired(self, known: int = -1, wait: float = 0) -> Document:
        """What this node should do, once it is another version than `known`, or after `wait` seconds."""
        return self._document("GET", "/v1/node/desired", params={"known": str(known), "wait": str(wait)})

    def origin_credentials(self, volume_id: str) -> Document:
        """Keys of a volume that this node needs."""
        return self._document("GET", _path("node", "volumes", volume_id, "credentials"))

    def send_snapshot_part(self, acceleration: str, listing: int, digest: str, part: int, content: bytes) -> None:
        path = _path("node", "accelerations", acceleration, "snapshots", digest, str(part))
        self._answer("PUT", path, params={"listing": str(listing)}, content=content)

    def snapshot_part(self, digest: str, part: int) -> bytes:
        return self._answer("GET", _path("node", "snapshots", digest, str(part))).content

    def publish_snapshot(self, acceleration: str, published: Mapping[str, Any]) -> Document:
        return self._document("POST", _path("node", "accelerations", acceleration, "published"), json=published)

    def answer_comparison(self, identifier: str, answer: Mapping[str, Any]) -> None:
        self._answer("POST", _path("node", "comparisons", identifier), json=answer)

    def node_check(self, identifier: str, lease: int) -> Document:
        """A connection check that this node is asked for, with keys."""
        return self._document("GET", _path("node", "checks", identifier), params={"lease": str(lease)})

    def renew_check(self, identifier: str, lease: int) -> None:
        self._answer("POST", _path("node", "checks", identifier, "renew"), json={"lease": lease})

    def answer_check(self, identifier: str, answer: Mapping[str, Any]) -> None:
        self._answer("POST", _path("node", "checks", identifier), json=answer)

    def listing_failed(self, acceleration: str, listing: int, reason: str) -> None:
        self._answer("POST", _path("node", "accelerations", acceleration, "failed"), json={"listing": listing, "reason": reason})

    def progress(self, held: Sequence[Mapping[str, Any]], listing: Sequence[str] = (), kept: Sequence[Mapping[str, Any]] = ()) -> None:
        """Tells how far this node is, and what it has of versions that are kept."""
        self._answer("POST", _path("node", "progress"), json={"held": list(held), "listing": list(listing), "kept": list(kept)})

    def tell_traffic(self, epoch: str, volumes: Sequence[Mapping[str, Any]]) -> None:
        """Tells what this node has moved of volumes since an epoch of its counts began; told again it changes nothing."""
        self._answer("POST", _path("node", "traffic"), json={"epoch": epoch, "volumes": list(volumes)})

    def node_task(self, identifier: str) -> Document:
        """A task of this node, with what it mounts."""
        return self._document("GET", _path("node", "tasks", identifier))

    def tell_tasks(self, held: Sequence[Mapping[str, Any]], ended: Sequence[Mapping[str, Any]] = ()) -> Document:
        """Renews the leases of tasks that this node has mounts for, and ends those whose mounts are gone."""
        return self._document("POST", _path("node", "tasks"), json={"held": list(held), "ended": list(ended)})

    def _pages(self, path: str, filters: Mapping[str, str]) -> Iterator[Document]:
        after: dict[str, str] = {}
        while True:
            answer = self._document("GET", path, params={**filters, "limit": str(_PAGE), **after})
            yield from answer["items"]
            if answer["next"] is None:
                return
            after = {"after": answer["next"]}

    def _document(self, method: str, path: str, **more: Any) -> Document:
        document = self._json(method, path, **more)
        if not isinstance(document, dict):
            raise self._foreign("something else than was asked for")
        return document

    def _list(self, path: str) -> list[Document]:
        found = self._json("GET", path)
        if not isinstance(found, list):
            raise self._foreign("something else than was asked for")
        return found

    def _json(self, method: str, path: str, **more: Any) -> Any:
        try:
            return self._answer(method, path, **more).json()
        except ValueError:
            raise self._foreign("no JSON") from None

    def _foreign(self, what: str) -> ControlFailure:
        return ControlFailure("control-unreachable", f"{self._url} answers {what}, not as a control plane does; check the address")

    def _answer(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **more)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from None
        except UnicodeEncodeError as error:
            raise _no_text(error) from None
        if answer.is_success:
            return answer
        raise _failure(answer)

    def _unreachable(self, error: Exception) -> ControlFailure:
        return ControlFailure(
            "control-unreachable",
            f"the control plane at {self._url} can't be reached: {error}; check the address, or start it with `headrace up`",
        )


def _events(lines: Iterator[str]) -> Iterator[tuple[str, Document]]:
    """Kinds and documents of server-sent events. Raises ValueError for what is no JSON."""
    kind = ""
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value)


def _failure(answer: httpx.Response) -> ControlFailure:
    try:
        problem = answer.json()
        lines = [f"{problem['detail']}", *(_line(field, answer.request.headers["accept-language"]) for field in problem["fields"])]
        return ControlFailure(str(problem["code"]), "\n".join(printable(line) for line in lines), problem, answer.status_code)
    except (ValueError, KeyError, TypeError):
        return ControlFailure(
            "control-unreachable", f"{answer.request.url.host} answers {answer.status_code}, not as a control plane does; check the address"
        )


def _line(finding: Document, language: str) -> str:
    tongue = "zh" if language.lower().startswith("zh") else "en"
    return f"  {finding['field']}: {finding['cause'][tongue]}; {finding['remedy'][tongue]}"


def _trust(url: str, certificates: str | None) -> ssl.SSLContext | bool:
    """What vouches for a server. Loading authorities takes longer than a request, and without TLS they are not asked."""
    try:
        if certificates:
            return ssl.create_default_context(cafile=certificates)
        return False if url.startswith("http://") else _usual_trust()
    except OSError as error:  # an SSLError too
        raise UsageError("bad-setting", f"ca: {certificates} can't be used: {error}; give a file of certificates in PEM") from None


@functools.cache
def _usual_trust() -> ssl.SSLContext:
    """What httpx trusts by itself, read from the disk once: it takes 20 ms, which a process with many clients need not spend for each."""
    return httpx.create_ssl_context(trust_env=False)


def _keyed(key: str | None) -> dict[str, str]:
    return {"Idempotency-Key": key} if key else {}


def _path(*parts: str) -> str:
    try:
        return "/v1/" + "/".join(quote(part, safe="") for part in parts)
    except UnicodeEncodeError as error:
        raise _no_text(error) from None


def _no_text(error: UnicodeEncodeError) -> UsageError:
    """What was typed may be any bytes."""
    return UsageError("bad-setting", f"request: {printable(str(error.object), 80)} is no text; write it in UTF-8")
