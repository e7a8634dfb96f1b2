import asyncio

from loadtests.sim.engine.model import Engine
from loadtests.sim.engine.profiles import PROFILES
from loadtests.sim.simpod.metrics import Meters
from loadtests.sim.simpod.pump import Answer, Pump
from loadtests.sim.simpod.script import Choice, Script, Stream

TINY = PROFILES["tiny"]


class Sink:
    """An outlet that keeps what is sent to it."""

    def __init__(self) -> None:
        self.paused = False
        self.sent: list[bytes] = []
        self.done = asyncio.Event()

    def whole(self, status: int, content_type: bytes, body: bytes, extra: bytes = b"") -> None:
        self.sent.append(body)
        self.done.set()

    def open(self, content_type: bytes) -> None:
        self.sent.append(b"open")

    def send(self, data: bytes) -> None:
        self.sent.append(data)

    def end(self) -> None:
        self.done.set()


def script(tokens: int, *, stream: bool, choices: int = 1) -> Script:
    def event(at: int) -> bytes:
        return b"<%d>" % at if at < tokens - 1 else b"<%d]" % at

    one = Choice(160, range(10), tokens, "length", None, event)
    events = Stream(lambda cached: [b"cached %d" % cached], lambda cached: [b"bye"])
    return Script([one] * choices, lambda cached: b"whole %d" % cached, events if stream else None)


def make_pump(speed: float = 1000.0) -> tuple[Engine, Pump]:
    engine = Engine(TINY)
    return engine, Pump(engine, Meters(engine, ("m",), 0.0), speed)


def test_a_stream_is_sent_token_by_token() -> None:
    async def scenario() -> list[bytes]:
        _, pump = make_pump()
        sink = Sink()
        pump.submit(Answer("a", script(3, stream=True), sink, pump.cancel))
        await asyncio.wait_for(sink.done.wait(), 60)
        return sink.sent

    assert asyncio.run(scenario()) == [b"open", b"cached 0", b"<0>", b"<1>", b"<2]", b"bye"]


def test_a_whole_answer_has_the_number_of_cached_tokens() -> None:
    async def scenario() -> list[list[bytes]]:
        _, pump = make_pump()
        sinks = [Sink(), Sink()]
        for number, sink in enumerate(sinks):
            pump.submit(Answer(str(number), script(2, stream=False), sink, pump.cancel))
            await asyncio.wait_for(sink.done.wait(), 60)
        return [sink.sent for sink in sinks]

    assert asyncio.run(scenario()) == [[b"whole 0"], [b"whole 144"]]


def test_the_choices_of_an_answer_are_computed_side_by_side_and_end_together() -> None:
    async def scenario() -> tuple[list[bytes], int]:
        engine, pump = make_pump()
        sink = Sink()
        pump.submit(Answer("a", script(2, stream=True, choices=3), sink, pump.cancel))
        assert pump.load == 3
        await asyncio.wait_for(sink.done.wait(), 60)
        return sink.sent, engine.generation_tokens

    sent, tokens = asyncio.run(scenario())
    assert sent == [b"open", b"cached 0", *[b"<0>"] * 3, *[b"<1]"] * 3, b"bye"]
    assert tokens == 6


def test_an_answer_with_several_choices_is_cancelled_as_one() -> None:
    async def scenario() -> None:
        engine, pump = make_pump()
        answer = Answer("a", script(2, stream=False, choices=3), Sink(), pump.cancel)
        pump.submit(answer)
        answer.cancel()
        assert (engine.waiting, engine.running) == (0, 0)

    asyncio.run(scenario())


def test_an_answer_that_is_kept_is_so_when_its_last_token_was_made() -> None:
    async def scenario() -> tuple[list[int], list[bytes]]:
        _, pump = make_pump()
        sink, kept = Sink(), list[int]()
        pump.submit(Answer("a", script(2, stream=False)._replace(kept=kept.append), sink, pump.cancel))
        await asyncio.wait_for(sink.done.wait(), 60)
        return kept, sink.sent

    assert asyncio.run(scenario()) == ([0], [b"whole 0"])


def test_a_slow_reader_gets_the_rest_when_it_reads_again() -> None:
    async def scenario() -> tuple[list[bytes], list[bytes]]:
        engine, pump = make_pump()
        sink, other = Sink(), Sink()
        sink.paused = True
        answer = Answer("slow", script(3, stream=True), sink, pump.cancel)
        pump.submit(answer)
        pump.submit(Answer("other", script(5, stream=False), other, pump.cancel))
        await asyncio.wait_for(other.done.wait(), 60)
        held = list(sink.sent)
        sink.paused = False
        answer.resume()
        assert engine.generation_tokens == 8
        return held, sink.sent

    held, sent = asyncio.run(scenario())
    assert held == [b"open"]
    assert sent == [b"open", b"cached 0", b"<0>", b"<1>", b"<2]", b"bye"]


def test_a_cancelled_answer_gets_no_more_tokens_and_others_go_on() -> None:
    async def scenario() -> list[bytes]:
        engine, pump = make_pump()
        gone, stays = Sink(), Sink()
        answer = Answer("gone", script(50, stream=True), gone, pump.cancel)
        pump.submit(answer)
        pump.submit(Answer("stays", script(3, stream=False), stays, pump.cancel))
        answer.cancel()
        answer.cancel()
        assert engine.waiting == 1
        await asyncio.wait_for(stays.done.wait(), 60)
        return gone.sent

    assert asyncio.run(scenario()) == [b"open"]


def test_a_stopped_pump_takes_no_more_steps() -> None:
    async def scenario() -> int:
        engine, pump = make_pump()
        pump.submit(Answer("a", script(3, stream=False), Sink(), pump.cancel))
        pump.stop()
        for _ in range(5):
            await asyncio.sleep(0)
        return engine.generation_tokens

    assert asyncio.run(scenario()) == 0


def test_steps_are_counted_with_the_time_by_which_they_were_late() -> None:
    async def scenario() -> tuple[int, float, float]:
        _, pump = make_pump()
        sink = Sink()
        pump.submit(Answer("a", script(3, stream=True), sink, pump.cancel))
        await asyncio.wait_for(sink.done.wait(), 60)
        return pump.steps, pump.late_s, pump.lost_s

    steps, late_s, lost_s = asyncio.run(scenario())
    assert steps == 3
    assert late_s >= lost_s >= 0.0
