"""How each kind of fault is made and undone. Each is a context manager: the fault is on inside of its block.

Blocking code, run in a thread for each fault. What is killed is started again by the end of the block.
"""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from typing import Any, Final

import dns.rcode

from loadtests.chaos.arena import CLUSTER, NAMED, Arena, Pod
from loadtests.chaos.cluster import Cluster
from loadtests.chaos.plan import Fault
from loadtests.processes.owned import wait_for
from loadtests.processes.slow_link import SlowLink

SLOW_S: Final = 0.2
"""Delay of a slow link."""
SKEW_S: Final = 3600
"""By how much a clock jumps."""
ROTATION_S: Final = 0.5
"""From the SIGTERM of a replica to the moment at which a load balancer no longer uses it."""
AGAIN_S: Final = 60.0
"""How long a rolled replica may take to end: longer than its drain."""

Making = Callable[[Arena, Fault], AbstractContextManager[str]]
"""The block's value names what the fault struck: a replica, or a pod's address."""


def _pod(arena: Arena, fault: Fault) -> Pod:
    model = CLUSTER if fault.track == "cluster" else NAMED
    pods = [pod for pod in arena.pods if pod.model == model]
    return pods[fault.target % len(pods)]


@contextmanager
def _pod_killed(arena: Arena, fault: Fault) -> Iterator[str]:
    pod = _pod(arena, fault)
    pod.process.kill()
    yield pod.address
    pod.restart()


@contextmanager
def _pod_hung(arena: Arena, fault: Fault) -> Iterator[str]:
    pod = _pod(arena, fault)
    pod.process.send_signal(signal.SIGSTOP)
    yield pod.address
    pod.process.send_signal(signal.SIGCONT)


@contextmanager
def _pod_parted(arena: Arena, fault: Fault) -> Iterator[str]:
    pod = _pod(arena, fault)
    with _parted([pod.link]):
        yield pod.address


@contextmanager
def _pod_slow(arena: Arena, fault: Fault) -> Iterator[str]:
    pod = _pod(arena, fault)
    pod.link.delay_s = SLOW_S
    yield pod.address
    pod.link.delay_s = 0.0


@contextmanager
def _pod_connections_reset(arena: Arena, fault: Fault) -> Iterator[str]:
    """Several times during the fault."""
    pod = _pod(arena, fault)
    pod.link.reset_all()
    yield pod.address
    pod.link.reset_all()


def _switched(kind: str, **fields: Any) -> Making:
    """A fault that the simulated engine makes itself."""

    @contextmanager
    def made(arena: Arena, fault: Fault) -> Iterator[str]:
        pod = _pod(arena, fault)
        pod.fault(kind, **fields)
        yield pod.address
        pod.well()

    return made


@contextmanager
def _pod_refuse(arena: Arena, fault: Fault) -> Iterator[str]:
    """It ends by itself: a pod that accepts no connection cannot be asked to."""
    pod = _pod(arena, fault)
    pod.fault("refuse", for_s=fault.for_s)
    yield pod.address
    pod.wait()


def _named(**changes: Any) -> Making:
    """The name server gives a false answer, or none."""

    @contextmanager
    def made(arena: Arena, fault: Fault) -> Iterator[str]:
        for name, value in changes.items():
            setattr(arena.names, name, value)
        yield "names"
        arena.names.restore()

    return made


@contextmanager
def _dns_partial(arena: Arena, fault: Fault) -> Iterator[str]:
    names = arena.names
    names.addresses = (names.true_addresses[fault.target % len(names.true_addresses)],)
    yield "names"
    names.restore()


@contextmanager
def _redis_killed(arena: Arena, fault: Fault) -> Iterator[str]:
    server = arena.redis.master
    server.process.kill()
    yield "redis"
    server.restart_empty()


@contextmanager
def _redis_hung(arena: Arena, fault: Fault) -> Iterator[str]:
    server = arena.redis.master
    server.pause()
    yield "redis"
    server.resume()


@contextmanager
def _redis_slow(arena: Arena, fault: Fault) -> Iterator[str]:
    links = [*chain(*arena.state_links)]
    for link in links:
        link.delay_s = SLOW_S
    yield "redis"
    for link in links:
        link.delay_s = 0.0


@contextmanager
def _redis_emptied(arena: Arena, fault: Fault) -> Iterator[str]:
    arena.redis.client.flushall()
    yield "redis"


@contextmanager
def _redis_parted(arena: Arena, fault: Fault) -> Iterator[str]:
    with _parted([*chain(*arena.state_links)]):
        yield "redis"


@contextmanager
def _replica_parted(arena: Arena, fault: Fault) -> Iterator[str]:
    number = fault.target % len(arena.state_links)
    with _parted(arena.state_links[number]):
        yield f"replica-{number}"


@contextmanager
def _parted(links: Sequence[SlowLink]) -> Iterator[None]:
    for link in links:
        link.part()
    yield
    for link in links:
        link.heal()


def _failed_over(*, hung: bool) -> Making:
    """The master is killed or stops, and Sentinel promotes the other Redis. The former master, which comes back as a
    master, is made a replica."""

    @contextmanager
    def made(arena: Arena, fault: Fault) -> Iterator[str]:
        former = arena.redis.master
        if hung:
            former.pause()
        else:
            former.process.kill()
        arena.redis.fail_over(former)
        yield "redis"
        if hung:
            former.resume()
        else:
            former.restart_empty()
        arena.redis.wait_until_replica(former)

    return made


def _kubernetes(go: Callable[[Cluster], None], come_back: Callable[[Cluster], None]) -> Making:
    """The API is gone, and a pod is replaced in the meantime: replicas keep the pods they know, then follow. Raises
    RuntimeError if one did not keep them, NotReady if one does not follow."""

    @contextmanager
    def made(arena: Arena, fault: Fault) -> Iterator[str]:
        wait_for("every replica has the API's pods", lambda: arena.pods_known() <= {arena.cluster.names})
        known = arena.pods_known()
        go(arena.cluster)
        arena.cluster.replace(fault.target)
        yield "Kubernetes"
        kept = arena.pods_known()
        come_back(arena.cluster)
        wait_for("every replica has the API's pods again", lambda: arena.pods_known() <= {arena.cluster.names})
        if kept != known:
            raise RuntimeError(f"without the API a replica has the pods {kept}, which were {known}")

    return made


def _compacted(cluster: Cluster) -> None:
    cluster.compact()
    cluster.link.accept()


def _replica(arena: Arena, fault: Fault) -> tuple[str, int]:
    number = fault.target % arena.layout.replicas
    return f"replica-{number}", number


@contextmanager
def _replica_killed(arena: Arena, fault: Fault) -> Iterator[str]:
    name, number = _replica(arena, fault)
    arena.retire(name).process.kill()
    yield name
    arena.admit(arena.start_replica(number))


@contextmanager
def _replica_paused(arena: Arena, fault: Fault) -> Iterator[str]:
    name, _ = _replica(arena, fault)
    process = arena.replicas[name].process
    process.send_signal(signal.SIGSTOP)
    yield name
    process.send_signal(signal.SIGCONT)


@contextmanager
def _replica_rolled(arena: Arena, fault: Fault) -> Iterator[str]:
    """It gets SIGTERM, is taken out of rotation a little later, drains and ends; then its successor starts."""
    name, number = _replica(arena, fault)
    arena.replicas[name].leave()
    time.sleep(ROTATION_S)
    leaving = arena.retire(name)
    yield name
    wait_for(f"{name} ends", leaving.process.ended, AGAIN_S)
    arena.admit(arena.start_replica(number))


def _skewed(offset_s: int) -> Making:
    """The wall clock of a replica jumps, and jumps back."""

    @contextmanager
    def made(arena: Arena, fault: Fault) -> Iterator[str]:
        name, _ = _replica(arena, fault)
        arena.set_clock(name, offset_s)
        yield name
        arena.set_clock(name, 0)

    return made


@contextmanager
def _disk_full(arena: Arena, fault: Fault) -> Iterator[str]:
    """No file of a replica, its recording among them, may grow any more."""
    name, _ = _replica(arena, fault)
    pid = arena.replicas[name].process.pid
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))
    yield name
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


MAKING: Final[Mapping[str, Making]] = {
    "pod_killed": _pod_killed,
    "pod_hung": _pod_hung,
    "pod_parted": _pod_parted,
    "pod_slow": _pod_slow,
    "pod_connections_reset": _pod_connections_reset,
    "pod_refuse": _pod_refuse,
    "pod_close_before_first_byte": _switched("close_before_first_byte"),
    "pod_garbage": _switched("garbage"),
    "pod_hang": _switched("hang"),
    "pod_http_429": _switched("http_429", retry_after_s=1),
    "pod_http_500": _switched("http_500"),
    "pod_http_503": _switched("http_503"),
    "pod_reset_midstream": _switched("reset_midstream", after_chunks=5),
    "pod_slow_drip": _switched("slow_drip", drip_bytes=400, drip_interval_s=0.1),
    "pod_stall": _switched("stall", after_chunks=3),
    "pod_truncated_sse": _switched("truncated_sse", after_chunks=7),
    "dns_nothing": _named(addresses=()),
    "dns_wrong": _named(addresses=("127.0.1.201", "127.0.1.202")),
    "dns_partial": _dns_partial,
    "dns_silent": _named(silent=True),
    "dns_failing": _named(rcode=dns.rcode.SERVFAIL),
    "redis_killed": _redis_killed,
    "redis_hung": _redis_hung,
    "redis_slow": _redis_slow,
    "redis_emptied": _redis_emptied,
    "redis_parted": _redis_parted,
    "redis_failed_over": _failed_over(hung=False),
    "redis_hung_and_failed_over": _failed_over(hung=True),
    "replica_parted": _replica_parted,
    "kubernetes_refused": _kubernetes(lambda cluster: cluster.link.refuse(), lambda cluster: cluster.link.accept()),
    "kubernetes_hung": _kubernetes(lambda cluster: cluster.link.part(), lambda cluster: cluster.link.heal()),
    "kubernetes_compacted": _kubernetes(lambda cluster: cluster.link.refuse(), _compacted),
    "replica_killed": _replica_killed,
    "replica_paused": _replica_paused,
    "replica_rolled": _replica_rolled,
    "clock_forward": _skewed(SKEW_S),
    "clock_back": _skewed(-SKEW_S),
    "disk_full": _disk_full,
}
"""Every kind of the plan."""
