"""The errors of statesync, one tree. None of them reaches a request that a pod could serve."""

from __future__ import annotations


class StateError(Exception):
    """Root of everything this package raises."""


class NoRoutablePod(StateError):
    """The pool has no pod that may get a request now."""


class ModelNotServed(NoRoutablePod):
    """No pod of the pool serves the model, by the pods' own lists."""


class UnknownPool(StateError):
    """No pool of that name."""


class UnknownPod(StateError):
    """No pod of that id."""


class StaleGeneration(StateError):
    """A compare-and-set with an old generation; read again and retry."""


class StoreUnavailable(StateError):
    """The shared store does not answer; the gateway goes on with its local view."""


class BadStoreUrl(StateError):
    """A --state URL this build cannot open."""


class DiscoveryError(StateError):
    """A discovery source is configured wrongly, or did not answer; the pods known so far stay."""


class PoolSaturated(StateError):
    """Every routable pod of the pool is at its `max_inflight`; one will free up."""
