"""A pod's HTTP routes. Faults are drawn first, inference goes to the engine, /sim/* controls the simulation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from loadtests.sim.simpod import anthropic, openai
from loadtests.sim.simpod.faults import INSTEAD, SPOILT, Fault, FaultSwitch, Outlet
from loadtests.sim.simpod.metrics import Meters
from loadtests.sim.simpod.pump import Answer, Pump
from loadtests.sim.simpod.script import ApiError, Body, PodSpec, Script, decode_body, encode
from loadtests.sim.simpod.wire import Connection, Exchange, Request

_JSON = b"application/json"

WRITERS: Mapping[str, Callable[[Body, PodSpec], Script]] = {
    "/v1/chat/completions": openai.chat,
    "/v1/completions": openai.completion,
    "/v1/embeddings": openai.embedding,
    "/v1/messages": anthropic.messages,
}
"""The paths that the engine answers; all are POST."""


class FaultRefused(Exception):
    """A fault that cannot be switched on this way; the message says why."""


class Controls(Protocol):
    """The operations behind /sim/*."""

    def set_fault(self, fault: Fault | None, /, *, remote: bool = False) -> None:
        """Switch a fault on or off; `remote` if the request came through the pod's own port."""

    def state(self) -> dict[str, object]:
        """The body of /sim/state."""


class PodApi:
    """Answers the requests of one pod."""

    def __init__(self, spec: PodSpec, pump: Pump, meters: Meters, faults: FaultSwitch, controls: Controls) -> None:
        self._spec, self._pump, self._meters, self._faults, self._controls = spec, pump, meters, faults, controls
        self.received: Counter[str] = Counter()
        """Requests by path, /sim/* left out."""
        self._sequence = 0

    def handle(self, request: Request, connection: Connection, /) -> Exchange | None:
        """Answer now, or hand the request to the engine."""
        if request.path.startswith("/sim/"):
            control(request, request.path, connection, self._controls, remote=True)
            return None
        self.received[request.path] += 1
        writer = WRITERS.get(request.path)
        fault = self._faults.draw(inference=writer is not None)
        outlet: Outlet = connection
        if fault is not None:
            if fault.kind in INSTEAD:
                INSTEAD[fault.kind](connection, fault)
                return None
            outlet = SPOILT[fault.kind](connection, fault)
        try:
            if writer is None:
                self._plain(request, outlet)
                return None
            if request.method != "POST":
                raise ApiError(405, "Method Not Allowed", "MethodNotAllowedError")
            return self._infer(writer(decode_body(request.body), self._spec), outlet)
        except ApiError as error:
            body = error.anthropic() if request.path == "/v1/messages" else error.openai()
            outlet.whole(error.status, _JSON, body)
            return None

    def _infer(self, script: Script, outlet: Outlet) -> Answer:
        self._sequence += 1
        answer = Answer(f"{self._sequence}", script, outlet, self._pump.cancel)
        self._pump.submit(answer)
        return answer

    def _plain(self, request: Request, outlet: Outlet) -> None:
        path = request.path
        method, kind, answer = self._routes().get(path, ("GET", _JSON, None))
        if answer is None and path.startswith("/v1/models/"):
            answer = self._model
        if answer is None:
            raise ApiError(404, "Not Found", "NotFoundError")
        if request.method not in (method, "HEAD" if method == "GET" else method):
            raise ApiError(405, "Method Not Allowed", "MethodNotAllowedError")
        outlet.whole(200, kind, answer(request))

    def _routes(self) -> Mapping[str, tuple[str, bytes, Callable[[Request], bytes]]]:
        text = b"text/plain; version=0.0.4; charset=utf-8"
        return {
            "/health": ("GET", _JSON, lambda _: b""),
            "/ping": ("GET", _JSON, lambda _: b""),
            "/version": ("GET", _JSON, lambda _: b'{"version":"0.32.0"}'),
            "/metrics": ("GET", text, lambda _: self._meters.text()),
            "/v1/models": ("GET", _JSON, lambda _: openai.models(self._spec)),
            "/tokenize": ("POST", _JSON, self._tokenize),
        }

    def _tokenize(self, request: Request) -> bytes:
        return openai.tokenize(decode_body(request.body), self._spec)

    def _model(self, request: Request) -> bytes:
        name = request.path.removeprefix("/v1/models/")
        if name not in self._spec.models:
            raise ApiError(404, f"The model `{name}` does not exist.", "NotFoundError", "model")
        return encode(openai.model_card(name, self._spec))


def control(request: Request, path: str, line: Outlet, controls: Controls, *, remote: bool) -> None:
    """PUT|DELETE|GET /sim/faults and GET /sim/state."""
    wanted = (request.method, path)
    try:
        if wanted == ("PUT", "/sim/faults"):
            controls.set_fault(msgspec.json.decode(request.body, type=Fault), remote=remote)
        elif wanted == ("DELETE", "/sim/faults"):
            controls.set_fault(None)
        elif wanted not in (("GET", "/sim/state"), ("GET", "/sim/faults")):
            line.whole(404, _JSON, ApiError(404, "Not Found", "NotFoundError").openai())
            return
    except FaultRefused as error:
        line.whole(409, _JSON, ApiError(409, str(error), "ConflictError").openai())
        return
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        line.whole(400, _JSON, ApiError(400, str(error)).openai())
        return
    line.whole(200, _JSON, encode(controls.state()))
