"""The docs site: it builds without a warning, has every page in its navigation, and needs no other host."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from scripts.docs_site import MOVED, ROOT, build, place, relinked, sources

LOADS = re.compile(
    r"""(?:src|srcset)=["']([^"']+)|<link[^>]+href=["']([^"']+)|url\(["']?([^"')]+)|@import ["']([^"']+)"""
)
"""What a browser loads without being asked."""


def files(text: str) -> list[str]:
    """The pages that the navigation names, in its order."""
    return re.findall(r"^ +- .*: ([\w/.-]+\.md)$", text, re.MULTILINE)


def test_the_navigation_has_every_page_once() -> None:
    named = files((ROOT / "mkdocs.yml").read_text())
    assert sorted(named) == sorted(set(named)), "twice"
    assert set(named) == {place(source) for source in sources(ROOT)}


def test_links_between_pages_follow_to_their_places_on_the_site() -> None:
    page = "[a](../CHANGELOG.md), [b](../schedulers/README.md#p2c), [c](tls.md), [d](#here), [`deploy`](../deploy)"
    there = relinked(page, "docs/access.md", ROOT)
    assert there == "[a](changelog.md), [b](built-in-policies.md#p2c), [c](tls.md), [d](#here), `deploy`"
    assert relinked("[x](../docs/tls.md)", "schedulers/README.md", ROOT) == "[x](tls.md)"
    assert relinked("[x](../tls.md)", "docs/adr/README.md", ROOT) == "[x](../tls.md)"
    assert relinked("[the file](../Makefile)", "docs/tls.md", ROOT) == "the file (`Makefile`)"


def test_code_blocks_and_links_that_lead_nowhere_stay_as_they_are() -> None:
    page = "```sh\n[a](../CHANGELOG.md)\n```\n"
    assert relinked(page, "docs/access.md", ROOT) == page
    assert relinked("[a](../no/such.md)", "docs/access.md", ROOT) == "[a](../no/such.md)"


@pytest.mark.slow
def test_it_builds_strictly_and_loads_nothing_from_another_host(tmp_path: Path) -> None:
    build(tmp_path / "site")
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) >= len(sources(ROOT))
    for page in [*pages, *(tmp_path / "site").rglob("*.css")]:
        for found in LOADS.findall(page.read_text()):
            loaded = "".join(found)
            assert not re.match(r"(?:https?:)?//", loaded), f"{page.relative_to(tmp_path)} loads {loaded}"
    assert (tmp_path / "site/assets/iframe-worker.js").is_file()


@pytest.mark.slow
def test_a_link_to_a_heading_that_is_not_there_ends_the_build(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text("# Home\n\n[gone](#no-such-heading)\n")
    (tmp_path / "mkdocs.yml").write_text("site_name: T\nnav: [{Home: index.md}]\n")
    for source in MOVED:
        (tmp_path / source).parent.mkdir(exist_ok=True)
        (tmp_path / source).write_text("# Other\n")
    with pytest.raises(subprocess.CalledProcessError) as raised:
        build(tmp_path / "site", tmp_path)
    assert "no-such-heading" in re.sub(r"\x1b\[[0-9;]*m", "", raised.value.stdout + raised.value.stderr)
    assert not (tmp_path / "site").exists()
