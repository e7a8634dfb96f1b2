"""Locust users that hold multi-turn conversations over streams with an OpenAI-compatible endpoint.

    locust -f loadtests/locustfile.py --headless -u 20 -r 5 -t 30s --host http://127.0.0.1:8000

or without `--headless` for the web UI. Besides locust's own row for the request there is a row for the time to first
token (`TTFT`), one for the mean time between tokens of each answer (`ITL`) and one for the whole answer (`E2E`).
Options have a command-line flag, an environment variable and a field in the web UI.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from time import perf_counter
from typing import Any

from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError
from locust import FastHttpUser, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import StopUser

from loadtests.sim import chat
from loadtests.sim.conversation import Conversation, Shape

_DEFAULTS = Shape()
_numbers = itertools.count(os.getpid() * 1_000_003)


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_options(parser: LocustArgumentParser) -> None:
    """The options of the conversations."""
    options: tuple[tuple[str, Any, str], ...] = (
        ("model", "sim-model", "model to ask for"),
        ("turns", _DEFAULTS.turns, "turns of a conversation"),
        ("systems", _DEFAULTS.systems, "different system prompts"),
        ("system-tokens", _DEFAULTS.system_tokens, "length of a system prompt"),
        ("turn-tokens", _DEFAULTS.turn_tokens, "mean length of a user's message"),
        ("max-tokens", _DEFAULTS.max_tokens, "longest answer asked for"),
        ("think-s", _DEFAULTS.think_s, "mean pause between turns in seconds"),
    )
    for name, default, text in options:
        variable = f"TURNOUT_{name.replace('-', '_').upper()}"
        parser.add_argument(f"--{name}", type=type(default), default=default, env_var=variable, help=text)
    parser.add_argument("--api-key", default="", env_var="TURNOUT_API_KEY", is_secret=True, help="bearer token")


def shape_of(options: Any) -> Shape:
    """The parsed options as the shape of conversations."""
    return Shape(
        systems=options.systems,
        system_tokens=options.system_tokens,
        turns=options.turns,
        turn_tokens=options.turn_tokens,
        max_tokens=options.max_tokens,
        think_s=options.think_s,
    )


class ChatUser(FastHttpUser):
    """One conversation after the other."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        options = environment.parsed_options
        if options is None:
            raise StopUser("no options: run this file with locust")
        self._model, self._api_key = options.model, options.api_key
        self._shape = shape_of(options)
        self._conversation = Conversation(self._shape, next(_numbers))

    def wait_time(self) -> float:
        """The pause before the next turn."""
        return self._conversation.pause_s()

    @task
    def turn(self) -> None:
        """Ask and read the answer as it comes."""
        body = chat.body(self._model, self._conversation.ask(), self._shape.max_tokens)
        headers = {"content-type": "application/json", "x-session-id": self._conversation.session}
        if self._api_key:
            headers["authorization"] = f"Bearer {self._api_key}"
        started_at = perf_counter()
        request = self.client.post(chat.PATH, data=body.decode(), headers=headers, stream=True, catch_response=True)
        with request as response:
            if response.status_code != 200:
                self._conversation.failed()
                response.failure(f"HTTP {response.status_code}: {response.text[:200]}")
                return
            times, text, problem = read_stream(arriving(response))
            if problem:
                self._conversation.failed()
                response.failure(problem)
                return
            response.success()
        self._conversation.answered(text)
        self._report(started_at, times, len(text))

    def _report(self, started_at: float, times: list[float], length: int) -> None:
        self._fire("TTFT", times[0] - started_at, 0)
        self._fire("E2E", times[-1] - started_at, length)
        if len(times) > 1:
            self._fire("ITL", (times[-1] - times[0]) / (len(times) - 1), 0)

    def _fire(self, kind: str, seconds: float, length: int) -> None:
        self.environment.events.request.fire(
            request_type=kind,
            name=chat.PATH,
            response_time=seconds * 1000,
            response_length=length,
            exception=None,
            context={},
        )


def arriving(response: Any) -> Iterator[bytes]:
    """Events as they arrive, until the stream ends or breaks.

    Locust's own `iter_content` waits for a full buffer, so that its times would be of buffers.
    """
    with contextlib.suppress(HTTPParseError, HTTPConnectionClosed, OSError):
        while event := response.stream.readline(b"\n\n"):
            yield event


def read_stream(arrivals: Iterator[bytes]) -> tuple[list[float], str, str]:
    """Arrival times of the tokens, the text, and the fault of the stream ("" if none)."""
    times: list[float] = []
    text: list[str] = []
    for data in arrivals:
        if data.startswith(b"data: [DONE]"):
            return times, "".join(text), "" if times else "empty answer"
        if not data.startswith(b"data: "):
            continue
        event = chat.read(data[6:])
        if event.error is not None:
            return times, "".join(text), f"stream error: {event.error}"
        if event.text:
            times.append(perf_counter())
            text.append(event.text)
    return times, "".join(text), "truncated stream"
