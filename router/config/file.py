"""The YAML file: read, decoded strictly, and explained. Every problem names its line and key.

All problems are found at once. What cannot be decoded is left out, and the rest is decoded and checked nevertheless; a
problem that only follows from another (a pool "without pods" because its pods could not be read) is not reported.
Secrets come from the environment; nothing in the file is expanded.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path as FilePath
from types import UnionType
from typing import NamedTuple, get_args, get_origin

import msgspec
import yaml

from router.config.checks import Path, Problem, problems_in
from router.config.environment import TOKEN_VARIABLE, attributed, with_environment
from router.settings import Section, Settings

_PLACEHOLDER = re.compile(r"\$\{\w+\}|\$\(\w+\)|\{\{[^{}]*\}\}")
"""`${NAME}`, Kubernetes' `$(NAME)`, `{{ .Values.name }}`."""

_QUANTITY = re.compile(r"([0-9]+(?:_[0-9]+)*(?:\.[0-9]+)?(?:[eE]\+?[0-9]+)?)\s*(ms|s|m|h|(?:[kKMGT]i?)?B?)")
_UNITS = {"ms": 0.001, "m": 60, "h": 3600}

STDIN = "-"
"""The path that stands for standard input."""


class ConfigError(Exception):
    """A file that cannot be used. The message lists everything, one problem a line."""

    def __init__(self, source: str, problems: list[Problem]) -> None:
        self.source = source
        self.problems = problems
        super().__init__("\n".join(described(source, problem) for problem in problems))


class ParsedConfig(NamedTuple):
    """The result of reading a file."""

    settings: Settings
    """What could be decoded."""
    problems: list[Problem]
    """Errors and warnings, by line."""


Overlay = Callable[[Settings], Settings]
"""Changes a file's settings before they are checked as a whole: the flags of the command line."""


def _as_it_is(settings: Settings) -> Settings:
    return settings


def load(
    path: str | os.PathLike[str], environ: Mapping[str, str] = os.environ, overlay: Overlay = _as_it_is
) -> Settings:
    """The settings of a file. Raises ConfigError if anything in it is an error; warnings pass."""
    reading = read(path, environ, overlay)
    if any(problem.severity == "error" for problem in reading.problems):
        raise ConfigError(os.fspath(path), reading.problems)
    return reading.settings


def check(path: str | os.PathLike[str], environ: Mapping[str, str] = os.environ) -> list[Problem]:
    """Every problem of a file, warnings included."""
    return read(path, environ).problems


def read(
    path: str | os.PathLike[str], environ: Mapping[str, str] = os.environ, overlay: Overlay = _as_it_is
) -> ParsedConfig:
    """The settings of a file, or of standard input for `-`, and its problems. A file that cannot be opened is one."""
    try:
        raw = sys.stdin.buffer.read() if path == STDIN else FilePath(path).read_bytes()
        text = raw.decode("utf-8")
    except OSError as error:
        return ParsedConfig(Settings(), [Problem((), f"cannot be read: {error.strerror}")])
    except UnicodeDecodeError as error:
        return ParsedConfig(Settings(), [Problem((), f"is not UTF-8 text (byte {error.start})")])
    return read_text(text, environ, overlay)


def read_text(text: str, environ: Mapping[str, str], overlay: Overlay = _as_it_is) -> ParsedConfig:
    """As `read`, for text in memory."""
    try:
        root, value = _parse(text)
    except yaml.YAMLError as error:
        return ParsedConfig(Settings(), [_not_yaml(error)])
    except (ValueError, RecursionError) as error:
        # Safe YAML fails on text that looks like a date or a number and is none.
        return ParsedConfig(Settings(), [Problem((), f"cannot be understood: {error}")])
    problems: list[Problem] = []
    decoded = _section(Settings, {} if value is None else value, (), problems)
    if TOKEN_VARIABLE not in environ and _given(decoded, "control", "token"):
        message = f"a secret in a file gets around; set {TOKEN_VARIABLE} instead"
        problems.append(Problem(("control", "token"), message, "warning"))
    settings = overlay(with_environment(msgspec.convert(decoded, Settings), environ))
    problems += [each for each in problems_in(settings, environ) if not _follows(each, problems)]
    lined = (each._replace(line=_line_of(root, each.path)) for each in problems)
    located = [*_as_written_problems(root), *(attributed(each, environ) for each in lined)]
    return ParsedConfig(settings, sorted(located, key=lambda each: each.line or 0))


def described(source: str, problem: Problem) -> str:
    """`turnout.yaml:12: pools[0].name: is empty`; a warning has `warning:` before the key."""
    line = f":{problem.line}" if problem.line is not None else ""
    place = problem.origin or ("standard input" if source == STDIN else source) + line
    kind = "warning: " if problem.severity == "warning" else ""
    where = f"{problem.where}: " if problem.where else ""
    return f"{place}: {kind}{where}{problem.message}"


def _parse(text: str) -> tuple[yaml.Node | None, object]:
    """The node tree, for lines, and the plain values of safe YAML."""
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        value = None if root is None else loader.construct_document(root)
    finally:
        loader.dispose()
    # Composed again, because construction flattens merge keys into the nodes, where they look like duplicates.
    return yaml.compose(text, yaml.SafeLoader), value


def _not_yaml(error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None)
    message = getattr(error, "problem", None) or str(error).splitlines()[0]
    return Problem((), f"is not YAML: {message}", line=mark.line + 1 if mark is not None else None)


def _as_written_problems(root: yaml.Node | None) -> Iterator[Problem]:
    """Equal keys in one mapping, of which YAML silently takes the last, and texts that a shell or a template was to
    fill in. Of these only what was to be replaced is shown: a password may be beside it."""
    for node, path in _nodes(root):
        if isinstance(node, yaml.MappingNode):
            yield from _duplicates(node, path)
        elif isinstance(node, yaml.ScalarNode) and (found := _PLACEHOLDER.search(node.value)):
            message = f"{found[0]} is taken as it stands: nothing in a file is expanded"
            yield Problem(path, message, "warning", node.start_mark.line + 1)


def _duplicates(node: yaml.MappingNode, path: Path) -> Iterator[Problem]:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        if name in lines and name != "<<":
            yield Problem((*path, name), f"stands here twice; first in line {lines[name]}", line=line)
        lines.setdefault(name, line)


def _nodes(root: yaml.Node | None) -> Iterator[tuple[yaml.Node, Path]]:
    """Every node once: an alias leads to one that was visited, perhaps to one that contains it."""
    todo: list[tuple[yaml.Node, Path]] = [] if root is None else [(root, ())]
    seen: set[int] = set()
    while todo:
        node, path = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node, path
        if isinstance(node, yaml.SequenceNode):
            todo += [(item, (*path, at)) for at, item in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            todo += [(value, (*path, str(key.value))) for key, value in node.value]


def _line_of(node: yaml.Node | None, path: Path) -> int | None:
    """The line of the innermost node on the path that is in the file."""
    if node is None:
        return None
    line: int = node.start_mark.line + 1
    for part in path:
        found = None
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in reversed(node.value) if key.value == str(part)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            found = (node.value[part], node.value[part])
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    return line


def _section(kind: type[Section], value: object, path: Path, problems: list[Problem]) -> dict[str, object]:
    """What can be decoded of a section. A required key that cannot is blank, so that list positions stay."""
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    decoded: dict[str, object] = {name: "" for name, field in fields.items() if field.required}
    if not isinstance(value, Mapping):
        problems.append(Problem(path, f"expected keys and values, got {_named(value)}"))
        return decoded
    unknown = [key for key in value if key not in fields]
    problems += [Problem((*path, str(key)), f"unknown key{_hint(str(key), list(fields))}") for key in unknown]
    for name, field in fields.items():
        if name in value:
            item = _field(field.type, value[name], (*path, name), problems)
            if item is not None:
                decoded[name] = item
        elif field.required:
            problems.append(Problem((*path, name), "is missing"))
    return decoded


def _field(kind: object, value: object, path: Path, problems: list[Problem]) -> object | None:
    """`value` in a form that msgspec accepts for `kind`, without its wrong parts; None if nothing is left."""
    section = _section_in(kind)
    if section is not None:
        # None is a heading with everything under it commented out.
        return _section(section, {} if value is None else value, path, problems)
    if get_origin(kind) is list and isinstance(value, list):
        items = [_field(get_args(kind)[0], item, (*path, at), problems) for at, item in enumerate(value)]
        return ["" if item is None else item for item in items]
    if get_origin(kind) is dict and isinstance(value, dict):
        return _entries(get_args(kind)[1], value, path, problems)
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        problems.append(Problem(path, _as_written(path, value) or _in_words(error) + _as_number(path, value)))
        return None
    return value


def _entries(kind: object, value: dict[object, object], path: Path, problems: list[Problem]) -> dict[str, object]:
    """A free mapping's entries one by one, so that a wrong one does not hide the next."""
    kept: dict[str, object] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            problems.append(Problem((*path, str(key)), f"the key {key!r} must be text; put it in quotes"))
        elif kind is object:
            kept[key] = item
        elif (field := _field(kind, item, (*path, key), problems)) is not None:
            kept[key] = field
    return kept


def _section_in(kind: object) -> type[Section] | None:
    """The section class of a field's type, optional or not; None if it is no section."""
    choices = get_args(kind) if get_origin(kind) is UnionType or isinstance(kind, UnionType) else (kind,)
    return next((each for each in choices if isinstance(each, type) and issubclass(each, Section)), None)


def _as_written(path: Path, value: object) -> str:
    """What to write for a port alone, which YAML reads as a number."""
    if path[-1] == "listen" and isinstance(value, int):
        return f"{value} is not host:port, such as 0.0.0.0:{value}"
    return ""


def _as_number(path: Path, value: object) -> str:
    """What to write for a number with a unit, which is a text, and for 1e6, which YAML reads as one."""
    found = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return ""
    number, unit = float(found[1]), found[2]
    seconds, size = str(path[-1]).endswith("_s"), str(path[-1]).endswith("_bytes")
    if seconds and unit in ("", "s", *_UNITS):
        return f": write {number * _UNITS.get(unit, 1):.15g}, in seconds"
    if size and unit not in ("s", *_UNITS):
        step = 1024 if "i" in unit else 1000
        return f": write {number * step ** ' KMGT'.index(unit[:1].upper().strip('B') or ' '):.15g}, in bytes"
    return f": write {number:.15g}" if not unit else ""


_NAMES = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "keys and values",
    "null": "nothing",
}


def _in_words(error: msgspec.ValidationError) -> str:
    match = re.fullmatch(r"Expected `([^`]*)`, got `([^`]*)`.*", str(error))
    if match is None:
        return str(error)
    expected, got = ([_NAMES.get(part.strip(), part.strip()) for part in side.split("|")] for side in match.groups())
    return f"expected {' or '.join(expected)}, got {' or '.join(got)}"


def _named(value: object) -> str:
    kinds = {str: "str", bool: "bool", int: "int", float: "float", list: "array", type(None): "null"}
    return _NAMES.get(kinds.get(type(value), ""), type(value).__name__)


def _hint(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"


def _given(decoded: dict[str, object], section: str, key: str) -> bool:
    inner = decoded.get(section)
    return isinstance(inner, dict) and bool(inner.get(key))


def _follows(problem: Problem, causes: list[Problem]) -> bool:
    """Whether the problem is inside, or around, something that could not be decoded."""
    return any(
        cause.severity == "error" and (cause.path[: len(problem.path)] == problem.path or _inside(problem, cause))
        for cause in causes
    )


def _inside(problem: Problem, cause: Problem) -> bool:
    return problem.path[: len(cause.path)] == cause.path
