"""Headers count as the rights of a tenant have it."""

from __future__ import annotations

import pytest

from router.access.tenants import Tenant
from router.dataplane.request.tenant_headers import as_permitted, may_choose
from router.errors import BadRequest, PermissionDenied

PLAIN = {b"content-type": b"application/json"}


def tenant(*headers: str, priority: int = 0, policies: tuple[str, ...] = ()) -> Tenant:
    return Tenant("search", headers=frozenset(headers), priority=priority, policies=frozenset(policies))


def test_headers_of_no_concern_are_the_same_mapping() -> None:
    assert as_permitted(PLAIN, tenant()) is PLAIN
    asked = {b"x-turnout-deadline-ms": b"5", b"x-turnout-slo-ttft-ms": b"5", b"x-turnout-priority": b"9"}
    assert as_permitted(asked, tenant("*")) is asked


@pytest.mark.parametrize(
    ("right", "header"),
    [("deadline", b"x-turnout-deadline-ms"), ("slo", b"x-turnout-slo-ttft-ms"), ("slo", b"x-turnout-slo-tpot-ms")],
)
def test_a_header_without_its_right_is_as_if_it_were_not_there(right: str, header: bytes) -> None:
    asked = {**PLAIN, header: b"5"}
    assert as_permitted(asked, tenant()) == PLAIN
    assert as_permitted(asked, tenant(right)) == asked
    assert asked == {**PLAIN, header: b"5"}


@pytest.mark.parametrize(
    ("asked", "own", "rights", "counts"),
    [
        (None, 0, (), None),
        (None, 3, (), b"3"),
        (b"2", 3, (), b"2"),
        (b"4", 3, (), b"3"),
        (b"4", -3, (), b"-3"),
        (b"-4", 0, (), b"-4"),
        (b"4", 3, ("priority",), b"4"),
        (None, 3, ("priority",), b"3"),
    ],
)
def test_the_tenants_priority_is_the_default_and_the_highest_one_without_a_right_to_more(
    asked: bytes | None, own: int, rights: tuple[str, ...], counts: bytes | None
) -> None:
    headers = PLAIN if asked is None else {**PLAIN, b"x-turnout-priority": asked}
    once = as_permitted(headers, tenant(*rights, priority=own))
    assert once.get(b"x-turnout-priority") == counts
    assert as_permitted(once, tenant(*rights, priority=own)) == once


def test_a_priority_that_is_no_number_is_refused() -> None:
    with pytest.raises(BadRequest):
        as_permitted({b"x-turnout-priority": b"high"}, tenant())


def test_a_policy_without_permission_is_refused_whether_it_exists_or_not() -> None:
    for name in (b"p2c", b"nonsense"):
        with pytest.raises(PermissionDenied, match="it may choose: least_load"):
            as_permitted({b"x-turnout-policy": name}, tenant(policies=("least_load",)))
    asked = {b"x-turnout-policy": b"p2c"}
    assert as_permitted(asked, tenant(policies=("p2c",))) is asked
    assert as_permitted(asked, tenant(policies=("*",))) is asked


def test_without_tenants_every_policy_may_be_chosen() -> None:
    assert may_choose("p2c", None)
    assert not may_choose("p2c", tenant())
