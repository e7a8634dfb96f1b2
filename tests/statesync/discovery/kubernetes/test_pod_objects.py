"""Reading an engine from a Pod object: whether it is one, its address, its identity, what it serves."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from loadtests.kubernetes.objects import pod_object
from schedulers.types import PodId, Role
from statesync.discovery.kubernetes.pod_objects import ObservedPod, decode_pod, identity, seen_in
from statesync.discovery.source import PodTemplate
from statesync.types import LEARNED

UID = "1a2b3c4d-0000-4000-8000-000000000000"


def seen(found: dict[str, Any], port: str = "", template: PodTemplate | None = None) -> ObservedPod:
    return seen_in(decode_pod(json.dumps(found)), port, template or PodTemplate())


def test_a_ready_pod_is_routable_under_its_name_and_uid() -> None:
    pod = seen(pod_object("vllm-0", "10.1.2.3", uid=UID)).pod
    assert pod is not None
    assert (pod.id, pod.address, pod.unready) == ("vllm-0.1a2b3c4d", "10.1.2.3:8000", "")
    assert dict(pod.labels) == {"namespace": "llm", "node": "node-1"}


def test_a_new_pod_with_the_same_name_and_address_is_another() -> None:
    before = seen(pod_object("vllm-0", "10.1.2.3", uid=UID)).pod
    after = seen(pod_object("vllm-0", "10.1.2.3", uid="5e6f7a8b-0000-4000-8000-000000000000")).pod
    assert before is not None
    assert after is not None
    assert before.id != after.id
    assert identity("vllm-0", UID) == PodId("vllm-0.1a2b3c4d")


def test_case_c11_a_pod_of_a_stateful_set_is_known_by_its_name_on_every_node() -> None:
    before = seen(pod_object("agent-0", "10.1.2.3", uid=UID, stateful_set="agent")).pod
    after = seen(
        pod_object("agent-0", "10.9.9.9", uid="5e6f7a8b-0000-4000-8000-000000000000", stateful_set="agent")
    ).pod
    assert before is not None
    assert after is not None
    assert before.id == after.id == "agent-0.llm"
    assert (before.labels["statefulset"], before.labels["uid"]) == ("agent", "1a2b3c4d")
    assert after.labels["uid"] == "5e6f7a8b", "it is another process with an empty cache"


@pytest.mark.parametrize(
    ("fields", "unready"),
    [
        ({"ready": False}, "not_ready"),
        ({"terminating": True}, "terminating"),
        ({"terminating": True, "ready": False}, "terminating"),
    ],
)
def test_a_pod_that_is_not_ready_or_terminates_is_listed_with_the_reason(fields: dict[str, Any], unready: str) -> None:
    pod = seen(pod_object("vllm-0", **fields)).pod
    assert pod is not None
    assert pod.unready == unready


@pytest.mark.parametrize("phase", ["Pending", "Succeeded", "Failed", "Unknown", ""])
def test_a_pod_that_does_not_run_is_skipped_without_a_note(phase: str) -> None:
    assert seen(pod_object("vllm-0", phase=phase))[1:3] == (None, "")


def test_a_pod_without_an_address_is_skipped() -> None:
    assert seen(pod_object("vllm-0", ip="")).pod is None


def test_a_pod_without_a_ready_condition_is_not_ready() -> None:
    found = pod_object("vllm-0")
    found["status"]["conditions"] = None
    pod = seen(found).pod
    assert pod is not None
    assert pod.unready == "not_ready"


def test_the_first_address_counts_also_where_only_the_list_has_it() -> None:
    found = pod_object("vllm-0", "fd00::1")
    found["status"] |= {"podIP": "", "podIPs": [{"ip": "fd00::1"}, {"ip": "10.0.0.1"}]}
    pod = seen(found).pod
    assert pod is not None
    assert pod.address == "[fd00::1]:8000"


def ports(*named: tuple[str, int], protocol: str = "TCP") -> dict[str, Any]:
    found = pod_object("vllm-0")
    listed = [{"name": name, "containerPort": number, "protocol": protocol} for name, number in named]
    found["spec"]["containers"] = [{"name": "engine", "ports": listed or None}]
    return found


@pytest.mark.parametrize(
    ("found", "configured", "address"),
    [
        (ports(("api", 9000)), "", "10.0.0.1:9000"),
        (ports(("metrics", 9000), ("http", 8001)), "", "10.0.0.1:8001"),
        (ports(("metrics", 9000), ("api", 8001)), "api", "10.0.0.1:8001"),
        (ports(), "8123", "10.0.0.1:8123"),
        (ports(("api", 9000)), "8123", "10.0.0.1:8123"),
    ],
)
def test_the_port_is_the_configured_one_or_the_only_one_or_http(
    found: dict[str, Any], configured: str, address: str
) -> None:
    pod = seen(found, configured).pod
    assert pod is not None
    assert pod.address == address


@pytest.mark.parametrize(
    ("found", "configured"),
    [
        (ports(), ""),
        (ports(("a", 1), ("b", 2)), ""),
        (ports(("a", 1)), "http"),
        (ports(("a", 1), protocol="UDP"), ""),
    ],
)
def test_a_pod_without_a_known_port_is_skipped_with_a_note(found: dict[str, Any], configured: str) -> None:
    answer = seen(found, configured)
    assert answer.pod is None
    assert "llm/vllm-0 declares no" in answer.note


def test_a_sidecar_may_declare_the_port() -> None:
    found = ports(("vllm", 8200))
    found["spec"]["initContainers"] = [{"name": "proxy", "restartPolicy": "Always", "ports": [{"containerPort": 8000}]}]
    found["spec"]["initContainers"][0]["ports"][0]["name"] = "http"
    pod = seen(found).pod
    assert pod is not None
    assert pod.address == "10.0.0.1:8000"


def test_turnouts_annotation_precedes_the_configured_port_and_other_projects_labels_follow_it() -> None:
    ours = seen(pod_object("v", annotations={"turnout.dev/port": "7000"}), "8123").pod
    others = seen(pod_object("v", labels={"model.aibrix.ai/port": "7001"}), "8123").pod
    alone = seen(pod_object("v", labels={"model.aibrix.ai/port": "7001"})).pod
    assert [pod and pod.address for pod in (ours, others, alone)] == [
        "10.0.0.1:7000",
        "10.0.0.1:8123",
        "10.0.0.1:7001",
    ]


def test_labels_and_annotations_describe_a_pod_turnouts_before_other_projects() -> None:
    pod = seen(
        pod_object(
            "v",
            labels={
                "turnout.dev/role": "prefill",
                "llm-d.ai/role": "decode",
                "llm-d.ai/model": "llama",
                "turnout.dev/cluster": "east",
                "topology.kubernetes.io/zone": "east-1",
            },
            annotations={"turnout.dev/models": "meta/llama, meta/llama-lora", "turnout.dev/max-inflight": "12"},
        )
    ).pod
    assert pod is not None
    assert pod.models == {"meta/llama", "meta/llama-lora"}
    assert (pod.role, pod.max_inflight) == ("prefill", 12)
    assert dict(pod.labels) == {
        "namespace": "llm",
        "node": "node-1",
        "cluster": "east",
        "zone": "east-1",
        "model_label": "llama",
    }


@pytest.mark.parametrize(
    ("labels", "role", "models"),
    [
        ({"llm-d.ai/role": "prefill-decode"}, "both", set()),
        ({"llm-d.ai/role": "decode"}, "decode", set()),
        ({"role-name": "prefill", "model.aibrix.ai/name": "qwen"}, "prefill", {"qwen"}),
        ({"model": "opt125m"}, "both", set()),
    ],
)
def test_other_projects_labels_are_understood(labels: dict[str, str], role: Role, models: set[str]) -> None:
    pod = seen(pod_object("v", labels=labels)).pod
    assert pod is not None
    assert (pod.role, pod.models) == (role, frozenset(models))


def test_the_pools_values_fill_what_the_pod_leaves_out_and_its_labels_win() -> None:
    template = PodTemplate(frozenset({"m"}), labels={"cluster": "west", "zone": "w"}, max_inflight=3)
    pod = seen(pod_object("v", labels={"turnout.dev/cluster": "east"}), "", template).pod
    assert pod is not None
    assert (pod.models, pod.max_inflight, pod.labels["cluster"], pod.labels["zone"]) == (
        frozenset({"m"}),
        3,
        "west",
        "w",
    )


def test_invalid_values_are_skipped_with_a_note() -> None:
    answer = seen(pod_object("v", labels={"turnout.dev/role": "chief"}, annotations={"turnout.dev/max-inflight": "0"}))
    assert answer.pod is not None
    assert (answer.pod.role, answer.pod.max_inflight) == ("both", None)
    assert answer.note == "pod llm/v has no sensible role 'chief' and max-inflight '0'"


def test_the_limit_of_a_pod_may_be_learned() -> None:
    answer = seen(pod_object("v", annotations={"turnout.dev/max-inflight": "auto"}))
    assert answer.pod is not None
    assert (answer.pod.max_inflight, answer.note) == (LEARNED, "")


def test_a_container_that_was_replaced_makes_another_incarnation_of_the_same_pod() -> None:
    before, after = seen(pod_object("v", uid=UID)), seen(pod_object("v", uid=UID, restarts=1))
    assert before.uid == after.uid
    assert before.incarnation != after.incarnation


def test_an_object_that_is_not_a_pod_is_an_error() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_pod(b'{"metadata": []}')


def test_the_ranks_that_a_pod_says_it_has_are_a_label() -> None:
    pod = seen(pod_object("vllm-0", annotations={"turnout.dev/ranks": "8"})).pod
    assert pod is not None
    assert pod.labels["dp_ranks"] == "8"
