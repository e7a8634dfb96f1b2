"""Fleets whose first pods only compute prompts: two pods for a request, and the time that its blocks take on the way.

`PairWorld` plays the transfer, `PairGateway` chooses with the gateway's own functions (`schedulers/pairs.py`), and
`PairOracle` with the engines' true state. One gateway and no failures: `world.py` has those for whole pods.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from loadtests.sim.engine.model import Engine, EngineRequest, RequestTooLong, StepResult
from loadtests.sim.peers.oracle import Oracle, wait_for_blocks
from loadtests.sim.simulate.routing import Failure, Shed
from loadtests.sim.simulate.traces import Arrival
from loadtests.sim.simulate.world import Router, World
from schedulers.pairs import alone_is_sooner, decode_pod, is_short
from schedulers.protocols import Scheduler
from schedulers.types import (
    BYTES_PER_TOKEN,
    PREFIX_BLOCK_TOKENS,
    Decision,
    Pod,
    PodId,
    RequestInfo,
)
from statesync.load.pod_state import Charge
from statesync.load.view import LoadView
from statesync.prefix.index import PrefixIndex
from statesync.types import EngineReport

PREFILL, DECODE, MODEL = "prefill", "decode", "m"

TOKEN_S: Final = 2.6e-6
"""Seconds a token's blocks take: 128 KB (an 8B model) over 400 Gbit/s."""

SETUP_S: Final = 2e-3
"""Seconds a transfer takes besides: the prefill pod's answer, the second request, a round trip between the pods."""

SHORT_TOKENS: Final = 256
"""The gateway's default."""

REPORT_S: Final = 1.0
INDEX_BYTES: Final = 2**40


class PairChoice(NamedTuple):
    """The pods of a request."""

    prefill: int | None
    """None: the other one computes the prompt, too."""
    decode: int


class PairRouter:
    """Picks both pods. Of the single-pod `Router` it has what a world without failures calls."""

    def pair(self, number: int, arrival: Arrival, /) -> PairChoice:
        """The pods of request `number`, which arrives now."""
        raise NotImplementedError

    def prefilled(self, number: int, /) -> None:
        """The prefill pod has computed the prompt."""

    def first_token(self, number: int, /) -> None:
        """See `Router`."""

    def finished(self, number: int, cached_tokens: int | None, /) -> None:
        """See `Router`."""

    def route(self, number: int, arrival: Arrival, /) -> int | None:
        """Pairs are asked for."""
        raise NotImplementedError

    def failed(self, number: int, failure: Failure, /) -> int | None:
        """No pod fails."""
        raise NotImplementedError

    def joined(self, pod: int, /) -> None:
        """No pod comes."""

    def left(self, pod: int, /) -> None:
        """No pod goes."""


class PairWorld(World):
    """Engines of which the first compute prompts for the others. A prompt's own request has the number -1 - N."""

    def __init__(self, *parts: Any, **more: Any) -> None:
        """See `World`."""
        super().__init__(*parts, **more)
        self._computed: dict[int, Callable[[], None]] = {}
        """By the prompt's own number: what follows."""

    def arrive(self, number: int, arrival: Arrival, router: Router) -> None:
        """A request arrives now: at its prefill pod, or at the decode pod alone."""
        assert isinstance(router, PairRouter)
        prefill, decode = router.pair(number, arrival)
        if prefill is None:
            self.send(number, decode, arrival, router)
            return
        prompt = EngineRequest(-1 - number, arrival.prompt_tokens, arrival.units, 1, self.now, -arrival.priority)
        try:
            self.engine(prefill).submit(prompt)
        except RequestTooLong:
            self.send(number, decode, arrival, router)  # which is refused there, too
            return
        arrived, takes_s = self.now, SETUP_S + arrival.prompt_tokens * TOKEN_S

        def computed() -> None:
            router.prefilled(number)
            self.at(self.now + takes_s, transferred)

        def transferred() -> None:
            self.send(number, decode, arrival, router, arrived=arrived, transferred=arrival.prompt_tokens)

        self._computed[-1 - number] = computed
        self.wake(prefill, router)

    def _stepped(self, pod: int, engine: Engine, step: StepResult, router: Router) -> None:
        """See `World`; what was computed for other pods goes on from here."""
        for request in step.finished:
            if int(request) < 0:
                self._computed.pop(int(request))()
        step = step._replace(
            first_tokens=tuple([each for each in step.first_tokens if int(each) >= 0]),
            finished=tuple([each for each in step.finished if int(each) >= 0]),
            admitted=tuple([each for each in step.admitted if int(each[0]) >= 0]),
        )
        super()._stepped(pod, engine, step, router)


class _Sent:
    """A request, and what is reserved for it."""

    def __init__(self, prefill: Charge | None, decode: Charge, chain: Any, at: float) -> None:
        self.prefill, self.decode, self.chain, self.at = prefill, decode, chain, at


class PairGateway(PairRouter):
    """The gateway's own choice: the policy among the prefill pods, `schedulers/pairs.py` for the rest."""

    def __init__(self, world: World, scheduler: Scheduler, unit_tokens: int, prefill_pods: int, seed: int = 0) -> None:
        """The first `prefill_pods` engines compute prompts."""
        self._world, self._scheduler, self._unit_tokens = world, scheduler, unit_tokens
        self._rng = random.Random(seed)
        self._pods = [Pod(PodId(f"pod-{at}"), f"127.0.0.1:{at}") for at in range(len(world.engines))]
        self._at = {pod.id: at for at, pod in enumerate(self._pods)}
        self._view = LoadView(world.clock)
        self._view.set_pods(PREFILL, self._pods[:prefill_pods])
        self._view.set_pods(DECODE, self._pods[prefill_pods:])
        self._prefix = PrefixIndex(INDEX_BYTES, world.engines[0].profile.kv_tokens)
        self._open: dict[int, _Sent] = {}
        self.alone = 0
        """Requests that got one pod."""
        for at in range(len(self._pods)):
            world.every(REPORT_S, self._rng.random() * REPORT_S, partial(self._report, at))

    def pair(self, number: int, arrival: Arrival, /) -> PairChoice:
        """As `PairDispatch` places a request. Raises Shed."""
        chain = self._prefix.chain(MODEL, [self._prompt(arrival)]) if arrival.units else []
        info = self._info(number, arrival, chain)
        prefill, decode = self._view.snapshot(PREFILL), self._view.snapshot(DECODE)
        alone = is_short(info, decode, SHORT_TOKENS) or alone_is_sooner(info, prefill, decode)
        first = self._scheduler.pick(info, decode if alone else prefill)
        if not isinstance(first, Decision):
            raise Shed(f"{self._scheduler.name} refused request {number}")
        charge = self._view.reserve(first.pod, info if alone else info._replace(max_tokens=1))
        if chain:
            self._prefix.place(first.pod, chain)
        if alone:
            self.alone += 1
            self._open[number] = _Sent(None, charge, chain, self._world.now)
            return PairChoice(None, self._at[first.pod])
        second = decode_pod(info, decode, self._pods[self._at[first.pod]])
        assert second is not None
        whole = {second: -(-info.prompt_tokens // PREFIX_BLOCK_TOKENS)}
        answer = self._view.reserve(second, info._replace(prefix_hits=whole))
        self._view.prefill_done(answer)
        self._open[number] = _Sent(charge, answer, chain, self._world.now)
        return PairChoice(self._at[first.pod], self._at[second])

    def prefilled(self, number: int, /) -> None:
        """The prompt's charge is given back, and its time is learned from."""
        charge = self._open[number].prefill
        assert charge is not None
        self._view.prefill_done(charge)
        self._view.observe_ttft(charge.pod, self._world.now - self._open[number].at, charge.expected_s)
        self._view.release(charge)

    def first_token(self, number: int, /) -> None:
        """See `Router`."""
        sent = self._open[number]
        if sent.prefill is None:
            self._view.prefill_done(sent.decode)
            self._view.observe_ttft(sent.decode.pod, self._world.now - sent.at, sent.decode.expected_s)
        elif sent.chain:
            self._prefix.place(sent.decode.pod, sent.chain)

    def finished(self, number: int, cached_tokens: int | None, /) -> None:
        """See `Router`."""
        sent = self._open.pop(number)
        self._view.release(sent.decode)
        if sent.prefill is not None:
            self._view.release(sent.prefill)

    def _info(self, number: int, arrival: Arrival, chain: Any) -> RequestInfo:
        return RequestInfo(
            id=str(number),
            model=MODEL,
            prompt_tokens=arrival.prompt_tokens,
            max_tokens=0,
            arrived_at=self._world.now,
            entropy=self._rng.getrandbits(64),
            sequence=number,
            priority=arrival.priority,
            prefix_hits=self._prefix.match(chain),
            slo=arrival.slo,
        )

    def _prompt(self, arrival: Arrival) -> bytes:
        """Bytes that share a prefix exactly where the units do."""
        repeats = self._unit_tokens * BYTES_PER_TOKEN // 8
        prompt = b"".join([unit.to_bytes(8, "little") * repeats for unit in arrival.units])
        return prompt[: arrival.prompt_tokens * BYTES_PER_TOKEN]

    def _report(self, at: int) -> None:
        engine, pod = self._world.engine(at), self._pods[at].id
        tokens = engine.profile.kv_tokens
        self._view.report(pod, EngineReport(engine.waiting, engine.running, engine.kv_usage, tokens))
        self._prefix.set_capacity(pod, tokens)


class PairOracle(PairRouter):
    """The same rule as the gateway's by the engines' true state: queues, caches, steps and blocks."""

    def __init__(self, world: World, unit_tokens: int, prefill_pods: int, seed: int = 0) -> None:
        """The first `prefill_pods` engines compute prompts."""
        self._world, self._split = world, prefill_pods
        self._oracle = Oracle(world, unit_tokens, seed=seed)
        self._promised = [0] * len(world.engines)
        """Requests on their way to a decode pod, which its engine does not show yet."""
        self._to: dict[int, int] = {}

    def pair(self, number: int, arrival: Arrival, /) -> PairChoice:
        """The least expected time of the whole request, and of what it delays."""
        expect, pods = self._oracle.expect, range(len(self._world.engines))
        soonest, first = min((expect(pod, arrival), pod) for pod in pods[: self._split])
        alone_s, alone = min((self._alone_s(pod, arrival), pod) for pod in pods[self._split :])
        if alone_s < soonest or arrival.prompt_tokens <= SHORT_TOKENS:
            return PairChoice(None, alone)
        _, second = min((self._answer_s(pod, arrival), pod) for pod in pods[self._split :])
        self._promised[second] += 1
        self._to[number] = second
        return PairChoice(first, second)

    def first_token(self, number: int, /) -> None:
        """See `Router`."""
        if number in self._to:
            self._promised[self._to.pop(number)] -= 1

    def _alone_s(self, pod: int, arrival: Arrival) -> float:
        engine = self._world.engine(pod)
        idle = Engine(engine.profile, unit_tokens=engine.unit_tokens)
        hits, _ = engine.kv.lookup(arrival.units, (arrival.prompt_tokens - 1) // engine.unit_tokens)
        own = arrival.prompt_tokens - hits * engine.unit_tokens
        own_s = idle.profile.prefill_token_s * own + idle.profile.attention_s * own * (arrival.prompt_tokens - own / 2)
        return self._oracle.expect(pod, arrival) + own_s * (len(engine.decoding) + self._promised[pod])

    def _answer_s(self, pod: int, arrival: Arrival) -> float:
        engine = self._world.engine(pod)
        each = engine.profile.sequence_s + engine.profile.kv_token_s * arrival.prompt_tokens
        step_s = engine.decode_step_s + each * (1 + self._promised[pod])
        blocks = -(-(arrival.prompt_tokens + arrival.output_tokens) // engine.profile.block_tokens)
        waits = sum(live.target - live.computed for live in (*engine.prefilling, *engine.queue))
        prompts_s = waits * engine.profile.prefill_token_s
        return arrival.output_tokens * step_s + prompts_s + wait_for_blocks(engine, blocks, step_s)
