"""Headers of Envoy's, and a request of them: read at once as its text would be, or left to be read as text."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from router.dataplane.http.header_rules import CHUNKED_LENGTH, REQUEST
from router.dataplane.http.request_head import parse_head
from router.epp import heads
from router.epp.heads import ENVOYS, MAX_BYTES, MAX_KNOWN, BadMessage, read_request
from router.settings import Limits

Pairs = list[tuple[bytes, bytes]]

CHAT: Pairs = [(b":method", b"POST"), (b":path", b"/v1/chat/completions"), (b":authority", b"llm:80")]
CLIENTS: Pairs = [
    *[(b":scheme", b"https"), (b"content-type", b"application/json"), (b"authorization", b"Bearer sk-0 1")],
    *[(b"user-agent", b"OpenAI/Python 2.8.0"), (b"accept", b"*/*"), (b"x-forwarded-for", b"10.1.2.3, 10.0.0.1")],
    *[(b"x-forwarded-proto", b"https"), (b"x-turnout-pool", b"p"), (b"x-turnout-other", b"q"), (b"trailer", b"x")],
    *[(b"forwarded", b"for=10.1.2.3"), (b"x-request-id", b"1"), (b"content-length", b"5"), (b"te", b"trailers")],
]

NAMES = st.sampled_from(sorted(REQUEST.keys() | ENVOYS | {name for name, _ in CHAT + CLIENTS}))
ODD_BYTES = st.lists(st.sampled_from(b"aA0-_:;, \t\r\n\0\x7f\x80\xff(/.%?#\\"), max_size=5).map(bytes)
METHODS = st.sampled_from([b"GET", b"HEAD", b"OPTIONS", b"CONNECT", b"PRI", b"BREW", b"post", b"M-SEARCH", b"PUT", b""])
TARGETS = st.sampled_from(
    [
        b"/",
        b"/v1?a=b-c",
        b"*",
        b"",
        b"/a/../b",
        b"/a%2e./b",
        b"http://other/v1",
        b"/a b",
        b"/v1#x",
        b"//x",
        b"/v1?a#b",
        b"v1",
    ]
)
HOSTS = st.sampled_from([b"llm", b"a:80", b"[::1]:80", b"a:99999", b"a,b", b"a b", b" a", b"", b"a@b"])
VALUES = st.sampled_from(
    [
        b"1",
        b"",
        b" ",
        b" a",
        b"a\t",
        b"a  b",
        b"chunked",
        b"gzip, chunked",
        b"close",
        b"upgrade",
        b"keep-alive, x-a",
        b"5",
    ]
)
ODD = st.one_of(
    st.tuples(NAMES, VALUES),
    st.tuples(NAMES | ODD_BYTES | NAMES.map(bytes.upper), VALUES | ODD_BYTES),
    st.tuples(st.just(b":method"), METHODS | ODD_BYTES),
    st.tuples(st.just(b":path"), TARGETS | ODD_BYTES),
    st.tuples(st.sampled_from([b":authority", b"host"]), HOSTS | ODD_BYTES),
)


@settings(max_examples=500)
@given(st.lists(st.sampled_from(CLIENTS), max_size=4), st.lists(ODD, max_size=2), st.booleans())
@example(CLIENTS, [], False)
def test_a_request_is_what_the_parser_reads_in_its_text(usual: Pairs, odd: Pairs, end: bool) -> None:
    try:
        request = read_request(CHAT + usual + odd, 7, end=end)
    except BadMessage:
        return
    if request.parsed is not None:
        text = request.head
        assert (request.parsed, 0 if end else CHUNKED_LENGTH) == parse_head(text, Limits())
        assert (request.size, request.headers) == (len(text), text.count(b"\n") - 2)


def test_what_clients_send_is_read_at_once_and_what_may_be_refused_is_not() -> None:
    assert read_request(CHAT + CLIENTS, 7, end=False).parsed
    assert read_request([*CHAT, (b":path", b"/openai/m/chat?api-version=2026-01-01")], 7, end=True).parsed
    for odd in [(b"x", b""), (b"x", b"a\tb "), (b"X", b"1"), (b"accept", b"\xff"), (b"content-type", b"text/plain")]:
        assert read_request([*CHAT, *CLIENTS, odd], 7, end=False).parsed is None
    for odd in [(b":path", b"/a/../b"), (b":method", b"CONNECT"), (b":authority", b"a,b"), (b"host", b"a b")]:
        assert read_request([*CHAT, odd], 7, end=False).parsed is None


def test_headers_that_are_remembered_are_bounded() -> None:
    known = heads._known
    known.clear()
    read_request([(b"x-%d" % at, b"") for at in range(MAX_KNOWN)] + CHAT, 7, end=False)
    assert len(known) == len(CHAT)
    read_request([*CHAT, (b"x" * MAX_BYTES, b""), (b"x", b"x" * MAX_BYTES)], 7, end=False)
    assert len(known) == len(CHAT)
