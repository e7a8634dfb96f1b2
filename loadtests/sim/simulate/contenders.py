"""Names on the command line to routers: the gateway's own policies, or peers' algorithms."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from loadtests.sim.peers.catalog import PEERS
from loadtests.sim.simulate.pairs import PairGateway, PairOracle
from loadtests.sim.simulate.replicas import Replicas, Sharing
from loadtests.sim.simulate.world import Router, World
from schedulers import registry
from schedulers.errors import InvalidParams, UnknownPolicy

Join = Callable[[World, int, Sharing, int], Router]
"""Builds the router: world, unit_tokens, sharing, seed. A peer is always one replica, which sees every request."""


def title(spec: str) -> str:
    """Its name in tables: the `TITLE` of `TITLE=NAME...`, else the whole spec."""
    head, equals, _ = spec.partition(":")[0].partition("=")
    return head if equals else spec


def contender(spec: str) -> Join:
    """`NAME`, `NAME:key=value,...` or `NAME:{...}` (JSON), a policy or a peer, with an optional `TITLE=` before it.

    Raises UnknownPolicy, InvalidParams.
    """
    head, _, rest = spec.partition(":")
    name = head.rpartition("=")[2]
    params = _params(rest, spec)
    peer = PEERS.get(name)
    if peer is not None:
        if params:
            raise InvalidParams(f"{spec!r}: a peer has its published settings and takes no parameters")
        return lambda world, unit_tokens, sharing, seed: peer(world, unit_tokens, seed=seed)
    try:
        scheduler = registry.create(name, params)
    except UnknownPolicy as error:
        raise UnknownPolicy(f"{error}; and peers: {', '.join(PEERS)}; and best") from None
    return lambda world, unit_tokens, sharing, seed: Replicas(world, scheduler, unit_tokens, sharing, seed=seed)


def pair_contender(spec: str, prefill_pods: int) -> Join:
    """The same for a fleet whose first `prefill_pods` only compute prompts: a policy chooses among these; or `oracle`.

    Raises UnknownPolicy, InvalidParams.
    """
    head, _, rest = spec.partition(":")
    name = head.rpartition("=")[2]
    if name == "oracle":
        return lambda world, unit_tokens, sharing, seed: PairOracle(world, unit_tokens, prefill_pods, seed)
    if name in PEERS:
        raise InvalidParams(f"{spec!r}: this peer chooses one pod, and a fleet with prefill pods needs two")
    scheduler = registry.create(name, _params(rest, spec))
    return lambda world, unit_tokens, sharing, seed: PairGateway(world, scheduler, unit_tokens, prefill_pods, seed)


def _params(text: str, spec: str) -> Mapping[str, object]:
    """A value that is JSON is read as such (3, 0.5, true), any other is text; a leading brace means one JSON object."""
    if text.startswith("{"):
        try:
            whole: dict[str, object] = msgspec.json.decode(text, type=dict[str, object])
        except msgspec.MsgspecError as error:
            raise InvalidParams(f"{spec!r}: {text!r} is no JSON object: {error}") from None
        return whole
    params: dict[str, object] = {}
    for pair in filter(None, text.split(",")):
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InvalidParams(f"{spec!r}: {pair!r} is not key=value")
        try:
            params[key] = msgspec.json.decode(value)
        except msgspec.DecodeError:
            params[key] = value
    return params
