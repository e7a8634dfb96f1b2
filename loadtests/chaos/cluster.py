"""The Kubernetes API that names the pods of a pool: a stub in a thread, behind a link that refuses or hangs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from loadtests.kubernetes.api import PODS
from loadtests.kubernetes.objects import kubeconfig, pod_object
from loadtests.kubernetes.thread import KubeThread
from loadtests.processes.slow_link import SlowLink
from loadtests.sim.ports import HOST, free_ports

NAMESPACE: Final = "llm"


class Cluster:
    """Its constructor starts it; `stop` ends it."""

    def __init__(self, addresses: Sequence[str], directory: Path) -> None:
        """`addresses` are those of the pods."""
        self._kube = KubeThread()
        port = int(self._kube.api.url.rpartition(":")[2])
        self.link = SlowLink(port, HOST, free_ports(1)[0])  # claimed: it is closed and opened again
        self.link.start()
        self._addresses = tuple(addresses)
        self._names: dict[str, str] = {}
        """Address -> name of the pod there."""
        self._made = 0
        for address in addresses:
            self._create(address)
        file = directory / "kubeconfig"
        self._kube.api.url = f"http://{HOST}:{self.link.port}"
        file.write_text(json.dumps(kubeconfig(self._kube.api)))
        self.source = f"kubernetes://{NAMESPACE}?selector=app=vllm&kubeconfig={file}"
        """As `discovery.source` takes it."""

    @property
    def names(self) -> frozenset[str]:
        """The pods that the API names."""
        return frozenset(self._names.values())

    def replace(self, number: int) -> None:
        """Delete a pod and add another one at its address, as after a crash of the whole pod."""
        address = self._addresses[number % len(self._addresses)]
        gone = self._names[address]
        self._create(address)
        self._kube.do(lambda api: api.delete(PODS, NAMESPACE, gone))

    def compact(self) -> None:
        """Forget all changes: a watch that continues from before them gets 410."""
        self._kube.do(lambda api: api.compact())

    def _create(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        name, uid = f"engine-{self._made}", f"{self._made:08x}-0000-4000-8000-000000000000"
        self._made += 1
        self._names[address] = name
        found = pod_object(name, host, uid=uid, namespace=NAMESPACE, annotations={"turnout.dev/port": port})
        self._kube.do(lambda api: api.put(PODS, found))

    def stop(self) -> None:
        """End the link and the API."""
        self.link.stop()
        self._kube.stop()
