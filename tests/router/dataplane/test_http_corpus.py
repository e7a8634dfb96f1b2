"""The corpus of malformed requests and hostile answers, and a second, strict parser behind the gateway.

Whatever the gateway makes of a request, the pod gets whole requests with one reading: h11 reads them as the strict
parser of the corpus does. What the client sent is never read as another request than by h11 in the gateway's place.
"""

from __future__ import annotations

import json
from itertools import chain

import h11

from tests.fakes.each_case import each_case
from tests.fakes.memory_client_and_pods import Client
from tests.http_corpus import answers, connections, framing, heads
from tests.http_corpus.answers import Hostile
from tests.http_corpus.building import Case, post
from tests.http_corpus.judging import Outcome, answers_to, judge, judge_answers
from tests.http_corpus.memory_run import CorpusRun, run_answer, run_request

REQUESTS = {case.name: case for case in chain(framing.cases(), heads.cases(), connections.cases())}
ANSWERS = {case.name: case for case in answers.hostile_answers()}


def pieces(case: Case) -> int:
    """The size of the reads in which a torn request comes."""
    return 7 if len(case.data) < 4000 else 1000


@each_case("torn", [False, True], ids=["whole", "torn"])
@each_case("name", REQUESTS)
def test_a_request_has_one_reading_for_the_pod_and_the_gateway(name: str, torn: bool) -> None:
    """Cases D 19, D 20, E 22, E 23 and E 24, in memory of the pod's bytes and of the client's."""
    case = REQUESTS[name]
    outcome, at_the_pod = run_request(case, pieces(case) if torn else 0)
    judge(case, outcome)
    for raw in at_the_pod if not case.warm else ():
        read = read_by_h11(raw)
        assert [(each.line, each.fields(), each.body) for each in outcome.seen] == read
    assert_is_part_of(outcome, case.data)


@each_case("name", ANSWERS)
def test_a_hostile_answer_harms_its_own_request_only(name: str) -> None:
    """Case E 23."""
    case = ANSWERS[name]
    outcome = run_answer(case, ask_for_an_own_answer)
    judge_answers(case, outcome)
    assert_h11_reads_the_same(case, outcome)


def ask_for_an_own_answer(run: CorpusRun, client: Client, mark: bytes) -> None:
    """The next request gets the answer to itself."""
    before = len(client.raw)
    run.send(client, post(body=b'{"model":"m","prompt":"%b"}' % mark))
    (answer,) = answers_to(Outcome(b"", [], [], client.raw[before:], bool(client.fate)))
    assert (answer.status, json.loads(answer.body)["prompt"]) == (200, mark.decode())


Read = list[tuple[bytes, list[tuple[bytes, bytes]], bytes]]
"""Request line, headers and body."""


def read_by_h11(raw: bytes, *, strictly: bool = True) -> Read:
    """The requests that h11, as a server, reads in these bytes; up to the first that it refuses unless `strictly`."""
    found: Read = []
    while raw:
        server = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        server.receive_data(raw)
        body = b""
        try:
            head = server.next_event()
            while isinstance(head, h11.Request) and isinstance(event := server.next_event(), h11.Data):
                body += bytes(event.data)
        except h11.RemoteProtocolError:
            assert not strictly
            break
        if not isinstance(head, h11.Request) or not isinstance(event, h11.EndOfMessage):
            assert not strictly
            break
        line = b"%b %b HTTP/%b" % (head.method, head.target, head.http_version)
        found.append((line, list(head.headers), body))
        raw = server.trailing_data[0]
    return found


def assert_is_part_of(outcome: Outcome, sent: bytes) -> None:
    """What crossed are requests that h11 reads in the client's bytes, in the same order, with the same bodies."""
    read = iter(read_by_h11(sent.lstrip(b"\r\n"), strictly=False))
    for seen in outcome.seen:
        method, target, _ = seen.line.split(b" ")
        wanted = (method, target, seen.body)
        assert any(in_origin_form(line, body) == wanted for line, _, body in read), f"h11 did not read {seen.line!r}"


def in_origin_form(line: bytes, body: bytes) -> tuple[bytes, bytes, bytes]:
    method, target, _ = line.split(b" ")
    if target.startswith((b"http://", b"https://")):
        target = b"/" + target.split(b"/", 3)[3]
    return method, target, body


def assert_h11_reads_the_same(case: Hostile, outcome: Outcome) -> None:
    """The client's answers, read by h11 and by the strict parser of the corpus."""
    for answer in answers_to(outcome, head_only=case.head_only):
        client = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        client.send(h11.Request(method="HEAD" if case.head_only else "POST", target="/", headers=[("host", "g")]))
        client.send(h11.EndOfMessage())
        client.receive_data(answer.raw)
        head = client.next_event()
        assert isinstance(head, h11.Response)
        assert (head.status_code, list(head.headers)) == (answer.status, answer.fields)
        body = b""
        while isinstance(event := client.next_event(), h11.Data):
            body += bytes(event.data)
        assert isinstance(event, h11.EndOfMessage) is answer.complete
        assert body == answer.body or not answer.complete
