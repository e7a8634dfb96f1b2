from __future__ import annotations

import dns.flags
import dns.message
import dns.rcode
import pytest

from loadtests.bench.freeze.nameserver import NAME, Names, addresses


def asked(names: Names, name: str, kind: str, *, over_tcp: bool) -> dns.message.Message | None:
    query = dns.message.make_query(name, kind)
    reply = names.reply(query.to_wire(), over_tcp=over_tcp)
    if reply is None:
        return None
    answer = dns.message.from_wire(reply)
    assert query.is_response(answer)
    return answer


def hosts(answer: dns.message.Message | None) -> list[str]:
    assert answer is not None
    return [record.to_text() for record in answer.answer[0]] if answer.answer else []


def test_a_long_answer_is_truncated_over_udp_and_complete_over_tcp() -> None:
    lines: list[str] = []
    names = Names(300, lines.append)
    promised = asked(names, NAME, "A", over_tcp=False)
    assert promised is not None
    assert promised.flags & dns.flags.TC
    assert sorted(hosts(asked(names, NAME, "A", over_tcp=True))) == sorted(addresses(300, 0))
    names.swap()
    assert not set(hosts(asked(names, NAME, "A", over_tcp=True))) & set(addresses(300, 0))
    assert lines == ["answered 0", "answered 1"]


def test_other_record_types_are_empty_and_other_names_unknown() -> None:
    names = Names(3, lambda word: None)
    assert hosts(asked(names, NAME, "AAAA", over_tcp=False)) == []
    other = asked(names, "other.test.", "A", over_tcp=False)
    assert other is not None
    assert other.rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize("over_tcp", [False, True])
def test_a_silenced_server_ignores_questions_and_logs_them(over_tcp: bool) -> None:
    lines: list[str] = []
    names = Names(3, lines.append)
    names.toggle()
    assert asked(names, NAME, "A", over_tcp=over_tcp) is None
    names.toggle()
    assert asked(names, NAME, "A", over_tcp=over_tcp) is not None
    assert lines[0] == "ignored"
