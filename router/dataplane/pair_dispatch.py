"""Stage 4 of pools with `disaggregation`: two pods for one request, one that computes its prompt and one that generates
the answer. The pool's policy chooses the first, `schedulers/pairs.py` the second, and whether there are two at all.

Knows no connection and no retry. A request of another pool passes through to `Dispatch`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from router.dataplane.dispatch import Dispatch
from router.dataplane.exchange import Exchange, Placement, RoutedRequest
from router.dataplane.request.kv_transfer import (
    ROOMS,
    SGLANG,
    Fields,
    TwoBodies,
    can_split,
    fields_of,
    sglang_body,
    vllm_bodies,
    without_own,
)
from router.settings import Disaggregation, Pool
from schedulers.pairs import Side, alone_is_sooner, decode_pod, is_short, side_of
from schedulers.types import PREFIX_BLOCK_TOKENS, LoadSnapshot, PodId, Rejection, RequestInfo
from statesync.discovery.ranks import process_of, rank_of
from statesync.errors import NoRoutablePod, PoolSaturated, UnknownPool
from statesync.load.pod_state import Charge


class Split(NamedTuple):
    """How one pool's requests are split."""

    settings: Disaggregation
    prefill_pool: str
    """Where the prefill pods are; the pool itself where they are its own."""
    prefill: Side | None
    """Which of that pool's pods; None for all."""
    decode: Side

    @property
    def sglang(self) -> bool:
        """Whether both pods get the request at once, and no decode pod can do without the other."""
        return self.settings.connector == SGLANG


def splits_of(pools: Iterable[Pool]) -> dict[str, Split]:
    """The pools with `disaggregation`, by name."""
    splits: dict[str, Split] = {}
    for pool in pools:
        if (settings := pool.disaggregation) is not None:
            other = settings.prefill_pool
            side = None if other else _side(settings.prefill)
            splits[pool.name] = Split(settings, other or pool.name, side, _side(settings.decode))
    return splits


def _side(text: str) -> Side:
    label, _, value = text.partition("=")
    return Side(label, value)


class PairPlacement(Placement):
    """The decode pod of a request, and what its prefill pod does for it."""

    __slots__ = ("bodies", "prefill", "split", "transferred")

    def __init__(self, decode: Placement, prefill: Placement, split: Split, bodies: TwoBodies) -> None:
        super().__init__(decode.pod, decode.policy, decode.charge, decode.info)
        self.prefill = prefill
        self.split = split
        self.bodies = bodies
        self.transferred = b""
        """The decode pod's body, once the prefill pod has answered."""


def pair_dispatch(splits: Mapping[str, Split]) -> Callable[..., Dispatch]:
    """What takes the same as `Dispatch`. A compiled constructor cannot pass on what it does not name."""

    def make(*parts: Any, **more: Any) -> Dispatch:
        made = PairDispatch(*parts, **more)
        made.splits = splits
        return made

    return make


class PairDispatch(Dispatch):
    """Picks the pods for the exchanges of pools whose work is split."""

    splits: Mapping[str, Split]
    """See `splits_of`; by pool."""
    _narrowed: LoadSnapshot | None = None

    def place(self, exchange: Exchange, pool: Pool) -> Placement | Rejection:
        """See `Dispatch.place`; a `PairPlacement` where two pods serve the exchange."""
        split = self.splits.get(pool.name)
        if split is None:
            return super().place(exchange, pool)
        routed = exchange.routed
        decode = self._decode_pods(pool.name, routed, split)
        kind = exchange.header_map.get(b"content-type", b"")
        fields = None if exchange.upgrade else fields_of(exchange.path, kind, routed.body)
        if fields is not None:
            routed.body = without_own(fields, routed.body)
            if can_split(fields, split.settings.connector):
                info = self._info(exchange, routed)
                placed = self._place_two(exchange, pool, split, decode, info, fields)
                if placed is not None:
                    return placed
                if split.sglang:
                    if split.prefill is not None and self._has_prefill_pod(pool.name, split.prefill, info):
                        raise PoolSaturated(f"every prefill pod of pool {pool.name!r} is full")
                    raise NoRoutablePod("no prefill pod is left")
        self._narrowed = decode
        return super().place(exchange, pool)

    def alone(self, exchange: Exchange, pair: PairPlacement) -> Placement:
        """Let the decode pod compute the prompt, too: reserve that on it, and give back what the pair holds."""
        charge = self._view.reserve(pair.pod.id, pair.info)
        self._view.release(pair.charge)
        placement = exchange.placement = Placement(pair.pod, pair.policy, charge, pair.info)
        return placement

    def transferred(self, exchange: Exchange, pair: PairPlacement) -> None:
        """The decode pod has the prompt's blocks now."""
        chain = exchange.routed.chain
        if chain:
            self._prefix.place(pair.pod.id, chain)
            if self._placed is not None:
                self._placed(pair.pod.id, chain)

    def renew(self, pair: PairPlacement) -> None:
        """Reserve the prompt on the prefill pod again, for another connection to it. Raises UnknownPod."""
        prefill = pair.prefill
        if not prefill.charge.requests:
            charge = self._view.reserve(prefill.pod.id, prefill.info)
            pair.prefill = Placement(prefill.pod, prefill.policy, charge, prefill.info)

    def _place_two(
        self, exchange: Exchange, pool: Pool, split: Split, decode: LoadSnapshot, info: RequestInfo, fields: Fields
    ) -> PairPlacement | None:
        """Reserve both; None where the decode pod is better alone, or there is no prefill pod."""
        routed = exchange.routed
        prefill = self._prefill_pods(split, routed)
        if prefill is None or decode.without(info.tried) is None:
            return None
        if not split.sglang and (
            is_short(info, decode, split.settings.short_tokens) or alone_is_sooner(info, prefill, decode)
        ):
            return None
        self._narrowed = prefill
        before = exchange.placement
        routed.info = info._replace(max_tokens=1)
        first = super().place(exchange, pool)
        routed.info = info
        if isinstance(first, Rejection):
            return None
        second = decode_pod(info, decode, first.pod)
        if second is None:
            self._view.release(first.charge)
            exchange.placement = before  # of the attempt that failed: its end gives that back
            return None
        pod = self._view.pod(second)
        bodies = self._bodies(routed, split, fields, first)
        placed = Placement(pod, first.policy, self._for_answer(second, info), info)
        pair = exchange.placement = PairPlacement(placed, first, split, bodies)
        return pair

    def _for_answer(self, pod: PodId, info: RequestInfo) -> Charge:
        """Room for a request whose prompt comes computed."""
        whole = {pod: -(-info.prompt_tokens // PREFIX_BLOCK_TOKENS)}
        charge = self._view.reserve(pod, info._replace(prefix_hits=whole))
        self._view.prefill_done(charge)
        charge.expected_s = 0.0
        return charge

    def _bodies(self, routed: RoutedRequest, split: Split, fields: Fields, prefill: Placement) -> TwoBodies:
        if split.sglang:
            pod, port, room = prefill.pod, split.settings.bootstrap_port, self._rng() % ROOMS
            body = sglang_body(fields, pod.address, port, room, rank_of(pod) or 0, len(process_of(pod)))
            return TwoBodies(body, body)
        return vllm_bodies(fields, routed.body, split.settings.connector)

    def _snapshot(self, pool: Pool, routed: RoutedRequest) -> LoadSnapshot:
        """One side of the pool, where `place` has narrowed it."""
        narrowed, self._narrowed = self._narrowed, None
        return narrowed if narrowed is not None else super()._snapshot(pool, routed)

    def _decode_pods(self, pool: str, routed: RoutedRequest, split: Split) -> LoadSnapshot:
        """Raises NoRoutablePod or PoolSaturated."""
        side = side_of(self._view.snapshot(pool, routed.call.model), split.decode)
        if side is not None:
            return side
        if any(split.decode.has(status.pod) and not status.blockers for status in self._view.statuses(pool)):
            raise PoolSaturated(f"every decode pod of pool {pool!r} is full")
        raise NoRoutablePod(f"pool {pool!r} has no decode pod ({split.settings.decode})")

    def _has_prefill_pod(self, pool: str, side: Side, info: RequestInfo) -> bool:
        """Whether a pod that computes prompts has no room, but may have it again."""
        return any(
            side.has(status.pod)
            and not status.blockers
            and status.pod.id not in info.tried
            and status.limit is not None
            and status.load.inflight >= status.limit
            for status in self._view.statuses(pool)
        )

    def _prefill_pods(self, split: Split, routed: RoutedRequest) -> LoadSnapshot | None:
        """None if none may be picked."""
        try:
            snapshot = self._view.snapshot(split.prefill_pool, routed.call.model)
        except (NoRoutablePod, PoolSaturated, UnknownPool):
            return None
        return snapshot if split.prefill is None else side_of(snapshot, split.prefill)
