"""One tree, one table, and the table covers the tree."""

from __future__ import annotations

import pytest

from router.errors import (
    SHAPES,
    ClientError,
    GatewayError,
    MethodNotAllowed,
    Overload,
    PodFailure,
)


def tree(root: type[GatewayError]) -> list[type[GatewayError]]:
    """Every class under `root` that this package defines."""
    below = [kind for kind in root.__subclasses__() if kind.__module__ == "router.errors"]
    return below + [kind for child in below for kind in tree(child)]


ALL = tree(GatewayError)
FAMILIES = {ClientError, Overload, PodFailure}
"""Never raised themselves: each member says more."""


def test_the_table_covers_the_tree_and_nothing_else() -> None:
    assert set(SHAPES) == set(ALL) - FAMILIES


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind not in FAMILIES])
def test_every_error_knows_its_answer(kind: type[GatewayError]) -> None:
    error = kind("why", param="p", retry_after_s=2.0)
    assert (error.message, str(error), error.param, error.retry_after_s) == ("why", "why", "p", 2.0)
    assert error.shape is SHAPES[kind]
    assert kind.__doc__


def test_a_client_gets_4xx_for_its_own_faults_and_5xx_for_all_others() -> None:
    for kind, shape in SHAPES.items():
        assert (400 <= shape.status < 500) is issubclass(kind, ClientError), kind
        assert (shape.type == "invalid_request_error") is issubclass(kind, ClientError), kind


def test_an_error_that_is_refined_elsewhere_keeps_its_row() -> None:
    class ReadOnly(MethodNotAllowed):
        allow = "GET"

    assert ReadOnly("x").shape is SHAPES[MethodNotAllowed]


def test_each_pod_failure_has_its_own_metric_label() -> None:
    reasons = [kind.reason for kind in PodFailure.__subclasses__()]
    assert len(set(reasons)) == len(reasons)
    assert PodFailure.reason not in reasons


def test_only_bytes_that_were_not_read_to_an_end_close_the_connection() -> None:
    closing = {kind.__name__ for kind, shape in SHAPES.items() if shape.closes}
    assert closing == {"BadFraming", "BodyTooLarge", "HeadersTooLarge", "RequestTimeout"}
