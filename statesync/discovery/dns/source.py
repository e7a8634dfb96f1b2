"""A pool whose pods a DNS name lists: `dns://vllm.ns.svc:8000` (A/AAAA), `dns+srv://_http._tcp.vllm.ns.svc` (SRV).

Here are the DNS queries and how answers become pods; `known.py` decides what a look changes. Names are resolved as
Kubernetes expects: with the search domains and ndots of /etc/resolv.conf.

Two decisions. A dual-stack headless service answers with an A and an AAAA record for each pod, without a link between
them. Counting both would make two pods of one, so AAAA counts only if there is no A. Of SRV records only the group with
the lowest priority value is used (RFC 2782: the others are for when it is unreachable, and standby pods belong in a
pool of their own); the weight becomes the label `srv_weight`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver
from dns.rdtypes.IN.SRV import SRV

from schedulers.types import Pod
from statesync.discovery import address as addresses
from statesync.discovery.dns.wire import LeanNameserver, addresses_of
from statesync.discovery.known import KnownPods, Look, LookupEmpty, LookupFailed, LookupFound
from statesync.discovery.polling import follow
from statesync.discovery.source import OnPods, PodTemplate
from statesync.errors import DiscoveryError

_log = logging.getLogger("turnout.discovery")

_ADDRESS_TYPES = (dns.rdatatype.A, dns.rdatatype.AAAA)
_UDP_PAYLOAD_BYTES = 1232  # dnsflagday.net/2020: large enough for about 70 A records, small enough to never fragment
_TARGETS_AT_ONCE = 16
_DNS_PORT = 53
_MADE_AT_ONCE = 250
"""Most pods made in one turn of the event loop."""


class DnsName(NamedTuple):
    """A name to look up."""

    name: str
    port: int | None
    """None: SRV records have the ports."""


class _Addresses(NamedTuple):
    hosts: tuple[str, ...]
    ttl_s: float
    failure: str = ""
    """Why the query got no answer; empty if it got one."""


def server_of(text: str) -> tuple[str, int]:
    """Address and port of a DNS server written `10.0.0.10`, `127.0.0.1:8600` or `[::1]:53`. Raises DiscoveryError."""
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not _is_address(host) or parts.netloc != text or "@" in text or text.endswith(":"):
        raise DiscoveryError(f"DNS server {text!r}: write its address, as in 10.0.0.10, 127.0.0.1:8600 or [::1]:53")
    return host, port or _DNS_PORT


def name_of(url: str) -> DnsName:
    """The name in a `dns://` or `dns+srv://` URL. Raises DiscoveryError, which says what to write."""
    try:
        parts = urlsplit(url)
        name, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise DiscoveryError(f"discovery source {url!r}: {error}") from None
    srv = parts.scheme == "dns+srv"
    checks = (
        ("@" in parts.netloc or parts.path not in ("", "/") or parts.query or parts.fragment, "only a name and a port"),
        (not name, "no name"),
        (_is_address(name), "an address needs no look-up; list it under `pods`"),
        (srv and port is not None, f"SRV records carry the ports; write dns+srv://{name}"),
        (srv and not name.startswith("_"), f"an SRV name has service and protocol; write dns+srv://_http._tcp.{name}"),
        (not srv and name.startswith("_"), f"this is an SRV name; write dns+srv://{name}"),
        (not srv and not port, f"no port; write dns://{name}:8000, or dns+srv://_http._tcp.{name} for SRV records"),
    )
    problem = next((text for wrong, text in checks if wrong), "") or _bad_name(name)
    if problem:
        raise DiscoveryError(f"discovery source {url!r}: {problem}")
    return DnsName(name, port)


def open_resolver(
    nameservers: Sequence[tuple[str, int]] | None = None, *, timeout_s: float = 5.0
) -> dns.asyncresolver.Resolver:
    """A resolver with the system's resolv.conf, or with these (address, port) pairs alone. Raises DiscoveryError."""
    try:
        resolver = dns.asyncresolver.Resolver(configure=nameservers is None)
    except dns.resolver.NoResolverConfiguration as error:
        raise DiscoveryError(f"no DNS resolver is configured: {error}") from error
    if nameservers is None:
        nameservers = [(str(address), resolver.port) for address in resolver.nameservers]
    resolver.nameservers = [LeanNameserver(address, port) for address, port in nameservers]
    resolver.use_search_by_default = True
    resolver.lifetime = timeout_s
    resolver.timeout = min(resolver.timeout, timeout_s)
    resolver.use_edns(0, 0, _UDP_PAYLOAD_BYTES)
    return resolver


class DnsSource:
    """Looks a name up periodically. `sleep` and `rng` are injected; `resolver` defaults to the system's."""

    def __init__(
        self,
        name: DnsName,
        *,
        interval_s: float = 5.0,
        template: PodTemplate | None = None,
        resolver: dns.asyncresolver.Resolver | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._name = name
        self._template = template or PodTemplate()
        self._resolver = resolver or open_resolver()
        self._sleep = sleep
        self._known = KnownPods(interval_s, rng)
        self._target_hosts: dict[str, str] = {}
        self._pods: dict[str, Pod] = {}
        """The pods of the last answer, by address."""

    async def run(self, on_pods: OnPods, /) -> None:
        """Look, call `on_pods` if the list changed, sleep, and repeat until cancelled."""
        await follow(self._name.name, self.look, self._known, on_pods, self._sleep)

    async def look(self) -> Look:
        """Look once. Never raises for errors of DNS."""
        if self._name.port is None:
            return await self._look_srv()
        found = await self._addresses(self._name.name)
        if found.failure:
            return LookupFailed(found.failure)
        if not found.hosts:
            return LookupEmpty(f"{self._name.name} has no A or AAAA records")
        return LookupFound(await self._pods_at(found.hosts, self._name.port), found.ttl_s)

    async def _pods_at(self, hosts: Sequence[str], port: int) -> tuple[Pod, ...]:
        """The pods at these addresses. Making one takes 2 us, so known ones are kept, and many are made over several
        turns of the loop."""
        before, pods = self._pods, dict[str, Pod]()
        made = 0
        for host in hosts:
            pod = before.get(host)
            if pod is None:
                pod = self._template.pod(host, port)
                made += 1
                if not made % _MADE_AT_ONCE:
                    await asyncio.sleep(0)
            pods[host] = pod
        self._pods = pods
        return tuple(pods.values())

    async def _look_srv(self) -> Look:
        try:
            answer = await self._resolver.resolve(self._name.name, dns.rdatatype.SRV)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return LookupEmpty(f"{self._name.name} has no SRV records")
        except (dns.exception.DNSException, OSError) as error:
            return LookupFailed(str(error))
        records = lowest_priority([cast("SRV", record) for record in answer])
        limit = asyncio.Semaphore(_TARGETS_AT_ONCE)
        found = await asyncio.gather(*(self._target(record, limit) for record in records))
        pods = {pod.id: pod for pod, _ in found if pod is not None}
        # Only addresses in use are kept, so that memory grows with the answer only.
        self._target_hosts = {pod.labels["srv_target"]: _host(pod) for pod in pods.values()}
        if records and not pods:
            return LookupFailed("none of the SRV targets has an address")
        if not pods:
            return LookupEmpty(f"{self._name.name} says that the service is not available here")
        return LookupFound(
            tuple(pods.values()), min([float(answer.chaining_result.minimum_ttl), *(ttl for _, ttl in found)])
        )

    async def _target(self, record: SRV, limit: asyncio.Semaphore) -> tuple[Pod | None, float]:
        """The pod behind a record, at ONE address: a target is one pod, even with IPv4 and IPv6.

        Addresses are resolved here and not when connecting, so that no request ever waits for DNS.
        """
        target = record.target.to_text(omit_final_dot=True).lower()
        async with limit:
            found = await self._addresses(record.target)
        host = self._target_hosts.get(target, "") if found.failure else next(iter(found.hosts), "")
        if not host:
            _log.warning("discovery of %s: no address of %s: %s", self._name.name, target, found.failure or "none")
            return None, found.ttl_s
        labels = {"srv_target": target, "srv_weight": str(record.weight)}
        return self._template.pod(host, record.port, **labels), found.ttl_s

    async def _addresses(self, name: str | dns.name.Name) -> _Addresses:
        """A records, or AAAA if there is no A. A failed AAAA query is no failure if there is an A."""
        v4, v6 = await asyncio.gather(*(self._ask(name, kind) for kind in _ADDRESS_TYPES))
        if v4.hosts or v4.failure:
            return v4
        return v6

    async def _ask(self, name: str | dns.name.Name, kind: dns.rdatatype.RdataType) -> _Addresses:
        try:
            answer = await self._resolver.resolve(name, kind)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return _Addresses((), float("inf"))
        except (dns.exception.DNSException, OSError) as error:
            return _Addresses((), float("inf"), str(error) or type(error).__name__)
        ttl_s = float(answer.chaining_result.minimum_ttl)
        if (listed := addresses_of(answer.response)) is not None:
            return _Addresses(listed.hosts, min(ttl_s, listed.ttl_s))
        hosts = dict.fromkeys(str(ipaddress.ip_address(record.to_text())) for record in answer)
        return _Addresses(tuple(hosts), ttl_s)


def lowest_priority(records: Sequence[SRV]) -> list[SRV]:
    """The records to use first; none if the only target is the root, which RFC 2782 defines as 'not available'."""
    usable = [record for record in records if record.target != dns.name.root]
    first = min((record.priority for record in usable), default=0)
    return [record for record in usable if record.priority == first]


def _host(pod: Pod) -> str:
    return addresses.of(pod.address).host


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _bad_name(name: str) -> str:
    try:
        dns.name.from_text(name)
    except dns.exception.DNSException as error:
        return str(error)
    return ""
