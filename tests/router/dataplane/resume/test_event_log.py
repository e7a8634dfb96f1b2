"""What stands in the log of a stream, and what an event id says."""

from __future__ import annotations

import json
import random

import pytest

from router.dataplane.resume.event_log import (
    TAIL_BYTES,
    EventId,
    LogReader,
    LogWriter,
    Unkeepable,
    missing_lines,
    parse_id,
    split_events,
)

NAME = "abcdefghijklmnop"
DONE = b"data: [DONE]\n\n"


def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    fields = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def answer(tokens: int, seed: int = 0) -> list[bytes]:
    rng = random.Random(seed)
    said = [rng.choice([" the", " then", "a\nb", 'quo"te', "", "…", " 7", "data: "]) for _ in range(tokens)]
    return [chunk({"role": "assistant", "content": ""}), *[chunk({"content": each}) for each in said], DONE]


def written(events: list[bytes]) -> tuple[LogWriter, list[bytes]]:
    log = LogWriter(NAME)
    return log, [log.add(each) for each in events]


@pytest.mark.parametrize("seed", range(20))
def test_a_log_has_every_event_byte_for_byte(seed: int) -> None:
    events = answer(200, seed)
    log, _ = written(events)
    assert LogReader().feed(log.unsaved) == events
    assert log.events == 202


def test_a_token_takes_few_bytes_of_the_log() -> None:
    log, _ = written(answer(1000))
    assert len(log.unsaved) < 1000 * 8 + 3000
    assert sum(map(len, answer(1000))) > 150_000


@pytest.mark.parametrize("cut", range(0, 700, 7))
def test_a_log_is_read_in_any_pieces(cut: int) -> None:
    events = answer(20)
    log, _ = written(events)
    reader = LogReader()
    assert reader.feed(log.unsaved[:cut]) + reader.feed(log.unsaved[cut:]) == events


def test_other_events_than_chunks_are_kept_whole() -> None:
    events = [b": hello\n\n", b"event: message_start\ndata: {}\n\n", b"data: a\r\n\r\n", b"data: x\ndata: y\n\n"]
    log, _ = written(events)
    assert LogReader().feed(log.unsaved) == events


def test_an_event_with_the_logs_own_marks_cannot_be_kept() -> None:
    with pytest.raises(Unkeepable):
        LogWriter(NAME).add(b"data: \x03\n\n")


def test_the_end_and_the_loss_of_a_log_are_read() -> None:
    log, _ = written(answer(3))
    log.end()
    reader = LogReader()
    reader.feed(log.unsaved)
    assert reader.ended
    log.give_up()
    with pytest.raises(Unkeepable):
        LogReader().feed(log.unsaved)


@pytest.mark.parametrize("line", [b"text without a template\n", b"\x00\x00\n", b"\x03half a template\n"])
def test_what_is_no_line_of_a_log_is_not_read(line: bytes) -> None:
    with pytest.raises(Unkeepable):
        LogReader().feed(line)


def test_the_first_text_makes_the_template() -> None:
    log, _ = written(answer(1)[:1])
    assert log.saved(log.unsaved)
    log.add(chunk({"content": ' a\n"b"'}))
    assert log.templates == 1
    assert log.saved(log.unsaved)
    log.add(chunk({"content": " c"}))
    assert log.unsaved == b" c\n"


@pytest.mark.parametrize("odd", [b'data: {"content":"a\ndata: b"}\n\n', b'data: {"a":1,\ndata: "content":"b"}\n\n'])
def test_a_text_in_an_event_of_several_lines_makes_none(odd: bytes) -> None:
    log, _ = written([chunk({"role": "assistant"}), odd])
    assert (log.templates, LogReader().feed(log.unsaved)[1]) == (0, odd)


def test_the_first_text_makes_the_template_with_blanks_in_the_json_too() -> None:
    log, _ = written([b'data: {"id": 1}\n\n', *[b'data: {"delta": {"content": " %d"}}\n\n' % at for at in range(9)]])
    assert (log.templates, log.unsaved[-6:]) == (1, b" 7\n 8\n")


def test_an_event_that_comes_again_makes_the_template() -> None:
    same = b'data: {"object":"chat.completion.chunk","choices":[]}\n\n'
    log, _ = written([same] * 9)
    assert log.unsaved.count(same[:20]) == 4, "three events whole, and the template"
    assert LogReader().feed(log.unsaved) == [same] * 9


def test_events_of_two_lines_whose_first_line_is_the_same_are_kept_whole() -> None:
    events = [b'data: {"object":"chat.completion.chunk",\ndata: "at":%d}\n\n' % at for at in range(5)]
    log, _ = written(events)
    assert LogReader().feed(log.unsaved) == events  # raised Unkeepable: the template had a line feed


def test_events_that_have_their_ends_alone_in_common_make_no_template() -> None:
    end = b',"object":"chat.completion.chunk","model":"some-model"}\n\n'
    events = [b'data: {"role":1' + end, b'event: metrics\ndata: {"a":2' + end, b'data: {"b":3' + end]
    events += [b'data: {"c":%d' % at + end for at in range(9)]
    log, _ = written(events)
    assert LogReader().feed(log.unsaved) == events  # raised Unkeepable: the template began with nothing
    assert log.templates == 1


def test_two_events_do_not_follow_a_template_together() -> None:
    log, _ = written(answer(10))
    one = chunk({"content": " x"})
    assert log.follow(one)
    assert log.follow(one + one) == b""


@pytest.mark.parametrize("behind", range(5))
def test_each_id_has_all_lines_that_are_not_saved(behind: int) -> None:
    """Also where events came while lines were being saved."""
    log, sent = LogWriter(NAME), b""
    for at, event in enumerate(answer(60)):
        id = parse_id(log.add(event).removeprefix(b"id: "))
        assert id is not None and id.tail == log.unsaved
        if at % 7 == behind:
            assert log.saved(sent)
            assert not log.saved(b"other lines\n")
        if at % 7 == 0:
            sent = log.unsaved


def test_ids_of_a_long_stream_count_on() -> None:
    log = LogWriter(NAME, 2045)
    ids = [parse_id(log.add(event).removeprefix(b"id: ")) for event in answer(6)]
    assert [id.events for id in ids if id is not None] == list(range(2046, 2046 + len(ids)))


@pytest.mark.parametrize("saved", range(12))
@pytest.mark.parametrize("seen", range(1, 13))
def test_an_id_has_what_the_shared_log_lacks(saved: int, seen: int) -> None:
    """Whatever was confirmed before the event: log and id together have all that the client has."""
    events = answer(12)
    log, shared, id = LogWriter(NAME), b"", b""
    for at, event in enumerate(events[:seen]):
        if at == saved:
            shared = log.unsaved
            assert log.saved(shared)
        id = log.add(event)
    said = parse_id(id.removeprefix(b"id: ").rstrip())
    assert said is not None and said.events == seen
    reader = LogReader()
    found = reader.feed(shared)
    lines = missing_lines(said, reader.events)
    assert lines is not None
    assert found + reader.feed(lines) == events[:seen]


def test_lines_that_were_saved_after_the_id_was_sent_are_not_added_again() -> None:
    events = answer(12)
    _, ids = written(events)
    said = parse_id(ids[5].removeprefix(b"id: ").rstrip())
    assert said is not None
    reader = LogReader()
    found = reader.feed(written(events[:4])[0].unsaved)
    lines = missing_lines(said, reader.events)
    assert lines is not None
    assert found + reader.feed(lines) == events[:6]
    assert missing_lines(said, 9) == b""


def test_an_id_without_the_lines_says_that_they_are_unknown() -> None:
    log = LogWriter(NAME)
    log.unsaved = b"x" * (TAIL_BYTES + 1)
    said = parse_id(log.add(DONE).removeprefix(b"id: ").rstrip())
    assert said == EventId(NAME, 1, None)
    assert missing_lines(said, 0) is None
    assert missing_lines(said, 1) == b""
    assert missing_lines(EventId(NAME, 9, b"one line\n"), 3) is None


@pytest.mark.parametrize(
    "value", [b"", b"7", b"abc.1", b"abcdefghijklmnop", b"abcdefghijklmnop.1.a", b"a" * 16 + b".x"]
)
def test_other_ids_are_not_taken_for_the_gateways(value: bytes) -> None:
    assert parse_id(value) is None


def test_whole_events_are_cut_off() -> None:
    assert split_events(b"data: a\n\ndata: b\r\n\r\ndata") == ([b"data: a\n\n", b"data: b\r\n\r\n"], b"data")
