"""The protocol of a source of pods, and the source that a configuration names. No source lives here.

A source calls back with the FULL list of a pool's pods: as soon as it is known, then on every change. It never gives
differences: a receiver that compares full lists cannot miss a deletion.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from schedulers.types import Pod, PodId, Role
from statesync.discovery.address import PodAddress
from statesync.errors import DiscoveryError

NOT_READY: Final = "not_ready"
TERMINATING: Final = "terminating"
"""Values of `Pod.unready`: for now, and until the pod is gone."""

OnPods = Callable[[Sequence[Pod]], None]
"""Called with the full list, on the event loop. Must not block."""

_NO_LABELS: Mapping[str, str] = MappingProxyType({})


ReadPage = Callable[[str, str, str], Awaitable[bytes]]
"""Reads a page over HTTP: address, path, and the file of a token or nothing. Raises DiscoveryError and OSError."""


class PodSource(Protocol):
    """Where a pool's pods come from."""

    async def run(self, on_pods: OnPods, /) -> None:
        """Call `on_pods` with the full list, first as soon as it is known and then on change.

        Runs until cancelled, and releases its resources then; returns early if nothing can ever change. Never raises
        for errors of the network: the pods known so far stay.
        """


class PodTemplate(NamedTuple):
    """The fields that a pool's configuration gives to all its pods; the source adds each one's address."""

    models: frozenset[str] = frozenset()
    role: Role = "both"
    labels: Mapping[str, str] = _NO_LABELS
    max_inflight: int | None = None
    tls: bool = False
    """Pods whose address does not say how they speak do so over TLS."""
    base: str = ""
    """Precedes the paths of pods whose address has none: `/base`, or empty."""

    def pod(self, host: str, port: int, **labels: str) -> Pod:
        """The pod at this host (an IPv6 address without brackets) and port; `labels` are added to the pool's own."""
        return self.pod_at(PodAddress(host, port, self.tls, self.base), **labels)

    def pod_at(self, at: PodAddress, **labels: str) -> Pod:
        """The pod at this address; `labels` are added to the pool's own."""
        address = at.text
        own = MappingProxyType({**labels, **self.labels}) if labels else self.labels
        return Pod(PodId(address), address, self.models, self.role, own, self.max_inflight)


def open_source(
    pods: Sequence[str] = (),
    source: str = "",
    *,
    interval_s: float = 5.0,
    nameservers: Sequence[str] = (),
    template: PodTemplate | None = None,
    read_page: ReadPage | None = None,
) -> PodSource:
    """The source that a pool's `pods` (a list of addresses) or `discovery.source` (a URL) names.

    `interval_s` is the longest time between two looks; `nameservers` are the addresses of DNS servers to use instead of
    the system's, with or without a port; `read_page` is for sources that run and ask over HTTP. Raises DiscoveryError,
    which says what to write instead.
    """
    template = template or PodTemplate()
    if bool(pods) == bool(source):
        raise DiscoveryError("a pool needs either `pods` or `discovery.source`" + (", not both" if pods else ""))
    if pods:
        return _open_static(pods, template)
    scheme = source.partition("://")[0] if "://" in source else ""
    if scheme not in _SOURCES:
        known = ", ".join(f"{name}://" for name in _SOURCES)
        raise DiscoveryError(f"discovery source {source!r}: unknown scheme; write one of {known}")
    return _SOURCES[scheme](source, _Options(interval_s, nameservers, template, read_page or _unread))


class _Options(NamedTuple):
    interval_s: float
    nameservers: Sequence[str]
    template: PodTemplate
    read_page: ReadPage


async def _unread(address: str, path: str, token_file: str) -> bytes:
    raise DiscoveryError("this source was opened to be checked, not to run")


def _open_static(pods: Sequence[str], template: PodTemplate) -> PodSource:
    from statesync.discovery.static import StaticSource, pods_of

    return StaticSource(pods_of(pods, template))


def _open_dns(url: str, options: _Options) -> PodSource:
    # Imported when needed: dnspython takes a while to load, and first configurations mostly have a list of pods.
    from statesync.discovery.dns.source import DnsSource, name_of, open_resolver, server_of

    resolver = open_resolver([server_of(each) for each in options.nameservers] or None)
    return DnsSource(name_of(url), interval_s=options.interval_s, template=options.template, resolver=resolver)


def _open_kubernetes(url: str, options: _Options) -> PodSource:
    from statesync.discovery.kubernetes.source import KubernetesSource
    from statesync.discovery.kubernetes.target import target_of

    return KubernetesSource(target_of(url), template=options.template)


def _open_ray_serve(url: str, options: _Options) -> PodSource:
    from statesync.discovery.ray_serve import RayServeSource, target_of

    target = target_of(url)
    return RayServeSource(target, options.read_page, interval_s=options.interval_s, template=options.template)


_SOURCES: Mapping[str, Callable[[str, _Options], PodSource]] = {
    "dns": _open_dns,
    "dns+srv": _open_dns,
    "kubernetes": _open_kubernetes,
    "kubernetes+service": _open_kubernetes,
    "ray+http": _open_ray_serve,
    "ray+https": _open_ray_serve,
}
"""The opener of each URL scheme."""
