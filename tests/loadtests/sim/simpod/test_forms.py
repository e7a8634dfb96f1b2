import msgspec
import pytest

from loadtests.sim.simpod.bodies import Sampled
from loadtests.sim.simpod.errors import ApiError
from loadtests.sim.simpod.forms import form_of, formed, schema_form

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def text(**fields: object) -> str:
    form = form_of(Sampled.model_validate(fields))
    assert form is not None
    return formed(form, 3)


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
        {"structured_outputs": {"json": SCHEMA}},
        {"structured_outputs": {"json": msgspec.json.encode(SCHEMA).decode()}},
    ],
)
def test_a_schema_is_taken_in_each_of_its_places(fields: dict[str, object]) -> None:
    assert isinstance(msgspec.json.decode(text(**fields))["a"], int)


def test_an_object_a_choice_and_a_pattern_are_forms_as_well() -> None:
    assert isinstance(msgspec.json.decode(text(response_format={"type": "json_object"})), dict)
    assert text(structured_outputs={"choice": ["yes", "no"]}) in ("yes", "no")
    assert text(structured_outputs={"regex": "a{3}b"}) == "aaab"


def test_a_schema_that_one_seed_meets_is_met_with_every_seed() -> None:
    """One of the branches matches nothing."""
    form = schema_form({"anyOf": [{"const": 1}, {"enum": []}]})
    assert {formed(form, seed) for seed in range(20)} == {"1"}


@pytest.mark.parametrize("fields", [{}, {"response_format": {"type": "text"}}])
def test_free_text_has_no_form(fields: dict[str, object]) -> None:
    assert form_of(Sampled.model_validate(fields)) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "json_schema"}},
        {"structured_outputs": {}},
        {"structured_outputs": {"regex": "a", "choice": ["a"]}},
        {"structured_outputs": {"regex": "("}},
        {"structured_outputs": {"choice": []}},
        {"structured_outputs": {"json": "{"}},
        {"structured_outputs": {"json": {"type": "odd"}}},
        {"structured_outputs": {"grammar": "root ::= 'a'"}},
    ],
)
def test_a_form_that_cannot_be_met_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ApiError):
        form_of(Sampled.model_validate(fields))
