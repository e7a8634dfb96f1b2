"""An API server that speaks Kubernetes' list and watch over real HTTP, with faults that a test can switch on.

It keeps Pods and EndpointSlices under versions as etcd does: a list is a consistent snapshot, in pages if asked; a
watch sends what follows a version, with bookmarks, and gets 410 where that is compacted. `tick` sets the time.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import ssl
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import msgspec

from loadtests.processes.stream_server import stream_server
from loadtests.sim.ports import HOST

PODS, SLICES = "pods", "endpointslices"
_PATH = re.compile(r"/(?:api/v1|apis/discovery\.k8s\.io/v1)(?:/namespaces/(?P<namespace>[^/]+))?/(?P<kind>\w+)")
_LISTS = {PODS: ("v1", "PodList"), SLICES: ("discovery.k8s.io/v1", "EndpointSliceList")}
_BOOKMARK_S = 60.0
_SNAPSHOTS = 8

Labels = Mapping[str, str]
Key = tuple[str, str, str]
"""Kind, namespace, name."""


class Refusal(NamedTuple):
    """An error answer."""

    status: int
    headers: Mapping[str, str] = {}
    watch: bool | None = None
    """Applies only to a watch, or only to a list; None: to the next request of either kind."""


class Change(NamedTuple):
    """The change that made a version."""

    version: int
    kind: str
    namespace: str
    type: str
    before: Labels | None
    after: Labels | None
    body: bytes
    uid: str


class KubeApi:
    """The server. A test may change every public field at any time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.version = 1000
        self.token = ""
        """A request without this token gets 401; empty: no token is needed."""
        self.forbidden: set[str] = set()
        """Namespaces for which a request gets 403."""
        self.down = False
        """Connections are closed without an answer."""
        self.silent = False
        """Watches send nothing and do not end, like a connection that was lost without a reset."""
        self.refusals: deque[Refusal] = deque()
        self.loses: Callable[[Change], bool] = lambda change: False
        """Events that are sent to no watch."""
        self.mangles: Callable[[list[bytes]], list[bytes]] = lambda events: events
        """Changes a batch of events before it is sent: repeats them, or changes their order."""
        self.cut_after: list[int] = []
        """Bytes after which a watch is cut in the middle of an event; one entry for each watch."""
        self.gone_in_event = True
        """A compacted version is answered with an ERROR event of the watch; otherwise with the answer's status."""
        self.trickle = False
        """Events are sent in pieces of a few bytes."""
        self.asked: Counter[str] = Counter()
        """Number of requests by `list pods`, `watch pods`, ..."""
        self.queries: deque[dict[str, str]] = deque(maxlen=1000)
        self.watches = 0
        """Watches open now."""
        self._objects: dict[Key, tuple[int, Labels, bytes]] = {}
        self._history: deque[Change] = deque()
        self._dropped = 0
        self._oldest = 0
        self._snapshots: dict[int, list[tuple[Key, bytes]]] = {}
        self._changed = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self.url = ""

    # Changes in the cluster

    def put(self, kind: str, found: dict[str, Any]) -> int:
        """Create or replace an object; returns its version."""
        meta = found["metadata"]
        self.version += 1
        body = msgspec.json.encode({**found, "metadata": {**meta, "resourceVersion": str(self.version)}})
        key, labels = (kind, meta["namespace"], meta["name"]), meta.get("labels") or {}
        before = self._objects.get(key)
        self._objects[key] = (self.version, labels, body)
        self._record(key, "MODIFIED" if before else "ADDED", before and before[1], labels, body, meta["uid"])
        return self.version

    def delete(self, kind: str, namespace: str, name: str) -> None:
        """Remove an object."""
        key = (kind, namespace, name)
        _, labels, body = self._objects.pop(key)
        self.version += 1
        found = msgspec.json.decode(body)
        found["metadata"]["resourceVersion"] = str(self.version)
        self._record(key, "DELETED", labels, None, msgspec.json.encode(found), found["metadata"]["uid"])

    def compact(self, keep: int = 0) -> None:
        """Drop all history except the last changes."""
        while len(self._history) > keep:
            self._oldest = self._history.popleft().version
            self._dropped += 1
        self._snapshots.clear()

    def tick(self, now: float) -> None:
        """Advance the server's clock to this time."""
        self.now = now
        self._wake()

    def cut(self) -> None:
        """Abort every connection."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    def _record(self, key: Key, type: str, before: Labels | None, after: Labels | None, body: bytes, uid: str) -> None:
        self._history.append(Change(self.version, key[0], key[1], type, before, after, body, uid))
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    # HTTP

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self._writers.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                if self.down:
                    break
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
                await self._answer(head[0].split(" ")[1], headers, writer)
        finally:
            self._writers.discard(writer)

    async def _answer(self, target: str, headers: Labels, writer: asyncio.StreamWriter) -> None:
        url = urlsplit(target)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        found = _PATH.fullmatch(url.path)
        kind, namespace = (found["kind"], found["namespace"] or "") if found else ("", "")
        watch = query.get("watch") == "true"
        self.asked[f"{'watch' if watch else 'list'} {kind}"] += 1
        self.queries.append(query)
        refusal = self._refusal(namespace, headers, watch)
        if refusal is not None:
            await _send(writer, refusal.status, _status(refusal.status, namespace), refusal.headers)
        elif watch:
            await self._watch(kind, namespace, query, writer)
        else:
            await _send(writer, *self._list(kind, namespace, query))

    def _refusal(self, namespace: str, headers: Labels, watch: bool) -> Refusal | None:
        for refusal in self.refusals:
            if refusal.watch in (None, watch):
                self.refusals.remove(refusal)
                return refusal
        if self.token and headers.get("authorization", "").split(" ")[-1] != self.token:
            return Refusal(401)
        return Refusal(403) if namespace in self.forbidden or ("*" in self.forbidden and not namespace) else None

    # List

    def _list(self, kind: str, namespace: str, query: Labels) -> tuple[int, bytes]:
        start: Key = (kind, "", "")
        version = self.version
        if "continue" in query:
            token = json.loads(base64.urlsafe_b64decode(query["continue"]))
            version, start = token["version"], tuple(token["start"])
            if version not in self._snapshots:
                return 410, _status(410, namespace)
            rows = self._snapshots[version]
        else:
            rows = sorted((key, row[2]) for key, row in self._objects.items() if self._wanted(key, row[1], query, kind))
        page = [(key, body) for key, body in rows if key >= start and namespace in ("", key[1])]
        rest: list[tuple[Key, bytes]] = []
        if limit := int(query.get("limit", "0")):
            page, rest = page[:limit], page[limit:]
        meta = {"resourceVersion": str(version)}
        if rest:
            self._snapshots[version] = rows
            while len(self._snapshots) > _SNAPSHOTS:
                del self._snapshots[next(iter(self._snapshots))]
            following = json.dumps({"version": version, "start": rest[0][0]}).encode()
            meta |= {"continue": base64.urlsafe_b64encode(following).decode(), "remainingItemCount": str(len(rest))}
        api, name = _LISTS[kind]
        head = json.dumps({"kind": name, "apiVersion": api, "metadata": meta})[:-1].encode()
        return 200, head + b', "items": [' + b", ".join(body for _, body in page) + b"]}\n"

    @staticmethod
    def _wanted(key: Key, labels: Labels, query: Labels, kind: str) -> bool:
        return key[0] == kind and matches(query.get("labelSelector", ""), labels)

    # Watch

    async def _watch(self, kind: str, namespace: str, query: Labels, writer: asyncio.StreamWriter) -> None:
        version = int(query.get("resourceVersion") or self.version)
        gone = version < self._oldest
        if gone and not self.gone_in_event:
            await _send(writer, 410, _status(410, namespace))
            return
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
        self.watches += 1
        try:
            if gone:
                await self._events(writer, [b'{"type":"ERROR","object":' + _status(410, namespace) + b"}\n"])
            else:
                await self._follow(kind, namespace, query, version, writer)
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        finally:
            self.watches -= 1

    async def _follow(
        self, kind: str, namespace: str, query: Labels, version: int, writer: asyncio.StreamWriter
    ) -> None:
        ends_at = self.now + float(query.get("timeoutSeconds", "3600"))
        marked_at, cut_after = self.now, self.cut_after.pop(0) if self.cut_after else None
        while not self.down and self.now < ends_at and not writer.transport.is_closing():
            changed = self._changed
            events, version = self._since(version, kind, namespace, query.get("labelSelector", ""))
            if query.get("allowWatchBookmarks") == "true" and self.now - marked_at >= _BOOKMARK_S:
                marked_at = self.now
                events.append(_bookmark(kind, version))
            if events and not self.silent:
                if cut_after is not None and sum(map(len, events)) > cut_after:
                    await self._events(writer, [b"".join(events)[:cut_after]])
                    writer.transport.abort()
                    return
                await self._events(writer, events)
            await changed.wait()

    def _since(self, version: int, kind: str, namespace: str, selector: str) -> tuple[list[bytes], int]:
        events: list[bytes] = []
        newest = version
        for change in reversed(self._history):
            if change.version <= version:
                break
            newest = max(newest, change.version)
            if change.kind == kind and namespace in ("", change.namespace) and not self.loses(change):
                before = change.before is not None and matches(selector, change.before)
                after = change.after is not None and matches(selector, change.after)
                if before or after:
                    type = "DELETED" if not after else change.type if before or change.type == "ADDED" else "ADDED"
                    events.append(b'{"type":"' + type.encode() + b'","object":' + change.body + b"}\n")
        return self.mangles(events[::-1]), newest

    async def _events(self, writer: asyncio.StreamWriter, events: list[bytes]) -> None:
        data = b"".join(events)
        size = 7 if self.trickle else max(1, len(data))
        for at in range(0, len(data), size):
            piece = data[at : at + size]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()


def matches(selector: str, labels: Labels) -> bool:
    """Whether the labels match a selector, by an API server's rules."""
    return all(meets(labels) for meets in _requirements(selector))


@cache
def _requirements(selector: str) -> list[Callable[[Labels], bool]]:
    return [_requirement(part.strip()) for part in re.split(r",(?![^(]*\))", selector) if part.strip()]


def _requirement(said: str) -> Callable[[Labels], bool]:
    if found := re.fullmatch(r"(\S+)\s+(in|notin)\s*\(([^)]*)\)", said):
        name, values, wanted = found[1], {value.strip() for value in found[3].split(",")}, found[2] == "in"
        return lambda labels: (labels.get(name) in values) == wanted
    if found := re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", said):
        name, value, wanted = found[1].strip(), found[3].strip(), found[2] != "!="
        return lambda labels: (labels.get(name) == value) == wanted
    return (lambda labels: said[1:] not in labels) if said.startswith("!") else lambda labels: said in labels


def _bookmark(kind: str, version: int) -> bytes:
    single = {PODS: "Pod", SLICES: "EndpointSlice"}[kind]
    found = {"kind": single, "metadata": {"resourceVersion": str(version), "creationTimestamp": None}}
    return json.dumps({"type": "BOOKMARK", "object": found}).encode() + b"\n"


def _status(code: int, namespace: str) -> bytes:
    reasons = {401: "Unauthorized", 403: "Forbidden", 410: "Expired", 429: "TooManyRequests", 500: "InternalError"}
    words = {403: f'pods is forbidden: User "system:serviceaccount:x:turnout" cannot list pods in "{namespace}"'}
    found = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code}
    return json.dumps(found | {"reason": reasons.get(code, ""), "message": words.get(code, "as configured")}).encode()


async def _send(writer: asyncio.StreamWriter, status: int, body: bytes, headers: Labels | None = None) -> None:
    extra = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
    writer.write(head.encode() + body)
    await writer.drain()


@contextlib.asynccontextmanager
async def kube_api(tls: ssl.SSLContext | None = None) -> AsyncIterator[KubeApi]:
    """Run a server on the current loop for the block."""
    api = KubeApi()
    async with stream_server(api.handle, tls=tls) as port:
        api.url = f"{'https' if tls else 'http'}://{HOST}:{port}"
        yield api
