"""The page `/docs`: the OpenAPI document as plain HTML. It has no script and needs no other host, so that it works
offline and its Content-Security-Policy forbids everything but its own style.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from html import escape
from typing import Any, Final

_STYLE: Final = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 small, .role { font-weight: normal; opacity: .65; }
h2 { margin: 1.6rem 0 .4rem; }
details { border: 1px solid #8886; border-radius: 6px; margin: .4rem 0; padding: .35rem .8rem; }
summary { cursor: pointer; }
summary p { margin: 0 0 0 5.2rem; opacity: .8; }
.method { display: inline-block; width: 4.6rem; font-weight: bold; }
.role { float: right; }
.get { color: #2a7ae2; } .put { color: #b26b00; } .post { color: #2e8b57; } .delete { color: #c0392b; }
code, pre { font: 13px/1.5 ui-monospace, monospace; }
pre { overflow-x: auto; padding: .6rem; background: #8882; border-radius: 4px; }
table { border-collapse: collapse; width: 100%; margin: .4rem 0; }
th, td { text-align: left; vertical-align: top; padding: .2rem .6rem .2rem 0; border-bottom: 1px solid #8884; }
"""

POLICY: Final = (
    "default-src 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page's Content-Security-Policy."""

_METHODS: Final = ("get", "put", "post", "delete")

RoleOf = Callable[[str, str], str]
"""(method, path) -> the role that it needs, in a word."""


def docs_page(document: Mapping[str, Any], role_of: RoleOf) -> str:
    """The page of an OpenAPI document."""
    info = document["info"]
    title = escape(info["title"])
    body = "".join(_tags(document, role_of))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style></head><body>\n"
        f"<h1>{title} <small>{escape(info['version'])}</small></h1>\n<p>{_INTRODUCTION}</p>\n{body}</body></html>\n"
    )


_INTRODUCTION: Final = (
    'Answers are JSON. The <a href="/openapi.json">OpenAPI document</a> is this page for programs. A token is sent as '
    "<code>Authorization: Bearer TOKEN</code>; the role that a path needs stands at its right."
)


def _tags(document: Mapping[str, Any], role_of: RoleOf) -> Iterator[str]:
    by_tag: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method in filter(methods.__contains__, _METHODS):
            operation = methods[method]
            shown = _operation(document, method, path, operation, role_of(method.upper(), path))
            by_tag.setdefault(operation.get("tags", ["other"])[0], []).append(shown)
    for tag, shown_ones in by_tag.items():
        yield f"<h2>{escape(tag)}</h2>\n{''.join(shown_ones)}"


def _operation(document: Mapping[str, Any], method: str, path: str, operation: Mapping[str, Any], role: str) -> str:
    fields = list(_body_fields(document, operation))
    parameters = [(each["name"], each["in"], each["schema"], bool(each.get("required"))) for each in _listed(operation)]
    tables = _table("Parameters", parameters) + _table("Body", [(name, "body", *rest) for name, *rest in fields])
    return (
        f'<details><summary><span class="role">{escape(role)}</span>'
        f'<code><span class="method {method}">{method.upper()}</span>{escape(path)}</code>'
        f"<p>{escape(operation.get('description', ''))}</p></summary>\n"
        f"{tables}<pre>{escape(_command(method, path, role, fields))}</pre></details>\n"
    )


def _listed(operation: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    parameters: Iterable[Mapping[str, Any]] = operation.get("parameters", ())
    return parameters


def _body_fields(document: Mapping[str, Any], operation: Mapping[str, Any]) -> Iterator[tuple[str, Any, bool]]:
    """Name, schema and whether it must be there, of each field of the body."""
    content = operation.get("requestBody", {}).get("content", {})
    schema = _resolved(document, content.get("application/json", {}).get("schema", {}))
    for name, field in schema.get("properties", {}).items():
        yield name, {**_resolved(document, field), **field}, name in schema.get("required", ())


def _resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema behind a reference; of an optional one, the first that is not null."""
    choices = schema.get("anyOf") or schema.get("allOf")
    if choices:
        return _resolved(document, next((each for each in choices if each.get("type") != "null"), choices[0]))
    if "$ref" not in schema:
        return schema
    found: Mapping[str, Any] = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


def _table(title: str, rows: Iterable[tuple[str, str, Mapping[str, Any], bool]]) -> str:
    lines = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(place)}</td><td>{escape(_kind(schema))}</td>"
        f"<td>{escape(_note(schema, required))}</td></tr>\n"
        for name, place, schema, required in rows
    )
    return f"<table><tr><th>{title}</th><th></th><th></th><th></th></tr>\n{lines}</table>\n" if lines else ""


def _kind(schema: Mapping[str, Any]) -> str:
    choices = [each.get("type", "object") for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    fields = schema.get("properties", {})
    inside = f" of {', '.join(fields)}" if fields else ""
    return f"{schema.get('type') or ' or '.join(choices)}{inside}"


def _note(schema: Mapping[str, Any], required: bool) -> str:
    notes = ["required"] if required else []
    if schema.get("default") not in (None, ""):
        notes.append(f"default {json.dumps(schema['default'])}")
    return "; ".join(filter(None, [*notes, schema.get("description", "")]))


def _command(method: str, path: str, role: str, fields: Iterable[tuple[str, Any, bool]]) -> str:
    """A command line that sends the request."""
    token = "" if role == "open" else ' -H "authorization: Bearer $TURNOUT_CONTROL_TOKEN"'
    needed = {name: f"<{name}>" for name, _, required in fields if required}
    body = f" -H 'content-type: application/json' -d '{json.dumps(needed)}'" if needed else ""
    return f"curl -X {method.upper()} http://127.0.0.1:9000{path.replace('{', '<').replace('}', '>')}{token}{body}"
