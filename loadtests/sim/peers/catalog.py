"""Every peer by the name it has in `turnout simulate --policy` and in its tables."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from loadtests.sim.peers.aibrix_prefix_cache import AibrixPrefixCache
from loadtests.sim.peers.chwbl import Chwbl
from loadtests.sim.peers.dynamo_kv import DynamoKv
from loadtests.sim.peers.llmd_default import LlmdDefault
from loadtests.sim.peers.lmetric import LMetric
from loadtests.sim.peers.oracle import Oracle
from loadtests.sim.peers.peer import Peer
from loadtests.sim.peers.production_stack_prefixaware import ProductionStackPrefixaware
from loadtests.sim.peers.sglang_cache_aware import SglangCacheAware
from loadtests.sim.peers.smg_cache_aware import SmgCacheAware

PEERS: Final[Mapping[str, type[Peer]]] = MappingProxyType(
    {
        "oracle": Oracle,
        "sglang_cache_aware": SglangCacheAware,
        "smg_cache_aware": SmgCacheAware,
        "production_stack_prefixaware": ProductionStackPrefixaware,
        "aibrix_prefix_cache": AibrixPrefixCache,
        "llmd_default": LlmdDefault,
        "dynamo_kv": DynamoKv,
        "lmetric": LMetric,
        "chwbl": Chwbl,
    }
)
