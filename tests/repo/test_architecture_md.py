"""docs/architecture.md: its walk of a request is the real one, and its paths exist."""

from __future__ import annotations

import re
from pathlib import Path

from scripts.request_walk import BEGIN, END, walk

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text()
MOST_FILES = 25


def test_the_walk_in_the_page_is_that_of_a_real_request() -> None:
    in_page = PAGE.partition(BEGIN)[2].partition(END)[0]
    assert in_page == str(walk()), "run `make walk`"


def test_a_streamed_chat_passes_few_files() -> None:
    assert len(walk().files) <= MOST_FILES


def test_the_files_that_the_page_names_exist() -> None:
    named = re.findall(r"`((?:router|statesync|schedulers|loadtests|tests|docs)/[\w./-]*)`", PAGE)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []
