"""A pool whose pods are the HTTP proxies of a Ray Serve application: `ray+http://HEAD:8265/APPLICATION`.

Here are the question to Ray's dashboard and what its answer says; `known.py` decides what a look changes. Of Ray itself
nothing is imported.

An application that is changed is DEPLOYING, or DEPLOY_FAILED after a bad change, while its earlier replicas serve on. A
deployment that was added may take minutes to start, and one of several may be ill. So an application comes to be there
when each of its deployments has a running replica, and then stays while any has.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec

from schedulers.types import Pod
from statesync.discovery.address import is_base, parse, shown
from statesync.discovery.known import KnownPods, Look, LookupEmpty, LookupFailed, LookupFound
from statesync.discovery.polling import follow
from statesync.discovery.source import NOT_READY, TERMINATING, OnPods, PodTemplate, ReadPage
from statesync.errors import DiscoveryError

PATH: Final = "/api/serve/applications/"
ANSWER_S: Final = 5.0
"""Seconds in which the dashboard must have answered."""
PORT: Final = 8265
"""The dashboard's port where the URL has none."""

_UNREADY: Final[Mapping[str, str]] = {"HEALTHY": "", "UNHEALTHY": NOT_READY, "DRAINING": TERMINATING}
"""What the pod of a proxy in this state has as `unready`. A proxy in another state has no pod."""


class RayTarget(NamedTuple):
    """An application, and the dashboard that knows of it."""

    dashboard: str
    """Its address, in a form that `address.parse` reads."""
    application: str
    token_file: str = ""
    """A file with the token of a cluster that wants one."""


class _Proxy(msgspec.Struct):
    node_ip: str | None = None
    status: str = ""


class _HttpOptions(msgspec.Struct):
    host: str = ""
    port: int = 8000


class _Replica(msgspec.Struct):
    state: str = ""


class _Deployment(msgspec.Struct):
    replicas: list[_Replica] = []


class _Application(msgspec.Struct):
    status: str = ""
    message: str = ""
    route_prefix: str | None = None
    deployments: dict[str, _Deployment] = {}

    def serves(self, served: bool) -> bool:
        """Whether requests get answers, of an application that `served` at the last look, or did not. A running one may
        have scaled to zero."""
        if self.status in ("RUNNING", "DELETING"):
            return self.status == "RUNNING"
        found = [any(each.state == "RUNNING" for each in one.replicas) for one in self.deployments.values()]
        return any(found) if served else bool(found) and all(found)


class _Details(msgspec.Struct):
    """The dashboard's answer, as far as it is needed: Ray's `ServeInstanceDetails`."""

    proxies: dict[str, _Proxy]
    applications: dict[str, _Application]
    http_options: _HttpOptions | None = None


def target_of(url: str) -> RayTarget:
    """The target of a `ray+http://` or `ray+https://` URL. Raises DiscoveryError, which says what to write."""
    place, _, query = url.removeprefix("ray+").partition("?")
    base, _, application = place.rpartition("/")
    key, _, token_file = query.partition("=")
    try:
        parts = urlsplit(base)
        checks = (
            ("@" in base, "a token belongs in a file; write ?token_file=/run/secrets/ray/token"),
            (not parts.hostname or not application, "which application? write ray+http://head:8265/llm"),
            (query and key != "token_file", f"unknown parameter {key!r}; there is token_file"),
            ("#" in url, "write %23 for #"),
        )
        if problem := next((text for wrong, text in checks if wrong), ""):
            raise DiscoveryError(problem)
        if parts.port is None and parts.scheme == "http":
            parts = parts._replace(netloc=f"{parts.netloc}:{PORT}")
        dashboard = parse(parts.geturl()).text
    except (DiscoveryError, ValueError) as error:
        raise DiscoveryError(f"discovery source {shown(url)}: {error}") from None
    return RayTarget(dashboard, unquote(application), unquote(token_file))


class RayServeSource:
    """Asks the dashboard periodically. `sleep` and `rng` are injected."""

    def __init__(
        self,
        target: RayTarget,
        read_page: ReadPage,
        *,
        interval_s: float = 5.0,
        template: PodTemplate | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._target = target
        self._read_page = read_page
        self._template = template or PodTemplate()
        self._sleep = sleep
        self._known = KnownPods(interval_s, rng)
        self._served = False
        """Whether the application served when the dashboard answered last."""

    async def run(self, on_pods: OnPods, /) -> None:
        """Look, call `on_pods` if the list changed, sleep, and repeat until cancelled."""
        await follow(f"{self._target.application} in Ray Serve", self.look, self._known, on_pods, self._sleep)

    async def look(self) -> Look:
        """Look once. Never raises for errors of the network or of the answer."""
        try:
            async with asyncio.timeout(ANSWER_S):
                page = await self._read_page(self._target.dashboard, PATH, self._target.token_file)
            return self._found(msgspec.json.decode(page, type=_Details))
        except TimeoutError:
            why = f"no answer within {ANSWER_S:g} s"
        except (OSError, DiscoveryError) as error:
            why = str(error)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            why = f"no answer of Ray Serve's: {error}"
        return LookupFailed(f"dashboard {self._target.dashboard}: {why}")

    def _found(self, details: _Details) -> Look:
        """What the answer says. Raises DiscoveryError for a proxy whose address is none."""
        name, http = self._target.application, details.http_options or _HttpOptions()
        application = details.applications.get(name)
        self._served = application is not None and application.serves(self._served)
        if application is None:
            return LookupEmpty(f"no application {name!r}; there are: {', '.join(details.applications) or 'none'}")
        if not self._served:
            return LookupEmpty(f"application {name!r} is {application.status}: {application.message[:200]}")
        prefix = (application.route_prefix or "").rstrip("/")
        if application.route_prefix is None or not is_base(prefix):
            return LookupEmpty(f"application {name!r} has route_prefix {application.route_prefix!r}; give it /")
        if http.host.startswith(("127.", "::1", "localhost")):
            return LookupEmpty(f"the proxies listen on {http.host}; set Serve's http_options.host to 0.0.0.0")
        pods = [
            self._pod(proxy.node_ip or "", http.port, prefix, unready=_UNREADY[proxy.status], node=node)
            for node, proxy in details.proxies.items()
            if proxy.status in _UNREADY
        ]
        # A node that came back under another id may be named twice for a while: the proxy that is ready counts.
        found = {pod.id: pod for pod in sorted(pods, key=lambda pod: not pod.unready)}
        if not found:
            return LookupEmpty("Serve has no proxy: see its proxy_location")
        return LookupFound(tuple(found.values()), float("inf"))

    def _pod(self, ip: str, port: int, prefix: str, *, unready: str, node: str) -> Pod:
        host, template = f"[{ip}]" if ":" in ip else ip, self._template
        at = parse(f"{host}:{port}", tls=template.tls, base=prefix + template.base)
        return template.pod_at(at, node=node)._replace(unready=unready)
