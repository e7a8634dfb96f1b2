"""Errors of the control port, all in the shape of the inference port's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from router.policy.model import Unbuildable
from router.policy.transitions import ChangeRefused
from schedulers.errors import InvalidParams, UnknownPolicy
from statesync.errors import StaleGeneration, StoreUnavailable, UnknownPod, UnknownPool

_T = TypeVar("_T")

_SLICE = 25
"""Items encoded between two turns of the event loop: half a millisecond for pods."""


class ControlError(Exception):
    """An error answer that a route decided on."""

    def __init__(self, status: int, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param


class _Answer(NamedTuple):
    status: int
    code: str
    param: str | None = None


_ANSWERS: Mapping[type[Exception], _Answer] = {
    UnknownPolicy: _Answer(422, "unknown_policy", "policy"),
    InvalidParams: _Answer(422, "invalid_params", "params"),
    UnknownPool: _Answer(404, "pool_not_found", "pool"),
    UnknownPod: _Answer(404, "pod_not_found", "pod"),
    StaleGeneration: _Answer(412, "stale_generation", "If-Match"),
    StoreUnavailable: _Answer(503, "store_unavailable"),
}


def _worded(problem: Mapping[str, Any]) -> tuple[str, str]:
    """The field and what is wrong with it. Of what is no JSON the place is a number, which is no field."""
    where = [str(part) for part in problem["loc"][1:]]
    if problem["type"] == "json_invalid":
        return "", f"the body is no JSON: {problem['ctx']['error']} (character {''.join(where)})"
    return ".".join(where), str(problem["msg"])


def refusal(
    status: int, code: str, message: str, param: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """OpenAI's error object."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": param, "code": code}
    return JSONResponse({"error": error}, status, headers=headers)


async def in_slices(things: Sequence[_T], describe: Callable[[_T], dict[str, object]]) -> bytes:
    """A JSON list of `things`, each by `describe`, encoded in slices between which the event loop runs other work.

    FastAPI's own encoding of a thousand pods delayed every stream by 40 ms.
    """
    slices: list[bytes] = []
    for start in range(0, len(things), _SLICE):
        slices.append(msgspec.json.encode([describe(each) for each in things[start : start + _SLICE]])[1:-1])
        await asyncio.sleep(0)
    return b"[" + b",".join(slices) + b"]"


def explain_errors(app: FastAPI) -> None:
    """Give `app` an answer for every exception that routes are known to raise; the guard answers for the rest."""

    @app.exception_handler(ControlError)
    async def decided(_: Request, error: ControlError) -> JSONResponse:
        return refusal(error.status, error.code, str(error), error.param)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        problems = [_worded(each) for each in error.errors()]
        message = "; ".join(f"{where}: {what}" if where else what for where, what in problems)
        return refusal(422, "invalid_request", message, problems[0][0] or None)

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        return refusal(error.status_code, code, str(error.detail), headers=error.headers)

    async def known(_: Request, error: Exception) -> JSONResponse:
        answer = next(_ANSWERS[kind] for kind in type(error).__mro__ if kind in _ANSWERS)
        return refusal(answer.status, answer.code, str(error), answer.param)

    for kind in _ANSWERS:
        app.add_exception_handler(kind, known)

    @app.exception_handler(Unbuildable)
    async def unbuildable(_: Request, error: Unbuildable) -> JSONResponse:
        answer = _ANSWERS[InvalidParams if error.part == "params" else UnknownPolicy]
        return refusal(answer.status, answer.code, str(error), f"{error.place}.{error.part}")

    @app.exception_handler(ChangeRefused)
    async def refused(_: Request, error: ChangeRefused) -> JSONResponse:
        return refusal(error.status, error.code, str(error), error.param)
