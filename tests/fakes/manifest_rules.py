"""The rules for every render: each is a function from a render to the violations, in words.

A rule's name is the rule as a sentence. Rules are pure: tests/deploy/test_probes.py has what needs a running gateway.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from tests.fakes.kubernetes_network import matches
from tests.fakes.rendered_manifests import MADE_BY_HAND, Manifest, Render, Workload

Rule = Callable[[Render], Iterator[str]]

SLACK_S = 10
"""Seconds between the end of the drain and SIGKILL, for flushing state and giving the lease back."""

OWN_IMAGES = frozenset({"turnout", "redis"})
"""Images that are known to run without root on a read-only root file system; engines' images write caches anywhere."""

ROLE_NEEDS: Mapping[tuple[str, str], frozenset[str]] = {
    ("", "pods"): frozenset({"list", "watch"}),
    ("discovery.k8s.io", "endpointslices"): frozenset({"list", "watch"}),
}
"""(API group, resource) -> the verbs that discovery uses."""


def the_configuration_is_one_that_serve_accepts(render: Render) -> Iterator[str]:
    for problem in render.config().problems:
        yield f"{problem.where}: {problem.message}"


def the_grace_period_outlasts_settle_and_drain(render: Render) -> Iterator[str]:
    drain, grace_s = render.config().settings.drain, render.gateway.spec["terminationGracePeriodSeconds"]
    if grace_s < drain.settle_s + drain.timeout_s + SLACK_S:
        yield f"{grace_s} s of grace for {drain.settle_s} + {drain.timeout_s} s of settling and draining"


def a_replica_settles_longer_than_endpoints_take_to_propagate(render: Render) -> Iterator[str]:
    if render.config().settings.drain.settle_s < 5:
        yield f"settles for {render.config().settings.drain.settle_s} s"


def a_roll_never_has_fewer_replicas(render: Render) -> Iterator[str]:
    strategy = render.gateway.owner["spec"]["strategy"]
    if strategy["type"] != "RollingUpdate" or strategy["rollingUpdate"] != {"maxSurge": 1, "maxUnavailable": 0}:
        yield f"{strategy}"


def there_are_at_least_two_replicas(render: Render) -> Iterator[str]:
    if render.replicas < 2:
        yield f"{render.replicas}"


def several_replicas_share_their_state(render: Render) -> Iterator[str]:
    if not render.config().settings.state.startswith(("redis", "rediss")):
        yield "memory:// is of one process"


def every_image_has_a_fixed_tag(render: Render) -> Iterator[str]:
    for workload, container in containers(render):
        _, colon, tag = container["image"].rpartition("/")[2].partition(":")
        if not colon or not re.search(r"\d+\.\d+", tag):
            yield f"{workload.name}: {container['image']}"


def every_image_names_its_registry(render: Render) -> Iterator[str]:
    for workload, container in containers(render):
        registry, slash, _ = container["image"].partition("/")
        if not slash or not ("." in registry or ":" in registry or registry == "localhost"):
            yield f"{workload.name}: {container['image']}"


def no_image_is_pulled_that_kind_has_loaded(render: Render) -> Iterator[str]:
    for workload, container in containers(render):
        if container.get("imagePullPolicy") != "IfNotPresent":
            yield f"{workload.name}: {container.get('imagePullPolicy')}"


def no_container_runs_as_root(render: Render) -> Iterator[str]:
    for workload, container in containers(render):
        pod, own = workload.spec.get("securityContext", {}), container.get("securityContext", {})
        both = {**pod, **own}
        if both.get("runAsNonRoot") is not True or not both.get("runAsUser"):
            yield f"{workload.name}/{container['name']}: may be root"
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            yield f"{workload.name}/{container['name']}: may become root"
        if both.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{workload.name}/{container['name']}: no seccomp profile"


def all_capabilities_are_dropped(render: Render) -> Iterator[str]:
    for workload, container in containers(render):
        if container.get("securityContext", {}).get("capabilities") != {"drop": ["ALL"]}:
            yield f"{workload.name}/{container['name']}"


def the_root_file_system_is_read_only(render: Render) -> Iterator[str]:
    for workload, container in containers(render):
        own = container["image"].rpartition("/")[2].partition(":")[0] in OWN_IMAGES
        if own and container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
            yield f"{workload.name}/{container['name']}"


def no_pod_shares_its_node_s_namespaces_or_files(render: Render) -> Iterator[str]:
    for workload in render.workloads():
        shared = {"hostNetwork", "hostPID", "hostIPC"} & {key for key, value in workload.spec.items() if value}
        paths = [volume["name"] for volume in workload.spec.get("volumes", ()) if "hostPath" in volume]
        if shared or paths:
            yield f"{workload.name}: {sorted(shared)} {paths}"


def scales_itself(workload: Workload) -> bool:
    """Whether it is the head of a Ray cluster with Ray's autoscaler beside it."""
    cluster = workload.owner["spec"].get("rayClusterConfig", {})
    return bool(cluster.get("enableInTreeAutoscaling")) and workload.template is cluster["headGroupSpec"]["template"]


def only_gateways_get_a_token_of_the_api_server(render: Render) -> Iterator[str]:
    for workload in render.workloads():
        wants = workload.name == "turnout" or scales_itself(workload)
        if workload.spec.get("automountServiceAccountToken", True) is not wants:
            yield f"{workload.name}: {not wants}"
    for account in render.all("ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"ServiceAccount {account['metadata']['name']}: to every pod that uses it"


def roles_allow_exactly_what_discovery_needs(render: Render) -> Iterator[str]:
    given: dict[tuple[str, str], set[str]] = {}
    for role in render.all("Role"):
        for rule in role["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    given.setdefault((group, resource), set()).update(rule["verbs"])
    if given != ROLE_NEEDS:
        yield f"{given}"
    yield from (f"{each['kind']} is not needed" for each in render.manifests if each["kind"].startswith("ClusterRole"))


def the_gateway_s_account_has_the_role(render: Render) -> Iterator[str]:
    (binding,) = render.all("RoleBinding")
    account = render.gateway.spec["serviceAccountName"]
    if [subject["name"] for subject in binding["subjects"]] != [account] or not render.find("ServiceAccount", account):
        yield f"bound to {binding['subjects']}, used by {account}"
    if not any(role["metadata"]["name"] == binding["roleRef"]["name"] for role in render.all("Role")):
        yield f"no Role {binding['roleRef']['name']}"


def no_budget_blocks_the_drain_of_a_node(render: Render) -> Iterator[str]:
    for budget in render.all("PodDisruptionBudget"):
        spec = budget["spec"]
        if "minAvailable" in spec or spec.get("maxUnavailable") in (None, 0, "0%"):
            yield f"{budget['metadata']['name']}: {spec}"
    owners = [budget for budget in render.all("PodDisruptionBudget") if selects(budget, render.gateway)]
    if len(owners) != 1:
        yield f"{len(owners)} budgets for the gateways: one is needed, and with two nothing can be evicted"


def selectors_match_the_pods_they_are_for(render: Render) -> Iterator[str]:
    workloads = list(render.workloads())
    for workload in workloads:
        if workload.kind != "RayService" and not matches(workload.owner["spec"]["selector"], workload.labels):
            yield f"{workload.name} does not select its own pods"
    for service in render.all("Service"):
        chosen = [each for each in workloads if matches({"matchLabels": service["spec"]["selector"]}, each.labels)]
        if len(chosen) != 1:
            yield f"Service {service['metadata']['name']} selects {[each.name for each in chosen]}"
    for budget in render.all("PodDisruptionBudget"):
        if sum(selects(budget, each) for each in workloads) != 1:
            yield f"PodDisruptionBudget {budget['metadata']['name']}"


def selects(owner: Manifest, workload: Workload) -> bool:
    return matches(owner["spec"]["selector"], workload.labels)


def the_ports_of_services_are_ports_of_containers(render: Render) -> Iterator[str]:
    for service in render.all("Service"):
        for workload in render.workloads():
            if matches({"matchLabels": service["spec"]["selector"]}, workload.labels):
                ports = {key for each in workload.containers for port in each["ports"] for key in port.values()}
                for port in service["spec"]["ports"]:
                    if port["targetPort"] not in ports:
                        yield f"Service {service['metadata']['name']}: {port['targetPort']}"


def the_container_s_ports_are_those_it_listens_on(render: Render) -> Iterator[str]:
    settings = render.config().settings
    for name, listen in (("inference", settings.listen), ("control", settings.control.listen)):
        host, _, port = listen.rpartition(":")
        if render.port_of(render.container, name) != int(port) or host != "0.0.0.0":
            yield f"{name}: listens on {listen}"


def probes_ask_ports_that_the_container_has(render: Render) -> Iterator[str]:
    for workload, container in containers(render):
        names = {port["name"] for port in container.get("ports", ())}
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            for how in ("httpGet", "tcpSocket"):
                port = container.get(kind, {}).get(how, {}).get("port")
                if port is not None and port not in names:
                    yield f"{workload.name}/{container['name']}: {kind} asks {port}"


def every_referenced_key_exists(render: Render) -> Iterator[str]:
    there = {("Secret", name): keys for name, keys in MADE_BY_HAND.items()}
    for kind in ("ConfigMap", "Secret"):
        for each in render.all(kind):
            there[kind, each["metadata"]["name"]] = frozenset({**each.get("data", {}), **each.get("stringData", {})})
    for workload, container in containers(render):
        for variable in container.get("env", ()):
            for kind, field in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
                wanted = variable.get("valueFrom", {}).get(field)
                if wanted and wanted["key"] not in there.get((kind, wanted["name"]), ()):
                    yield f"{workload.name}: {kind} {wanted['name']} has no {wanted['key']}"
    for workload in render.workloads():
        for volume in workload.spec.get("volumes", ()):
            if "configMap" in volume and ("ConfigMap", volume["configMap"]["name"]) not in there:
                yield f"{workload.name}: no ConfigMap {volume['configMap']['name']}"


def no_secret_is_an_argument_of_a_process(render: Render) -> Iterator[str]:
    for workload, container in containers(render):
        secrets = [each["name"] for each in container.get("env", ()) if "secretKeyRef" in each.get("valueFrom", {})]
        for word in (*container.get("command", ()), *container.get("args", ())):
            yield from (f"{workload.name}: {name}" for name in secrets if f"$({name})" in word)


def every_volume_is_mounted_and_every_mount_has_one(render: Render) -> Iterator[str]:
    for workload in render.workloads():
        volumes = {volume["name"] for volume in workload.spec.get("volumes", ())}
        volumes |= {claim["metadata"]["name"] for claim in workload.owner["spec"].get("volumeClaimTemplates", ())}
        mounts = {mount["name"] for each in workload.containers for mount in each.get("volumeMounts", ())}
        if volumes != mounts:
            yield f"{workload.name}: {sorted(volumes ^ mounts)}"


def every_container_says_what_it_needs(render: Render) -> Iterator[str]:
    for workload, container in containers(render):
        resources = container.get("resources", {})
        if not {"cpu", "memory"} <= set(resources.get("requests", {})) or "memory" not in resources.get("limits", {}):
            yield f"{workload.name}/{container['name']}: {resources}"


def engines_finish_their_requests(render: Render) -> Iterator[str]:
    for workload, container in containers(render):
        if "nvidia.com/gpu" in container["resources"].get("limits", {}) and workload.kind != "RayService":
            hook = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [])
            if "/opt/turnout/drain.py" not in hook or workload.spec["terminationGracePeriodSeconds"] < 300:
                yield f"{workload.name}: {hook}"


def engines_run_on_nodes_that_are_kept_for_gpus(render: Render) -> Iterator[str]:
    for workload, container in containers(render):
        tolerated = [each.get("key") for each in workload.spec.get("tolerations", ())]
        if "nvidia.com/gpu" in container["resources"].get("limits", {}) and "nvidia.com/gpu" not in tolerated:
            yield f"{workload.name}: {tolerated}"


def engines_keep_their_models_over_a_restart(render: Render) -> Iterator[str]:
    for workload, container in containers(render):
        if "nvidia.com/gpu" in container["resources"].get("limits", {}) and workload.kind != "RayService":
            kept = {claim["metadata"]["name"] for claim in workload.owner["spec"].get("volumeClaimTemplates", ())}
            paths = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] in kept]
            (models,) = [each["value"] for each in container["env"] if each["name"] == "HF_HOME"]
            if not any(models.startswith(f"{path}/") for path in paths):
                yield f"{workload.name}: {models} is on no volume that outlives the pod"


def containers(render: Render) -> Iterator[tuple[Workload, Manifest]]:
    """Every container of every workload."""
    for workload in render.workloads():
        for container in workload.containers:
            yield workload, container


RULES: tuple[Rule, ...] = (
    the_configuration_is_one_that_serve_accepts,
    the_grace_period_outlasts_settle_and_drain,
    a_replica_settles_longer_than_endpoints_take_to_propagate,
    a_roll_never_has_fewer_replicas,
    there_are_at_least_two_replicas,
    several_replicas_share_their_state,
    every_image_has_a_fixed_tag,
    every_image_names_its_registry,
    no_image_is_pulled_that_kind_has_loaded,
    no_container_runs_as_root,
    all_capabilities_are_dropped,
    the_root_file_system_is_read_only,
    no_pod_shares_its_node_s_namespaces_or_files,
    only_gateways_get_a_token_of_the_api_server,
    roles_allow_exactly_what_discovery_needs,
    the_gateway_s_account_has_the_role,
    no_budget_blocks_the_drain_of_a_node,
    selectors_match_the_pods_they_are_for,
    the_ports_of_services_are_ports_of_containers,
    the_container_s_ports_are_those_it_listens_on,
    probes_ask_ports_that_the_container_has,
    every_referenced_key_exists,
    no_secret_is_an_argument_of_a_process,
    every_volume_is_mounted_and_every_mount_has_one,
    every_container_says_what_it_needs,
    engines_finish_their_requests,
    engines_run_on_nodes_that_are_kept_for_gpus,
    engines_keep_their_models_over_a_restart,
)
