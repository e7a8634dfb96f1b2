"""Words that the project does not use. The table names the usual word for each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

WORDS = {
    r"dice": "random bits, or rng",
    r"hears?|heard|hearing": "receive, read, get",
    r"tells?|told|telling": "report, send, say, return",
    r"news": "update, message",
    r"company": "peers, other replicas",
    r"whoever": "the component that",
    r"nobody|somebody|anybody": "no caller, no component; an optional one; any",
    r"so (?:many|much) of": "a number, a fraction of",
    r"believe[sd]?|belief": "expect, estimate",
    r"tempo|lineup|detours?|seat|whereabouts|patrol": "see docs/architecture.md for the words in use",
}
PATTERN = re.compile(rf"\b(?:{'|'.join(WORDS)})\b", re.IGNORECASE)

QUOTED = re.compile(r"```.*?```|`[^`\n]*`|^>.*$", re.DOTALL | re.MULTILINE)
"""Quotations of a page: code and citations."""

STORED = re.compile(r"(?<=[}:])news:")
"""Names in shared state stay as they are, since replicas of two versions share it: the channel `{ns}:news:0`."""


def pages() -> Iterator[Path]:
    yield from ROOT.glob("*.md")
    yield from (ROOT / "docs").rglob("*.md")
    yield from (ROOT / "deploy").rglob("*.md")


def sources() -> Iterator[Path]:
    for folder in ("router", "statesync", "schedulers", "loadtests", "scripts", "tests"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".py", ".lua", ".md"} and path != Path(__file__) and "node_modules" not in path.parts:
                yield path
    for path in sorted((ROOT / "deploy").rglob("*.y*ml")):
        yield path


def found(text: str) -> list[str]:
    return [f"{text.count(chr(10), 0, hit.start()) + 1}: {hit[0]}" for hit in PATTERN.finditer(text)]


def blanked(text: str, quoted: re.Pattern[str]) -> str:
    """The text without quotations; line numbers stay as they are."""
    return quoted.sub(lambda hit: "\n" * hit[0].count("\n"), text)


@pytest.mark.parametrize("read", [sources, pages], ids=["sources", "pages"])
def test_no_private_words(read: object) -> None:
    assert callable(read)
    hits = []
    for path in read():
        name = str(path.relative_to(ROOT))
        text = path.read_text()
        if path.suffix == ".md":
            text = blanked(text, QUOTED)
        text = blanked(text, STORED)
        hits += [f"{name}:{hit}" for hit in found(text)]
    assert hits == [], f"{len(hits)} words; instead of each: {WORDS}"


def test_a_private_word_is_found_with_its_line() -> None:
    assert found("One line.\nNobody believes the news.\n") == ["2: Nobody", "2: believes", "2: news"]
    assert found(blanked("`nobody`\n```\ntold\n```\ntold", QUOTED)) == ["5: told"]
