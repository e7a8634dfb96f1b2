"""Runs a case through a gateway whose sockets and clock are fakes, with a pod that answers what it is to answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from router.settings import Timeouts
from tests.fakes.memory_client_and_pods import Client, PodEnd
from tests.fakes.memory_gateway import Rig, one_pool
from tests.http_corpus.answers import Hostile
from tests.http_corpus.building import Case, post
from tests.http_corpus.judging import Outcome, answers_to
from tests.http_corpus.strict import Ambiguous, Seen, fields_of, length_of

POD = b"10.0.0.1:8000"
TIMEOUTS = Timeouts(client_header_s=1.0, client_body_s=1.0, first_byte_s=1.5, idle_s=1.0)
STEP_S = 0.6
STEPS = 4
"""So often the time is advanced by `STEP_S` for a case without an answer: beyond each of the timeouts."""

Script = Callable[[Seen], Sequence[bytes | None]]
"""What the pod sends for a request, each piece in a read of its own; None closes its connection."""


def plain(seen: Seen) -> Sequence[bytes | None]:
    """An honest answer that names the request which it answers."""
    try:
        prompt = json.loads(seen.body).get("prompt")
    except (ValueError, AttributeError):
        prompt = None
    body = json.dumps({"echo": seen.line.decode("latin-1"), "prompt": prompt}).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    return [head + body]


class CorpusRun:
    """A gateway with one pod, its clients, and what the pod got so far."""

    def __init__(self, rig: Rig, script: Script = plain) -> None:
        self.rig = rig
        self._script = script
        self._read: dict[int, int] = {}
        """Connection -> how many bytes of it were read as requests."""
        self.seen: list[Seen] = []
        self._waited = False

    def serve(self) -> None:
        """Let the pod answer until nothing is asked."""
        while asked := self._asked():
            for seen, end in asked:
                self.seen.append(seen)
                self._answer(end, self._script(seen))

    def _answer(self, end: PodEnd, pieces: Sequence[bytes | None]) -> None:
        for piece in pieces:
            if end.transport.ending:
                return
            self.rig.wire.do(lambda piece=piece: end.transport.deliver(piece))  # type: ignore[misc]

    def _asked(self) -> list[tuple[Seen, PodEnd]]:
        """Whole requests that came since the last call, by the strict reading."""
        found = []
        for number, end in enumerate(self.rig.net.made):
            data = bytes(end.transport.sent)
            at = self._read.get(number, 0)
            while (stop := data.find(b"\r\n\r\n", at)) >= 0:
                head = data[at:stop]
                try:
                    length = length_of(fields_of(head)) or 0
                except Ambiguous:
                    length = 0  # judged later, from the record
                if len(data) < stop + 4 + length:
                    break
                at = stop + 4 + length
                found.append((Seen(head, data[stop + 4 : at], number), end))
            self._read[number] = at
        return found

    def torn(self) -> list[bytes]:
        """What the pod got besides whole requests."""
        ends = [bytes(end.transport.sent)[self._read.get(at, 0) :] for at, end in enumerate(self.rig.net.made)]
        return [rest for rest in ends if rest]

    def send(self, client: Client, data: bytes, piece: int = 0) -> None:
        """Send the bytes as far as the gateway takes them, `piece` of them in a read (0: all), and serve them."""
        for at in range(0, len(data), piece or len(data)):
            if client.transport.ending:
                break
            client.sends(data[at : at + (piece or len(data))])
            self.serve()

    def wait(self, client: Client) -> None:
        """Let time pass until there is an answer, or none will come."""
        for _ in range(STEPS):
            if client.raw or client.fate:
                return
            self._waited = True
            self.rig.passes(STEP_S)
            self.serve()

    def outcome(self, client: Client) -> Outcome:
        """What came of the client's bytes."""
        return Outcome(POD, self.seen, self.torn(), client.raw, bool(client.fate), self._waited)


def gateway() -> Rig:
    """A gateway with a pod that serves the model `m`."""
    rig = Rig(one_pool("prefix_aware"), pods=1, timeouts=TIMEOUTS)
    rig.wire.turns = 40
    return rig


def run_request(case: Case, piece: int) -> tuple[Outcome, list[bytes]]:
    """The outcome of a request case sent `piece` bytes in a read (0: in one), and what the pod got per connection."""
    with gateway() as rig:
        run = CorpusRun(rig)
        for _ in range(2 if case.warm else 0):
            run.send(rig.client(), case.warm)
        run.seen.clear()
        client = rig.client()
        run.send(client, case.data, piece)
        run.wait(client)
        return run.outcome(client), [bytes(end.transport.sent) for end in rig.net.made]


def run_answer(case: Hostile, ask: Callable[[CorpusRun, Client, bytes], None]) -> Outcome:
    """The outcome of an answer case. Then `ask` is called with the same client, if it may go on, and with another."""

    def script(seen: Seen) -> Sequence[bytes | None]:
        hostile: list[bytes | None] = [part for part in case.parts if part]
        return [*hostile, *([None] if case.close else [])] if b"ATTACK" in seen.body else plain(seen)

    with gateway() as rig:
        run = CorpusRun(rig, script)
        client = rig.client()
        run.send(client, case.request or post(body=b'{"model":"m","prompt":"ATTACK"}'))
        run.wait(client)
        outcome = run.outcome(client)
        answers = answers_to(outcome, head_only=case.head_only)
        if not outcome.closed and not (answers and answers[-1].complete):
            rig.passes(STEP_S * 2)
            outcome = run.outcome(client)
            answers = answers_to(outcome, head_only=case.head_only)
        for end in rig.net.made:
            if case.late and not end.transport.ending:
                end.sends(case.late)
        if not outcome.closed and answers and answers[-1].complete:
            ask(run, client, b"mine")
        other = rig.client()
        for at in range(3):
            ask(run, other, b"another-%d" % at)
        return outcome
