"""The control API from a terminal: what the CLI asks, and its failures as one line each."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from router.config_file import TOKEN_VARIABLE

_TIMEOUT_S = 10.0
_T = TypeVar("_T")


class ControlFailure(Exception):
    """The control port cannot be reached, or refused; the message says which and why."""


class ControlClient:
    """A short conversation with one replica's control port."""

    def __init__(self, url: str, environ: Mapping[str, str]) -> None:
        """`url` as `http://host:port`, or just `host:port`. The token comes from TURNOUT_CONTROL_TOKEN."""
        self._url = (url if "://" in url else f"http://{url}").rstrip("/")
        token = environ.get(TOKEN_VARIABLE, "")
        headers = {"authorization": f"Bearer {token}"} if token else {}
        try:
            # A proxy of the environment must not see the token, and could not reach a loopback port.
            self._http = httpx.Client(base_url=self._url, headers=headers, timeout=_TIMEOUT_S, trust_env=False)
        except httpx.InvalidURL as error:
            raise ControlFailure(f"--control {url}: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def pods(self) -> list[dict[str, object]]:
        """Every pod, as /admin/pods answers it. Raises ControlFailure."""
        return _decoded(self._ask("GET", "/admin/pods"), list[dict[str, object]])

    def policy(self, pool: str) -> dict[str, object]:
        """A pool's policy, params and generation. Raises ControlFailure."""
        return _decoded(self._ask("GET", f"/admin/pools/{quote(pool, safe='')}/policy"), dict[str, object])

    def set_policy(
        self, pool: str, name: str, params: Mapping[str, object], if_generation: int | None
    ) -> dict[str, object]:
        """Replace a pool's policy. Raises ControlFailure, also when `if_generation` is stale."""
        headers = {} if if_generation is None else {"if-match": f'"{if_generation}"'}
        body = {"policy": name, "params": dict(params)}
        answer = self._ask("PUT", f"/admin/pools/{quote(pool, safe='')}/policy", json=body, headers=headers)
        return _decoded(answer, dict[str, object])

    def _ask(
        self, method: str, path: str, json: object | None = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        try:
            answer = self._http.request(method, path, json=json, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ControlFailure(f"no control port at {self._url}: {error or type(error).__name__}") from None
        if answer.is_success:
            return answer.content
        raise ControlFailure(_refused(answer))


def _decoded(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise ControlFailure(f"this is not a turnout control port: {error}") from None


def _refused(answer: httpx.Response) -> str:
    try:
        error = msgspec.json.decode(answer.content, type=dict[str, dict[str, object]])["error"]
        words = str(error["message"])
    except (msgspec.DecodeError, KeyError):
        return f"{answer.url} answered {answer.status_code} {answer.reason_phrase}"
    if answer.status_code == 401:
        return f"{words}; set {TOKEN_VARIABLE}"
    return words
