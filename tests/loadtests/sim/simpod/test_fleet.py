import asyncio
import subprocess
import sys
from typing import Any

import httpx
import pytest

from loadtests.sim.engine.profiles import PROFILES
from loadtests.sim.ports import free_ports, neighbouring_ports
from loadtests.sim.simpod.fleet import ControlPort, SimPod, main
from tests.fakes.waiting import until

CHAT = "/v1/chat/completions"
SLOW = PROFILES["tiny"]._replace(step_s=3600.0)
"""Every step takes an hour, so that a submitted request stays in progress."""


def ask(text: str = "hi", **more: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 8, "ignore_eos": True} | more


def client(pod: SimPod) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=pod.url, trust_env=False, verify=False, timeout=60.0)


def test_an_answer_names_its_pod_and_is_the_same_on_every_pod() -> None:
    async def scenario() -> None:
        async with SimPod(speed=100) as one, SimPod(speed=100, name="two") as two, client(one) as a, client(two) as b:
            first, second = await a.post(CHAT, json=ask()), await b.post(CHAT, json=ask())
            assert first.headers["x-inference-pod"] == f"sim-{one.port}"
            assert second.headers["x-inference-pod"] == "two"
            assert first.content == second.content
            assert first.json()["usage"]["completion_tokens"] == 8

    asyncio.run(scenario())


def test_a_stream_equals_the_whole_answer() -> None:
    async def scenario() -> None:
        async with SimPod(speed=100) as pod, client(pod) as http:
            whole = (await http.post(CHAT, json=ask())).json()["choices"][0]["message"]["content"]
            streamed = await http.post(CHAT, json=ask(stream=True))
            assert streamed.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert streamed.headers["transfer-encoding"] == "chunked"
            events = streamed.text.split("\n\n")
            assert (len(events), events[-2], events[-1]) == (1 + 8 + 2, "data: [DONE]", "")
            assert whole == "".join(event.partition('"content":"')[2][:4] for event in events[1:9])

    asyncio.run(scenario())


def test_the_second_turn_of_a_conversation_is_mostly_cached() -> None:
    async def scenario() -> None:
        async with SimPod(speed=100) as pod, client(pod) as http:
            said: list[dict[str, str]] = [{"role": "user", "content": "once upon a time " * 40}]
            body: dict[str, Any] = {"messages": said, "max_tokens": 64, "ignore_eos": True}
            first = (await http.post(CHAT, json=body)).json()
            said += [first["choices"][0]["message"], {"role": "user", "content": "and then?"}]
            usage = (await http.post(CHAT, json=body)).json()["usage"]
            assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
            cached = usage["prompt_tokens_details"]["cached_tokens"]
            assert cached > first["usage"]["prompt_tokens"], "the answer itself is cached as well"
            assert pod.state()["prefix_hits_tokens"] == cached

    asyncio.run(scenario())


def test_a_client_that_disconnects_frees_the_engine_at_once() -> None:
    async def scenario(stream: bool) -> None:
        async with SimPod(profile=SLOW) as pod, client(pod) as http:
            request = asyncio.get_running_loop().create_task(http.post(CHAT, json=ask(stream=stream)))
            await until(lambda: pod.engine.running)
            assert (await http.get("/sim/state")).json()["open_requests"] == 1
            request.cancel()
            await until(lambda: not pod.engine.running)
            state = (await http.get("/sim/state")).json()
            assert (state["open_requests"], state["kv_usage"], state["finished"]["abort"]) == (0, 0.0, 1)
            assert 'finished_reason="abort",model_name="sim-model"} 1.0' in (await http.get("/metrics")).text

    for stream in (False, True):
        asyncio.run(scenario(stream))


def test_requests_above_the_batch_wait_and_metrics_show_it() -> None:
    async def scenario() -> None:
        profile = SLOW._replace(max_num_seqs=2)
        async with SimPod(profile=profile) as pod, client(pod) as http:
            loop = asyncio.get_running_loop()
            requests = [loop.create_task(http.post(CHAT, json=ask(str(number)))) for number in range(5)]
            await until(lambda: pod.engine.running + pod.engine.waiting == 5)
            text = (await http.get("/metrics")).text
            assert 'vllm:num_requests_running{engine="0",model_name="sim-model"} 2.0' in text
            assert 'vllm:num_requests_waiting{engine="0",model_name="sim-model"} 3.0' in text
            for request in requests:
                request.cancel()

    asyncio.run(scenario())


def test_a_pod_that_schedules_by_priority_serves_a_lower_number_first() -> None:
    async def scenario() -> None:
        profile = PROFILES["tiny"]._replace(step_s=0.02, max_num_seqs=1)
        async with SimPod(profile=profile, by_priority=True) as pod, client(pod) as http:
            loop = asyncio.get_running_loop()
            served: list[str] = []

            async def sends(name: str, priority: int, tokens: int = 1) -> None:
                await http.post(CHAT, json=ask(name, priority=priority, max_tokens=tokens))
                served.append(name)

            runs = loop.create_task(sends("runs", 0, 10_000))
            await until(lambda: pod.engine.running == 1)
            waiting = []
            for name, priority in (("late", 5), ("first", 0), ("urgent", -5)):
                waiting.append(loop.create_task(sends(name, priority)))
                await until(lambda: pod.engine.waiting == len(waiting))
            runs.cancel()
            await asyncio.gather(*waiting)
            assert served == ["urgent", "first", "late"]

    asyncio.run(scenario())


def test_the_other_endpoints_answer() -> None:
    async def scenario() -> None:
        async with SimPod(speed=100, models=("a", "b")) as pod, client(pod) as http:
            assert (await http.get("/health")).status_code == 200
            assert [card["id"] for card in (await http.get("/v1/models")).json()["data"]] == ["a", "b"]
            assert (await http.post("/tokenize", json={"prompt": "abcdefgh"})).json()["count"] == 2
            assert len((await http.post("/v1/embeddings", json={"input": "x"})).json()["data"]) == 1
            said = await http.post("/v1/messages", json=ask(model="a"))
            assert said.json()["usage"]["output_tokens"] == 8
            assert (await http.post("/v1/completions", json={"prompt": "x"})).json()["object"] == "text_completion"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", CHAT, "{", 400),
        ("POST", CHAT, '{"model": "nope", "messages": []}', 404),
        ("POST", "/v1/messages", '{"model": "nope"}', 400),
        ("GET", CHAT, "", 405),
        ("POST", "/health", "", 405),
        ("GET", "/nope", "", 404),
        ("GET", "/v1/models/nope", "", 404),
        ("POST", "/tokenize", "[]", 400),
        ("PUT", "/sim/faults", '{"kind": "no_such_fault"}', 400),
        ("PUT", "/sim/faults", '{"kind": "hang", "typo": 1}', 400),
        ("GET", "/sim/nope", "", 404),
    ],
)
def test_an_invalid_request_is_an_error_and_the_connection_stays_open(
    method: str, path: str, body: str, status: int
) -> None:
    async def scenario() -> None:
        async with SimPod(speed=100) as pod, client(pod) as http:
            answer = await http.request(method, path, content=body, headers={"content-type": "application/json"})
            assert (answer.status_code, answer.json().keys() <= {"error", "detail"}) == (status, True)
            assert (await http.get("/health")).status_code == 200
            assert pod.state()["connections"] == 1

    asyncio.run(scenario())


def test_a_refusing_pod_closes_its_port_and_the_control_port_opens_it_again() -> None:
    async def scenario() -> None:
        async with SimPod(free_ports(1)[0], speed=100, controlled=True) as pod, client(pod) as http:
            control = ControlPort([pod], 0, "127.0.0.1")
            url = f"http://127.0.0.1:{await control.start()}/sim"
            async with httpx.AsyncClient(trust_env=False, verify=False, timeout=60.0) as outside:
                await outside.put(f"{url}/{pod.port}/faults", json={"kind": "refuse"})
                with pytest.raises(httpx.ConnectError):
                    await http.get("/health")
                assert (await outside.get(f"{url}/pods")).json()[0]["fault"]["kind"] == "refuse"
                await outside.delete(f"{url}/{pod.port}/faults")
                assert (await http.get("/health")).status_code == 200
                assert (await outside.get(f"{url}/1/state")).status_code == 404
            await control.stop()

    asyncio.run(scenario())


def test_a_pod_without_a_control_port_refuses_only_for_a_while() -> None:
    async def scenario() -> None:
        async with SimPod(free_ports(1)[0], speed=100) as pod, client(pod) as http:
            assert (await http.put("/sim/faults", json={"kind": "refuse"})).status_code == 409
            assert (await http.put("/sim/faults", json={"kind": "refuse", "for_s": 0.05})).status_code == 200
            await until(lambda: pod.faults.fault is None)
            assert (await http.get("/health")).status_code == 200

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (["--port", "65536"], "at most 65535"),
        (["--port", "65535", "--count", "2"], "at most 65535"),
        (["--port", "1", "--control-port", "99999"], "at most 65535"),
        (["--port", "1", "--speed", "nan"], "--speed greater than 0"),
    ],
)
def test_the_command_refuses_numbers_out_of_range(
    given: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(given)
    assert word in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_serves_several_pods_until_sigterm() -> None:
    ports = neighbouring_ports(2)
    given = ["--port", str(ports.start), "--count", "2"]
    script = f"from loadtests.sim.simpod.fleet import main; raise SystemExit(main({given!r}))"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline().split() for _ in range(2)]
            assert [line[1] for line in lines] == [f"http://127.0.0.1:{port}" for port in ports]
            answers = [httpx.get(f"{line[1]}/health", trust_env=False, verify=False, timeout=60.0) for line in lines]
            assert [answer.status_code for answer in answers] == [200, 200]
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()
