"""Every render keeps every rule, and every rule reports a render that breaks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.fakes import manifest_rules as rules
from tests.fakes.each_case import each_case
from tests.fakes.manifest_rules import RULES, Rule
from tests.fakes.rendered_manifests import ALL, Manifest, Render, render

Break = Callable[[Render], object]


@each_case("name", ALL)
@each_case("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_render_keeps(rule: Rule, name: str) -> None:
    """Case H 41: images with a registry, no password in arguments, volumes for models, tolerations for GPUs."""
    assert list(rule(render(name))) == []


def config(each: Render) -> Manifest:
    """The gateway's ConfigMap."""
    return next(found for found in each.all("ConfigMap") if "turnout.yaml" in found["data"])


def lose_config(each: Render) -> None:
    each.manifests.remove(config(each))


def edit(old: str, new: str) -> Break:
    """A break that edits the gateway's configuration."""

    def change(each: Render) -> None:
        data = config(each)["data"]
        assert old in data["turnout.yaml"]
        data["turnout.yaml"] = data["turnout.yaml"].replace(old, new)

    return change


def put(at: Callable[[Render], Manifest], **fields: object) -> Break:
    """A break that sets fields of a mapping."""
    return lambda each: at(each).update(fields)


def drop(at: Callable[[Render], Manifest], field: str) -> Break:
    """A break that removes a field of a mapping."""
    return lambda each: at(each).pop(field)


def pod(each: Render) -> Manifest:
    return each.gateway.spec


def container(each: Render) -> Manifest:
    return each.container


def engine(each: Render) -> Manifest:
    found: Manifest = each.workload("vllm").containers[0]
    return found


def own(each: Render) -> Manifest:
    context: Manifest = each.container["securityContext"]
    return context


def spec(kind: str, name: str = "turnout") -> Callable[[Render], Manifest]:
    """The spec of an object."""
    return lambda each: each.find(kind, name)["spec"]


def role(each: Render) -> Manifest:
    found: Manifest = each.find("Role", "turnout-discovery")["rules"][0]
    return found


def cluster_role(each: Render) -> None:
    each.manifests.append({"kind": "ClusterRole", "metadata": {"name": "all"}, "rules": []})


def second_budget(each: Render) -> None:
    each.manifests.append(each.find("PodDisruptionBudget", "turnout"))


def no_security(each: Render) -> None:
    pod(each)["securityContext"] = {}


MUTATIONS: tuple[tuple[Rule, Break], ...] = (
    (rules.the_configuration_is_one_that_serve_accepts, edit("settle_s", "setle_s")),
    (rules.the_configuration_is_one_that_serve_accepts, edit("kubernetes://?", "consul://?")),
    (rules.the_configuration_is_one_that_serve_accepts, lambda each: each.container.update(env=[])),
    (rules.the_grace_period_outlasts_settle_and_drain, put(pod, terminationGracePeriodSeconds=310)),
    (rules.the_grace_period_outlasts_settle_and_drain, edit("timeout_s: 300", "timeout_s: 600")),
    (rules.a_replica_settles_longer_than_endpoints_take_to_propagate, edit("settle_s: 10", "settle_s: 1")),
    (rules.a_roll_never_has_fewer_replicas, put(spec("Deployment"), strategy={"type": "Recreate"})),
    (
        rules.a_roll_never_has_fewer_replicas,
        put(lambda each: spec("Deployment")(each)["strategy"]["rollingUpdate"], maxUnavailable="25%"),
    ),
    (rules.there_are_at_least_two_replicas, put(spec("HorizontalPodAutoscaler"), minReplicas=1)),
    (rules.several_replicas_share_their_state, edit("redis://turnout-redis:6379/0", "memory://")),
    (rules.every_image_has_a_fixed_tag, put(container, image="turnout:latest")),
    (rules.every_image_has_a_fixed_tag, put(container, image="registry:5000/turnout")),
    (rules.every_image_names_its_registry, put(container, image="turnout:0.1.0")),
    (rules.every_image_names_its_registry, put(engine, image="vllm/vllm-openai:v0.26.0")),
    (rules.no_image_is_pulled_that_kind_has_loaded, put(container, imagePullPolicy="Always")),
    (rules.no_container_runs_as_root, no_security),
    (rules.no_container_runs_as_root, put(own, runAsUser=0)),
    (rules.no_container_runs_as_root, put(own, allowPrivilegeEscalation=True)),
    (rules.no_container_runs_as_root, drop(lambda each: pod(each)["securityContext"], "seccompProfile")),
    (rules.all_capabilities_are_dropped, put(own, capabilities={"drop": ["ALL"], "add": ["NET_ADMIN"]})),
    (rules.the_root_file_system_is_read_only, drop(own, "readOnlyRootFilesystem")),
    (rules.no_pod_shares_its_node_s_namespaces_or_files, put(pod, hostNetwork=True)),
    (
        rules.no_pod_shares_its_node_s_namespaces_or_files,
        put(lambda each: pod(each)["volumes"][1], hostPath={"path": "/"}),
    ),
    (
        rules.only_gateways_get_a_token_of_the_api_server,
        drop(lambda each: each.workload("vllm").spec, "automountServiceAccountToken"),
    ),
    (
        rules.only_gateways_get_a_token_of_the_api_server,
        put(lambda each: each.find("ServiceAccount", "turnout"), automountServiceAccountToken=True),
    ),
    (rules.roles_allow_exactly_what_discovery_needs, put(role, verbs=["*"])),
    (rules.roles_allow_exactly_what_discovery_needs, put(role, resources=["pods", "secrets"])),
    (rules.roles_allow_exactly_what_discovery_needs, put(role, verbs=["list"])),
    (rules.roles_allow_exactly_what_discovery_needs, cluster_role),
    (rules.the_gateway_s_account_has_the_role, put(pod, serviceAccountName="default")),
    (rules.no_budget_blocks_the_drain_of_a_node, put(spec("PodDisruptionBudget"), minAvailable=2)),
    (rules.no_budget_blocks_the_drain_of_a_node, put(spec("PodDisruptionBudget"), maxUnavailable=0)),
    (rules.no_budget_blocks_the_drain_of_a_node, second_budget),
    (rules.selectors_match_the_pods_they_are_for, put(spec("Service"), selector={"app": "turnout"})),
    (
        rules.selectors_match_the_pods_they_are_for,
        put(spec("Service"), selector={"app.kubernetes.io/part-of": "turnout"}),
    ),
    (
        rules.the_ports_of_services_are_ports_of_containers,
        put(lambda each: spec("Service")(each)["ports"][0], targetPort="http"),
    ),
    (rules.the_container_s_ports_are_those_it_listens_on, edit("0.0.0.0:8000", "0.0.0.0:8080")),
    (rules.the_container_s_ports_are_those_it_listens_on, edit("0.0.0.0:9000", "127.0.0.1:9000")),
    (
        rules.probes_ask_ports_that_the_container_has,
        put(lambda each: container(each)["readinessProbe"]["httpGet"], port="http"),
    ),
    (rules.every_referenced_key_exists, lose_config),
    (
        rules.every_referenced_key_exists,
        put(lambda each: container(each)["env"][-1]["valueFrom"]["secretKeyRef"], key="token"),
    ),
    (
        rules.no_secret_is_an_argument_of_a_process,
        put(container, args=["serve", "--state", "$(TURNOUT_STATE_PASSWORD)"]),
    ),
    (rules.every_volume_is_mounted_and_every_mount_has_one, drop(container, "volumeMounts")),
    (rules.every_container_says_what_it_needs, put(engine, resources={})),
    (rules.engines_finish_their_requests, drop(engine, "lifecycle")),
    (
        rules.engines_run_on_nodes_that_are_kept_for_gpus,
        drop(lambda each: each.workload("vllm").spec, "tolerations"),
    ),
    (
        rules.engines_keep_their_models_over_a_restart,
        drop(lambda each: each.workload("vllm").owner["spec"], "volumeClaimTemplates"),
    ),
)


def named(value: object) -> Iterator[str] | str | None:
    return getattr(value, "__name__", None) if value in RULES else None


@each_case(("rule", "break_it"), MUTATIONS, ids=named)
def test_a_broken_render_is_noticed_by(rule: Rule, break_it: Break) -> None:
    broken = render("vllm")
    break_it(broken)
    assert list(rule(broken))


def test_the_gateway_has_the_zone_of_its_node_and_none_if_the_node_has_none() -> None:
    zoned = render("base")
    zoned.gateway.template["metadata"]["labels"]["topology.kubernetes.io/zone"] = "eu-1a"
    assert zoned.config().settings.labels == {"zone": "eu-1a"}
    assert render("base").config().settings.labels == {}


def test_every_rule_has_a_break_that_it_notices() -> None:
    assert {rule for rule, _ in MUTATIONS} == set(RULES)


def test_the_names_of_all_rules_are_in_the_list() -> None:
    functions = {each for name, each in vars(rules).items() if callable(each) and name.count("_") >= 2}
    assert functions == set(RULES)
