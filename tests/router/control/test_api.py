"""What the application offers beside its routes: its documents, which need no other host."""

from __future__ import annotations

from html.parser import HTMLParser

import httpx

from router.control.docs_page import POLICY
from tests.fakes.control_port import Replica, talk_to


class Page(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def test_every_path_stands_there_with_its_role_and_nothing_leads_to_another_host() -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        document = (await client.get("/openapi.json")).json()
        answer = await client.get("/docs")
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["content-security-policy"] == POLICY
        page = Page(answer.text)
        assert page.tags.count("details") == sum(map(len, document["paths"].values()))
        for path in document["paths"]:
            assert f"</span>{path}</code>" in answer.text, path
        assert not {"script", "img", "link", "iframe", "object", "form"} & set(page.tags)
        assert [value for name, value in page.attributes if name in ("href", "src")] == ["/openapi.json"]
        assert not [name for name, _ in page.attributes if name.startswith("on") or name == "style"]
        drain = answer.text.partition("</span>/admin/drain</code>")[0].rpartition("<details>")[2]
        assert '<span class="role">operate</span>' in drain
        assert (await client.get("/docs")).text == answer.text

    talk_to(Replica(), talk)


def test_fastapi_s_own_pages_which_load_scripts_from_elsewhere_are_not_there() -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        for path in ("/redoc", "/docs/oauth2-redirect"):
            assert (await client.get(path)).status_code == 404, path

    talk_to(Replica(), talk)
