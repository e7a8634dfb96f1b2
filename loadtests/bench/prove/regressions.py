"""Ten regressions, and a copy of the gateway with one of them in it. The gateway's own code knows none of this.

Each is of a kind that this project, or another router, has had. Most are lines that are added to the end of a module
and replace one of its methods, so that they survive edits of the module; two change a word of it.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[3]
PACKAGES: Final = ("router", "schedulers", "statesync")


class Regression(NamedTuple):
    """A change to one file."""

    module: str
    what: str
    added: str = ""
    """Lines at the end of the module."""
    replaced: tuple[str, str] = ("", "")
    """A text that is there exactly once, and what takes its place."""


REGRESSIONS: Final = {
    "slow-decision": Regression(
        "router/dataplane/dispatch.py",
        "every decision takes a millisecond longer",
        """
_pick = Dispatch._pick
def _slow(self, scheduler, info, snapshot):
    end = perf_counter() + 0.001
    while perf_counter() < end:
        pass
    return _pick(self, scheduler, info, snapshot)
Dispatch._pick = _slow
""",
    ),
    "leaked-reservation": Regression(
        "router/dataplane/completion.py",
        "the reservation of a request whose client leaves is not given back",
        """
_abandon = Completion.abandon
def _leaky(self, exchange):
    self._cancel(exchange)
    exchange.placement = None
    _abandon(self, exchange)
Completion.abandon = _leaky
""",
    ),
    "dropped-stream": Regression(
        "router/settings.py",
        "a new default limit ends answers that take longer than three seconds",
        replaced=("    total_s: float = 0.0\n", "    total_s: float = 3.0\n"),
    ),
    "unreadable-message": Regression(
        "statesync/store/redis/messages.py",
        "the message with a replica's changes has another tag",
        replaced=('tag="changes"', 'tag="delta"'),
    ),
    "lost-prefixes": Regression(
        "statesync/store/redis/receiver.py",
        "placements of other replicas are not learned",
        "\nUpdateReceiver._fold = lambda self, placements: None\n",
    ),
    "drain-that-cuts": Regression(
        "router/lifecycle.py",
        "a drain does not wait for streams",
        """
async def _at_once(inflight, hurry, clock, limit_s, pause):
    return
_ended = _at_once
""",
    ),
    "doubled-text": Regression(
        "router/dataplane/relay.py",
        "one event of a hundred is sent twice",
        """
_pass, _calls = Relay._pass_on, [0]
def _twice(self, piece):
    _calls[0] += 1
    _pass(self, piece)
    if self.sse and _calls[0] % 100 == 0:
        _pass(self, piece)
Relay._pass_on = _twice
""",
    ),
    "stuck-queue": Regression(
        "router/dataplane/queue.py",
        "requests in the queue do not get the room that others leave",
        "\nRequestQueue.on_headroom = lambda self, pool: None\n",
    ),
    "policy-not-taken-over": Regression(
        "statesync/store/redis/shared_policies.py",
        "a new replica does not read the policies that are in force",
        """
async def _blind(self, link):
    return
SharedPolicies.read_all = _blind
""",
    ),
    "memory-growth": Regression(
        "router/dataplane/completion.py",
        "every request, with its body, is kept for ever",
        """
_end, _kept = Completion.end, []
def _keeping(self, exchange, status, error=None):
    _kept.append((exchange, exchange.body))
    _end(self, exchange, status, error)
Completion.end = _keeping
""",
    ),
}


def copy_with(name: str, directory: Path, root: Path = ROOT) -> Path:
    """A copy of the gateway's packages in `directory` with this regression. ValueError if its place is not there."""
    regression, target = REGRESSIONS[name], directory / name
    shutil.rmtree(target, ignore_errors=True)
    for package in PACKAGES:
        shutil.copytree(root / package, target / package, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    module = target / regression.module
    before, after = regression.replaced
    text = module.read_text()
    if before and text.count(before) != 1:
        raise ValueError(f"{name}: {before!r} is not in {regression.module} exactly once")
    module.write_text((text.replace(before, after) if before else text) + regression.added)
    return target
