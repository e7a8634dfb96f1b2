"""The console's page and files over a real control port."""

from __future__ import annotations

import re

import httpx

from router.control.console import FOLDER, console_files
from tests.fakes.control_port import Replica, talk_to

LOADED = re.compile(r'(?:src|href)="(/console/[^"]+)"')
IMPORTED = re.compile(r'from "\./([a-z]+\.js)"')


def test_the_page_needs_no_token_and_loads_its_own_files_alone() -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        page = await client.get("/console")
        assert page.status_code == 200
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        files = LOADED.findall(page.text)
        assert files
        assert not re.search(r'(?:src|href)="(?:https?:)?//', page.text)
        assert not re.search(r"<script(?![^>]*src=)|style=|\son[a-z]+=", page.text), "the policy would refuse it"
        for path in files:
            found = await client.get(path)
            assert (found.status_code, found.headers["cache-control"]) == (200, "public, max-age=31536000, immutable")
            assert found.headers["x-content-type-options"] == "nosniff"

    talk_to(Replica(token="secret"), talk)


def test_the_page_is_asked_for_again_and_not_sent_again() -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        first = await client.get("/console")
        again = await client.get("/console", headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert first.headers["cache-control"] == "no-cache"

    talk_to(Replica(), talk)


def test_the_port_s_root_leads_to_the_console_and_another_version_s_file_is_not_found() -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        assert (await client.get("/")).headers["location"] == "/console"
        for path in ("/console/0123456789abcdef/app.js", f"/console/{console_files().version}/__init__.py"):
            assert (await client.get(path)).status_code == 404

    talk_to(Replica(), talk)


def test_every_import_of_a_module_is_a_file_and_every_file_has_its_licence_or_its_rule() -> None:
    scripts = [path for path in FOLDER.glob("*.js") if path.name != "uplot.js"]
    for path in scripts:
        text = path.read_text()
        assert text.startswith("// @ts-check\n/**"), path.name
        assert set(IMPORTED.findall(text)) <= {each.name for each in scripts}
        assert "innerHTML" not in text, path.name
    assert "MIT" in (FOLDER / "LICENSE.uplot").read_text()
    assert "uPlot" in (FOLDER / "uplot.js").read_text()[:200]
