"""What all end-to-end tests share: one process of simulated pods, without faults at the start of each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.sim_process import SimPods, sim_pods


@pytest.fixture(scope="session")
def all_sims(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimPods]:
    """Six simulated pods for the whole session."""
    log: Path = tmp_path_factory.mktemp("sims") / "sims.log"
    with sim_pods(6, log) as pods:
        yield pods


@pytest.fixture
def sims(all_sims: SimPods) -> Iterator[SimPods]:
    """The pods, well before and after."""
    all_sims.well()
    yield all_sims
    all_sims.well()


@pytest.fixture
def port(gateway: GatewayProcess) -> int:
    """The inference port of the module's gateway."""
    return gateway.port
