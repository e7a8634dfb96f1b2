from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from schedulers import params, registry
from schedulers.errors import InvalidParams
from schedulers.named import Named
from schedulers.params import check, fingerprint, parameter
from schedulers.types import Decision, LoadSnapshot, Rejection, RequestInfo
from tests.fakes.each_case import each_case


@dataclass(frozen=True, slots=True)
class Picky:
    """The first pod. Has a parameter of every kind."""

    name: ClassVar[str] = "picky"

    ratio: float = parameter(0.5, low=0.0, high=1.0)
    count: int = parameter(2, low=1)
    strict: bool = False
    label: str = "x"
    weights: tuple[float, ...] = (1.0,)
    seen: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        check(self)
        if len(self.weights) > 3:
            raise ValueError("weights: at most 3")

    def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
        """The first pod."""
        return Decision(snapshot.candidates[0].pod.id, self.name)


def refusal(given: dict[str, object]) -> str:
    with pytest.raises(InvalidParams) as refused:
        params.build(Picky, given)
    return str(refused.value)


def test_defaults_stand_in_for_what_is_not_given() -> None:
    assert params.build(Picky, {}) == Picky()
    assert params.build(Picky, {"ratio": 1, "label": "y"}) == Picky(ratio=1, label="y")


def test_an_unknown_parameter_is_named_and_the_known_ones_are_listed() -> None:
    assert refusal({"ration": 0.5}) == (
        "picky: no parameter 'ration'; its parameters: ratio (float from 0.0 up to 1.0, default 0.5), "
        "count (int from 1, default 2), strict (bool, default False), label (str, default 'x'), "
        "weights (tuple[float, ...], default (1.0,))"
    )


def test_a_wrong_value_is_named_with_the_expected_and_the_given_type() -> None:
    said = refusal({"ratio": "half"})
    assert said.startswith(
        "picky: parameter 'ratio' must be float from 0.0 up to 1.0, not 'half' (str); its parameters: "
    )


@each_case(
    "given",
    [
        {"ratio": -0.1},
        {"ratio": 1.1},
        {"ratio": math.nan},
        {"ratio": None},
        {"count": 0},
        {"count": 2.0},
        {"count": True},
        {"strict": 1},
        {"label": 3},
        {"seen": 3},
        {3: "x"},
        {"weights": (1.0, 1.0, 1.0, 1.0)},
    ],
    ids=str,
)
def test_values_out_of_type_or_range_are_refused(given: dict[str, object]) -> None:
    assert refusal(given).startswith("picky: ")


def test_an_infinite_value_is_refused_where_no_upper_bound_is_declared() -> None:
    @dataclass(frozen=True, slots=True)
    class Unbounded(Picky):
        name: ClassVar[str] = "unbounded"
        wait_s: float = parameter(1.0, low=0.0)

    with pytest.raises(InvalidParams, match="wait_s"):
        params.build(Unbounded, {"wait_s": math.inf})


def test_parameters_that_are_no_mapping_are_refused() -> None:
    with pytest.raises(InvalidParams, match="picky: params must be a mapping"):
        params.build(Picky, ["ratio"])  # type: ignore[arg-type]


def test_a_policy_built_by_hand_is_checked_too() -> None:
    with pytest.raises(InvalidParams, match="'ratio' must be float"):
        Picky(ratio=2.0)


def test_the_message_of_a_policys_own_check_is_passed_on() -> None:
    assert "picky: weights: at most 3;" in refusal({"weights": (1.0,) * 4})


def test_a_parameter_without_a_default_is_named() -> None:
    @dataclass(frozen=True, slots=True)
    class Demanding:
        name: ClassVar[str] = "demanding"
        url: str
        depth: int = 3

        def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
            return Rejection("never")

    assert params.lacks_default(Demanding) == ["url"]
    assert params.lacks_default(Picky) == []
    with pytest.raises(InvalidParams, match=r"demanding: .*'url'.*its parameters: url \(str\), depth"):
        params.build(Demanding, {})


def test_a_fingerprint_says_whether_two_hosts_decide_alike() -> None:
    plain = fingerprint("session_affinity", registry.create("session_affinity"))
    assert plain == fingerprint("session_affinity", registry.create("session_affinity", {"balance_factor": 1.25}))
    two = fingerprint("session_affinity", registry.create("session_affinity", {"balance_factor": 2}))
    assert two == fingerprint("session_affinity", registry.create("session_affinity", {"balance_factor": 2.0}))
    assert two != plain
    named = Named("mine", registry.create("session_affinity", {"balance_factor": 2}))
    assert fingerprint("mine", named) == two
    assert fingerprint("mine@12345678", named) != two
