"""The `StateListener` of a replica: passes what the other replicas share on to the components that keep it. Decides
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from router.access.shared_keys import SharedKeys
from router.dataplane.fair_share import FairShares
from router.policy.controller import PolicyController
from router.replica.pod_updates import PodUpdates
from schedulers.types import PodId
from statesync.engines.model_reader import ModelReader
from statesync.engines.prober import Prober
from statesync.engines.scraper import Scraper
from statesync.load.view import LoadView
from statesync.prefix.index import PrefixIndex
from statesync.store.protocol import PolicyRecord
from statesync.types import KnownPod


class ReplicaStateListener:
    """Receives the updates of the other replicas."""

    def __init__(
        self,
        view: LoadView,
        prefix: PrefixIndex,
        pod_updates: PodUpdates,
        scraper: Scraper,
        policies: PolicyController,
        models: ModelReader,
        prober: Prober,
        keys: SharedKeys | None = None,
        shares: FairShares | None = None,
    ) -> None:
        """`keys`: the API keys of the shared state; None where they are not there. `shares`: what each tenant got."""
        self._view = view
        self._pod_updates = pod_updates
        self._scraper = scraper
        self._policies = policies
        self._models = models
        self._prober = prober
        self._shares = shares
        self._keys = keys
        # What is of one component alone goes there at once.
        self.replica_inflight = view.set_remote
        self.placed_elsewhere = pod_updates.placed_elsewhere
        self.reported_elsewhere = scraper.reported_elsewhere
        self.models_changed_elsewhere = models.changed_elsewhere
        self.checkpoint = prefix.pages
        self.restored = pod_updates.restored

    def replica_gone(self, replica: str, /) -> None:
        """A replica's lease has run out, or it gave the lease back."""
        self._view.drop_remote(replica)
        if self._shares is not None:
            self._shares.replica_gone(replica)

    def forgotten_elsewhere(self, pod: PodId, /) -> None:
        """A replica found the pod's engine restarted."""
        self._scraper.forgotten_elsewhere(pod)
        self._models.restarted(pod)
        self._pod_updates.on_restart(pod)

    def served_elsewhere(self, replica: str, served: Mapping[str, int], /) -> None:
        """The tokens that a replica served, by pool and tenant."""
        if self._shares is not None:
            self._shares.served_elsewhere(replica, served)

    def pods_elsewhere(self, known: Mapping[PodId, KnownPod], /) -> None:
        """What the replicas that were there before know of their pods."""
        self._prober.probed_elsewhere({pod: each.well for pod, each in known.items() if each.well is not None})
        self._models.read_elsewhere({pod: each.models for pod, each in known.items() if each.models is not None})

    def policy_changed(self, pool: str, record: PolicyRecord, /) -> None:
        """A pool's policy, or an API key, was changed on another replica, or before this one started."""
        self._policies.policy_changed(pool, record)
        if self._keys is not None:
            self._keys.changed(pool, record)
