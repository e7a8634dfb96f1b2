"""SDKs see the same through the gateway as from an engine."""

from __future__ import annotations

import pytest

from tests.clients.conftest import Clients
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.sim_process import MODEL, SimPods

OFFLINE = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}


@pytest.mark.needs("node")
@pytest.mark.parametrize("script", ["openai_sdk.mjs", "vercel_ai.mjs"])
def test_a_javascript_sdk_sees_the_same_through_the_gateway(
    clients: Clients, engines: SimPods, gateway: GatewayProcess, script: str
) -> None:
    direct = clients.seen(script, engines.urls[0], MODEL)
    assert clients.seen(script, gateway.url, MODEL) == direct
    assert direct["streamed"] in direct.values()


@pytest.mark.needs("node")
def test_the_anthropic_sdk_sees_the_same_but_its_own_class_of_error(
    clients: Clients, engines: SimPods, gateway: GatewayProcess
) -> None:
    """Case G 35: vLLM names its errors in OpenAI's way on /v1/messages, too."""
    direct = dict(clients.seen("anthropic_sdk.mjs", engines.urls[0], MODEL))
    through = dict(clients.seen("anthropic_sdk.mjs", gateway.url, MODEL))
    assert through.pop("unknown") == ["NotFoundError", 404, "not_found_error"]
    assert direct.pop("unknown")[:2] == ["NotFoundError", 404]
    assert through == direct
    assert direct["text"] == direct["streamed"]


@pytest.mark.parametrize("script", ["langchain_client.py", "litellm_client.py"])
def test_a_python_framework_sees_the_same_through_the_gateway(
    clients: Clients, engines: SimPods, gateway: GatewayProcess, script: str
) -> None:
    direct = clients.seen(script, engines.urls[0], MODEL, **OFFLINE)
    assert clients.seen(script, gateway.url, MODEL, **OFFLINE) == direct
    assert direct["plain"] == direct["streamed"]
    assert direct["unknown"].endswith("NotFoundError")
