"""Requests to an API server with the official client: credentials, refusals, streams. All over real sockets."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from loadtests.kubernetes.api import PODS, KubeApi, Refusal, kube_api
from loadtests.kubernetes.objects import kubeconfig, pod_object
from statesync.discovery.kubernetes.client import Access, ApiFailed, ApiServer, ApiStatus
from statesync.discovery.kubernetes.watch import WatchFailure
from tests.fakes.redis_server import certificates
from tests.fakes.virtual_time import RunningClock, pass_time, run_on

PATH = "/api/v1/namespaces/llm/pods"
QUIET_S = 30.0


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps requests to 127.0.0.1 away from a proxy in the environment."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def write(file: Path, found: object) -> None:
    file.write_text(found if isinstance(found, str) else json.dumps(found))


def with_api(use: Callable[[KubeApi, ApiServer, Path], Coroutine[Any, Any, None]], tmp_path: Path) -> None:
    """Run `use` with an API server and a connection made from a kubeconfig; the test can move time forward."""

    async def main() -> None:
        async with kube_api() as api:
            file = tmp_path / "kubeconfig"
            write(file, kubeconfig(api))
            server = ApiServer(Access(str(file)), quiet_s=QUIET_S)
            try:
                await use(api, server, file)
            finally:
                await server.aclose()

    run_on(RunningClock(), main())


async def failure_of(server: ApiServer) -> WatchFailure:
    with pytest.raises(ApiFailed) as caught:
        await server.list(PATH, {})
    return caught.value.failure


def test_a_list_is_asked_for_with_its_parameters(tmp_path: Path) -> None:
    async def use(api: KubeApi, server: ApiServer, _: Path) -> None:
        api.put(PODS, pod_object("a"))
        api.put(PODS, pod_object("b", labels={"app": "redis"}))
        found = json.loads(await server.list(PATH, {"labelSelector": "app in (vllm, sglang)", "limit": "10"}))
        assert [each["metadata"]["name"] for each in found["items"]] == ["a"]
        assert api.queries[-1] == {"labelSelector": "app in (vllm, sglang)", "limit": "10"}
        assert server.namespace == "default"

    with_api(use, tmp_path)


def test_a_watch_yields_bytes_until_the_server_ends_it(tmp_path: Path) -> None:
    async def use(api: KubeApi, server: ApiServer, _: Path) -> None:
        api.put(PODS, pod_object("a"))
        api.trickle = True
        data = b""
        async for chunk in server.watch(PATH, {"resourceVersion": "1000"}, 240):
            data += chunk
            if data.endswith(b"\n"):
                api.tick(300.0)
        assert json.loads(data)["type"] == "ADDED"
        assert api.queries[-1]["timeoutSeconds"] == "240"
        assert api.queries[-1]["allowWatchBookmarks"] == "true"

    with_api(use, tmp_path)


def test_a_watch_that_is_cut_ends(tmp_path: Path) -> None:
    async def use(api: KubeApi, server: ApiServer, _: Path) -> None:
        api.put(PODS, pod_object("a"))
        api.cut_after.append(100)
        assert len(b"".join([chunk async for chunk in server.watch(PATH, {"resourceVersion": "1000"}, 240)])) <= 100

    with_api(use, tmp_path)


def test_a_watch_that_falls_silent_ends(tmp_path: Path) -> None:
    async def use(api: KubeApi, server: ApiServer, _: Path) -> None:
        api.put(PODS, pod_object("a"))
        events = []
        async for chunk in server.watch(PATH, {"resourceVersion": "1000"}, 240):
            events.append(json.loads(chunk)["type"])
            pass_time(QUIET_S)
        assert events == ["ADDED"]

    with_api(use, tmp_path)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (403, "cannot list pods in .llm.*verbs list and watch"),
        (401, "read again"),
        (429, "429"),
        (500, "500 as configured"),
    ],
)
def test_a_refusal_names_the_request_the_servers_answer_and_the_remedy(tmp_path: Path, status: int, words: str) -> None:
    async def use(api: KubeApi, server: ApiServer, _: Path) -> None:
        api.refusals.append(Refusal(status, {"Retry-After": "7"}))
        failure = await failure_of(server)
        assert (failure.status, failure.retry_after_s) == (status, 7.0)
        assert re.search(words, failure.why), failure.why
        assert json.loads(await server.list(PATH, {}))["items"] == []

    with_api(use, tmp_path)


def test_an_unreachable_server_is_a_failure_without_a_status(tmp_path: Path) -> None:
    async def use(api: KubeApi, server: ApiServer, _: Path) -> None:
        api.down = True
        failure = await failure_of(server)
        assert (failure.status, failure.why[:9]) == (0, "GET /api/")

    with_api(use, tmp_path)


def test_a_token_in_a_kubeconfig_is_read_again_on_renew(tmp_path: Path) -> None:
    async def use(api: KubeApi, server: ApiServer, file: Path) -> None:
        api.token = "first"
        write(file, kubeconfig(api, "first", "research"))
        await server.list(PATH, {})
        assert server.namespace == "research"
        api.token = "second"
        write(file, kubeconfig(api, "second"))
        assert (await failure_of(server)).status == 401
        await server.renew()
        await server.list(PATH, {})

    with_api(use, tmp_path)


def test_an_invalid_kubeconfig_or_one_without_the_context_is_a_failure(tmp_path: Path) -> None:
    async def use(api: KubeApi, _: ApiServer, file: Path) -> None:
        for access in (Access(str(file), "nowhere"), Access(str(tmp_path / "missing"))):
            server = ApiServer(access, quiet_s=QUIET_S)
            assert (await failure_of(server)).why.startswith("no credentials: ")
        write(file, "{[")
        server = ApiServer(Access(str(file)), quiet_s=QUIET_S)
        assert (await failure_of(server)).why.startswith("no credentials: ")

    with_api(use, tmp_path)


def test_a_context_is_one_of_several(tmp_path: Path) -> None:
    async def use(api: KubeApi, _: ApiServer, file: Path) -> None:
        found = kubeconfig(api, "x")
        found["current-context"] = "elsewhere"
        found["contexts"].append({"name": "elsewhere", "context": {"cluster": "gone", "user": "u"}})
        found["clusters"].append({"name": "gone", "cluster": {"server": "http://127.0.0.1:9"}})
        write(file, found)
        server = ApiServer(Access(str(file), "test"), quiet_s=QUIET_S)
        await server.list(PATH, {})
        await server.aclose()

    with_api(use, tmp_path)


def test_where_credentials_come_from() -> None:
    inside = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    assert Access("mine", environ=inside | {"KUBECONFIG": "theirs"}).file() == "mine"
    assert Access(environ=inside | {"KUBECONFIG": "theirs"}).file() == "theirs"
    assert Access(environ=inside).file() == ""
    assert Access(context="east", environ=inside).file().endswith(".kube/config")
    assert Access(environ={}).file().endswith(".kube/config")


def test_in_a_cluster_the_service_account_is_used_over_tls_and_a_rotated_token_is_read_again(tmp_path: Path) -> None:
    made = certificates(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made.cert, made.key)

    async def main() -> None:
        async with kube_api(context) as api:
            host, _, port = api.url.removeprefix("https://").rpartition(":")
            account = tmp_path / "account"
            account.mkdir()
            (account / "ca.crt").write_bytes(made.ca.read_bytes())
            (account / "token").write_text("first")
            (account / "namespace").write_text("research\n")
            environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
            server = ApiServer(Access(environ=environ, account=account), quiet_s=QUIET_S)
            api.token = "first"
            await server.list(PATH, {})
            assert server.namespace == "research"
            api.token = "second"
            (account / "token").write_text("second")
            assert (await failure_of(server)).status == 401
            await server.renew()
            await server.list(PATH, {})
            await server.aclose()

    asyncio.run(main())


def test_an_error_event_has_the_time_to_wait() -> None:
    said = ApiStatus(429, "TooManyRequests", "later", {"retryAfterSeconds": 3})
    assert said.failure() == WatchFailure("429 TooManyRequests: later", 429, 3.0)
    assert ApiStatus(410, "Expired", "old").failure() == WatchFailure("410 Expired: old", 410, 0.0)
