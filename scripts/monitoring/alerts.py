"""The alerts as data: an expression, for how long it must hold, and a summary for the reader.

Every alert has a heading of its name in docs/operations.md, which says what to look at and what to do. `critical` means
that requests fail or soon will; `warning` that the cause can wait until working hours. Thresholds are defaults; a
service whose first token may take ten seconds sets its own.
"""

from __future__ import annotations

from typing import NamedTuple

RUNBOOK = "docs/operations.md#"
CRITICAL, WARNING = "critical", "warning"


class Alert(NamedTuple):
    """One rule. `hold` is a Prometheus duration; `summary` may name labels as `{{ $labels.pool }}`."""

    name: str
    expr: str
    hold: str
    severity: str
    summary: str

    @property
    def runbook(self) -> str:
        """Page and anchor of the alert's section, as Markdown derives it from the heading."""
        return RUNBOOK + self.name.lower()


_APART = "namespace, job"
"""Every sum keeps these: one Prometheus may watch several deployments, with a pool `default` in each."""


def _by(*labels: str) -> str:
    return f"by ({', '.join([_APART, *labels])})"


def _rate(metric: str, *by: str, span: str = "5m") -> str:
    return f"sum {_by(*by)} (rate({metric}[{span}]))"


def _late(q: float, metric: str, by: str) -> str:
    return f"histogram_quantile({q}, {_rate(f'{metric}_bucket', by, 'le')})"


_ANSWERED = _rate("turnout_requests_total", "pool")
_FAILED = _rate('turnout_requests_total{status=~"5.."}', "pool")
_POLICY_FAILED = _rate("turnout_policy_failures_total", "pool", "policy")
_POOL, _POD = _by("pool"), _by("pool", "pod")
_INFLIGHT = f"max {_POD} (turnout_inflight_requests)"
_GIVEN_UP = "turnout_state_policies_given_up_total"
_GENERATION, _DIGEST = "turnout_policy_generation", "turnout_policy_digest"

ALERTS = (
    Alert(
        "TurnoutGone",
        "absent(turnout_build_info)",
        "2m",
        CRITICAL,
        "Prometheus sees no replica.",
    ),
    Alert(
        "TurnoutErrors",
        f"{_FAILED} / {_ANSWERED} > 0.01",
        "5m",
        CRITICAL,
        "{{ $value | humanizePercentage }} of the answers of pool {{ $labels.pool }} are errors.",
    ),
    Alert(
        "TurnoutNoPod",
        f"max {_POOL} (turnout_pod_routable) == 0 or max {_POOL} (turnout_pool_pods) == 0",
        "1m",
        CRITICAL,
        "Pool {{ $labels.pool }} has no pod that is well and accepts requests.",
    ),
    Alert(
        "TurnoutPodsOut",
        f"avg {_POOL} (turnout_pod_routable) < 0.8 and max {_POOL} (turnout_pod_routable) > 0",
        "5m",
        WARNING,
        "Only {{ $value | humanizePercentage }} of the pods of pool {{ $labels.pool }} are well and accept requests.",
    ),
    Alert(
        "TurnoutRefusing",
        f"{_rate('turnout_rejections_total', 'pool', 'reason')} > 0.1",
        "5m",
        WARNING,
        "{{ $value | humanize }} requests a second are refused: {{ $labels.reason }}.",
    ),
    Alert(
        "TurnoutRetries",
        f"{_rate('turnout_retries_total', 'pool')} / {_ANSWERED} > 0.05",
        "10m",
        WARNING,
        "{{ $value | humanizePercentage }} of the requests of pool {{ $labels.pool }} need a second pod.",
    ),
    Alert(
        "TurnoutFallback",
        f"{_rate('turnout_fallbacks_total', 'from', 'to')} > 0",
        "5m",
        WARNING,
        "{{ $value | humanize }} requests a second of pool {{ $labels.from }} are taken by pool {{ $labels.to }}.",
    ),
    Alert(
        "TurnoutPolicyFails",
        f"{_POLICY_FAILED} > 0",
        "1m",
        WARNING,
        "The policy {{ $labels.policy }} of pool {{ $labels.pool }} fails at some requests.",
    ),
    Alert(
        "TurnoutPolicyTakenOut",
        f"max {_by('pool', 'policy')} (turnout_policy_taken_out) == 1",
        "0m",
        WARNING,
        "The policy {{ $labels.policy }} of pool {{ $labels.pool }} failed too often, and another policy decides.",
    ),
    Alert(
        "TurnoutCanaryTakenBack",
        f"sum {_POOL} (increase(turnout_trial_rollbacks_total[30m])) > 0",
        "0m",
        WARNING,
        "A canary of pool {{ $labels.pool }} exceeded its guard and was rolled back.",
    ),
    Alert(
        "TurnoutEjections",
        f"sum {_by('pod')} (increase(turnout_ejections_total[30m])) > 5",
        "5m",
        WARNING,
        "Pod {{ $labels.pod }} is taken out repeatedly.",
    ),
    Alert(
        "TurnoutFirstTokenLate",
        f"{_late(0.9, 'turnout_time_to_first_token_seconds', 'pool')} > 5",
        "10m",
        WARNING,
        "A tenth of the requests of pool {{ $labels.pool }} wait {{ $value | humanizeDuration }} for a first token.",
    ),
    Alert(
        "TurnoutWaiting",
        "min_over_time(turnout_waiting_requests[5m]) > 0",
        "5m",
        WARNING,
        "Requests wait in {{ $labels.instance }} because every pod is full.",
    ),
    Alert(
        "TurnoutKvFull",
        f"avg {_POOL} (max {_POD} (avg_over_time(turnout_kv_usage_ratio[10m]))) > 0.95",
        "10m",
        WARNING,
        "The KV caches of pool {{ $labels.pool }} are {{ $value | humanizePercentage }} full.",
    ),
    Alert(
        "TurnoutImbalance",
        f"max {_POOL} ({_INFLIGHT}) / avg {_POOL} ({_INFLIGHT}) > 4 and avg {_POOL} ({_INFLIGHT}) > 4",
        "15m",
        WARNING,
        "One pod of pool {{ $labels.pool }} has {{ $value | humanize }} times the mean in flight.",
    ),
    Alert(
        "TurnoutSlow",
        f"{_late(0.99, 'turnout_gateway_overhead_seconds', 'instance')} > 0.01 "
        "unless on (instance) max_over_time(turnout_waiting_requests[5m]) > 0",
        "10m",
        WARNING,
        "{{ $labels.instance }} adds {{ $value | humanizeDuration }} to one request in a hundred.",
    ),
    Alert(
        "TurnoutCpuFull",
        "rate(process_cpu_seconds_total[5m]) > 0.85 and on (instance) turnout_build_info",
        "10m",
        WARNING,
        "{{ $labels.instance }} uses {{ $value | humanizePercentage }} of the one core it can use.",
    ),
    Alert(
        "TurnoutStateLost",
        "turnout_state_connected == 0",
        "1m",
        WARNING,
        "{{ $labels.instance }} has no link to the shared state and decides by the last updates.",
    ),
    Alert(
        "TurnoutViewOld",
        "turnout_view_age_seconds > 0.1 and on (instance) turnout_state_connected == 1",
        "2m",
        WARNING,
        "The view of {{ $labels.instance }} of the other replicas is {{ $value | humanizeDuration }} old.",
    ),
    Alert(
        "TurnoutReplicasApart",
        f"max {_by()} (turnout_replicas) - min {_by()} (turnout_replicas) > 0",
        "2m",
        WARNING,
        "Replicas see different numbers of replicas: some do not share state with the rest.",
    ),
    Alert(
        "TurnoutPoliciesApart",
        f"max {_POOL} ({_GENERATION}) - min {_POOL} ({_GENERATION}) > 0 "
        f"or max {_POOL} ({_DIGEST}) - min {_POOL} ({_DIGEST}) > 0",
        "2m",
        WARNING,
        "Replicas use different policies for pool {{ $labels.pool }}.",
    ),
    Alert(
        "TurnoutPolicyGivenUp",
        f"increase({_GIVEN_UP}[15m]) > 0",
        "0m",
        WARNING,
        "{{ $labels.instance }} gave up policy changes that Redis has lost, for others that it has.",
    ),
    Alert(
        "TurnoutAuditLost",
        "increase(turnout_audit_lost_total[15m]) > 0",
        "0m",
        WARNING,
        "{{ $labels.instance }} could not write lines of the control port's audit log.",
    ),
    Alert(
        "TurnoutCertificate",
        "turnout_tls_certificate_expiry_timestamp_seconds - time() < 7 * 86400 or turnout_tls_files_failing > 0",
        "10m",
        WARNING,
        "{{ $labels.instance }}: the certificate of its {{ $labels.port }} port ends soon, or a new one is unusable.",
    ),
    Alert(
        "TurnoutStateDropped",
        "increase(turnout_state_placements_dropped_total[15m]) > 0 "
        "or increase(turnout_state_unreadable_total[15m]) > 0",
        "1m",
        WARNING,
        "{{ $labels.instance }} and the other replicas lose messages.",
    ),
    Alert(
        "TurnoutTwoFleets",
        "turnout_state_strangers > 0",
        "0m",
        CRITICAL,
        "{{ $labels.instance }} shares database and namespace with {{ $value }} replicas that have other pods.",
    ),
    Alert(
        "TurnoutCold",
        "turnout_cold == 1",
        "5m",
        WARNING,
        "{{ $labels.instance }} serves with incomplete state.",
    ),
    Alert(
        "TurnoutRollStuck",
        f"count {_by()} (count {_by('version')} (turnout_build_info)) > 1",
        "1h",
        WARNING,
        "Two versions have been running for an hour: a roll does not end.",
    ),
    Alert(
        "TurnoutDrainLong",
        'turnout_phase_seconds{phase="draining"} > 240 and on (instance) turnout_active_requests > 0',
        "0m",
        WARNING,
        "{{ $labels.instance }} has drained for {{ $value | humanizeDuration }}, and streams are still open.",
    ),
    Alert(
        "TurnoutPrefixWrong",
        f"{_rate('turnout_prefix_error_tokens_total', 'pod', span='15m')} / "
        f"({_rate('turnout_prefix_predicted_tokens_total', 'pod', span='15m')} > 10) > 0.25",
        "15m",
        WARNING,
        "The prefix index is wrong by {{ $value | humanizePercentage }} about pod {{ $labels.pod }}.",
    ),
)
"""Most severe first."""
