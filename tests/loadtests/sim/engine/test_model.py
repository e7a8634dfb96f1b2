import math
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.sim.engine.model import DuplicateRequest, Engine, EngineRequest, RequestTooLong, StepResult
from loadtests.sim.engine.profiles import EngineProfile
from tests.fakes.examples import examples

SMALL = EngineProfile(
    name="small",
    kv_blocks=24,
    block_tokens=4,
    max_num_seqs=6,
    max_batched_tokens=32,
    max_model_len=90,
    step_s=1.0,
    sequence_s=0.1,
    kv_token_s=0.01,
    prefill_token_s=0.5,
    attention_s=0.001,
)
ROOMY = SMALL._replace(kv_blocks=1000, max_model_len=1000)


def request(name: str, prompt: int, output: int, ids: Sequence[int] = ()) -> EngineRequest:
    return EngineRequest(name, prompt, ids, output)


def play(engine: Engine, requests: Sequence[EngineRequest], *, leap: bool = False) -> list[tuple[float, StepResult]]:
    """Submit the requests at their arrival times and step until idle; returns each step with the time it ends."""
    pending = sorted(requests, key=lambda one: one.arrived_at)
    now, steps = 0.0, []
    while True:
        while pending and pending[0].arrived_at <= now:
            engine.submit(pending.pop(0))
        until = pending[0].arrived_at if pending else math.inf
        step = engine.next_step(now, until if leap else None)
        if step is not None:
            now += step.duration_s
            steps.append((now, step))
        elif pending:
            now = until
        else:
            return steps


def tokens_of(steps: Sequence[tuple[float, StepResult]]) -> Counter[int | str]:
    got: Counter[int | str] = Counter()
    for _, step in steps:
        got.update(dict.fromkeys(step.tokens, step.steps))
        got.update(step.first_tokens)
    return got


def test_an_idle_engine_has_no_step() -> None:
    assert Engine(SMALL).next_step(0.0) is None


def test_a_long_prompt_is_prefilled_in_chunks_of_the_budget() -> None:
    engine = Engine(ROOMY)
    engine.submit(request("a", 70, 2))
    steps = [engine.next_step(0.0) for _ in range(4)]
    assert [step and step.prefill_tokens for step in steps] == [32, 32, 6, 0]
    assert steps[2] and steps[2].first_tokens == ("a",)
    assert steps[3] and (steps[3].tokens, steps[3].finished) == (("a",), ("a",))
    assert engine.next_step(0.0) is None


def test_a_step_takes_the_time_in_the_profile() -> None:
    engine = Engine(ROOMY)
    engine.submit(request("a", 10, 3))
    prefill, decode = engine.next_step(0.0), engine.next_step(0.0)
    assert prefill and prefill.duration_s == pytest.approx(1.0 + 0.5 * 10 + 0.001 * 10 * 5)
    assert decode and decode.duration_s == pytest.approx(1.0 + 0.1 + 0.01 * 10)
    last = engine.next_step(0.0)
    assert last and last.duration_s == pytest.approx(1.0 + 0.1 + 0.01 * 11)


def test_decoding_requests_go_on_while_another_prompt_is_prefilled() -> None:
    engine = Engine(ROOMY)
    engine.submit(request("a", 4, 9))
    engine.next_step(0.0)
    engine.submit(request("b", 60, 2))
    steps = [engine.next_step(0.0) for _ in range(2)]
    assert [step and (step.tokens, step.prefill_tokens) for step in steps] == [(("a",), 31), (("a",), 29)]


def test_a_repeated_prompt_is_read_from_the_cache_except_its_last_token() -> None:
    engine = Engine(ROOMY)
    ids = [1, 2, 3, 4]
    first, again = play(engine, [request("a", 16, 1, ids)]), play(engine, [request("b", 16, 1, ids)])
    assert first[0][1].admitted == (("a", 0),)
    assert again[0][1].admitted == (("b", 12),)
    assert (again[0][1].prefill_tokens, engine.prefix_queries_tokens, engine.prefix_hits_tokens) == (4, 32, 12)


def test_the_answer_is_cached_for_the_next_turn_if_its_ids_are_known() -> None:
    engine = Engine(ROOMY)
    play(engine, [request("turn1", 8, 9, [1, 2, 3, 4])])
    assert play(engine, [request("turn2", 20, 1, [1, 2, 3, 4, 5])])[0][1].admitted == (("turn2", 16),)


def test_a_unit_may_be_several_blocks() -> None:
    engine = Engine(ROOMY, unit_tokens=16)
    play(engine, [request("a", 50, 3, [1, 2, 3])])
    assert play(engine, [request("b", 50, 3, [1, 2, 9])])[0][1].admitted == (("b", 32),)


def test_requests_beyond_a_full_batch_wait() -> None:
    engine = Engine(ROOMY)
    for number in range(8):
        engine.submit(request(f"r{number}", 2, 5))
    engine.next_step(0.0)
    assert (engine.running, engine.waiting) == (6, 2)


def test_a_prompt_that_does_not_fit_waits_until_blocks_are_free() -> None:
    engine = Engine(SMALL)
    engine.submit(request("a", 60, 3))
    engine.submit(request("b", 60, 3))
    admitted = [name for _, step in play(engine, []) for name, _ in step.admitted]
    assert (admitted, engine.preemptions) == (["a", "b"], 0)


def test_running_out_of_blocks_preempts_the_last_admitted_request_which_still_finishes() -> None:
    engine = Engine(SMALL)
    engine.submit(request("old", 40, 40))
    engine.submit(request("young", 40, 40))
    steps = play(engine, [])
    assert {name for _, step in steps for name in step.preempted} == {"young"}
    assert tokens_of(steps) == {"old": 40, "young": 40}
    assert engine.preemptions >= 1


def test_by_priority_a_lower_number_is_admitted_first_and_equal_ones_in_order_of_arrival() -> None:
    engine = Engine(ROOMY._replace(by_priority=True, max_num_seqs=1))
    waits = [("late", 5), ("first", 0), ("second", 0), ("urgent", -1)]
    requests = [EngineRequest(name, 4, (), 3, 0.0, level) for name, level in waits]
    steps = play(engine, requests)
    assert [name for _, step in steps for name in step.finished] == ["urgent", "first", "second", "late"]


def test_by_priority_the_last_of_the_lowest_is_preempted() -> None:
    engine = Engine(SMALL._replace(by_priority=True))
    requests = [EngineRequest(at, 12, (), 40, at / 8, level) for at, level in enumerate((0, 5, 0))]
    preempted = [name for _, step in play(engine, requests) for name in step.preempted]
    assert preempted[0] == 1
    assert engine.preemptions == len(preempted)


def test_a_higher_priority_passes_a_head_that_waits_for_blocks() -> None:
    engine = Engine(SMALL._replace(by_priority=True))
    engine.submit(EngineRequest("runs", 40, (), 30))
    engine.next_step(0.0)
    engine.submit(EngineRequest("waits", 60, (), 2, 1.0, 1))
    engine.next_step(1.0)
    engine.submit(EngineRequest("small", 4, (), 2, 2.0))
    step = engine.next_step(2.0)
    assert step is not None and step.first_tokens == ("small",)


def test_without_it_priorities_change_nothing() -> None:
    engine = Engine(ROOMY._replace(max_num_seqs=1))
    steps = play(engine, [EngineRequest(at, 4, (), 3, 0.0, -at) for at in range(3)])
    assert [name for _, step in steps for name in step.finished] == [0, 1, 2]


def test_a_request_that_only_computes_its_prompt_ends_without_a_token() -> None:
    engine = Engine(SMALL)
    steps = play(engine, [request("embed", 12, 0)])
    assert (steps[0][1].finished, tokens_of(steps)) == (("embed",), Counter())
    assert (engine.prompt_tokens, engine.generation_tokens) == (12, 0)


@pytest.mark.parametrize("steps_before", range(6))
def test_cancelling_at_any_stage_frees_everything_at_once(steps_before: int) -> None:
    engine = Engine(ROOMY)
    engine.submit(request("a", 70, 4, [1, 2, 3]))
    for _ in range(steps_before):
        engine.next_step(0.0)
    assert engine.cancel("a")
    assert (engine.running, engine.waiting, engine.kv.used) == (0, 0, 0)
    assert not engine.cancel("a")
    assert engine.next_step(0.0) is None


def test_a_finished_request_counts_as_running_until_its_last_step_has_ended() -> None:
    engine = Engine(SMALL)
    engine.submit(request("a", 4, 1))
    step = engine.next_step(0.0)
    assert step and step.finished == ("a",)
    assert engine.running == 1
    engine.next_step(step.duration_s)
    assert engine.running == 0


@pytest.mark.parametrize(("prompt", "output"), [(91, 0), (80, 11)])
def test_a_request_that_can_never_fit_is_refused(prompt: int, output: int) -> None:
    with pytest.raises(RequestTooLong):
        Engine(SMALL).submit(request("a", prompt, output))


def test_a_duplicate_id_is_refused() -> None:
    engine = Engine(SMALL)
    engine.submit(request("a", 4, 4))
    with pytest.raises(DuplicateRequest):
        engine.submit(request("a", 4, 4))


@st.composite
def workloads(draw: st.DrawFn) -> list[EngineRequest]:
    """Requests that share prefixes: their ids are paths in a tree with few branches."""
    requests = []
    for number in range(draw(st.integers(1, 25))):
        prompt, output = draw(st.integers(1, 50)), draw(st.integers(0, 40))
        family = draw(st.integers(0, 3))
        ids = [family * 100 + unit for unit in range((prompt + output) // 4)] if draw(st.booleans()) else []
        arrived_at = draw(st.floats(0, 200, allow_nan=False))
        requests.append(EngineRequest(number, prompt, ids, output, arrived_at))
    return requests


@examples(150)
@given(workloads())
def test_every_request_gets_its_tokens_in_order_of_arrival_and_leaves_nothing(requests: list[EngineRequest]) -> None:
    engine = Engine(SMALL)
    steps = play(engine, requests)
    assert tokens_of(steps) == {one.id: one.output_tokens for one in requests if one.output_tokens}
    assert sorted(name for _, step in steps for name in step.finished) == sorted(one.id for one in requests)
    admitted = [name for _, step in steps for name, _ in step.admitted]
    assert admitted == [one.id for one in sorted(requests, key=lambda one: one.arrived_at)]
    assert (engine.running, engine.waiting, engine.kv.used, engine.kv.private) == (0, 0, 0, 0)
    assert engine.prompt_tokens == engine.prefix_queries_tokens == sum(one.prompt_tokens for one in requests)
    assert engine.generation_tokens == sum(one.output_tokens for one in requests)
    assert engine.prefix_hits_tokens == sum(cached for _, step in steps for _, cached in step.admitted)


@examples(150)
@given(workloads(), st.lists(st.integers(0, 24), max_size=10))
def test_blocks_are_exactly_those_of_the_live_requests_at_every_step(
    requests: list[EngineRequest], cancelled: list[int]
) -> None:
    engine = Engine(SMALL)
    for one in requests:
        engine.submit(one)
    for now in range(5000):
        if now % 3 == 2 and cancelled:
            engine.cancel(cancelled.pop())
        if engine.next_step(float(now)) is None:
            break
        kv = engine.kv
        assert 0 <= kv.private <= kv.used <= kv.capacity
        assert kv.used + kv.idle_units <= kv.capacity
        assert engine.running <= SMALL.max_num_seqs
    assert (engine.kv.used, engine.running, engine.waiting) == (0, 0, 0)


@examples(150)
@given(workloads())
def test_leaping_over_decode_steps_changes_only_the_number_of_calls(requests: list[EngineRequest]) -> None:
    slow, fast = Engine(SMALL), Engine(SMALL)
    single, leaping = play(slow, requests), play(fast, requests, leap=True)
    ends = [{name: at for at, step in steps for name in step.finished} for steps in (single, leaping)]
    assert ends[1] == pytest.approx(ends[0])
    assert sum(step.steps for _, step in leaping) == len(single)
    assert tokens_of(leaping) == tokens_of(single)
    assert (fast.preemptions, fast.prefix_hits_tokens) == (slow.preemptions, slow.prefix_hits_tokens)


def test_an_engine_says_how_long_it_only_decodes_and_makes_up_for_those_steps_later() -> None:
    engine = Engine(ROOMY)
    assert engine.only_decodes_s() == 0.0
    engine.submit(request("a", 10, 6))
    assert engine.only_decodes_s() == 0.0, "a prompt is to be computed"
    assert engine.next_step(0.0) is not None
    quiet_s = engine.only_decodes_s()
    whole = engine.next_step(0.0, quiet_s - 1e-9)
    assert whole is not None
    assert (whole.steps, whole.finished) == (5, ("a",))
    assert whole.duration_s == pytest.approx(quiet_s)
    assert engine.only_decodes_s() == 0.0


def test_an_engine_that_made_up_for_its_steps_is_where_it_would_have_been() -> None:
    late, early = Engine(ROOMY), Engine(ROOMY)
    for engine in (late, early):
        engine.submit(request("a", 10, 60))
        engine.next_step(0.0)
    assert late.only_decodes_s() > 20.0
    now = 0.0
    while now < 20.0:
        step = early.next_step(now)
        assert step is not None
        now += step.duration_s
    made_up = late.next_step(0.0, 20.0)
    assert made_up is not None
    assert made_up.duration_s == pytest.approx(now)
    assert (late.kv.used, late.generation_tokens) == (early.kv.used, early.generation_tokens)
