"""The walk of one streamed chat through the sources: which files it passes, in which order, and by which functions.

The gateway runs in memory between a client and a pod of the tests' own; a profile hook notes each call. What is
printed stands in docs/architecture.md, where a test compares the two.

    python -m scripts.request_walk [--write docs/architecture.md]
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import NamedTuple

from router.settings import PolicySpec
from tests.fakes.memory_client_and_pods import LAST_CHUNK, SSE_HEAD, event, post
from tests.fakes.memory_gateway import Rig, one_pool

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("router", "statesync", "schedulers")
BEGIN, END = "<!-- walk: make walk -->\n", "<!-- end of walk -->\n"
CHAT = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"%s"}]}' % (b"Why is the sky blue? " * 40)
"""Longer than a block of the prefix index, so that the index takes part."""


class Walk(NamedTuple):
    """What one request ran through."""

    calls: list[tuple[str, str]]
    """File, relative to the tree, and function, in the order of the calls."""

    @property
    def files(self) -> dict[str, list[str]]:
        """Files in the order in which the request first enters them, with the functions that it calls there."""
        found: dict[str, list[str]] = {}
        for file, function in self.calls:
            functions = found.setdefault(file, [])
            if function not in functions:
                functions.append(function)
        return found

    @property
    def switches(self) -> int:
        """How often the next call is in another file than the one before."""
        return sum(before[0] != after[0] for before, after in zip(self.calls, self.calls[1:], strict=False))

    def __str__(self) -> str:
        files = self.files
        functions = sum(map(len, files.values()))
        lines = [
            f"{len(files)} files, {functions} functions, {self.switches} switches between files.",
            "",
            "| | File | What is there | Functions |",
            "|---|---|---|---|",
        ]
        for number, (file, names) in enumerate(files.items(), 1):
            lines.append(f"| {number} | `{file}` | {rule_of(file)} | {', '.join(f'`{name}`' for name in names)} |")
        return "\n".join(lines) + "\n"


def rule_of(file: str) -> str:
    """The first sentence of a file's docstring."""
    docstring = ast.get_docstring(ast.parse((ROOT / file).read_text())) or ""
    return " ".join(docstring.split("\n\n")[0].split()).split(". ")[0].rstrip(".") + "."


@contextmanager
def noted(calls: list[tuple[str, str]]) -> Iterator[None]:
    """Put every call of a function of the three packages on the list."""
    names: dict[CodeType, tuple[str, str] | None] = {}

    def hook(frame: FrameType, what: str, _: object) -> None:
        if what != "call":
            return
        code = frame.f_code
        if code not in names:
            path = Path(code.co_filename)
            inside = path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in PACKAGES
            named = inside and not code.co_name.startswith("<")
            names[code] = (str(path.relative_to(ROOT)), code.co_name) if named else None
        if (call := names[code]) is not None:
            calls.append(call)

    sys.setprofile(hook)
    try:
        yield
    finally:
        sys.setprofile(None)


def walk() -> Walk:
    """One chat over a connection that exists, streamed as three events; no other request is in flight."""
    calls: list[tuple[str, str]] = []
    with Rig(one_pool(PolicySpec().name), batched=False) as rig:
        client = rig.client()
        for _ in range(2):  # twice: the connection then knows its head, whatever ran in this process before
            client.sends(post(CHAT))
            rig.asked().sends(SSE_HEAD + event("warm") + LAST_CHUNK)
        assert client.answers()
        with noted(calls):
            client.sends(post(CHAT))
            pod = rig.asked()
            pod.sends(SSE_HEAD)
            for word in ("one", "two"):
                pod.sends(event(word))
            pod.sends(event("[DONE]") + LAST_CHUNK)
        assert client.answers()
    return Walk(calls)


def in_page(page: str, text: str) -> str:
    """The page with this text between its two marks."""
    head, _, rest = page.partition(BEGIN)
    return f"{head}{BEGIN}{text}{END}{rest.partition(END)[2]}"


def main(argv: list[str] | None = None) -> int:
    """Print the walk, or put it into a page."""
    parser = argparse.ArgumentParser(description="The walk of one streamed chat through the sources.")
    parser.add_argument("--write", type=Path, help="the page with the marks")
    given = parser.parse_args(argv)
    text = str(walk())
    if given.write is None:
        sys.stdout.write(text)
    else:
        given.write.write_text(in_page(given.write.read_text(), text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
