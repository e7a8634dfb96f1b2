"""Sources of pods: a list, DNS, Kubernetes, Ray Serve. `source.py` has their protocol and their table."""

from statesync.discovery.source import OnPods, PodSource, PodTemplate, open_source

__all__ = ["OnPods", "PodSource", "PodTemplate", "open_source"]
