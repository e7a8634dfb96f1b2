"""The picker's settings; tests/e2e/test_picker_e2e.py starts the process."""

from __future__ import annotations

from router.epp.process import as_picker, create
from router.settings import Limits, Pool, Retries, Settings


def test_a_picker_leaves_retries_to_the_proxy_and_counts_no_clients() -> None:
    given = Settings(pools=[Pool(name="a", pods=["http://10.0.0.1:1"])], limits=Limits(max_connections_per_client=4))
    settings = as_picker(given)
    assert settings.retries == Retries(attempts=0, budget_ratio=0.0, budget_min=0)
    assert settings.limits.max_connections_per_client == 0
    assert settings.pools == given.pools


def test_a_picker_is_a_replica_that_is_not_started() -> None:
    settings = Settings(pools=[Pool(name="a", pods=["http://10.0.0.1:1"])])
    assert create(settings, 1).parts.core.settings.retries.attempts == 0
