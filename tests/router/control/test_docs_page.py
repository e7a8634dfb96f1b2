"""The page of the API is whole, needs nothing from another host, and cannot be made to run anything."""

from __future__ import annotations

import re

import httpx

from router.control.docs_page import POLICY, docs_page
from tests.fakes.control_port import Replica, talk_to


def test_the_style_is_the_one_that_the_policy_allows() -> None:
    text = docs_page({"info": {"title": "t", "version": "1"}, "paths": {}}, lambda *_: "read")
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None and "url(" not in style[1] and "@import" not in style[1]
    assert POLICY.startswith("default-src 'none'; style-src 'sha256-")


def test_text_of_the_document_is_no_markup() -> None:
    evil = "<script>alert(1)</script>"
    parameter = {"name": evil, "in": evil, "schema": {"type": evil, "default": evil, "description": evil}}
    operation = {"tags": [evil], "description": evil, "parameters": [parameter]}
    document = {"info": {"title": evil, "version": evil}, "paths": {f"/{evil}": {"get": operation}}}
    text = docs_page(document, lambda *_: evil)
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 8


def test_a_body_is_a_table_of_its_fields_and_a_command_to_send_it() -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        text = (await client.get("/docs")).text
        put = '<span class="method put">PUT</span>/admin/pools/{pool}/canary</code>'
        canary = text.partition(put)[2].partition("</details>")[0]
        for field in ("policy", "params", "percent", "guard", "switchback_s"):
            assert f"<td><code>{field}</code></td><td>body</td>" in canary, field
        assert "object of error_rate, ttft_p95_ratio" in canary
        assert "-d &#x27;{&quot;policy&quot;: &quot;&lt;policy&gt;&quot;, &quot;percent&quot;" in canary
        assert "curl -X GET http://127.0.0.1:9000/livez</pre>" in text
        assert "/admin/pods -H &quot;authorization: Bearer $TURNOUT_CONTROL_TOKEN&quot;</pre>" in text

    talk_to(Replica(), talk)
