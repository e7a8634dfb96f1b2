"""A pool with a list of pods: addresses in, pods out. No network here, not even to resolve a host name."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

from schedulers.types import Pod
from statesync.discovery.source import OnPods, PodTemplate
from statesync.errors import DiscoveryError

_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_.])?")
# RFC 952 allows no underscores in a host name, but docker compose makes such names.


class StaticSource:
    """Calls back once with the pods it was given."""

    def __init__(self, pods: Sequence[Pod]) -> None:
        self._pods = tuple(pods)

    async def run(self, on_pods: OnPods, /) -> None:
        """Call `on_pods` once and return: the list never changes."""
        on_pods(self._pods)


def pods_of(addresses: Sequence[str], template: PodTemplate | None = None) -> tuple[Pod, ...]:
    """The pods at `http://host:port` or `host:port` each. Raises DiscoveryError, which names all mistakes at once."""
    template = template or PodTemplate()
    pods: dict[str, Pod] = {}
    wrong: list[str] = []
    for text in addresses:
        try:
            host, port = host_and_port(text)
        except DiscoveryError as error:
            wrong.append(str(error))
            continue
        pod = template.pod(host, port)
        if pod.id in pods:
            wrong.append(f"pod {text!r}: {pod.address} is listed twice")
        pods[pod.id] = pod
    if wrong:
        raise DiscoveryError("; ".join(wrong))
    return tuple(pods.values())


def host_and_port(text: str) -> tuple[str, int]:
    """The host (lower case; IPv6 without brackets) and port of a pod's address. Raises DiscoveryError."""
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        host, port = url.hostname or "", url.port
    except ValueError as error:
        raise DiscoveryError(f"pod {text!r}: {error}") from None
    if problem := _problem(url, host, port):
        raise DiscoveryError(f"pod {text!r}: {problem}; write http://host:port")
    assert port is not None
    return (str(ipaddress.IPv6Address(host)) if ":" in host else host), port


def _problem(url: SplitResult, host: str, port: int | None) -> str:
    checks = (
        (url.scheme == "https", "TLS to pods is not supported yet"),
        (url.scheme not in ("http", "https"), f"unknown scheme {url.scheme!r}"),
        ("@" in url.netloc, "credentials do not belong in a pod's address"),
        (url.path not in ("", "/"), f"a pod's address has no path ({url.path!r}): request paths are passed on as is"),
        (bool(url.query or url.fragment), "a pod's address has no query or fragment"),
        (not host, "no host"),
        (not _is_host(host), f"{host!r} is neither a host name nor an IP address (IPv6 goes in brackets)"),
        (port is None, "no port"),
        (port == 0, "port 0 cannot be connected to"),
    )
    return next((problem for wrong, problem in checks if wrong), "")


def _is_host(host: str) -> bool:
    if ":" not in host:
        return _HOST.fullmatch(host) is not None
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True
