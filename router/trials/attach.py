"""Trials joined to the gateway around them: its store, its policy switch, its guard, its event loop."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable

from router.policy.controller import PolicyController
from router.policy.model import ChangeOptions
from router.settings import TrialSettings
from router.trials.trials import TrialDeps, Trials, TrialStore


def trials_of(
    replica: str,
    store: TrialStore,
    clock: Callable[[], float],
    policies: Callable[[], PolicyController],
    settings: TrialSettings,
) -> Trials:
    """This replica's trials. `policies` is asked only once they run: the switch is built with them."""

    async def take_back(pool: str, generation: int, note: str) -> None:
        await policies().set_canary(pool, None, ChangeOptions(if_generation=generation, note=note))

    outside = TrialDeps(
        store=store,
        take_back=take_back,
        note=lambda pool: policies().record(pool).note,
        later=lambda seconds, work: asyncio.get_running_loop().call_later(seconds, work),
        clock=clock,
        pick_clock=time.perf_counter,
    )
    # A replica that starts again under its old name must not take the place of what it counted before.
    return Trials(outside, f"{replica}/{secrets.token_hex(3)}", settings.shadow_per_s)
