"""What a user can configure of probes, engines' metrics, TLS to pods and the shared state. Components of this package
take these sections of the file as they are; `router/settings.py` has the rest. Values only.
"""

from __future__ import annotations

import msgspec


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A section of the file: immutable, keyword-only, strict."""


class UpstreamTls(Section, frozen=True):
    """TLS to the pods of one pool. The files are read again when they change. Where this section is present, even
    empty, pods whose address names no scheme speak TLS, such as those that discovery finds."""

    ca_file: str = ""
    """Authorities that pods' certificates may come from, PEM; empty: the system's."""
    cert_file: str = ""
    """The gateway's own certificate, PEM, for pods that ask for one."""
    key_file: str = ""
    """Its key, without a passphrase; empty: it is in `cert_file`."""
    server_name: str = ""
    """The name that the pods' certificates have, also sent as SNI; empty: the host of each pod's address."""
    verify: bool = True
    """`false` accepts every certificate, so that any server at the address gets the requests."""


class Health(Section, frozen=True):
    """Active probes, passive outcomes, and the ejection of pods."""

    path: str = ""
    """Path that answers 2xx while a pod is well; empty: each engine's own."""
    interval_s: float = 5.0
    """Between two probes of a pod."""
    timeout_s: float = 2.0
    """A probe without an answer after this has failed."""
    failures: int = 2
    """Consecutive failed probes that take a pod out."""
    successes: int = 1
    """Consecutive good probes that bring it back."""
    eject_failures: int = 3
    """Consecutive failed requests that eject a pod."""
    eject_s: float = 5.0
    """First ejection; doubles each time up to `eject_max_s`."""
    eject_max_s: float = 120.0
    """The longest ejection."""
    max_ejected_ratio: float = 0.5
    """Never more than this share of a pool at once, nor its last pod. Pods that fail beyond it are kept: they get
    requests, and `turnout pods`, metrics and alerts show that they fail."""


class Scrape(Section, frozen=True):
    """Reading the engines' own metrics."""

    path: str = ""
    """Path of the metrics, `:8002/metrics` on another port of the pod; empty: each engine's own."""
    interval_s: float = 1.0
    """Between two readings of a pod, by one of the replicas."""
    timeout_s: float = 2.0
    """A reading that takes longer is given up."""
    max_per_s: float = 50.0
    """With many pods the interval stretches, so that scraping stays cheap."""
    models_interval_s: float = 0.5
    """Between two readings of a pod's /v1/models, by one of the replicas; it stretches above 200 readings a second. An
    adapter that is loaded or unloaded at the pod is noticed within it."""


class Sync(Section, frozen=True):
    """How replicas synchronise through a shared `state`. Without effect with memory://."""

    interval_s: float = 0.002
    """Changes within this time are sent together; the first after a pause is sent at once. A change that only lowers a
    pod's load waits for a dispatch to be sent with, up to four times as long. At least 0.05 while no other replica is
    alive."""
    lease_s: float = 5.0
    """A replica that has not renewed its lease for this long is gone, and its requests in flight are not counted."""
    timeout_s: float = 1.0
    """For connecting and for each reply; then the connection is closed and opened again, with backoff."""
    namespace: str = "turnout"
    """Replicas with the same namespace see each other; it is part of every key."""
    checkpoint_s: float = 30.0
    """Between two checkpoints of the prefix index."""
