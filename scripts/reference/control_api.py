"""docs/control-api.md: paths of the control port with roles, parameters and bodies, from its OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from router.control.api import create_control
from router.control.docs_page import _body_fields, _kind, _note
from router.control.roles import needed, route_of
from router.settings import Control
from scripts.reference.markdown import opening, sentence, table
from tests.fakes.control_port import Replica

_TEXT = """
The control port listens on `127.0.0.1:9000`. A replica shows this list at `/docs`, which needs no other host, and the
OpenAPI document at `/openapi.json`. Answers are JSON. A token is sent as `Authorization: Bearer TOKEN`; [the control
port](control-port.md#tokens-and-roles) says what the roles are. A change of a policy takes `If-Match: "GENERATION"`.
"""
_METHODS = ("get", "put", "post", "delete")


def page() -> str:
    """The whole page."""
    document = create_control(Replica().plane).openapi()
    by_tag: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method in filter(methods.__contains__, _METHODS):
            tag = methods[method].get("tags", ["other"])[0]
            by_tag.setdefault(tag, []).append(_operation(document, method, path, methods[method]))
    head = opening("Control port API", "router/control", _TEXT)
    return "\n".join([head, *(f"## {sentence(tag)[:-1]}\n\n" + "\n".join(each) for tag, each in by_tag.items())])


def _operation(document: Mapping[str, Any], method: str, path: str, operation: Mapping[str, Any]) -> str:
    role = needed(route_of(method.upper(), path), Control()).word
    rows = list(_rows(document, operation))
    fields = "\n" + table(("name", "in", "type", ""), rows) if rows else ""
    words = " ".join(operation.get("description", "").split())
    return f"### `{method.upper()} {path}`\n\nRole: {role}. {words}\n{fields}"


def _rows(document: Mapping[str, Any], operation: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    for each in operation.get("parameters", ()):
        yield f"`{each['name']}`", each["in"], _kind(each["schema"]), _note(each["schema"], bool(each.get("required")))
    for name, field, required in _body_fields(document, operation):
        yield f"`{name}`", "body", _kind(field), _note(field, required)
