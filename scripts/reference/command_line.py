"""docs/cli.md: every command with its arguments and flags, from the argument parsers that the command itself uses.

The lines are made here and not by argparse's own help, whose form differs between versions of Python.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn
from unittest import mock

from router.cli.main import _parser
from scripts.reference.markdown import opening, sentence, table

_TEXT = """
`turnout COMMAND --help` prints the same for one command. `eval "$(turnout completion bash)"` completes commands and
flags in bash (`zsh` likewise, `turnout completion fish | source` for fish). The exit code is 0 for success, 1 where
`check` found errors, and 2 for any other failure, which is reported in one line.
"""


class _Found(Exception):
    """Carries a parser out of the command that made it."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


def page() -> str:
    """The whole page."""
    parts = [opening("Commands", "the argument parsers of router/cli and loadtests", _TEXT)]
    parts += [_command(name, parser, words) for name, parser, words in _commands("turnout", _parser())]
    return "\n".join(parts)


def _commands(path: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """Every command that does something, with what one line says of it."""
    inner = next((each for each in parser._actions if isinstance(each, argparse._SubParsersAction)), None)
    if inner is None:
        return
    help_of = {each.dest: each.help or "" for each in inner._choices_actions}
    for name, command in inner.choices.items():
        command = _passed_on(command)
        if any(isinstance(each, argparse._SubParsersAction) for each in command._actions):
            yield from _commands(f"{path} {name}", command)
        else:
            yield f"{path} {name}", command, help_of[name]


def _passed_on(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The parser itself, or the one to which the command passes all of its arguments."""
    if not any(each.nargs == argparse.REMAINDER for each in command._actions):
        return command
    run: Callable[[argparse.Namespace], int] = command.get_default("run")

    def found(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> NoReturn:
        raise _Found(parser)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", found):
        try:
            run(argparse.Namespace(rest=[]))
        except _Found as carried:
            return carried.parser
    return command


def _command(name: str, parser: argparse.ArgumentParser, words: str) -> str:
    actions = [each for each in parser._actions if not isinstance(each, argparse._HelpAction)]
    shown = [each for each in actions if each.help != argparse.SUPPRESS]
    positional = " ".join(filter(None, (_value(each) for each in shown if not each.option_strings)))
    flags = " [flags]" if any(each.option_strings for each in shown) else ""
    usage = f"{name} {positional}".rstrip() + flags
    rows = [(f"`{_name(each)}`", _words(each)) for each in shown if each.option_strings or each.help]
    epilog = f"{sentence(parser.epilog)}\n\n" if parser.epilog else ""
    body = table(("flag", ""), rows) if rows else ""
    return f"## {name}\n\n{sentence(words)}\n\n```text\n{usage}\n```\n\n{epilog}{body}"


def _name(action: argparse.Action) -> str:
    if not action.option_strings:
        return _value(action)
    return f"{', '.join(action.option_strings)} {_value(action)}".rstrip()


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if action.metavar:
        value = action.metavar if isinstance(action.metavar, str) else " ".join(action.metavar)
    elif action.choices is not None:
        value = _one_of(list(action.choices))
    else:
        value = action.dest.upper()
    return f"[{value}]" if action.nargs in ("?", "*") else value


def _one_of(choices: Sequence[object]) -> str:
    return "{" + ",".join(map(str, choices)) + "}"


def _words(action: argparse.Action) -> str:
    words = (action.help or "").replace("%(default)s", str(action.default)).replace("%%", "%")
    choices = f"{'; ' if words else ''}one of {', '.join(map(str, action.choices))}" if action.choices else ""
    return " ".join((words + choices).split())
