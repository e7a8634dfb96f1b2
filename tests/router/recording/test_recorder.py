"""A thread records good answers and no failures, and no request waits for it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from loadtests.sim.simulate.traces import read_trace
from router.recording.format import RecordedRequest
from router.recording.recorder import Recorder
from router.settings import Recording
from statesync.prefix.block_hash import chain
from statesync.prefix.index import REACH
from tests.fakes.memory_client_and_pods import LAST_CHUNK, SSE_HEAD, event, ok
from tests.fakes.memory_gateway import Rig

PROMPT = b'[{"role":"user","content":"%s"}]' % (b"secret words " * 300)
LONG = b'{"model":"m","messages":%s}' % PROMPT
USAGE = '{"usage":{"prompt_tokens":1200,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":128}}}'


def recording(tmp_path: Path, rig: Rig) -> Recorder:
    """A recorder of this gateway; its wall clock is 1,000,000 s when the rig's clock is 0."""
    recorder = Recorder(Recording(path=str(tmp_path / "r.jsonl")), wall=lambda: 1_000_000 + rig.wire.clock.now)
    rig.rebuild(rig.gateway.deps._replace(tap=recorder.tap))
    return recorder


def lines(tmp_path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]


def test_a_stream_is_recorded_with_its_usage_and_without_its_text(tmp_path: Path) -> None:
    with Rig() as rig:
        recorder = recording(tmp_path, rig)
        began = rig.wire.clock.now
        client = rig.asks(LONG, "x-session-id: alice")
        pod = rig.asked()
        rig.wire.clock.now += 0.5
        pod.sends(SSE_HEAD + event("my"))
        rig.wire.clock.now += 1.0
        pod.sends(event(USAGE) + event("[DONE]") + LAST_CHUNK)
        assert client.answer().complete
        recorder.write()
        (record,) = lines(tmp_path)
        assert record["timestamp"] == int((1_000_000 + began) * 1000)
        assert (record["input_length"], record["output_length"], record["cached_tokens"]) == (1200, 3, 128)
        assert (record["ttft_ms"], record["e2e_ms"]) == (500.0, 1500.0)
        assert record["pod"] == pod.address
        assert "secret" not in (tmp_path / "r.jsonl").read_text()
        assert "alice" not in (tmp_path / "r.jsonl").read_text()


def test_a_whole_answer_has_no_time_to_first_token(tmp_path: Path) -> None:
    with Rig() as rig:
        recorder = recording(tmp_path, rig)
        rig.asks()
        rig.asked().sends(ok(b'{"id":"1","usage":{"prompt_tokens":5,"completion_tokens":2}}'))
        recorder.write()
        (record,) = lines(tmp_path)
        assert (record["output_length"], "ttft_ms" in record) == (2, False)


def test_only_the_answered_attempt_is_recorded_and_errors_are_not(tmp_path: Path) -> None:
    with Rig() as rig:
        recorder = recording(tmp_path, rig)
        client = rig.asks()
        rig.asked().sends(ok(status="503 Service Unavailable"))
        again = rig.asked()
        again.sends(ok())
        assert client.answer().status == 200
        rig.asks()
        rig.asked().sends(ok(status="400 Bad Request"))
        recorder.write()
        assert [record["pod"] for record in lines(tmp_path)] == [again.address]


def test_the_simulator_reads_a_recording(tmp_path: Path) -> None:
    with Rig() as rig:
        recorder = recording(tmp_path, rig)
        for _ in range(3):
            rig.asks(LONG)
            rig.asked().sends(ok())
            rig.wire.clock.now += 2.0
        recorder.write()
    trace = read_trace(tmp_path / "r.jsonl")
    assert [round(each.at_s, 3) for each in trace.arrivals] == [0.0, 2.0, 4.0]
    assert trace.unit_tokens == 64
    first = trace.arrivals[0].units
    assert len(first) == REACH[len(chain("m", [PROMPT]))]
    assert all(each.units == first for each in trace.arrivals)


def test_a_failing_disk_loses_lines_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Rig() as rig, caplog.at_level(logging.WARNING):
        recorder = recording(tmp_path / "nowhere", rig)
        client = rig.asks()
        rig.asked().sends(ok())
        recorder.write()
        assert client.answer().status == 200
        assert "1 records were not written" in caplog.text


def test_stopping_writes_the_queued_lines(tmp_path: Path) -> None:
    recorder = Recorder(Recording(path=str(tmp_path / "r.jsonl")))
    recorder.start()
    recorder.put(RecordedRequest(0.0, 1, (), "", None, 0.1, "p", 0, 4, b""))
    recorder.stop()
    assert len(lines(tmp_path)) == 1
