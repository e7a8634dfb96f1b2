"""The generated pages of the reference are those of the sources, and leave nothing out."""

from __future__ import annotations

import re
from pathlib import Path

from router.cli.completion import _words
from router.cli.main import _parser
from router.control.roles import ROUTES
from router.errors import SHAPES
from scripts.reference.__main__ import DOCS, PAGES
from tests.fakes.each_case import each_case

ROUTER = DOCS.parent / "router"


@each_case("name", sorted(PAGES))
def test_the_page_is_what_make_docs_writes(name: str) -> None:
    assert (DOCS / name).read_text() == PAGES[name](), "a source changed: run `make docs`"


def test_every_metric_of_the_sources_is_on_its_page() -> None:
    page = (DOCS / "metrics.md").read_text()
    for source in [*(ROUTER / "telemetry").glob("*.py"), ROUTER / "control/parts.py"]:
        for name in re.findall(r'"(turnout_\w+)"', source.read_text()):
            assert f"`{name}`" in page or f"`{name}_total`" in page, f"{source.name}: {name}"


def test_every_code_of_an_error_is_on_its_page() -> None:
    page = (DOCS / "errors.md").read_text()
    missing = {shape.code for shape in SHAPES.values() if f"`{shape.code}`" not in page}
    assert missing == {"pod_refused"}, "this one becomes an answer only by mistake"


def test_every_command_and_flag_is_on_its_page() -> None:
    page = (DOCS / "cli.md").read_text()
    for path, words in _words(_parser(), ()):
        for word in words:
            heading = f"## turnout {' '.join((*path, word))}"
            assert word in ("-h", "--help", "--version") or f"`{word}" in page or word in page, heading


def test_every_path_of_the_control_port_is_on_its_page() -> None:
    page = (DOCS / "control-api.md").read_text()
    for path, methods in ROUTES.items():
        for method in methods:
            shown = f"### `{method} {path.replace(':path', '')}`"
            assert shown in page or not path.startswith(("/admin", "/metrics")), shown


def test_the_pages_name_their_source() -> None:
    for name in PAGES:
        assert "<!-- Written by `make docs` from " in Path(DOCS / name).read_text()
