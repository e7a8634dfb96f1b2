"""The documented behaviour of each peer, with small engines; earlier requests set the pods' true state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import pytest

from loadtests.sim.peers import aibrix_prefix_cache, chwbl, sglang_cache_aware, smg_cache_aware
from loadtests.sim.peers.catalog import PEERS
from loadtests.sim.peers.oracle import Oracle
from loadtests.sim.peers.peer import Choice, Peer
from loadtests.sim.peers.prefixes import SentPrefixes
from loadtests.sim.simulate.events import parse_event, schedule
from loadtests.sim.simulate.traces import Arrival
from loadtests.sim.simulate.world import World
from tests.fakes.simulated_world import SMALL, UNIT, ToOnePod, arrival, chain, prompt, trace, world


def pods_of(name: str, arrivals: Sequence[Arrival], pods: int = 4, seed: int = 0) -> list[int]:
    """The pod of each request."""
    here = world(pods)
    return [each.pod for each in here.play(trace(*arrivals), PEERS[name](here, UNIT, seed=seed))]


class Sent(Peer):
    """A peer that sends each request to a given pod, for tests of the counts that all peers keep."""

    def choose(self, arrival: Arrival) -> Choice:
        return Choice(1, arrival.prompt_tokens)


# Common behaviour


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_serves_everything_and_its_counts_return_to_zero(name: str) -> None:
    here = world(3)
    peer = PEERS[name](here, UNIT)
    arrivals = [prompt(*chain(n % 7, 5 + n % 11), at_s=0.1 * n, output=1 + n % 20) for n in range(200)]
    outcomes = here.play(trace(*arrivals, arrival(21.0), arrival(22.0, 99_000)), peer)
    assert len(outcomes) == 201
    assert here.rejected == 1
    assert peer.inflight == [0, 0, 0]
    assert peer.pending_tokens == [0, 0, 0]


@pytest.mark.parametrize("name", PEERS)
def test_a_seed_determines_a_peers_choices(name: str) -> None:
    arrivals = [arrival(0.05 * n, 100 + n) for n in range(60)]
    assert pods_of(name, arrivals, seed=1) == pods_of(name, arrivals, seed=1)


def test_pending_tokens_end_with_the_first_token_and_requests_with_the_last() -> None:
    here = world(2)
    peer = Sent(here, UNIT)
    peer.route(0, arrival(0.0, 500))
    assert (peer.inflight, peer.pending_tokens) == ([0, 1], [0, 500])
    peer.first_token(0)
    assert (peer.inflight, peer.pending_tokens) == ([0, 1], [0, 0])
    peer.finished(0, None)
    assert (peer.inflight, peer.pending_tokens) == ([0, 0], [0, 0])


def test_remembered_prefixes_lose_the_oldest_ends_first() -> None:
    sent = SentPrefixes(capacity=6)
    sent.add([1, 2, 3, 4])
    sent.add([11, 12, 13, 14])
    assert sent.match([1, 2, 3, 4]) == 2
    assert sent.match([11, 12, 13, 14, 15]) == 4
    assert sent.match([99]) == 0
    assert len(sent) == 6


@pytest.mark.parametrize("name", PEERS)
def test_a_peers_pods_may_fail_come_back_leave_and_join(name: str) -> None:
    here = World([SMALL] * 4, UNIT, later=1)
    peer = PEERS[name](here, UNIT)
    schedule(
        here, peer, [parse_event(each) for each in ("5:pod-0:fail", "9:pod-0:join", "12:pod-3:join", "14:pod-1:leave")]
    )
    arrivals = [prompt(*chain(n, 3), at_s=0.1 * n, output=1 + n % 20) for n in range(200)]
    outcomes = here.play(trace(*arrivals), peer)
    assert len(outcomes) + here.lost == 200
    assert here.lost <= 3
    assert peer.pods == [0, 2, 3]
    assert peer.inflight == [0, 0, 0, 0]
    assert peer.pending_tokens == [0, 0, 0, 0]
    used = {at: {each.pod for each in outcomes if at <= each.at_s < at + 2} for at in (6, 10, 16)}
    assert 0 not in used[6]
    assert 3 not in used[10]
    assert 1 not in used[16]


def test_a_pod_at_which_a_request_failed_gets_none_until_it_answers_a_check() -> None:
    here = world(2)
    peer = PEERS["lmetric"](here, UNIT)
    events = [parse_event(each) for each in ("1:pod-0:fail", "1:pod-1:fail", "1.5:pod-1:join", "7:pod-0:join")]
    schedule(here, peer, events)
    shown: list[list[int]] = []
    for at_s in (3.0, 6.9, 9.5):
        here.at(at_s, lambda: shown.append([*peer.pods]))
    outcomes = here.play(trace(*[arrival(0.4 * n, 64, 2) for n in range(25)]), peer)
    assert shown == [[1], [1], [0, 1]]
    assert len(outcomes) == 24, "there was no pod at 1.2 s"


def test_no_pod_at_all_takes_no_request() -> None:
    here = world(1)
    peer = PEERS["oracle"](here, UNIT)
    peer.left(0)
    assert here.play(trace(arrival(0.0)), peer) == []
    assert here.lost == 1


# Behaviour of each peer


def shared_start(count: int, apart_s: float) -> list[Arrival]:
    """Requests that share only their first unit, like all requests of the Mooncake trace."""
    return [prompt(1, *chain(n + 2, 9), at_s=apart_s * n) for n in range(count)]


def test_production_stack_sends_all_that_share_a_first_block_to_one_pod() -> None:
    assert len(set(pods_of("production_stack_prefixaware", shared_start(60, 0.05)))) == 1


def test_production_stack_takes_any_pod_for_an_unknown_prefix() -> None:
    assert len(set(pods_of("production_stack_prefixaware", [prompt(n, at_s=0.1 * n) for n in range(60)]))) == 4


def test_sglang_follows_a_match_only_above_its_threshold() -> None:
    base = chain(1, 10)
    (first, close, far) = pods_of(
        "sglang_cache_aware",
        [
            prompt(*base, output=400),
            prompt(*base[:4], *chain(2, 8), at_s=0.1),  # a third of it is equal
            prompt(*base[:3], *chain(3, 8), at_s=0.2),  # slightly less than 0.3
        ],
    )
    assert close == first
    assert far != first


def test_sglang_lets_requests_pile_up_until_they_are_64_apart() -> None:
    base = chain(1, 10)
    pods = pods_of("sglang_cache_aware", [prompt(*base, at_s=0.0001 * n, output=500) for n in range(120)])
    pile = sglang_cache_aware.BALANCE_ABS + 1
    assert len(set(pods[:pile])) == 1
    assert set(pods[pile : pile + 3]) == {0, 1, 2, 3} - {pods[0]}, "then to the least loaded"
    assert len(set(pods[pile + 3 : pile + 30])) == 1, "until they are closer: the last match is followed again"


def test_sglang_sends_an_unknown_prefix_to_the_pod_with_the_fewest_requests() -> None:
    pods = pods_of("sglang_cache_aware", [prompt(*chain(n, 5), at_s=0.0001 * n, output=500) for n in range(8)])
    assert Counter(pods) == dict.fromkeys(range(4), 2)


def test_smg_leaves_a_holder_that_is_hot_and_then_knows_two() -> None:
    here = world(4)
    peer = PEERS["smg_cache_aware"](here, UNIT)
    base = chain(1, 10)
    home = peer.choose(prompt(*base)).pod
    assert peer.choose(prompt(*base)).pod == home
    peer.inflight[home] = 6  # the mean is 1.5: more than 1.5 times that, and four above it
    spilt = peer.choose(prompt(*base)).pod
    assert spilt != home
    peer.inflight[home] = 5
    assert {peer.choose(prompt(*base)).pod for _ in range(4)} == {home, spilt}


def test_smg_waits_least_by_the_last_reading_and_what_was_sent_since() -> None:
    pods = pods_of("smg_cache_aware", [prompt(*chain(n, 5), at_s=0.0001 * n, output=500) for n in range(8)])
    assert Counter(pods) == dict.fromkeys(range(4), 2)


def test_smg_keeps_away_from_a_pod_whose_queue_was_long_at_the_last_reading() -> None:
    here = world(2)
    peer = PEERS["smg_cache_aware"](here, UNIT)
    assert isinstance(peer, smg_cache_aware.SmgCacheAware)
    base = chain(1, 10)
    home = peer.choose(prompt(*base)).pod
    peer._waiting[home] = smg_cache_aware.OVERLOAD_WAITING
    assert peer.choose(prompt(*base)).pod != home


def test_aibrix_follows_a_match_until_its_pod_is_far_above_the_least_loaded() -> None:
    base = chain(1, 10)
    pods = pods_of("aibrix_prefix_cache", [prompt(*base, at_s=0.0001 * n, output=500) for n in range(68)])
    pile = aibrix_prefix_cache.IMBALANCE_COUNT + 1
    assert len(set(pods[:pile])) == 1
    assert set(pods[pile : pile + 3]) == {0, 1, 2, 3} - {pods[0]}, "then to the least loaded"
    assert Counter(pods) == dict.fromkeys(range(4), 17), "of equal matches the least loaded is taken"


def test_aibrix_skips_a_match_two_deviations_above_the_mean() -> None:
    here = world(8)
    peer = PEERS["aibrix_prefix_cache"](here, UNIT)
    base = chain(1, 10)
    home = peer.choose(prompt(*base)).pod
    peer.inflight[home] = 10  # the mean is 1.25, the deviation 3.3
    assert peer.choose(prompt(*base)).pod != home


def test_aibrix_drops_entries_after_twenty_minutes() -> None:
    here = world(4)
    peer = PEERS["aibrix_prefix_cache"](here, UNIT)
    base = chain(1, 10)
    home = peer.choose(prompt(*base)).pod
    assert {peer.choose(prompt(*base)).pod for _ in range(20)} == {home}
    here.now = aibrix_prefix_cache.TTL_S + 1
    peer.inflight[home] = 1
    assert peer.choose(prompt(*base)).pod != home


def test_llmd_prefers_a_prefix_to_an_emptier_cache_but_not_to_a_queue() -> None:
    base = chain(1, 10)
    here = world(4)
    peer = PEERS["llmd_default"](here, UNIT)
    home = peer.choose(prompt(*base)).pod
    assert {peer.choose(prompt(*base)).pod for _ in range(20)} == {home}
    for number in range(60):  # eight run, the rest wait; and the caches of the others stay empty
        here.arrive(1000 + number, prompt(*chain(number + 5, 12), output=300), ToOnePod(home))
    seen: list[int] = []
    here.at(1.0, lambda: seen.append(peer.choose(prompt(*base[:5], *chain(900, 8))).pod))
    here.settle()
    assert len(seen) == 1
    assert home not in seen


def test_llmd_does_not_count_requests_sent_since_the_last_scrape() -> None:
    burst = [prompt(*chain(1, 3), *chain(n + 2, 3), at_s=0.0001 * n) for n in range(40)]
    assert len(set(pods_of("llmd_default", burst))) == 1


def test_dynamo_knows_the_true_contents_of_the_engines_caches() -> None:
    here = world(2)
    peer = PEERS["dynamo_kv"](here, UNIT)
    base = chain(1, 20)
    here.arrive(0, prompt(*base), ToOnePod(1))
    here.settle()
    assert {peer.choose(prompt(*base)).pod for _ in range(10)} == {1}
    for number in range(1, 60):  # another kilotoken each, until the first is evicted
        here.arrive(number, prompt(*chain(number + 1, 16)), ToOnePod(1))
        here.settle()
    assert {peer.choose(prompt(*base)).pod for _ in range(30)} == {0, 1}


def test_dynamo_counts_blocks_of_running_requests_once_and_long_after_their_prefill() -> None:
    here = world(2)
    peer = PEERS["dynamo_kv"](here, UNIT)
    first = peer.route(0, prompt(*chain(1, 20)))
    assert first is not None
    peer.first_token(0)
    assert {peer.choose(prompt(*chain(2, 4))).pod for _ in range(10)} == {1 - first}
    peer.finished(0, None)
    assert {peer.choose(prompt(*chain(3, 4))).pod for _ in range(30)} == {0, 1}


def test_lmetric_multiplies_what_is_to_prefill_by_the_batch() -> None:
    here = world(2)
    peer = PEERS["lmetric"](here, UNIT)
    base = chain(1, 20)
    home = peer.route(0, prompt(*base))
    peer.first_token(0)
    # home: 1 new token x 2 requests; the other: 1,281 x 1
    assert peer.choose(prompt(*base)).pod == home
    # home: 65 new x 2; the other: 129 x 1
    assert peer.choose(prompt(base[0], 500)).pod == 1 - home


def test_chwbl_sends_a_prefix_to_its_home_pod_and_past_it_above_the_bound() -> None:
    quiet = [prompt(1, *chain(n + 2, 3), at_s=5.0 * n) for n in range(20)]
    assert len(set(pods_of("chwbl", quiet))) == 1
    burst = [prompt(1, *chain(n + 2, 3), at_s=0.0001 * n, output=300) for n in range(80)]
    counts = Counter(pods_of("chwbl", burst))
    assert max(counts.values()) <= chwbl.LOAD_FACTOR * 80 / 4 + 1


def test_chwbl_spreads_prefixes_over_the_ring() -> None:
    assert len(set(pods_of("chwbl", [prompt(n, at_s=5.0 * n) for n in range(40)]))) == 4


# The oracle


class Scene(NamedTuple):
    """Requests that a pod received at 0 s, and the time at which the tested request arrives."""

    before: Sequence[Arrival]
    at_s: float
    wanted: Arrival = prompt(*chain(1, 30))


def several(units: int, output: int) -> list[Arrival]:
    return [prompt(*chain(number, units), output=output) for number in range(2, 6)]


SCENES = {
    "an idle pod": Scene([], 0.0),
    "a queue before it": Scene(several(12, 30), 0.3),
    "a batch that decodes": Scene(several(2, 400), 2.0),
    "a prefix that is there": Scene([prompt(*chain(1, 30))], 9.0),
    "a cache that is full": Scene(several(60, 60), 16.0),
}


@pytest.mark.parametrize("scene", SCENES.values(), ids=list(SCENES))
def test_the_oracle_predicts_the_time_of_the_first_token(scene: Scene) -> None:
    here = world(1, SMALL._replace(attention_s=1e-7, sequence_s=1e-3))
    oracle = Oracle(here, UNIT)
    expected: list[float] = []

    def arrive() -> None:
        expected.append(oracle.expect(0, scene.wanted))
        here.arrive(0, scene.wanted, ToOnePod(0))

    for number, each in enumerate(scene.before, 100):
        here.arrive(number, each, ToOnePod(0))
    here.at(scene.at_s, arrive)
    assert expected == [pytest.approx(here.settle()[0].ttft_s, rel=0.1)]


def test_the_oracle_chooses_the_pod_with_the_earliest_first_token() -> None:
    here = world(3)
    oracle = Oracle(here, UNIT)
    here.arrive(100, prompt(*chain(5, 14)), ToOnePod(0))
    here.arrive(101, prompt(*chain(6, 2)), ToOnePod(1))
    here.arrive(102, prompt(*chain(7, 7)), ToOnePod(2))
    assert oracle.choose(prompt(*chain(8, 3))).pod == 1
