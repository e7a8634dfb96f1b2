"""Structured outputs: which form a request wants its answer in, and a text in that form. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from loadtests.sim.simpod.bodies import ResponseFormat, Sampled, StructuredOutputs
from loadtests.sim.simpod.errors import rejected
from loadtests.sim.simpod.json_examples import NoExample, example
from loadtests.sim.simpod.regex_examples import NoMatch, matching
from loadtests.sim.simpod.script import encode

_ANY_OBJECT: dict[str, Any] = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
_KINDS = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")


class Form(NamedTuple):
    """A form that an answer has to have: one of the three."""

    schema: Any = None
    regex: str | None = None
    choices: tuple[str, ...] = ()


def form_of(body: Sampled) -> Form | None:
    """The form asked for, by vLLM's field or by OpenAI's, which wins; None is free text. ApiError for a bad one."""
    format_ = body.response_format
    wanted = _response_format(format_) if format_ is not None and format_.type != "text" else None
    if wanted is None and body.structured_outputs is not None:
        wanted = _structured_outputs(body.structured_outputs)
    return wanted


def schema_form(schema: Any) -> Form:
    """The form of answers that match a schema. ApiError if nothing can be made of it."""
    return _checked(Form(schema=_ANY_OBJECT if schema is None else schema), "response_format")


def formed(form: Form, seed: int) -> str:
    """A text in the form, which was checked: where the seed leads nowhere, the text that the check found."""
    try:
        return _text(form, seed)
    except (NoExample, NoMatch):
        return _text(form, 0)


def _text(form: Form, seed: int) -> str:
    if form.choices:
        return form.choices[seed % len(form.choices)]
    if form.regex is not None:
        return matching(form.regex, seed % 997)
    return encode(example(form.schema, seed)).decode()


def _response_format(given: ResponseFormat) -> Form:
    if given.type == "json_object":
        return Form(schema=_ANY_OBJECT)
    if given.json_schema is None:
        message = "When response_format type is 'json_schema', the 'json_schema' field must be provided."
        raise rejected(message, "response_format")
    return schema_form(given.json_schema.json_schema)


def _structured_outputs(given: StructuredOutputs) -> Form:
    values = given.model_dump(by_alias=True)
    named = [kind for kind in _KINDS if values.get(kind) is not None]
    if len({"json", "regex", "choice"}.intersection(named)) > 1:
        start = "You can only use one kind of constraints for structured outputs "
        raise rejected(start + "('json', 'regex' or 'choice').")
    if len(named) != 1:
        found = f"multiple are specified: {named}" if named else "none are specified"
        raise rejected(
            f"You {'can only' if named else 'must'} use one kind of structured outputs constraint but {found}"
        )
    kind, value = named[0], values[named[0]]
    if kind == "regex":
        return _checked(Form(regex=value), "structured_outputs")
    if kind == "choice":
        if not value:
            raise rejected("choice cannot be an empty list", "structured_outputs")
        return Form(choices=tuple(value))
    if kind == "json_object":
        return Form(schema=_ANY_OBJECT)
    if kind == "json":
        return _checked(Form(schema=_decoded(value) if isinstance(value, str) else value), "structured_outputs")
    raise rejected(
        f"a simulated engine has no generator for `{kind}`; json, regex and choice work", "structured_outputs"
    )


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise rejected(f"Invalid JSON grammar specification: {error}", "structured_outputs") from None


def _checked(form: Form, field: str) -> Form:
    """The form, if texts can be made in it."""
    try:
        _text(form, 0)
    except (NoExample, NoMatch, RecursionError, TypeError, AttributeError) as error:
        raise rejected(f"Grammar error: {error}", field) from None
    return form
