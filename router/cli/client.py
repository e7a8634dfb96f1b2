"""A client of the control API for the CLI, with failures as messages of one line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from router.config.environment import CONTROL_VARIABLE, TOKEN_VARIABLE
from router.errors import SHAPES, UnknownPath
from statesync.engines.tls import BadTlsFiles, make_context
from statesync.settings import UpstreamTls

_TIMEOUT_S = 10.0
_NO_FILES = UpstreamTls()
_T = TypeVar("_T")


class ControlFailure(Exception):
    """The control port cannot be reached, or refused; the message says which and why."""


class ControlClient:
    """Requests to one replica's control port."""

    def __init__(
        self, url: str, environ: Mapping[str, str], tls: UpstreamTls = _NO_FILES, *, token_file: str = ""
    ) -> None:
        """`url` as `http://host:port`, or just `host:port`; `tls` is for `https://`. The token comes from the file, or
        without one from TURNOUT_CONTROL_TOKEN."""
        self._url = (url if "://" in url else f"http://{url}").rstrip("/")
        token = _read(token_file) if token_file else environ.get(TOKEN_VARIABLE, "")
        if not (token.isascii() and token.isprintable()):
            source = token_file or TOKEN_VARIABLE
            raise ControlFailure(f"{source} has a line break or other characters that no header can have")
        headers = {"authorization": f"Bearer {token}"} if token else {}
        try:
            self._http = httpx.Client(
                base_url=self._url,
                headers=headers,
                timeout=_TIMEOUT_S,
                # A proxy of the environment must not see the token, and could not reach a loopback port.
                trust_env=False,
                # Reading the authorities' certificates takes 40 ms, and plain HTTP needs none.
                verify=False if self._url.lower().startswith("http:") else make_context(tls),
            )
        except BadTlsFiles as error:
            raise ControlFailure(f"--{error.field.replace('_', '-')}: {error}") from None
        except httpx.InvalidURL as error:
            raise ControlFailure(f"--control {url}: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def pods(self) -> list[dict[str, object]]:
        """Every pod, as /admin/pods answers it. Raises ControlFailure."""
        return _decoded(self._ask("GET", "/admin/pods"), list[dict[str, object]])

    def pools(self) -> list[dict[str, object]]:
        """Every pool, as /admin/pools answers it. Raises ControlFailure."""
        return _decoded(self._ask("GET", "/admin/pools"), list[dict[str, object]])

    def metrics(self) -> str:
        """The page of metrics. Raises ControlFailure."""
        return self._ask("GET", "/metrics").decode()

    def plugins(self) -> dict[str, object]:
        """The plugin directory, as /admin/plugins answers it. Raises ControlFailure."""
        return _decoded(self._ask("GET", "/admin/plugins"), dict[str, object])

    def keys(self) -> list[dict[str, object]]:
        """Every API key of the shared state, as /admin/keys answers it. Raises ControlFailure."""
        return _decoded(self._ask("GET", "/admin/keys"), list[dict[str, object]])

    def create_key(self, key: Mapping[str, object], author: str) -> dict[str, object]:
        """Add an API key by its hash. Raises ControlFailure."""
        return _decoded(self._ask("POST", "/admin/keys", json=key, headers=_by(author)), dict[str, object])

    def revoke_key(self, name: str, author: str) -> dict[str, object]:
        """Revoke an API key. Raises ControlFailure."""
        path = f"/admin/keys/{quote(name, safe='')}"
        return _decoded(self._ask("DELETE", path, headers=_by(author)), dict[str, object])

    def policy(self, pool: str, part: str = "policy") -> dict[str, object]:
        """A pool's policy; with `part="trial"` its trial's report. Raises ControlFailure."""
        return _decoded(self._ask("GET", _path(pool, part)), dict[str, object])

    def history(self, pool: str) -> list[dict[str, object]]:
        """A pool's last records, newest first. Raises ControlFailure."""
        return _decoded(self._ask("GET", _path(pool, "history")), list[dict[str, object]])

    def change(
        self,
        method: str,
        pool: str,
        part: str,
        body: object | None = None,
        *,
        if_generation: int | None = None,
        options: Mapping[str, str] = MappingProxyType({}),
        author: str = "",
    ) -> dict[str, object]:
        """Change a pool. `part` is `policy`, `shadow`, `canary`, `promote` or `rollback`; `options` are those of every
        change, such as `note`. `author` is kept in the history.

        Raises ControlFailure, also when `if_generation` is stale.
        """
        headers = _by(author)
        if if_generation is not None:
            headers["if-match"] = f'"{if_generation}"'
        answer = self._ask(method, _path(pool, part), json=body, headers=headers, params=options)
        return _decoded(answer, dict[str, object])

    def _ask(
        self,
        method: str,
        path: str,
        json: object | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> bytes:
        try:
            answer = self._http.request(method, path, json=json, headers=headers, params=params)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ControlFailure(f"no control port at {self._url}: {error or type(error).__name__}") from None
        if answer.is_success:
            return answer.content
        raise ControlFailure(_refused(answer))


def _read(token_file: str) -> str:
    try:
        return Path(token_file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ControlFailure(f"--token-file {token_file}: {getattr(error, 'strerror', 'is not UTF-8 text')}") from None


def _by(author: str) -> httpx.Headers:
    """The header that names who made a change; none without a name."""
    name = " ".join(author.encode("utf-8", "replace").decode().split())
    # A header given as text would have to be ASCII.
    return httpx.Headers({"x-turnout-author": name} if author else {}, encoding="utf-8")


def _path(pool: str, part: str) -> str:
    return f"/admin/pools/{quote(pool, safe='')}/{part}"


def _decoded(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise ControlFailure(f"this is not a turnout control port: {error}") from None


def _refused(answer: httpx.Response) -> str:
    try:
        error = msgspec.json.decode(answer.content, type=dict[str, dict[str, object]])["error"]
        message = str(error["message"])
    except (msgspec.DecodeError, KeyError):
        return f"{answer.url} answered {answer.status_code} {answer.reason_phrase}"
    if error.get("code") == SHAPES[UnknownPath].code:
        port = str(answer.url.copy_with(raw_path=b"/")).rstrip("/")
        return f"{port} is an inference port; name the control port with --control or {CONTROL_VARIABLE}"
    if answer.status_code == 401:
        return f"{message}; set {TOKEN_VARIABLE}, or name a file with --token-file"
    return message
