"""State on pods, over real processes: engines that keep responses, two replicas, Redis between them, a roll."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import NotFoundError, OpenAI

from tests.fakes.gateway_process import GatewayProcess, config, pool, running, starting
from tests.fakes.raw_http_client import Answer, Wire, get, post
from tests.fakes.redis_server import redis_server
from tests.fakes.sim_process import MODEL, SimPods

pytestmark = [pytest.mark.slow, pytest.mark.needs("redis-server")]

PODS = 2
TURNS = 20


@pytest.fixture
def redis_url() -> Iterator[str]:
    with redis_server() as server:
        yield f"redis://127.0.0.1:{server.port}"


def settings(sims: SimPods, redis_url: str, name: str) -> dict[str, object]:
    # In turn, so that each replica's first two conversations begin on different pods.
    pools = [pool("default", sims.urls[:PODS], policy={"name": "round_robin"})]
    return config((), pools=pools, state=redis_url, replica=name)


def asks(gateway: GatewayProcess, request: bytes) -> Answer:
    with Wire("127.0.0.1", gateway.port) as wire:
        wire.send(request)
        return wire.answer()


def goes_on(gateway: GatewayProcess, previous: str | None, *, stream: bool = False) -> tuple[str, Answer]:
    """One turn of a conversation; returns the id of its response."""
    body: dict[str, object] = {"model": MODEL, "input": "go on", "max_output_tokens": 16, "stream": stream}
    if previous is not None:
        body |= {"previous_response_id": previous}
    answer = asks(gateway, post(body, path="/v1/responses"))
    assert answer.status == 200, (answer.headers, answer.body)
    if stream:
        first = answer.body.partition(b'"id":"')[2]
        return first.partition(b'"')[0].decode(), answer
    return str(answer.json()["id"]), answer


def test_case_c9_twenty_of_twenty_over_two_replicas_and_across_a_roll(
    sims: SimPods, redis_url: str, tmp_path: Path
) -> None:
    with starting(settings(sims, redis_url, "one"), tmp_path / "one") as one:
        one.wait_until_ready()
        with running(settings(sims, redis_url, "two"), tmp_path / "two") as two:
            conversations = [goes_on((one, two)[at % 2], None, stream=at % 4 > 1) for at in range(4)]
            pods = [answer.headers["x-turnout-pod"] for _, answer in conversations]
            assert set(pods) == set(sims.addresses[:PODS])
            latest = [id for id, _ in conversations]
            for turn in range(TURNS):
                for at, home in enumerate(pods):
                    latest[at], answer = goes_on((one, two)[(turn + at) % 2], latest[at], stream=turn % 3 == 0)
                    assert answer.headers["x-turnout-pod"] == home
        with running(settings(sims, redis_url, "three"), tmp_path / "three") as three:
            one.signal()  # the last replica that saw the ids itself
            assert one.ended() == 0
            for at, home in enumerate(pods):
                read = asks(three, get(f"/v1/responses/{latest[at]}"))
                assert (read.status, read.headers["x-turnout-pod"], read.json()["id"]) == (200, home, latest[at])
                _, answer = goes_on(three, latest[at])
                assert answer.headers["x-turnout-pod"] == home
                cancelled = asks(three, post(b"", path=f"/v1/responses/{latest[at]}/cancel"))
                assert cancelled.headers["x-turnout-pod"] == home
                assert asks(three, get("/v1/responses/resp_unknown")).status == 404


def test_without_redis_an_id_from_before_a_restart_is_asked_for(sims: SimPods, tmp_path: Path) -> None:
    with running(config(sims.urls[:PODS]), tmp_path / "before") as before:
        id, answer = goes_on(before, None)
    with running(config(sims.urls[:PODS]), tmp_path / "after") as after:
        for _ in range(3):
            _, again = goes_on(after, id)
            assert again.headers["x-turnout-pod"] == answer.headers["x-turnout-pod"]


def test_case_c9_the_openai_sdk_reads_goes_on_cancels_and_deletes(sims: SimPods, tmp_path: Path) -> None:
    with (
        running(config(sims.urls[:PODS]), tmp_path / "gateway") as gateway,
        OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client,
    ):
        for _ in range(2 * PODS):
            begun = client.responses.create(model=MODEL, input="hello", max_output_tokens=8)
            assert client.responses.retrieve(begun.id).id == begun.id
            with client.responses.stream(model=MODEL, input="go on", previous_response_id=begun.id) as stream:
                ended = stream.get_final_response()
            assert ended.previous_response_id == begun.id
            long = client.responses.create(model=MODEL, input="long", max_output_tokens=9000, background=True)
            assert client.responses.cancel(long.id).status == "cancelled"
            client.responses.delete(ended.id)
            with pytest.raises(NotFoundError):
                client.responses.retrieve(ended.id)
