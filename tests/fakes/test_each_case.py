"""Every case is run, and a failure names the cases that failed."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable

import pytest

from tests.fakes.each_case import each_case


def failure(run: Callable[[], None]) -> BaseExceptionGroup[BaseException]:
    with pytest.raises(BaseExceptionGroup) as caught:
        run()
    return caught.value


def test_all_cases_are_run_and_those_that_failed_are_named() -> None:
    seen: list[int] = []

    @each_case("number", [1, 2, 3], ids=["one", "two", "three"])
    def is_odd(number: int) -> None:
        seen.append(number)
        assert number % 2 == 0

    found = failure(is_odd)
    assert seen == [1, 2, 3]
    assert found.message == "2 of 3 cases failed: one | three"
    assert [each.__notes__ for each in found.exceptions] == [["This was the case: one"], ["This was the case: three"]]


def test_several_mean_every_combination() -> None:
    @each_case("left", [1, 2])
    @each_case(("right", "most"), [(b"a", 2), (b"b", 3)])
    def is_small(left: int, right: bytes, most: int) -> None:
        assert left * most < 6, right

    found = failure(is_small)
    assert found.message == "1 of 2 cases failed: 2"
    (inner,) = found.exceptions
    assert str(inner).startswith("1 of 2 cases failed: b'b'-3")


def test_a_missing_exception_fails_only_its_own_case() -> None:
    @each_case("text", ["1", "x"])
    def is_no_number(text: str) -> None:
        with pytest.raises(ValueError, match="invalid"):
            int(text)

    assert failure(is_no_number).message == "1 of 2 cases failed: 1"


def test_without_a_case_it_fails() -> None:
    @each_case("text", [])
    def is_never_called(text: str) -> None:
        raise NotImplementedError(text)

    with pytest.raises(AssertionError, match="there is no case"):
        is_never_called()


@each_case("number", [1, 2])
def test_fixtures_are_given_as_to_any_test(number: int, capfd: pytest.CaptureFixture[str]) -> None:
    os.write(1, b"%d" % number)
    assert capfd.readouterr().out == str(number)


def test_fixtures_alone_are_left_in_the_signature() -> None:
    @each_case("number", [1])
    def is_seen(number: int, capfd: object) -> None: ...

    assert list(inspect.signature(is_seen).parameters) == ["capfd"]
