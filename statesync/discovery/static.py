"""A pool with a list of pods: addresses in, pods out. No network here, not even to resolve a host name."""

from __future__ import annotations

from collections.abc import Sequence

from schedulers.types import Pod
from statesync.discovery.address import parse
from statesync.discovery.source import OnPods, PodTemplate
from statesync.errors import DiscoveryError


class StaticSource:
    """Calls back once with the pods it was given."""

    def __init__(self, pods: Sequence[Pod]) -> None:
        self._pods = tuple(pods)

    async def run(self, on_pods: OnPods, /) -> None:
        """Call `on_pods` once and return: the list never changes."""
        on_pods(self._pods)


def pods_of(addresses: Sequence[str], template: PodTemplate | None = None) -> tuple[Pod, ...]:
    """The pods at these addresses (`address.py` has their forms). Raises DiscoveryError, which names all mistakes at
    once."""
    template = template or PodTemplate()
    pods: dict[str, Pod] = {}
    wrong: list[str] = []
    for text in addresses:
        try:
            at = parse(text, tls=template.tls, base=template.base)
        except DiscoveryError as error:
            wrong.append(str(error))
            continue
        pod = template.pod_at(at)
        if pod.id in pods:
            wrong.append(f"pod {text!r}: {pod.address} is listed twice")
        pods[pod.id] = pod
    if wrong:
        raise DiscoveryError("; ".join(wrong))
    return tuple(pods.values())
