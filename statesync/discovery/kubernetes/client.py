"""Requests to an API server: the official client, its credentials, and the meaning of its answers. Does not decide what
to request.

The client is loaded when it is first needed (0.4 s, in a thread) and used for kubeconfigs, service accounts, exec
plugins and TLS. Its models are not used: they would take another second to load, 25 MB, and 3 ms a pod.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from statesync.discovery.kubernetes.watch import FORBIDDEN, UNAUTHORIZED, WatchFailure
from statesync.errors import DiscoveryError

_log = logging.getLogger("turnout.discovery")

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CONNECT_S: Final = 10.0
"""Seconds for connecting."""
LIST_S: Final = 60.0
"""Seconds for a page of a list."""
MAX_PAGE_BYTES: Final = 256 * 1024 * 1024
_MAX_COMPLAINT_BYTES = 65536


class ApiFailed(DiscoveryError):
    """The API server did not answer, or refused."""

    def __init__(self, failure: WatchFailure) -> None:
        super().__init__(failure.why)
        self.failure = failure


class Access(NamedTuple):
    """The source of the credentials."""

    kubeconfig: str = ""
    context: str = ""
    environ: Mapping[str, str] = os.environ
    account: Path = SERVICE_ACCOUNT

    def file(self) -> str:
        """The kubeconfig to use, one or several; empty: the pod's own service account."""
        named = self.kubeconfig or self.environ.get("KUBECONFIG", "")
        in_cluster = "KUBERNETES_SERVICE_HOST" in self.environ and not self.context
        return named or ("" if in_cluster else str(Path.home() / ".kube" / "config"))


class ApiStatus(msgspec.Struct, rename="camel"):
    """An API server's error (v1 Status), in an answer or in an event."""

    code: int = 0
    reason: str = ""
    message: str = ""
    details: dict[str, Any] | None = None

    def failure(self) -> WatchFailure:
        """The error as an input of `watch.py`."""
        wait_s = (self.details or {}).get("retryAfterSeconds", 0)
        return WatchFailure(f"{self.code} {self.reason}: {self.message}", self.code, float(wait_s or 0))


_decode_status = msgspec.json.Decoder(ApiStatus).decode


class ApiServer:
    """A connection to one API server, with the credentials of `access`. Not to be shared: `renew` closes it."""

    def __init__(self, access: Access, *, quiet_s: float) -> None:
        """`quiet_s`: seconds without a byte after which a watch counts as dead."""
        self._access = access
        self._quiet_s = quiet_s
        self._client: Any = None
        self._official: _Official | None = None
        self.namespace = "default"
        """The gateway's own namespace; known after the first request."""

    async def open(self) -> None:
        """Load the client and the credentials, unless that is done. Raises ApiFailed."""
        if self._client is not None:
            return
        try:
            if self._official is None:
                self._official = await asyncio.to_thread(_official)
            official = self._official
            configuration = official.Configuration()
            await self._load(official, configuration)
            # In a thread, as it reads all the machine's certificate authorities: 30 ms.
            self._client = await asyncio.to_thread(official.ApiClient, configuration)
        except Exception as error:  # any problem with a file, a plugin or a certificate
            raise ApiFailed(WatchFailure(f"no credentials: {type(error).__name__}: {error}")) from error
        self._client.user_agent = "turnout"

    async def _load(self, official: _Official, configuration: Any) -> None:
        file, account = self._access.file(), self._access.account
        if file:
            context = self._access.context or None
            loader = await official.load_kube_config(file, context, configuration, persist_config=False)
            self.namespace = loader.current_context["context"].get("namespace") or "default"
            return
        token, authority = str(account / "token"), str(account / "ca.crt")
        official.InClusterConfigLoader(token, authority, environ=self._access.environ).load_and_set(configuration)
        self.namespace = (account / "namespace").read_text().strip()

    async def renew(self) -> None:
        """Close; the credentials are read again before the next request."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def list(self, path: str, params: Mapping[str, str]) -> bytes:
        """A page. Raises ApiFailed."""
        pieces: list[bytes] = []
        size = 0
        async with self._asked(path, params, total=LIST_S) as response:
            async for data in response.content.iter_any():
                pieces.append(data)
                size += len(data)
                if size > MAX_PAGE_BYTES:
                    raise ApiFailed(WatchFailure(f"GET {path}: more than {MAX_PAGE_BYTES} bytes"))
        return b"".join(pieces)

    async def watch(self, path: str, params: Mapping[str, str], timeout_s: int) -> AsyncGenerator[bytes]:
        """The bytes of a watch, as they arrive. It ends in the same way if it is complete, broken or silent. Raises
        ApiFailed if it does not begin."""
        asked = {**params, "watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(timeout_s)}
        # The server ends it in time; if it does not, this limit does.
        total_s = timeout_s + CONNECT_S + self._quiet_s
        async with self._asked(path, asked, total=total_s, sock_read=self._quiet_s) as response:
            assert self._official is not None
            try:
                async for data in response.content.iter_any():
                    yield data
            except (TimeoutError, OSError, self._official.aiohttp.ClientError) as error:
                _log.debug("watch of %s: %r", path, error)

    @asynccontextmanager
    async def _asked(self, path: str, params: Mapping[str, str], **limits: float) -> AsyncIterator[Any]:
        await self.open()
        official = self._official
        assert official is not None
        url = await self._request(path, params)
        try:
            timeout = official.aiohttp.ClientTimeout(sock_connect=CONNECT_S, **limits)
            response = (await self._client.call_api(*url, _request_timeout=timeout)).response
            try:
                if response.status != 200:
                    raise ApiFailed(await self._complaint(response, path))
                yield response
            finally:
                response.close()
        except (TimeoutError, OSError, official.aiohttp.ClientError) as error:
            raise ApiFailed(WatchFailure(f"GET {path}: {type(error).__name__}: {error}")) from error

    async def _request(self, path: str, params: Mapping[str, str]) -> Any:
        """The request with its token, which is read again when it may have been rotated."""
        query, accept = list(params.items()), {"Accept": "application/json"}
        try:
            return await self._client.param_serialize(
                "GET", path, query_params=query, header_params=accept, auth_settings=["BearerToken"]
            )
        except Exception as error:
            raise ApiFailed(WatchFailure(f"no credentials: {type(error).__name__}: {error}")) from error

    async def _complaint(self, response: Any, path: str) -> WatchFailure:
        text = (await response.content.read(_MAX_COMPLAINT_BYTES)).decode("utf-8", "replace")
        try:
            text = _decode_status(text).message or text
        except msgspec.DecodeError:
            text = text[:200]
        wait = response.headers.get("Retry-After", "")
        hint = _HINTS.get(response.status, "")
        why = f"GET {path}: {response.status} {text.strip()}{hint and f' ({hint})'}"
        return WatchFailure(why, response.status, float(wait) if wait.isdecimal() else 0.0)

    async def aclose(self) -> None:
        """Close."""
        await self.renew()


_HINTS: Mapping[int, str] = {
    UNAUTHORIZED: "the credentials are read again",
    FORBIDDEN: "the service account needs a Role with the verbs list and watch on pods, or, for a Service, on "
    "endpointslices of discovery.k8s.io; for all namespaces a ClusterRole",
}


class _Official(NamedTuple):
    """The parts of other packages that are used."""

    aiohttp: Any
    ApiClient: Any
    Configuration: Any
    load_kube_config: Any
    InClusterConfigLoader: Any


def _official() -> _Official:
    return _Official(
        importlib.import_module("aiohttp"),
        importlib.import_module("kubernetes.aio.client.api_client").ApiClient,
        importlib.import_module("kubernetes.aio.client.configuration").Configuration,
        importlib.import_module("kubernetes.aio.config").load_kube_config,
        importlib.import_module("kubernetes.aio.config.incluster_config").InClusterConfigLoader,
    )
