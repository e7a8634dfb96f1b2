"""Prompts begin with popular passages, in an order that matters."""

from __future__ import annotations

from collections import Counter

import pytest

from loadtests.sim.workloads.drawing import UNIT_TOKENS, Zipf
from loadtests.sim.workloads.rag import Rag, rag

TRACE = rag(Rag(requests=2000), 1)


def test_three_in_a_hundred_documents_have_six_tenths_of_the_requests() -> None:
    assert Zipf(Rag().documents, Rag().exponent).share(300) == pytest.approx(0.6, abs=0.02)


def test_prompts_share_the_system_prompt_and_often_the_first_passage() -> None:
    first = TRACE.arrivals[0].units[0]
    assert {each.units[0] for each in TRACE.arrivals} == {first}
    passages = Counter(each.units[1] for each in TRACE.arrivals)
    assert 1 < len(passages) < len(TRACE.arrivals)
    assert passages.most_common(1)[0][1] > 50


def test_the_question_behind_the_passages_is_no_unit() -> None:
    assert all(each.prompt_tokens > len(each.units) * UNIT_TOKENS for each in TRACE.arrivals)
