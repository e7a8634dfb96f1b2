"""Whether a request of the control port may be answered, and who sent it. Decides; sends nothing and writes nothing.

In this order: a page of another site (`site.py`), an address that failed too often, the token (`tokens.py`), its role
(`roles.py`). Each can only refuse. Probes pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from starlette.datastructures import Headers

from router.address import parse_listen
from router.control.address_pace import AddressPace
from router.control.roles import FoundRoute, needed
from router.control.site import site_problem
from router.control.tokens import Caller, ControlTokens, Role, UnknownToken
from router.settings import Control

FAILURES_PER_S: Final = 0.2
FAILURES_BURST: Final = 20
"""Wrong tokens of one address in a row; then one every five seconds."""

_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class AccessRefused(Exception):
    """The answer to a request that is refused."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        headers: Mapping[str, str] = _NO_HEADERS,
        caller: Caller | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers
        self.caller = caller
        """Whose token it has, where that is known."""


class ControlAccess:
    """The rules of one control port, and the addresses that failed lately."""

    def __init__(self, control: Control, tokens: ControlTokens, clock: Callable[[], float]) -> None:
        """`clock` is in seconds, monotonic."""
        self._tokens = tokens
        self._control = control
        self._own_name = None if tokens else parse_listen(control.listen).host
        self._failures = AddressPace(clock, per_s=FAILURES_PER_S, burst=FAILURES_BURST)

    def caller(self, found: FoundRoute, headers: Headers, *, address: str, what: str) -> Caller:
        """Who sends the request; `what` names it in messages. Raises AccessRefused."""
        role = needed(found, self._control)
        if role is Role.PROBE:
            return Caller("", role)
        site = (headers.getlist(name) for name in ("host", "origin", "sec-fetch-site"))
        if problem := site_problem(*site, own_name=self._own_name, pages=role is Role.OPEN):
            raise AccessRefused(*problem)
        if role is Role.OPEN:
            return Caller("", role)
        caller = self._known(headers, address)
        if caller.role < role:
            why = f"the token {caller.name!r} has the role {caller.role.word}, and {what} needs {role.word}"
            raise AccessRefused(403, "permission_denied", why, caller=caller)
        return caller

    def _known(self, headers: Headers, address: str) -> Caller:
        if wait_s := self._failures.wait_s(address):
            why = "this address sent too many wrong tokens; try again later, as `retry-after` says"
            raise AccessRefused(429, "too_many_failures", why, {"retry-after": str(math.ceil(wait_s))})
        try:
            return self._tokens.caller(headers.getlist("authorization"))
        except UnknownToken as error:
            self._failures.count(address)
            raise AccessRefused(401, "invalid_token", str(error), {"www-authenticate": "Bearer"}) from None
