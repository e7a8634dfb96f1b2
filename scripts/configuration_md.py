"""Prints docs/configuration.md from router/settings.py and the files beside it: the fields, their defaults, the text
below each field, and the built-in policies with their parameters.

The text is in the source, as the string under the field; a test checks that the page is what this prints.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from schedulers.params import describe
from schedulers.registry import BUILT_IN

ROOT = Path(__file__).resolve().parents[1]
_OF_ROUTER = ("upstream_", "client_", "control_", "policy_", "")
SOURCES = (ROOT / "statesync/settings.py", *(ROOT / f"router/{part}settings.py" for part in _OF_ROUTER))

HEAD = """\
# Configuration

<!-- Written by `make docs` from router/settings.py. Change the text there. -->

One YAML file: `turnout serve --config turnout.yaml`, or `--config -` for standard input. Every field has a default. An
unknown key is an error that names itself and its place; `turnout check turnout.yaml` lists all problems of a file.
Names that end in `_s` are seconds, in `_bytes` bytes.

```yaml
listen: 0.0.0.0:8000
control:
  listen: 127.0.0.1:9000
pools:
  - name: llama
    pods: [http://10.0.0.1:8000, http://10.0.0.2:8000]
    policy: {name: prefix_aware}
  - name: qwen
    discovery: {source: dns://vllm-qwen.models.svc:8000}
    aliases: {gpt-4o-mini: Qwen/Qwen3-8B}
    policy: {name: session_affinity}
    allowed_policies: [least_load, p2c]
default_pool: llama
drain: {settle_s: 5, timeout_s: 300}
```

## Flags, environment and file

A flag wins over its variable, a variable over the file, the file over the default. An error names the flag, the
variable or the line that is wrong. An empty variable counts as unset; a warning names a variable `TURNOUT_*` that sets
nothing.

| flag of `turnout serve` | variable | key |
|---|---|---|
| `--config FILE` | `TURNOUT_CONFIG` | the file |
| `--listen HOST:PORT` | `TURNOUT_LISTEN` | `listen` |
| `--control HOST:PORT` | `TURNOUT_CONTROL` | `control.listen`; `turnout pods` and `policy` connect there, too |
| | `TURNOUT_CONTROL_TOKEN` | `control.token` |
| `--state URL` | `TURNOUT_STATE` | `state` |
| | `TURNOUT_STATE_PASSWORD` | the password in `state`, not URL-encoded; one in `--state` wins |
| | `TURNOUT_REPLICA` | `replica` |
| | `TURNOUT_LABELS` | `labels`, as in `zone=eu-1a,cluster=a`; wins label by label |
| `--pod URL`, repeated | `TURNOUT_PODS`, with spaces or commas | `pods` of pool `default`, or of the file's only pool |
| `--policy NAME` | `TURNOUT_POLICY` | `policy.name` of that pool, without parameters |
| `--workers N` | `TURNOUT_WORKERS` | |
| `--log-level LEVEL` | `TURNOUT_LOG_LEVEL` | `logging.level` |

Without a file, `--pod` and `--policy` make a pool named `default`. With a file of several pools, one of them must have
that name.
"""


POLICIES = """\
## Policies

What `policy.name` and `policy.params` may be. [schedulers/README.md](../schedulers/README.md) has the formula of each;
[policies.md](policies.md) says how to replace one under load, and how to write one.
"""


class Field(NamedTuple):
    """One key of a section."""

    name: str
    kind: str
    default: str
    text: str


class Section(NamedTuple):
    """One struct of settings.py."""

    name: str
    text: str
    fields: list[Field]


def sections(*sources: str) -> list[Section]:
    """Every struct with fields, in the order of the files; the last is the whole file and comes first here."""
    found = [
        Section(node.name, ast.get_docstring(node) or "", list(fields(node)))
        for source in sources
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef)
    ]
    with_fields = [section for section in found if section.fields]
    return [with_fields[-1], *with_fields[:-1]]


def fields(struct: ast.ClassDef) -> Iterator[Field]:
    """The annotated names of a struct, each with the string right below it, if there is one."""
    for at, node in enumerate(struct.body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            below = struct.body[at + 1 : at + 2]
            texts = [line.value.value for line in below if is_string(line)]  # type: ignore[attr-defined]
            default = "required" if node.value is None else as_yaml(ast.unparse(node.value))
            yield Field(node.target.id, ast.unparse(node.annotation), default, " ".join("".join(texts).split()))


def is_string(node: ast.stmt) -> bool:
    """Whether `node` is a bare string: the text below a field."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def as_yaml(default: str) -> str:
    """A Python default as one writes it in the file."""
    names = {"None": "null", "True": "true", "False": "false", "''": '""'}
    if default.endswith("()"):
        return "see below"
    if default.startswith("("):
        return f"`{json.dumps(ast.literal_eval(default))}`"
    return f"`{names.get(default, default)}`"


def table(section: Section, every: Mapping[str, Section]) -> str:
    """A section as Markdown. A field that is a section itself is described by the first sentence of that."""
    rows = [
        f"| `{f.name}` | {f.kind.replace('|', 'or')} | {f.default} | {f.text or first_sentence_of(f.kind, every)} |"
        for f in section.fields
    ]
    title = "The whole file" if section.name == "Settings" else section.name
    return "\n".join([f"## {title}", "", section.text, "", "| key | type | default | |", "|---|---|---|---|", *rows])


def first_sentence_of(kind: str, every: Mapping[str, Section]) -> str:
    """What the section says that a type names, with a link to it; empty for another type."""
    names = [name for name in re.findall(r"\w+", kind) if name in every]
    if not names:
        return ""
    return f"{sentence(every[names[0]].text)} See [{names[0]}](#{names[0].lower()})."


def sentence(text: str) -> str:
    """The first one."""
    return re.split(r"(?<=\.)\s", " ".join(text.split()), maxsplit=1)[0]


def policies() -> str:
    """The built-in policies with their parameters, as Markdown."""
    rows = []
    for name, policy in BUILT_IN.items():
        takes = describe(policy).removeprefix("its parameters: ").replace("|", "or")
        rows.append(f"| `{name}` | {sentence(policy.__doc__ or '')} | {takes.removeprefix('it takes ')} |")
    return "\n".join([POLICIES, "| name | sends a request to | parameters |", "|---|---|---|", *rows])


def page(*sources: str) -> str:
    """The whole page."""
    found = sections(*sources)
    every = {section.name: section for section in found}
    return "\n\n".join([HEAD.rstrip(), *(table(section, every) for section in found), policies()]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page(*(source.read_text() for source in SOURCES)))
