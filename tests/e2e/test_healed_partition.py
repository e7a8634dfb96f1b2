"""Two loaded replicas on one Redis, one of them behind a proxy that stops passing its bytes on, and then does again."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from loadtests.processes.slow_link import slow_link
from schedulers.types import Pod, PodId, RequestInfo
from statesync.load.view import LoadView
from statesync.settings import Sync
from statesync.store.redis.ledger import PER_FLUSH
from statesync.store.redis.store import RedisStore
from statesync.types import InflightNumbers
from tests.fakes.recording_listener import RecordingListener, eventually
from tests.fakes.redis_server import redis_server
from tests.fakes.virtual_time import RunningClock, pass_time, real_moment, run_on

pytestmark = pytest.mark.slow

PODS = [Pod(PodId(f"10.0.0.{at}:8000"), f"10.0.0.{at}:8000") for at in range(4)]
CUT_S = 1e6
"""Seconds by which a cut proxy delays what the server sends."""
LONG_S = 1000.0
"""Of virtual time, so that no pause of a busy machine comes near it."""


class Loaded(RecordingListener):
    """A replica with a load view and steady requests."""

    def __init__(self, port: int, clock: RunningClock, config: Sync) -> None:
        super().__init__()
        self.store = RedisStore.open(f"redis://127.0.0.1:{port}", config)
        self.view = LoadView(clock, self.store.announce, self.store.age_s)
        self.view.set_pods("default", PODS)
        self._sent = 0

    def replica_inflight(self, replica: str, numbers: Mapping[PodId, InflightNumbers], full: bool, /) -> None:
        super().replica_inflight(replica, numbers, full)
        self.view.set_remote(replica, numbers, full)

    def replica_gone(self, replica: str, /) -> None:
        super().replica_gone(replica)
        self.view.drop_remote(replica)

    def serve(self, requests: int) -> None:
        for _ in range(requests):
            self._sent += 1
            pod = PODS[self._sent % len(PODS)].id
            charge = self.view.reserve(pod, RequestInfo("r", "m", 100, 10, 0.0, 0, 0))
            self.store.placed(pod, [self._sent])
            self.view.release(charge)


@pytest.mark.parametrize("lease_s", [4 * LONG_S, LONG_S / 2], ids=["within a lease", "beyond the lease"])
def test_after_a_healed_partition_the_view_is_as_fresh_as_its_numbers(
    lease_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case I 52. Requests go on on both sides, so that more placements wait than one flush carries."""
    monkeypatch.setattr("statesync.store.redis.store.BACKOFF_S", (0.01, 0.05))
    clock, config = RunningClock(), Sync(lease_s=lease_s, timeout_s=LONG_S / 10, checkpoint_s=1e9)

    async def run() -> None:
        with redis_server() as server, slow_link(server.port) as proxy:
            far, near = Loaded(proxy.port, clock, config), Loaded(server.port, clock, config)
            await far.store.start("far", far)
            await near.store.start("near", near)
            await eventually(lambda: len(far.store.replicas()) == len(near.store.replicas()) == 2)
            proxy.delay_s = CUT_S
            for _ in range(100):
                far.serve(2 * PER_FLUSH // 10)
                near.serve(5)
                pass_time(LONG_S / 100)
                await real_moment()
            await eventually(lambda: not far.store.health().connected)
            assert far.store.age_s() > LONG_S / 2, "the partition did not age the view"
            links = far.store.health().reconnects
            proxy.delay_s = 0.0
            ages, unseen = [0.0], [0.0]

            def caught_up() -> bool:
                if not far.store.health().connected:
                    pass_time(1.0)  # until the attempt to connect through the cut proxy is given up
                elif far.store.health().reconnects > links:
                    ages.append(far.store.age_s())
                    unseen.append(far.view.unseen_by_pool()["default"])
                far.serve(1)
                near.serve(1)
                return len(near.placed) >= 5000 and len(ages) > 100

            await eventually(caught_up)
            assert max(ages) < LONG_S / 20
            assert max(unseen) < LONG_S / 20
            await far.store.aclose()
            await near.store.aclose()

    run_on(clock, run())
