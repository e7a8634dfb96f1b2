"""What a replica's two ports speak below HTTP, from its settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from router.dataplane.exchange import Exchange
from router.dataplane.http.forwarded import TrustedProxies
from router.dataplane.http.listener import Listener
from router.dataplane.last_requests import LastRequests
from router.ports.acceptor import PortOptions
from router.ports.tls import PortTls
from router.settings import GRPC, Settings


class PortParts(NamedTuple):
    """The inference port and the control port."""

    inference: PortOptions
    control: PortTls | None
    proxies: TrustedProxies

    @property
    def tls(self) -> Sequence[PortTls]:
        """Of the ports that speak it."""
        return [port for port in (self.inference.tls, self.control) if port is not None]


def read_ports(settings: Settings, *, picker: bool = False) -> PortParts:
    """Read the files of both ports. An endpoint picker's speaks nothing but gRPC. Raises BadTlsFiles."""
    tls, control = settings.tls, settings.control.tls
    grpc = any(pool.kind == GRPC for pool in settings.pools)
    protocols = ("h2",) if picker else ("h2", "http/1.1") if grpc else ("http/1.1",)
    proxies = TrustedProxies(settings.trusted_proxies, https=tls is not None)
    return PortParts(
        PortOptions(
            PortTls("inference", tls, protocols) if tls is not None else None,
            proxies.trusts if settings.proxy_protocol else None,
        ),
        PortTls("control", control) if control is not None else None,
        proxies,
    )


def retire_on_change(tls: PortTls | None, listener: Listener[Exchange]) -> None:
    """When other clients than before may be let in, connections that are open close after one more request."""
    if tls is not None:
        last = LastRequests(listener.requests)
        tls.on_clients_changed = lambda: listener.retire(last)
