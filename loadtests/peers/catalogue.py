"""Every peer by the name it has in `turnout simulate --policy` and in its tables."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from loadtests.peers.aibrix_prefix_cache import AibrixPrefixCache
from loadtests.peers.chwbl import Chwbl
from loadtests.peers.dynamo_kv import DynamoKv
from loadtests.peers.llmd_default import LlmdDefault
from loadtests.peers.lmetric import LMetric
from loadtests.peers.oracle import Oracle
from loadtests.peers.peer import Peer
from loadtests.peers.production_stack_prefixaware import ProductionStackPrefixaware
from loadtests.peers.sglang_cache_aware import SglangCacheAware

PEERS: Final[Mapping[str, type[Peer]]] = MappingProxyType(
    {
        "oracle": Oracle,
        "sglang_cache_aware": SglangCacheAware,
        "production_stack_prefixaware": ProductionStackPrefixaware,
        "aibrix_prefix_cache": AibrixPrefixCache,
        "llmd_default": LlmdDefault,
        "dynamo_kv": DynamoKv,
        "lmetric": LMetric,
        "chwbl": Chwbl,
    }
)
