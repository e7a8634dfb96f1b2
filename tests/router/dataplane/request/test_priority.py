"""The priority in the bodies that engines get: set by the header, and by nothing else."""

from __future__ import annotations

import asyncio
import json

import pytest

from loadtests.sim.engine.profiles import PROFILES
from loadtests.sim.simpod.fleet import SimPod
from router.dataplane.request.priority import MOST, with_priority
from router.replica.build import build
from router.replica.replica import Replica
from router.settings import Pool, PoolUpstream
from tests.fakes.local_replica import ask, settings
from tests.fakes.waiting import DEADLINE_S, until

CHAT = b"/v1/chat/completions"
BODY = b'{"model":"m", "messages": [{"role":"user","content":"a \\"priority\\""}]}'


def sent(priority: int, sign: int = 1, body: bytes = BODY, path: bytes = CHAT, kind: bytes = b"") -> bytes:
    return with_priority(path, kind, body, sign * priority)


@pytest.mark.parametrize(
    ("priority", "sign", "number"),
    [(3, 1, 3), (3, -1, -3), (-2, -1, 2), (10**30, -1, -MOST), (-(10**30), -1, MOST)],
)
def test_the_number_has_the_sign_of_the_engine(priority: int, sign: int, number: int) -> None:
    assert json.loads(sent(priority, sign)) == json.loads(BODY) | {"priority": number}


def test_a_request_without_a_priority_stays_as_it_is() -> None:
    body = b'{"model": "m", "prompt": "x"}'
    assert sent(0, body=body, path=b"/v1/completions") is body


@pytest.mark.parametrize("field", ['"priority"', '"\\u0070riority"', '"priority":7,"priority"'])
def test_a_priority_in_the_clients_body_does_not_count(field: str) -> None:
    """Case E 26: who may set a priority is a matter of rights."""
    body = b'{"model":"m",%b:-999,"prompt":"x"}' % field.encode()
    assert json.loads(sent(0, body=body, path=b"/v1/completions")) == {"model": "m", "prompt": "x", "priority": 0}
    assert json.loads(sent(2, -1, body, b"/v1/completions"))["priority"] == -2


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32-be"])
def test_a_priority_in_another_encoding_does_not_count(encoding: str) -> None:
    body = '{"model":"m","priority":-999}'.encode(encoding)
    assert json.loads(sent(0, body=body)) == {"model": "m", "priority": 0}


@pytest.mark.parametrize("path", ["/v1/chat/%63ompletions", "/v1/rerank", "/score", "/v2/rerank", "/pooling"])
def test_a_priority_does_not_count_on_any_path_that_engines_read_it_on(path: str) -> None:
    body = b'{"model":"m","priority":-999}'
    assert json.loads(sent(0, body=body, path=path.encode()))["priority"] == 0


def test_bodies_that_only_engines_can_read_get_it_too() -> None:
    body = b'{"model":"m","prompt":"x","temperature":NaN,"priority":5}'
    changed = sent(1, -1, body, b"/v1/completions")
    assert json.loads(changed)["priority"] == -1
    assert json.loads(changed)["prompt"] == "x"


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        (b"/v1/audio/transcriptions", b"multipart/form-data; boundary=b", b"--b"),
        (CHAT, b"multipart/form-data; boundary=b", b"--b"),
        (b"/v1/tokenize", b"application/json", BODY),
        (CHAT, b"application/json", b""),
    ],
)
def test_other_requests_stay_as_they_are(path: bytes, kind: bytes, body: bytes) -> None:
    assert sent(5, 1, body, path, kind) is body


def _posting(name: str, priority: int, tokens: int) -> bytes:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": name}], "max_tokens": tokens}).encode()
    lines = (
        "host: g",
        "content-type: application/json",
        f"x-turnout-priority: {priority}",
        f"content-length: {len(body)}",
    )
    head = "".join(f"{line}\r\n" for line in lines)
    return b"POST /v1/chat/completions HTTP/1.1\r\n%b\r\n%b" % (head.encode(), body)


def test_an_engine_that_schedules_by_priority_serves_a_higher_one_first() -> None:
    served: list[str] = []

    async def story() -> None:
        profile = PROFILES["tiny"]._replace(step_s=0.02, max_num_seqs=1)
        async with SimPod(profile=profile, models=("m",), by_priority=True) as pod:
            upstream = PoolUpstream(send_priority=True)
            pool = Pool(name="main", pods=[pod.url], models=["m"], engine="vllm", upstream=upstream)
            replica = Replica(build(settings(pools=[pool])))
            await replica.start()
            loop = asyncio.get_running_loop()

            async def sends(name: str, priority: int, tokens: int = 1) -> None:
                assert b" 200 OK" in await ask(replica.port, _posting(name, priority, tokens))
                served.append(name)

            tasks = [loop.create_task(sends("runs", 0, 100))]
            await until(lambda: pod.engine.running == 1 or served)
            for name, priority in (("late", -5), ("first", 0), ("urgent", 5)):
                tasks.append(loop.create_task(sends(name, priority)))
                await until(lambda: pod.engine.waiting + pod.engine.running >= len(tasks) - len(served))
            await asyncio.gather(*tasks)
            replica.stop(hurry=True)
            await replica.drain()

    asyncio.run(asyncio.wait_for(story(), DEADLINE_S))
    assert served == ["runs", "urgent", "first", "late"]
