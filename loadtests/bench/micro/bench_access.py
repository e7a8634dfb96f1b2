"""What keys, limits and fairness between tenants cost a request that is admitted."""

from __future__ import annotations

import itertools
from hashlib import sha256

from pytest_benchmark.fixture import BenchmarkFixture

from router.access.identity import AccessControl
from router.access.keys import KeyRecord
from router.access.limits import LimitRegistry
from router.access.tenants import Tenant
from router.dataplane.fair_share import FairShares
from router.dataplane.usage import usage_of

TENANTS = 200
KEYS = 2_000
PLENTY = 1_000_000_000
TAIL = b'"finish_reason":"stop"}],"usage":{"prompt_tokens":300,"completion_tokens":64,"total_tokens":364}}'


def bench_tenant(benchmark: BenchmarkFixture) -> None:
    """One request from its key to its settlement."""
    benchmark.group = "parts"
    benchmark.extra_info.update(series="auth + quota + fairness, 2,000 keys of 200 tenants", size=1)
    clock = itertools.count(1000.0, 1e-3).__next__
    tenants = {name: _tenant(name) for name in (f"t{at}" for at in range(TENANTS))}
    access = AccessControl(tenants, clock)
    access.use([_record(at) for at in range(KEYS)])
    limits = LimitRegistry(tenants.values(), clock, shared=False)
    shares = FairShares(dict.fromkeys(tenants, (1.0, 0)))
    heads = itertools.cycle([{b"authorization": b"Bearer key-%d" % (at * 37 % KEYS)} for at in range(500)]).__next__
    tails = itertools.cycle([TAIL.replace(b"64", b"%d" % at) for at in range(10, 99)]).__next__

    def once() -> int:
        tenant, key = access.identify(heads())
        charge = limits.charge(tenant, key, "m")
        assert charge is not None
        charge.take(300, 64, clock())
        served = shares.begin("default", tenant.name, 300, 64)
        used = usage_of(tails())
        prompt, answer = used.prompt, used.answer
        shares.settle(served, answer)
        charge.settle(prompt + answer, clock(), answer)
        return prompt

    assert benchmark(once) == 300


def _tenant(name: str) -> Tenant:
    return Tenant(name, requests_per_minute=PLENTY, tokens_per_minute=PLENTY, max_inflight=100)


def _record(at: int) -> KeyRecord:
    return KeyRecord(name=f"k{at}", tenant=f"t{at % TENANTS}", sha256=sha256(b"key-%d" % at).hexdigest())
