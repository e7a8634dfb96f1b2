"""The error table covers the error tree."""

from __future__ import annotations

from router.errors import (
    SHAPES,
    ClientError,
    GatewayError,
    MethodNotAllowed,
    Overload,
    PodFailure,
)
from tests.fakes.each_case import each_case


def tree(root: type[GatewayError]) -> list[type[GatewayError]]:
    """Every class under `root` that this package defines."""
    below = [kind for kind in root.__subclasses__() if kind.__module__ == "router.errors"]
    return below + [kind for child in below for kind in tree(child)]


ALL = tree(GatewayError)
FAMILIES = {ClientError, Overload, PodFailure}
"""Never raised directly: each subclass is more specific."""


def test_the_table_covers_the_tree_and_nothing_else() -> None:
    assert set(SHAPES) == set(ALL) - FAMILIES


@each_case("kind", [kind for kind in ALL if kind not in FAMILIES])
def test_every_error_has_an_answer(kind: type[GatewayError]) -> None:
    error = kind("why", param="p", retry_after_s=2.0)
    assert (error.message, str(error), error.param, error.retry_after_s) == ("why", "why", "p", 2.0)
    assert error.shape is SHAPES[kind]
    assert kind.__doc__


def test_a_client_gets_4xx_for_its_own_faults_429_where_it_should_come_later_and_5xx_for_all_others() -> None:
    for kind, shape in SHAPES.items():
        if shape.status == 429:
            assert issubclass(kind, Overload), kind
        else:
            assert (400 <= shape.status < 500) is issubclass(kind, ClientError), kind
        assert (shape.type == "invalid_request_error") is issubclass(kind, ClientError), kind


def test_a_subclass_elsewhere_has_the_row_of_its_base() -> None:
    class ReadOnly(MethodNotAllowed):
        allow = "GET"

    assert ReadOnly("x").shape is SHAPES[MethodNotAllowed]


def test_each_pod_failure_has_its_own_metric_label() -> None:
    reasons = [kind.reason for kind in PodFailure.__subclasses__()]
    assert len(set(reasons)) == len(reasons)
    assert PodFailure.reason not in reasons


def test_only_errors_that_leave_request_bytes_unread_close_the_connection() -> None:
    closing = {kind.__name__ for kind, shape in SHAPES.items() if shape.closes}
    assert closing == {"BadFraming", "BodyTooLarge", "HeadersTooLarge", "RequestTimeout", "VersionNotSupported"}
