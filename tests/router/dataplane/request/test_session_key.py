"""The session of a request, as agents and SDKs send it."""

from __future__ import annotations

import json

from router.dataplane.http.header_rules import REQUEST, HeaderFields
from router.dataplane.request.session_key import SessionKeys
from router.settings import Sessions
from tests.fakes.each_case import each_case

CLAUDE = {"device_id": "d", "account_uuid": "a", "session_id": "c0ffee-1"}
OLD_CLAUDE = "user_9f_account_77_session_c0ffee-1"


def find(body: object = None, *headers: str, keys: SessionKeys | None = None, content_type: str = "") -> str:
    fields = HeaderFields(REQUEST)
    for header in ("user-agent: x", *headers, "accept: */*"):
        name, _, value = header.partition(": ")
        fields.on_header(name.encode(), value.encode("latin-1"))
    raw = body if isinstance(body, bytes) else json.dumps({"model": "m"} if body is None else body).encode()
    return (keys or SessionKeys(Sessions())).find(fields.kept, content_type.encode(), raw)


@each_case(
    "name",
    [
        "x-session-id",
        "X-Claude-Code-Session-Id",
        "session_id",
        "session-id",
        "x-opencode-session",
        "x-session-affinity",
        "X-OpenWebUI-Chat-Id",
    ],
)
def test_case_g33_agents_name_their_session_in_a_header(name: str) -> None:
    assert find(None, f"{name}: s-1") == "s-1"


BODIES: dict[str, tuple[dict[str, object], str]] = {
    "Claude Code": ({"metadata": {"user_id": json.dumps(CLAUDE)}}, "c0ffee-1"),
    "Claude Code, as it was": ({"metadata": {"user_id": OLD_CLAUDE}}, "c0ffee-1"),
    "Codex": ({"prompt_cache_key": "thread-1", "client_metadata": {"session_id": "s"}}, "thread-1"),
    "a session in metadata": ({"metadata": {"session_id": 7}}, "7"),
    "a conversation": ({"conversation": {"id": "conv_1"}}, "conv_1"),
    "a conversation by its id": ({"conversation": "conv_1"}, "conv_1"),
    "OpenAI's user": ({"user": "u"}, "u"),
    "OpenAI's new user": ({"user": "u", "safety_identifier": "si"}, "si"),
    "Anthropic's user": ({"metadata": {"user_id": "u-1"}}, "u-1"),
    "a session precedes a user": ({"user": "u", "metadata": {"user_id": json.dumps(CLAUDE)}}, "c0ffee-1"),
    "none": ({"metadata": {}, "user": None, "conversation": [], "prompt_cache_key": {"a": 1}}, ""),
    "metadata that is no object": ({"metadata": "x", "user": "u"}, "u"),
}


@each_case("which", BODIES)
@each_case("size", [0, 60_000], ids=["small", "large"])
def test_case_g33_agents_name_their_session_in_the_body(which: str, size: int) -> None:
    fields, expected = BODIES[which]
    assert find({"model": "m", "messages": [{"role": "user", "content": "w " * size}], **fields}) == expected


def test_headers_precede_the_body_and_the_gateways_own_header_precedes_all() -> None:
    body = {"prompt_cache_key": "p"}
    assert find(body, "x-claude-code-session-id: c") == "c"
    assert find(body, "x-claude-code-session-id: c", "x-session-id: s") == "s"
    assert find(body, "x-session-id: ") == "p", "an empty header names nothing"


def test_case_g33_the_settings_extend_the_table() -> None:
    keys = SessionKeys(Sessions(headers=["X-Shop-Cart"], fields=["extra.thread.id", "chat"]))
    assert find({"user": "u"}, "x-shop-cart: 12", "session-id: s", keys=keys) == "12"
    assert find({"user": "u"}, "x-shop-cart: 12", "x-session-id: s", keys=keys) == "s"
    assert find({"prompt_cache_key": "p", "extra": {"thread": {"id": "t"}}}, keys=keys) == "t"
    assert find({"prompt_cache_key": "p", "chat": 5}, keys=keys) == "5"


@each_case("body", [b"", b"[]", b"{", b"\xff\xfe", b'{"user":"\\ud800"}', b"[" * 100_000])
def test_a_body_that_cannot_be_read_names_no_session(body: bytes) -> None:
    assert find(body) == ""


def test_a_form_names_its_session_in_a_header_only() -> None:
    assert find(b'--x\r\n{"user":"u"}', content_type="multipart/form-data; boundary=x") == ""
    assert find(b"--x\r\n", "session-id: s", content_type="multipart/form-data; boundary=x") == "s"
