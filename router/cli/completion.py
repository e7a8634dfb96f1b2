"""`turnout completion`: a shell script that completes commands and flags, made from the parser. Knows no command."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from router.cli.control import print_line

_Words = Sequence[tuple[tuple[str, ...], Sequence[str]]]
"""The commands before the word -> the words that may follow."""

_BASH = """\
_turnout() {{
  local words="" word="${{COMP_WORDS[COMP_CWORD]}}" only=""
  case "${{COMP_WORDS[*]:1:$((COMP_CWORD-1))}}" in
{cases}
  esac
  [[ "$word" == -* ]] || only="-*"
  COMPREPLY=($(compgen -W "$words" -X "$only" -- "$word"))
}}
complete -o default -F _turnout turnout"""

_ZSH = "autoload -U +X bashcompinit && bashcompinit\n"


def add_completion(command: argparse.ArgumentParser, whole: argparse.ArgumentParser) -> None:
    """`turnout completion`, of the commands that `whole` has."""
    command.epilog = (
        'bash and zsh: eval "$(turnout completion bash)" in the start file; fish: turnout completion fish | source'
    )
    command.add_argument("shell", choices=sorted(_SHELLS))
    command.set_defaults(run=partial(_print, whole=whole))


def _print(given: argparse.Namespace, whole: argparse.ArgumentParser) -> int:
    print_line(_SHELLS[given.shell](list(_words(whole, ()))))
    return 0


def _words(parser: argparse.ArgumentParser, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Sequence[str]]]:
    """The words after each command, the longest path first."""
    words: list[str] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from _words(inner, (*path, name))
        words += action.option_strings or [str(each) for each in action.choices or ()]
    yield path, words


def _bash(words: _Words) -> str:
    cases = []
    for path, following in words:
        before = " ".join(path)
        pattern = f'"{before}"|"{before} "*' if path else '""'
        cases.append(f'    {pattern}) words="{" ".join(following)}" ;;')
    return _BASH.format(cases="\n".join(cases))


def _fish(words: _Words) -> str:
    lines = []
    for path, following in words:
        deeper = [inner[len(path)] for inner, _ in words if inner[: len(path)] == path and len(inner) == len(path) + 1]
        seen = [f"__fish_seen_subcommand_from {name}" for name in path]
        seen += [f"not __fish_seen_subcommand_from {' '.join(deeper)}"] if deeper else []
        condition = "; and ".join(seen) or "true"
        lines.append(f"complete -c turnout -n '{condition}' -a '{' '.join(following)}'")
    return "\n".join(lines)


_SHELLS: Mapping[str, Callable[[_Words], str]] = {
    "bash": _bash,
    "zsh": lambda words: _ZSH + _bash(words),
    "fish": _fish,
}
