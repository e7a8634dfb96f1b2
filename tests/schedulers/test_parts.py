"""Specs become parts, or errors with position, reason and remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest

from schedulers.errors import InvalidParams
from schedulers.params import parameter
from schedulers.parts import Specs, texts
from tests.fakes.each_case import each_case


@dataclass(frozen=True, slots=True)
class Wheel:
    """Has a parameter of every kind."""

    name: ClassVar[str] = "wheel"

    spokes: int = parameter(8, low=3)
    grip: float = parameter(0.5, low=0.0, high=1.0)
    spare: bool = False
    maker: str = parameter("")
    in_: tuple[str, ...] = texts("cart")

    def __post_init__(self) -> None:
        if self.maker == "none":
            raise ValueError("a wheel needs a maker")


TABLE = {"wheel": Wheel}


def made(spec: object) -> tuple[Wheel | None, list[str]]:
    specs = Specs()
    return specs.part("part", TABLE, "params.parts[1]", spec, ("weight",)), specs.problems


def test_a_spec_names_a_part_and_its_parameters() -> None:
    spec = {"name": "wheel", "spokes": 12, "grip": 1, "spare": True, "maker": "x", "in": ["cart", "mill"], "weight": 3}
    assert made(spec) == (Wheel(12, 1, True, "x", ("cart", "mill")), [])
    assert made({"name": "wheel"}) == (Wheel(), [])


@each_case(
    ("spec", "words"),
    [
        ("wheel", "params.parts[1] must be a mapping with a name, not 'wheel'"),
        ({}, "params.parts[1].name: which part?; there are: wheel"),
        ({"name": "Weel"}, "params.parts[1].name: no part 'Weel' (did you mean 'wheel'?); there are: wheel"),
        ({"name": ["wheel"]}, "params.parts[1].name: no part ['wheel'] (did you mean 'wheel'?); there are: wheel"),
        (
            {"name": "wheel", "spoke": 3},
            (
                "params.parts[1].spoke is unknown (did you mean 'spokes'?); "
                "wheel takes spokes, grip, spare, maker, in, weight"
            ),
        ),
        (
            {"name": "wheel", 7: 3},
            "params.parts[1].7 is unknown; wheel takes spokes, grip, spare, maker, in, weight",
        ),
        ({"name": "wheel", "spokes": 2}, "params.parts[1].spokes must be a whole number from 3, not 2"),
        ({"name": "wheel", "spokes": 3.5}, "params.parts[1].spokes must be a whole number from 3, not 3.5"),
        ({"name": "wheel", "grip": True}, "params.parts[1].grip must be a number from 0 up to 1, not True"),
        ({"name": "wheel", "grip": float("nan")}, "params.parts[1].grip must be a number from 0 up to 1, not nan"),
        ({"name": "wheel", "spare": 1}, "params.parts[1].spare must be true or false, not 1"),
        ({"name": "wheel", "maker": None}, "params.parts[1].maker must be a text, not None"),
        ({"name": "wheel", "in": "cart"}, "params.parts[1].in must be a list of texts, not 'cart'"),
        ({"name": "wheel", "in": [1]}, "params.parts[1].in must be a list of texts, not [1]"),
        ({"name": "wheel", "maker": "none"}, "params.parts[1]: a wheel needs a maker"),
    ],
    ids=str,
)
def test_a_wrong_spec_is_refused_with_its_position(spec: object, words: str) -> None:
    assert made(spec) == (None, [words])


def test_one_mistake_does_not_hide_the_next() -> None:
    specs = Specs()
    specs.part("part", TABLE, "params.a", {"name": "wheel", "spokes": "x", "grip": "y"})
    specs.number("params.b", "z", 0.0, 1000.0)
    specs.listed("params.c", {})
    with pytest.raises(InvalidParams) as refused:
        specs.refuse("profile")
    assert str(refused.value) == (
        "profile: params.a.spokes must be a whole number from 3, not 'x'; "
        "params.a.grip must be a number from 0 up to 1, not 'y'; "
        "params.b must be a number from 0 up to 1000, not 'z'; params.c must be a list, not {}"
    )


def test_valid_specs_give_no_message() -> None:
    specs = Specs()
    assert specs.number("params.b", 1000, 0.0, 1000.0) == 1000.0
    assert specs.listed("params.c", (1, 2)) == (1, 2)
    specs.refuse("profile")
