"""A pod's HTTP routes, as strict as vLLM's. Faults are drawn first, then inference goes to the engine.

Paths, methods and content types are decided here, what a body means is not. `/sim/*` controls the simulation.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qs

import msgspec

from loadtests.sim.simpod import adapters, anthropic, openai
from loadtests.sim.simpod.bodies import ResponsesBody, decode, read
from loadtests.sim.simpod.chat import chat
from loadtests.sim.simpod.completions import completion
from loadtests.sim.simpod.errors import NOT_FOUND, WRONG_METHOD, WRONG_TYPE, ApiError, rejected
from loadtests.sim.simpod.faults import INSTEAD, SPOILT, Fault, FaultSwitch, Outlet
from loadtests.sim.simpod.kv_transfer import Start, Transfers
from loadtests.sim.simpod.pump import Answer
from loadtests.sim.simpod.ranks import EngineRank, chosen, exposition
from loadtests.sim.simpod.response_store import Follower, Recorder, ResponseStore, complete
from loadtests.sim.simpod.responses import write
from loadtests.sim.simpod.script import PodSpec, Script, encode
from loadtests.sim.simpod.wire import Connection, Exchange, Request

_JSON = b"application/json"
_TEXT = b"text/plain; version=0.0.4; charset=utf-8"
_RESPONSES = "/v1/responses"

WRITERS: Mapping[str, Callable[[object, PodSpec], Script]] = {
    "/v1/chat/completions": chat,
    "/v1/completions": completion,
    "/v1/embeddings": openai.embedding,
    "/v1/messages": anthropic.messages,
}
"""The paths that the engine answers without anything being stored; all are POST."""


class FaultRefused(Exception):
    """A fault that cannot be switched on this way; the message says why."""


class Controls(Protocol):
    """The operations behind /sim/*."""

    def set_fault(self, fault: Fault | None, /, *, remote: bool = False) -> None:
        """Switch a fault on or off; `remote` if the request came through the pod's own port."""

    def state(self) -> dict[str, object]:
        """The body of /sim/state."""


class _Route(NamedTuple):
    methods: tuple[str, ...]
    answer: Callable[[Request, Outlet], Exchange | None]


class PodApi:
    """Answers the requests of one pod."""

    def __init__(
        self,
        spec: PodSpec,
        ranks: Sequence[EngineRank],
        faults: FaultSwitch,
        controls: Controls,
        new_id: Callable[[], str] = lambda: secrets.token_hex(8),
        spans: Callable[[Request, Outlet], Outlet] | None = None,
        transfers: Callable[[Start], Transfers] | None = None,
    ) -> None:
        """`ranks` have started. `new_id` gives what follows `resp_` in the id of a new response; `spans` is
        `EngineSpans.outlet`; `transfers` are to other pods."""
        self._spec, self._ranks, self._faults, self._controls = spec, ranks, faults, controls
        self._new_id = new_id
        self._spans = spans
        self.transfers = transfers(self._infer) if transfers is not None else None
        self._store = ResponseStore()
        self.received: Counter[str] = Counter()
        """Requests by path, /sim/* left out."""
        self.refused: deque[tuple[float, str]] = deque(maxlen=10_000)
        """The last requests for models that the pod did not have: when, by the monotonic clock, and the message."""
        self._sequence = 0
        self._routes = self._table()

    def handle(self, request: Request, connection: Connection, /) -> Exchange | None:
        """Answer now, or hand the request to the engine."""
        path = request.path
        if path.startswith("/sim/kv/") and self.transfers is not None:
            return self.transfers.read(path, connection)
        if path.startswith("/sim/"):
            control(request, path, connection, self._controls, remote=True)
            return None
        self.received[path] += 1
        fault = self._faults.draw(inference=path in WRITERS or path == _RESPONSES)
        outlet: Outlet = connection
        if fault is not None:
            if fault.kind in INSTEAD:
                INSTEAD[fault.kind](connection, fault)
                return None
            outlet = SPOILT[fault.kind](connection, fault)
        route = self._route(path)
        if route is None:
            self._no_route(request, outlet)
            return None
        if request.method not in route.methods:
            allowed = b"allow: %b\r\n" % ", ".join(route.methods).encode()
            outlet.whole(405, _JSON, b"" if request.method == "HEAD" else WRONG_METHOD.openai(), allowed)
            return None
        if self._spans is not None and path in WRITERS:
            outlet = self._spans(request, outlet)
        try:
            return route.answer(request, outlet)
        except ApiError as error:
            if error.param == "model":
                self.refused.append((time.monotonic(), error.message))
            body = error.anthropic() if path.startswith("/v1/messages") else error.openai()
            outlet.whole(error.status, _JSON, body)
            return None

    def _route(self, path: str) -> _Route | None:
        found = self._routes.get(path)
        if found is None and path.startswith(f"{_RESPONSES}/"):
            name, _, rest = path[len(_RESPONSES) + 1 :].partition("/")
            if name and not rest and not path.endswith("/"):
                return _Route(("GET", "DELETE"), lambda request, outlet: self._stored(request, outlet, name))
            if name and rest == "cancel":
                return _Route(("POST",), lambda _, outlet: _whole(outlet, encode(self._store.cancel(name))))
        return found

    def _table(self) -> dict[str, _Route]:
        def get(kind: bytes, body: Callable[[], bytes]) -> _Route:
            return _Route(("GET",), lambda _, outlet: _whole(outlet, body(), kind))

        def post(answer: Callable[[object, PodSpec], bytes]) -> _Route:
            return _Route(("POST",), lambda request, outlet: _whole(outlet, answer(_body(request), self._spec)))

        def infer(writer: Callable[[object, PodSpec], Script]) -> _Route:
            return _Route(("POST",), lambda request, outlet: self._begin(writer, request, outlet))

        return {path: infer(writer) for path, writer in WRITERS.items()} | {
            _RESPONSES: _Route(("POST",), self._respond),
            "/health": get(b"", lambda: b""),
            "/ping": get(b"", lambda: b"")._replace(methods=("GET", "POST")),
            "/version": get(_JSON, lambda: b'{"version":"0.32.0"}'),
            "/load": get(_JSON, lambda: b'{"server_load":%d}' % self._load()),
            "/metrics": get(_TEXT, partial(exposition, self._ranks)),
            "/v1/load_lora_adapter": _Route(("POST",), partial(self._adapt, adapters.load)),
            "/v1/unload_lora_adapter": _Route(("POST",), partial(self._adapt, adapters.unload)),
            "/v1/models": get(_JSON, lambda: openai.models(self._spec)),
            "/tokenize": post(openai.tokenize),
            "/v1/chat/completions/render": post(openai.render),
            "/detokenize": post(openai.detokenize),
            "/v1/messages/count_tokens": post(anthropic.count_tokens),
        }

    def _adapt(
        self, change: Callable[[object, PodSpec], tuple[PodSpec, bytes]], request: Request, outlet: Outlet
    ) -> Exchange | None:
        """Load or unload an adapter."""
        self._spec, said = change(_body(request), self._spec)
        return _whole(outlet, said, _TEXT)

    def _no_route(self, request: Request, outlet: Outlet) -> None:
        """Not found, unless a slash at the end is what is wrong."""
        path = request.path
        other = path.rstrip("/") if path.endswith("/") else f"{path}/"
        if path == "/" or self._route(other) is None:
            outlet.whole(404, _JSON, b"" if request.method == "HEAD" else NOT_FOUND.openai())
            return
        query = b"?" + request.query if request.query else b""
        place = b"http://%b%b%b" % (request.headers.get(b"host", b"localhost"), other.encode(), query)
        outlet.whole(307, b"", b"", b"location: %b\r\n" % place)

    def _load(self) -> int:
        return sum(each.pump.load for each in self._ranks if each.pump is not None)

    def _begin(self, writer: Callable[[object, PodSpec], Script], request: Request, outlet: Outlet) -> Exchange:
        given, rank = _body(request), chosen(self._ranks, request.headers)
        script = writer(given, self._spec)
        if self.transfers is None or not isinstance(given, dict):
            return self._infer(script, outlet, rank)
        return self.transfers.begin(given, script, outlet)

    def _infer(self, script: Script, outlet: Outlet, rank: EngineRank | None = None) -> Answer:
        self._sequence += 1
        rank = rank or self._ranks[0]
        assert rank.pump is not None
        answer = Answer(f"{self._sequence}", script, outlet, rank.pump.cancel)
        rank.pump.submit(answer)
        rank.requests += 1
        return answer

    def _respond(self, request: Request, outlet: Outlet) -> Exchange | None:
        """POST /v1/responses."""
        body, rank = read(ResponsesBody, _body(request)), chosen(self._ranks, request.headers)
        name = f"resp_{self._new_id()}"
        written = write(body, self._spec, name, self._store.conversation(body.previous_response_id))
        if body.store is False:
            return self._infer(written.script, outlet, rank)
        kept = self._store.add(name, written) if body.background else None

        def finished(cached: int) -> None:
            complete(kept or self._store.add(name, written), written.ended(cached))

        script = written.script._replace(kept=finished)
        if kept is None:
            return self._infer(script, outlet, rank)
        kept.cancel = self._infer(script, Recorder(kept), rank).cancel
        return Follower(kept, outlet, 0) if body.stream else _whole(outlet, encode(kept.body))

    def _stored(self, request: Request, outlet: Outlet, name: str) -> Exchange | None:
        """GET or DELETE /v1/responses/{id}."""
        if request.method == "DELETE":
            return _whole(outlet, encode(self._store.delete(name)))
        kept = self._store.get(name)
        query = {key: values[-1] for key, values in parse_qs(request.query.decode("latin-1")).items()}
        if query.get("stream", "false").lower() not in ("true", "1", "on", "yes"):
            return _whole(outlet, encode(kept.body))
        if not kept.streamed:
            raise rejected(f"Unknown response_id: {name}", "response_id", name)
        after = query.get("starting_after", "-1")
        return Follower(kept, outlet, int(after) + 1 if after.lstrip("-").isdigit() else 0)


def _whole(outlet: Outlet, body: bytes, kind: bytes = _JSON) -> Exchange | None:
    """A complete answer; nothing goes on after it."""
    outlet.whole(200, kind, body)
    return None


def _body(request: Request) -> Any:
    """The decoded body; ApiError if it is not announced as JSON, or is none."""
    if request.headers.get(b"content-type", b"").lower().partition(b";")[0] != _JSON:
        raise WRONG_TYPE
    return decode(request.body)


def control(request: Request, path: str, line: Outlet, controls: Controls, *, remote: bool) -> None:
    """PUT|DELETE|GET /sim/faults and GET /sim/state."""
    wanted = (request.method, path)
    try:
        if wanted == ("PUT", "/sim/faults"):
            controls.set_fault(msgspec.json.decode(request.body, type=Fault), remote=remote)
        elif wanted == ("DELETE", "/sim/faults"):
            controls.set_fault(None)
        elif wanted not in (("GET", "/sim/state"), ("GET", "/sim/faults")):
            line.whole(404, _JSON, NOT_FOUND.openai())
            return
    except FaultRefused as error:
        line.whole(409, _JSON, ApiError(409, str(error), "ConflictError").openai())
        return
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        line.whole(400, _JSON, ApiError(400, str(error)).openai())
        return
    line.whole(200, _JSON, encode(controls.state()))
