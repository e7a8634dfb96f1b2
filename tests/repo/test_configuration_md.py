"""docs/configuration.md and the schema of the Helm chart equal the output of `make docs`. The page names every field,
and its example is a valid file.
"""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from router import settings
from schedulers.registry import BUILT_IN
from scripts import chart_schema

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "configuration.md").read_text()


def test_the_page_equals_the_output_of_make_docs() -> None:
    script = ROOT / "scripts" / "configuration_md.py"
    made = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
    assert made == PAGE, "router/settings.py changed: run `make docs`"


def test_the_schema_of_the_chart_has_the_same_settings() -> None:
    made = chart_schema.written(chart_schema.SCHEMA.read_text(), chart_schema.VALUES.read_text())
    assert made == chart_schema.SCHEMA.read_text(), "router/settings.py or values.yaml changed: run `make docs`"


def structs(kind: type[msgspec.Struct]) -> set[type[msgspec.Struct]]:
    """`kind` and every struct that it contains."""
    found = {kind}
    for field in msgspec.structs.fields(kind):
        for part in (field.type, *getattr(field.type, "__args__", ())):
            if isinstance(part, type) and issubclass(part, msgspec.Struct):
                found |= structs(part)
    return found


def test_every_field_of_the_decoder_is_named() -> None:
    every = structs(settings.Settings)
    assert settings.Pool in every
    for struct in every:
        for field in msgspec.structs.fields(struct):
            assert f"| `{field.encode_name}` |" in PAGE, f"{struct.__name__}.{field.name}"


def test_every_field_is_described() -> None:
    keys = PAGE.partition("## The whole file")[2]
    rows = [line.split("|") for line in keys.splitlines() if line.startswith("| `")]
    assert len(rows) > 150
    assert [cells[1].strip() for cells in rows if not cells[-2].strip()] == []


def _parameters(policy: Any) -> list[Any]:
    return [field for field in dataclasses.fields(policy) if field.init]


def test_every_policy_is_there_with_its_parameters() -> None:
    for name, policy in BUILT_IN.items():
        assert f"| `{name}` | " in PAGE
        assert all(f"{field.name} (" in PAGE for field in _parameters(policy))


def test_the_example_decodes() -> None:
    for example in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL):
        decoded = msgspec.yaml.decode(example, type=settings.Settings)
        assert [pool.name for pool in decoded.pools] == ["llama", "qwen"]
