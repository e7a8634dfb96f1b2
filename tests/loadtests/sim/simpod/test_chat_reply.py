from typing import Any

import pytest

from loadtests.sim.simpod.bodies import ChatBody
from loadtests.sim.simpod.chat_reply import ChatReply
from loadtests.sim.simpod.drafts import Ask, draft
from loadtests.sim.simpod.text import prompt_of
from tests.loadtests.sim.simpod.written import HI, SPEC, fields

PROMPT = prompt_of(b"hi")


def reply(name: str, **more: object) -> ChatReply:
    said = [draft(Ask(limit=3, ignore_eos=True), PROMPT, SPEC)]
    return ChatReply(ChatBody.model_validate({"messages": HI, "stream": True} | more), name, "m", PROMPT, said)


def sent(one: ChatReply) -> list[Any]:
    event = one.events(0)
    return [fields(each) for each in [*one.opening(0), *(event(at) for at in range(3))]]


@pytest.mark.parametrize("usage", [False, True])
def test_events_that_answers_share_have_the_id_of_each(usage: bool) -> None:
    """Plain answers are encoded once; with `echo` of nothing they are written one by one, and are the same."""
    options = {"stream_options": {"include_usage": usage}}
    for name in ("chatcmpl-1", "chatcmpl-2", "chatcmpl-1"):
        shared, own = sent(reply(name, **options)), sent(reply(name, echo=True, **options))
        assert shared == own
        assert {each["id"] for each in shared} == {name}


def test_the_last_event_has_the_finish_reason_and_without_usage_the_fingerprint() -> None:
    last = sent(reply("a"))[-1]
    assert last["choices"][0]["finish_reason"] == "length" and last["system_fingerprint"]
    assert "system_fingerprint" not in sent(reply("a", stream_options={"include_usage": True}))[-1]
