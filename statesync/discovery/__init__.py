"""Sources of a pool's pods: a list, DNS, Kubernetes. `source.py` has the protocol and the table of sources."""

from statesync.discovery.source import OnPods, PodSource, PodTemplate, open_source

__all__ = ["OnPods", "PodSource", "PodTemplate", "open_source"]
