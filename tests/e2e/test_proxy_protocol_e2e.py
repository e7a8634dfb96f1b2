"""The PROXY protocol from a real HAProxy, which balances TCP connections and passes TLS through."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from string import Template

import httpx
import pytest

from loadtests.processes.owned import ANY_CORE, Owned
from loadtests.sim.ports import free_ports
from tests.fakes.certificates import Authority
from tests.fakes.echo_pod import echo_pod
from tests.fakes.gateway_process import GatewayProcess, config, running
from tests.fakes.programs import need
from tests.fakes.waiting import DEADLINE_S, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.needs("openssl", "haproxy")]

HOST, PROXY, CLIENT = "127.0.0.1", "127.0.0.2", "127.0.0.3"

HAPROXY = Template("""\
defaults
    mode tcp
    timeout connect 30s
    timeout client 180s
    timeout server 180s
listen one
    bind $host:$one
    server gateway $host:$gateway source $proxy send-proxy
listen two
    bind $host:$two
    bind [::1]:$two
    server gateway $host:$gateway source $proxy send-proxy-v2 check check-send-proxy inter 100ms
listen noted
    bind $host:$noted
    server gateway $host:$gateway source $proxy send-proxy-v2 proxy-v2-options ssl,crc32c,unique-id
    unique-id-format %[uuid()]
""")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def gateway(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    pair = authority.issue(f"IP:{HOST},IP:::1")
    with echo_pod() as pod:
        settings = config(
            [pod],
            tls={"cert_file": str(pair.cert), "key_file": str(pair.key)},
            trusted_proxies=[PROXY],
            proxy_protocol=True,
            logging={"format": "json", "level": "info", "access": True},
        )
        with running(settings, tmp_path_factory.mktemp("gateway")) as gateway:
            yield gateway


@pytest.fixture(scope="module")
def haproxy(gateway: GatewayProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """HAProxy's ports by name."""
    directory = tmp_path_factory.mktemp("haproxy")
    ports = dict(zip(("one", "two", "noted"), free_ports(3), strict=True))
    file = directory / "haproxy.cfg"
    file.write_text(HAPROXY.substitute(ports, host=HOST, proxy=PROXY, gateway=gateway.port))
    with Owned([need("haproxy"), "-db", "-f", str(file)], ANY_CORE, directory / "haproxy.log") as process:
        wait_for("haproxy listens", lambda: not process.ended() and _listens(ports["noted"]))
        yield ports


def _listens(port: int) -> bool:
    with httpx.Client(trust_env=False, verify=False) as client:
        try:
            client.get(f"http://{HOST}:{port}/")
        except httpx.ConnectError:
            return False
        except httpx.TransportError:
            return True
    return True


def forwarded(authority: Authority, url: str, source: str | None = CLIENT) -> tuple[str, str]:
    """What the pod got of a client with this address: X-Forwarded-For and -Proto."""
    transport = httpx.HTTPTransport(verify=ssl.create_default_context(cafile=str(authority.cert)), local_address=source)
    with httpx.Client(transport=transport, timeout=DEADLINE_S) as client:
        spoofed = {"x-forwarded-for": "198.51.100.7"}
        answer = client.post(f"{url}/v1/chat/completions", json={"model": "echo"}, headers=spoofed)
    headers = answer.raise_for_status().json()["headers"]
    return headers["x-forwarded-for"], headers["x-forwarded-proto"]


@pytest.mark.parametrize("version", ["one", "two", "noted"])
def test_pods_and_access_log_get_the_client_that_the_proxy_names(
    gateway: GatewayProcess, haproxy: dict[str, int], authority: Authority, version: str
) -> None:
    before = _logged(gateway)
    assert forwarded(authority, f"https://{HOST}:{haproxy[version]}") == (CLIENT, "https")
    wait_for("it is logged", lambda: len(_logged(gateway)) > len(before))
    assert _logged(gateway)[-1] == CLIENT


def test_a_client_of_ipv6_is_named(gateway: GatewayProcess, haproxy: dict[str, int], authority: Authority) -> None:
    assert forwarded(authority, f"https://[::1]:{haproxy['two']}", source="::1") == ("::1", "https")


def test_who_is_no_proxy_speaks_without_a_header(gateway: GatewayProcess, authority: Authority) -> None:
    assert forwarded(authority, gateway.url) == (CLIENT, "https")


def test_a_proxy_without_a_header_is_closed(gateway: GatewayProcess, authority: Authority) -> None:
    with pytest.raises(httpx.TransportError):
        forwarded(authority, gateway.url, source=PROXY)
    assert any("without a PROXY header" in line["msg"] for line in gateway.lines())


def _logged(gateway: GatewayProcess) -> list[str]:
    """The clients in the access log, of requests that reached a pod."""
    return [line["client"] for line in gateway.lines() if line.get("logger") == "turnout.access" and line["pod"] != "-"]
