"""Errors of the control port, in the same shape as the inference port's, whoever raised them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import NamedTuple, TypeVar

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from router.policy.model import Unbuildable
from router.policy.transitions import ChangeRefused
from schedulers.errors import InvalidParams, UnknownPolicy
from statesync.errors import StaleGeneration, StoreUnavailable, UnknownPod, UnknownPool

_T = TypeVar("_T")

_SLICE = 25
"""Pods encoded between two turns of the event loop: half a millisecond."""


class ControlError(Exception):
    """An answer other than success that a route decided on."""

    def __init__(self, status: int, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param


class _Told(NamedTuple):
    status: int
    code: str
    param: str | None = None


_TOLD: Mapping[type[Exception], _Told] = {
    UnknownPolicy: _Told(422, "unknown_policy", "policy"),
    InvalidParams: _Told(422, "invalid_params", "params"),
    UnknownPool: _Told(404, "pool_not_found", "pool"),
    UnknownPod: _Told(404, "pod_not_found", "pod"),
    StaleGeneration: _Told(412, "stale_generation", "If-Match"),
    StoreUnavailable: _Told(503, "store_unavailable"),
}


def refusal(
    status: int, code: str, message: str, param: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """OpenAI's error object."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": param, "code": code}
    return JSONResponse({"error": error}, status, headers=headers)


async def in_slices(things: Sequence[_T], shown: Callable[[_T], dict[str, object]]) -> Response:
    """A JSON list of `things` as `shown`, made while everything else that is due runs in between.

    A thousand pods at once, checked and encoded as FastAPI does it, kept every stream waiting for 40 ms.
    """
    slices: list[bytes] = []
    for start in range(0, len(things), _SLICE):
        slices.append(msgspec.json.encode([shown(each) for each in things[start : start + _SLICE]])[1:-1])
        await asyncio.sleep(0)
    return Response(b"[" + b",".join(slices) + b"]", media_type="application/json")


def explain_errors(app: FastAPI) -> None:
    """Give `app` an answer for everything a route is known to raise; the guard answers for the rest."""

    @app.exception_handler(ControlError)
    async def decided(_: Request, error: ControlError) -> JSONResponse:
        return refusal(error.status, error.code, str(error), error.param)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        problems = [(".".join(str(part) for part in each["loc"][1:]), each["msg"]) for each in error.errors()]
        words = "; ".join(f"{where}: {what}" if where else str(what) for where, what in problems)
        return refusal(422, "invalid_request", words, problems[0][0] or None)

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        return refusal(error.status_code, code, str(error.detail), headers=error.headers)

    async def known(_: Request, error: Exception) -> JSONResponse:
        told = next(_TOLD[kind] for kind in type(error).__mro__ if kind in _TOLD)
        return refusal(told.status, told.code, str(error), told.param)

    for kind in _TOLD:
        app.add_exception_handler(kind, known)

    @app.exception_handler(Unbuildable)
    async def unbuildable(_: Request, error: Unbuildable) -> JSONResponse:
        told = _TOLD[InvalidParams if error.part == "params" else UnknownPolicy]
        return refusal(told.status, told.code, str(error), f"{error.place}.{error.part}")

    @app.exception_handler(ChangeRefused)
    async def refused(_: Request, error: ChangeRefused) -> JSONResponse:
        return refusal(error.status, error.code, str(error), error.param)
