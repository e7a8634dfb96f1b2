"""Every error of the state and the policies has an HTTP answer."""

from __future__ import annotations

import msgspec
import pytest
from fastapi import FastAPI

from router.control.answers import explain_errors, refusal
from schedulers import errors as scheduler_errors
from statesync import errors as state_errors
from tests.fakes.each_case import each_case


def explained() -> set[type[Exception]]:
    app = FastAPI()
    explain_errors(app)
    return {kind for kind in app.exception_handlers if isinstance(kind, type)}


@each_case(
    "kind",
    [
        scheduler_errors.UnknownPolicy,
        scheduler_errors.InvalidParams,
        state_errors.UnknownPool,
        state_errors.UnknownPod,
        state_errors.StaleGeneration,
        state_errors.StoreUnavailable,
    ],
)
def test_every_error_that_an_operator_can_cause_has_an_answer(kind: type[Exception]) -> None:
    assert kind in explained()


@pytest.mark.parametrize(("status", "kind"), [(404, "invalid_request_error"), (503, "server_error")])
def test_a_refusal_has_openais_shape(status: int, kind: str) -> None:
    answer = refusal(status, "a_code", "words", "param", {"x-more": "1"})
    assert answer.status_code == status
    assert answer.headers["x-more"] == "1"
    assert msgspec.json.decode(answer.body) == {
        "error": {"message": "words", "type": kind, "param": "param", "code": "a_code"}
    }
