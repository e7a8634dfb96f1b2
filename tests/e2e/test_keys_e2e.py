"""API keys as operators use them: made and revoked by the command line, in force on every replica, in no log."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import anthropic
import httpx
import msgspec
import openai
import pytest

from tests.fakes.gateway_process import GatewayProcess, config, starting
from tests.fakes.identity_provider import IdentityProvider
from tests.fakes.redis_server import redis_server
from tests.fakes.sim_process import MODEL, SimPods
from tests.fakes.waiting import DEADLINE_S, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.needs("redis-server")]

TENANTS = [{"name": "search"}, {"name": "chat"}]
CHAT = {"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "hello"}]}


def turnout(*argv: str) -> str:
    """The output of a command."""
    command = [sys.executable, "-m", "router", *argv]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def status(gateway: GatewayProcess, headers: Mapping[str, str]) -> int:
    """The status of a chat with these headers."""
    url = f"{gateway.url}/v1/chat/completions"
    return httpx.post(url, json=CHAT, headers=headers, timeout=DEADLINE_S, trust_env=False).status_code


def in_force_after(gateways: list[GatewayProcess], key: str, expected: int) -> float:
    """Seconds until every replica answers a request with the key with this status."""
    began = time.monotonic()
    for each in gateways:
        wait_for(f"{expected} from {each.url}", lambda each=each: status(each, {"x-api-key": key}) == expected)  # type: ignore[misc]
    return time.monotonic() - began


@pytest.fixture
def start(sims: SimPods, tmp_path: Path) -> Iterator[Callable[..., GatewayProcess]]:
    """Starts a replica and waits until it is ready."""
    with ExitStack() as stack:

        def started(name: str, **sections: object) -> GatewayProcess:
            logging = {"format": "json", "level": "debug", "access": True}
            settings = config(sims.urls[:1], replica=name, tenants=TENANTS, logging=logging, **sections)
            gateway = stack.enter_context(starting(settings, tmp_path / name))
            gateway.wait_until_ready()
            return gateway

        yield started


def test_a_key_in_the_shared_state_is_known_and_refused_by_three_replicas(
    start: Callable[..., GatewayProcess], tmp_path: Path
) -> None:
    with redis_server() as server:
        state = f"redis://127.0.0.1:{server.port}"
        gateways = [start(name, state=state, auth={"keys_from": "state"}) for name in ("a", "b", "c")]
        control = str(gateways[0].control.base_url)
        kept, lost = (
            turnout("keys", "create", "--tenant", "search", "--name", name, "--control", control)
            for name in ("kept", "lost")
        )
        known_s = max(in_force_after(gateways, key, 200) for key in (kept, lost))
        assert [status(each, {"authorization": f"Bearer {kept}"}) for each in gateways] == [200] * 3
        assert [status(each, {}) for each in gateways] == [401] * 3
        assert [httpx.get(f"{each.url}/livez", trust_env=False).status_code for each in gateways] == [200] * 3
        turnout("keys", "revoke", "lost", "--control", str(gateways[1].control.base_url))
        refused_s = in_force_after(gateways, lost, 401)
        sys.stdout.write(f"three replicas: a key known after {known_s:.3f} s, refused after {refused_s:.3f} s\n")
        late = start("d", state=state, auth={"keys_from": "state"})
        assert [status(late, {"x-api-key": key}) for key in (kept, lost)] == [200, 401]
        listed = turnout("keys", "list", "--control", str(late.control.base_url))
        assert [line.split()[2] for line in listed.splitlines()[1:]] == ["valid", "revoked"]
        written = "".join(path.read_text() for path in tmp_path.rglob("*.log")) + listed
        assert "/v1/chat/completions" in written
        assert [key for key in (kept, lost) if key in written] == []


def test_keys_in_the_shared_state_outlive_it(start: Callable[..., GatewayProcess]) -> None:
    with redis_server() as server:
        sections = {"state": f"redis://127.0.0.1:{server.port}", "auth": {"keys_from": "state"}}
        gateways = [start(name, **sections) for name in ("a", "b")]
        control = ("--control", str(gateways[0].control.base_url))
        key = turnout("keys", "create", "--tenant", "search", "--name", "ci", *control)
        in_force_after(gateways, key, 200)
        server.kill()
        assert [status(each, {"x-api-key": key}) for each in gateways] == [200, 200]
        refused = subprocess.run(
            [sys.executable, "-m", "router", "keys", "revoke", "ci", *control],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert refused.returncode == 2
        assert refused.stderr.count("\n") == 1
        server.start()
        late = start("c", **sections)
        in_force_after([late], key, 200)
        wait_for("the state is back", lambda: late.control.get("/admin/keys").json()[0]["state"] == "valid")
        turnout("keys", "revoke", "ci", "--control", str(late.control.base_url))
        in_force_after([*gateways, late], key, 401)


def test_the_file_of_keys_is_followed_by_every_replica_that_reads_it(
    start: Callable[..., GatewayProcess], tmp_path: Path
) -> None:
    file = str(tmp_path / "keys.yaml")
    key = turnout("keys", "create", "--file", file, "--tenant", "search", "--name", "ci")
    gateways = [start(name, auth={"keys_file": file}) for name in ("a", "b")]
    assert [status(each, {"api-key": key}) for each in gateways] == [200, 200]
    turnout("keys", "revoke", "ci", "--file", file)
    refused_s = in_force_after(gateways, key, 401)
    sys.stdout.write(f"two replicas on one file: a key refused after {refused_s:.3f} s\n")  # seen with -rP
    other = turnout("keys", "create", "--file", file, "--tenant", "chat", "--expires", "1d")
    in_force_after(gateways, other, 200)
    os.truncate(file, 0)  # an empty file is one without keys
    in_force_after(gateways, other, 401)


def test_real_clients_take_a_refusal_for_one_of_their_own_service(
    start: Callable[..., GatewayProcess], tmp_path: Path
) -> None:
    file = str(tmp_path / "keys.yaml")
    key = turnout("keys", "create", "--file", file, "--tenant", "search")
    gateway = start("a", auth={"keys_file": file})
    for given, right in ((key, True), ("sk-wrong", False)):
        with openai.OpenAI(api_key=given, base_url=f"{gateway.url}/v1", max_retries=0) as client:
            if right:
                assert [model.id for model in client.models.list()] == [MODEL]
            else:
                with pytest.raises(openai.AuthenticationError) as refused:
                    client.models.list()
                assert refused.value.code == "invalid_api_key"
        with anthropic.Anthropic(api_key=given, base_url=gateway.url, max_retries=0) as other:
            ask = functools.partial(
                other.messages.create, model=MODEL, max_tokens=1, messages=[{"role": "user", "content": "hello"}]
            )
            if right:
                assert ask().usage.output_tokens == 1
            else:
                with pytest.raises(anthropic.AuthenticationError, match="not known here"):
                    ask()


def test_tokens_follow_the_keys_of_their_provider(start: Callable[..., GatewayProcess], tmp_path: Path) -> None:
    provider, path = IdentityProvider(), tmp_path / "jwks.json"
    settings = provider.write(path)
    gateway = start("a", auth={"jwt": msgspec.structs.asdict(settings)})
    token = provider.token()
    assert status(gateway, {"authorization": f"Bearer {token}"}) == status(gateway, {"api-key": token}) == 200
    assert status(gateway, {"api-key": provider.token(tenant="other")}) == 403
    assert status(gateway, {"api-key": provider.token(aud="other")}) == 401
    provider.rotate("two")
    provider.write(path)
    in_force_after([gateway], provider.token(), 200)
    assert status(gateway, {"api-key": token}) == 401
    assert token.rpartition(".")[2] not in gateway.log.read_text()
