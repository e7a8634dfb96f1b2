"""Writes the parts of deploy/helm/turnout/values.schema.json that are known elsewhere: the descriptions of values, from
the comments of values.yaml, and the gateway's own file, under `$defs`, from router/settings.py. Types and limits of
values are in the schema itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from router.settings import Settings
from scripts.configuration_md import SOURCES, sections

CHART = Path(__file__).resolve().parents[1] / "deploy" / "helm" / "turnout"
VALUES, SCHEMA = CHART / "values.yaml", CHART / "values.schema.json"

NEEDED = ("listen", "control", "drain")
"""Keys of the file that the templates read; values.yaml has them, and setting one to null is refused."""

OPEN = {"description": ""}
"""The schema of a value of any type; the generator needs one that is not empty."""


def comments(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """The path of each key of a YAML file in blocks, with the comment right above it."""
    path: list[str] = []
    above: list[str] = []
    for line in text.splitlines():
        key = re.match(r"( *)(\w+):", line)
        if said := re.match(r" *# (.*)", line):
            above.append(said[1])
            continue
        if key:
            path[len(key[1]) // 2 :] = [key[2]]
            yield tuple(path), " ".join(above)
        above = []


def described(schema: dict[str, Any], values: str) -> None:
    """Sets the descriptions of the values' properties."""
    for path, text in comments(values):
        where = schema
        for key in path:
            where = where.get("properties", {}).get(key, {})
        if where:
            where.pop("description", None)
            where |= {"description": text} if text else {}


def definitions() -> dict[str, Any]:
    """The schemas of the structs of router/settings.py, with the text that docs/configuration.md has."""
    _, found = msgspec.json.schema_components([Settings], schema_hook=lambda _: OPEN, ref_template="#/$defs/{name}")
    texts = {
        (section.name, field.name): field.text
        for section in sections(*(source.read_text() for source in SOURCES))
        for field in section.fields
    }
    for name, struct in found.items():
        del struct["title"]
        struct["description"] = " ".join(struct["description"].split())
        for field, schema in struct["properties"].items():
            schema.pop("default", None)
            if text := texts.get((name, field)):
                schema["description"] = text
    found["Settings"]["required"] = list(NEEDED)
    # With `tls.secretName` the chart adds them.
    found["ServerTls"]["required"] = []
    return dict(sorted(found.items()))


def written(schema: str, values: str) -> str:
    """The schema's text, brought up to date."""
    whole = json.loads(schema)
    described(whole, values)
    whole["$defs"] = definitions()
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(written(SCHEMA.read_text(), VALUES.read_text()))
