"""Fixtures of all end-to-end tests: one process of simulated pods, idle and without faults before each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.raw_http_client import Wire
from tests.fakes.sim_process import SimPods, sim_pods
from tests.fakes.waiting import wait_for


@pytest.fixture(scope="session")
def all_sims(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimPods]:
    """Six simulated pods for the whole session."""
    log: Path = tmp_path_factory.mktemp("sims") / "sims.log"
    with sim_pods(6, log) as pods:
        yield pods


@pytest.fixture
def sims(all_sims: SimPods) -> Iterator[SimPods]:
    """The pods, without faults before and after the test; requests of the test before have ended."""
    all_sims.well()
    wait_for("the pods are idle", all_sims.idle)
    yield all_sims
    all_sims.well()


@pytest.fixture
def port(gateway: GatewayProcess) -> int:
    """The inference port of the module's gateway."""
    return gateway.port


@pytest.fixture
def wire(port: int) -> Iterator[Wire]:
    """A connection to the inference port."""
    with Wire("127.0.0.1", port) as wire:
        yield wire
