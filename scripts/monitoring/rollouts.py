"""What gates an upgrade in the cluster: queries that compare new replicas with old ones, for Argo Rollouts and Flagger.

Each replica says its name in `turnout_build_info`, in Kubernetes its pod's, which begins with the name of its
ReplicaSet. The queries join by that: the label `pod` of other metrics is the engine's. The same traffic reaches both,
so that a ratio shows the difference of the versions. Without traffic a query has no value, and neither tool goes on.
"""

from __future__ import annotations

from typing import Any, NamedTuple

HASH = "[b-df-hj-np-tv-z2-9]+"
"""What Kubernetes puts between the name of a Deployment and that of its pods: no vowels, so that `primary` is none."""
SPAN = "3m"


class Gate(NamedTuple):
    """One query, in which NEW and OLD stand for the names of replicas, and the value above which NEW is reverted."""

    name: str
    query: str
    most: float
    says: str


def _of(side: str, rates: str) -> str:
    """The sum over the replicas of one side."""
    return f'sum({rates} * on (namespace, instance) group_left () turnout_build_info{{replica=~"{side}"}})'


def _rate(metric: str) -> str:
    return f"rate({metric}[{SPAN}])"


def _each(side: str, metric: str, by: str) -> str:
    """A metric's rate over another one's."""
    return f"{_of(side, _rate(metric))} / {_of(side, _rate(by))}"


def _p95(side: str, metric: str) -> str:
    rates = f'{_rate(metric)} * on (namespace, instance) group_left () turnout_build_info{{replica=~"{side}"}}'
    return f"histogram_quantile(0.95, sum by (le) ({rates}))"


def _errors(side: str) -> str:
    failed = _of(side, _rate('turnout_requests_total{status=~"5.."}'))
    return f"({failed} or vector(0)) / {_of(side, _rate('turnout_requests_total'))}"


def _hits(side: str) -> str:
    return _each(side, "turnout_prefix_cache_hits_total", "turnout_prefix_cache_queries_total")


_CPU, _ALL, _TTFT = "process_cpu_seconds_total", "turnout_requests_total", "turnout_time_to_first_token_seconds_bucket"

GATES = (
    Gate(
        "errors", f"{_errors('NEW')} - {_errors('OLD')}", 0.005, "share of 5xx answers, above that of the old version"
    ),
    Gate(
        "first-token", f"{_p95('NEW', _TTFT)} / {_p95('OLD', _TTFT)}", 1.5, "time to first token, p95, of the old one's"
    ),
    Gate(
        "cpu",
        f"({_each('NEW', _CPU, _ALL)}) / ({_each('OLD', _CPU, _ALL)})",
        1.25,
        "CPU of a request, of the old one's",
    ),
    Gate(
        "prefixes",
        f"{_hits('OLD')} - {_hits('NEW')}",
        0.1,
        "share of prompt tokens sent to a cache, below the old one's",
    ),
    Gate(
        "unreadable", f"sum(increase(turnout_state_unreadable_total[{SPAN}]))", 0, "messages that replicas cannot read"
    ),
)


def _filled(query: str, new: str, old: str) -> str:
    return query.replace('"NEW"', f'"{new}"').replace('"OLD"', f'"{old}"')


def argo() -> list[dict[str, Any]]:
    """An AnalysisTemplate, and a Rollout that takes the Deployment `turnout` over and goes back when a gate fails."""
    template = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "AnalysisTemplate",
        "metadata": {"name": "turnout-upgrade"},
        "spec": {
            "args": [
                {"name": "new"},
                {"name": "old"},
                {"name": "prometheus", "value": "http://prometheus-operated.monitoring:9090"},
            ],
            "metrics": [_argo_metric(gate) for gate in GATES],
        },
    }
    hashes = [
        {"name": name, "valueFrom": {"podTemplateHashValue": which}}
        for name, which in (("new", "Latest"), ("old", "Stable"))
    ]
    canary = {
        "maxSurge": 1,
        "maxUnavailable": 0,
        "analysis": {"startingStep": 1, "templates": [{"templateName": "turnout-upgrade"}], "args": hashes},
        "steps": [{"setWeight": 25}, {"pause": {"duration": "10m"}}, {"setWeight": 50}, {"pause": {"duration": "10m"}}],
    }
    rollout = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": "turnout"},
        "spec": {
            "replicas": 4,
            "workloadRef": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": "turnout",
                "scaleDown": "progressively",
            },
            "minReadySeconds": 5,
            "strategy": {"canary": canary},
        },
    }
    return [template, rollout]


def _argo_metric(gate: Gate) -> dict[str, Any]:
    """No value and NaN meet neither condition: the rollout waits for a person."""
    query = _filled(gate.query, "turnout-{{args.new}}-.+", "turnout-{{args.old}}-.+")
    return {
        "name": gate.name,
        "initialDelay": "4m",
        "interval": "1m",
        "failureLimit": 2,
        "inconclusiveLimit": 5,
        "successCondition": f"len(result) > 0 && result[0] <= {gate.most}",
        "failureCondition": f"len(result) > 0 && result[0] > {gate.most}",
        "provider": {"prometheus": {"address": "{{args.prometheus}}", "query": query}},
    }


def flagger() -> list[dict[str, Any]]:
    """A MetricTemplate for each gate, and a Canary over the Deployment `turnout`."""
    new, old = f"{{{{ target }}}}-{HASH}-.+", f"{{{{ target }}}}-primary-{HASH}-.+"
    templates: list[dict[str, Any]] = [
        {
            "apiVersion": "flagger.app/v1beta1",
            "kind": "MetricTemplate",
            "metadata": {"name": f"turnout-{gate.name}"},
            "spec": {
                "provider": {"type": "prometheus", "address": "http://prometheus-operated.monitoring:9090"},
                "query": _filled(gate.query, new, old),
            },
        }
        for gate in GATES
    ]
    checks = [
        {
            "name": f"turnout-{gate.name}",
            "templateRef": {"name": f"turnout-{gate.name}"},
            "thresholdRange": {"max": gate.most},
            "interval": "1m",
        }
        for gate in GATES
    ]
    canary = {
        "apiVersion": "flagger.app/v1beta1",
        "kind": "Canary",
        "metadata": {"name": "turnout"},
        "spec": {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "turnout"},
            "progressDeadlineSeconds": 900,
            "service": {"port": 8000, "targetPort": "inference", "portDiscovery": False},
            "analysis": {"interval": "1m", "threshold": 3, "maxWeight": 50, "stepWeight": 10, "metrics": checks},
        },
    }
    return [*templates, canary]
