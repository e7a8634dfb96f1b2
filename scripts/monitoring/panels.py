"""What the Grafana dashboard shows, as data: rows of panels, each with its expressions. No JSON is made here.

A number that every replica shows the same (a pod's load over all replicas) is taken as `max` over them; one that each
counts for itself is summed. `pod` is always the engine's pod: scrape with `honor_labels`, or Prometheus renames it.
"""

from __future__ import annotations

from typing import NamedTuple

HERE = 'namespace=~"$namespace",instance=~"$instance"'
POOL = f'{HERE},pool=~"$pool"'
RATE = "$__rate_interval"


class Query(NamedTuple):
    """An expression and what its lines are called; `{{label}}` stands for a label's value."""

    expr: str
    legend: str


class Panel(NamedTuple):
    """One picture. `unit` is Grafana's name of it; `kind` its name of the picture."""

    title: str
    words: str
    unit: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"


class Row(NamedTuple):
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


def _rate(metric: str, where: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}{{{where}}}[{RATE}]))"


def _quantiles(metric: str) -> tuple[Query, ...]:
    """The median, the 90th and the 99th percentile of a histogram, by pool."""
    buckets = _rate(f"{metric}_bucket", POOL, "pool, le")
    return tuple(
        Query(f"histogram_quantile({q}, {buckets})", f"{{{{pool}}}} {name}")
        for q, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"))
    )


def _pod(metric: str) -> str:
    """A pod's number, which every replica shows."""
    return f"max by (pool, pod) ({metric}{{{POOL}}})"


def _replica(metric: str, legend: str = "{{instance}}") -> tuple[Query, ...]:
    return (Query(f"{metric}{{{HERE}}}", legend),)


def _per_replica(*metrics: tuple[str, str]) -> tuple[Query, ...]:
    """Rates of counters that a replica has one of."""
    return tuple(
        Query(f"rate({metric}{{{HERE}}}[{RATE}])", f"{{{{instance}}}} {name}".strip()) for metric, name in metrics
    )


_FAILED = _rate("turnout_requests_total", f'{POOL},status=~"5.."', "pool")
_ANSWERED = _rate("turnout_requests_total", POOL, "pool")
_INFLIGHT = _pod("turnout_inflight_requests")

TRAFFIC = Row(
    "Traffic",
    (
        Panel(
            "Requests by pool",
            "Requests answered, by pool and policy.",
            "reqps",
            (Query(_rate("turnout_requests_total", POOL, "pool, policy"), "{{pool}} {{policy}}"),),
        ),
        Panel(
            "Answers by status",
            "499: the client left first.",
            "reqps",
            (Query(_rate("turnout_requests_total", POOL, "status"), "{{status}}"),),
        ),
        Panel(
            "Failed share",
            "Answers with a status of 500 or more, of all.",
            "percentunit",
            (Query(f"({_FAILED} or 0 * {_ANSWERED}) / ({_ANSWERED} > 0)", "{{pool}}"),),
        ),
        Panel(
            "Refused by the gateway",
            "By reason: what was shed, had no pod, was too large.",
            "reqps",
            (Query(_rate("turnout_rejections_total", HERE, "pool, reason"), "{{pool}} {{reason}}"),),
        ),
        Panel(
            "Retries",
            "Requests that went to another pod before the first byte of an answer.",
            "reqps",
            (Query(_rate("turnout_retries_total", POOL, "pool, reason"), "{{pool}} {{reason}}"),),
        ),
        Panel(
            "Bytes",
            "Bodies of requests in, answers out.",
            "Bps",
            (
                Query(_rate("turnout_received_bytes_total", POOL, "pool"), "{{pool}} in"),
                Query(_rate("turnout_sent_bytes_total", POOL, "pool"), "{{pool}} out"),
            ),
        ),
        Panel(
            "Clients",
            "Open connections, and clients that left before their answer was whole.",
            "short",
            (
                Query(f"turnout_client_connections{{{HERE}}}", "{{instance}} connections"),
                Query(_rate("turnout_client_disconnects_total", HERE, "instance"), "{{instance}} left a second"),
            ),
        ),
    ),
)

LATENCY = Row(
    "Latency",
    (
        Panel(
            "Time to first token", "From a request's arrival.", "s", _quantiles("turnout_time_to_first_token_seconds")
        ),
        Panel("Inter-token latency", "Streams.", "s", _quantiles("turnout_inter_token_latency_seconds")),
        Panel("Whole answer", "From arrival to end.", "s", _quantiles("turnout_e2e_request_latency_seconds")),
        Panel(
            "Gateway overhead",
            "Between arrival and the request being sent to a pod: waiting for a saturated pool is in it.",
            "s",
            _quantiles("turnout_gateway_overhead_seconds"),
        ),
        Panel("Decision", "Time a policy took to pick.", "s", _quantiles("turnout_decision_seconds")),
    ),
)

PODS = Row(
    "Pods",
    (
        Panel("In flight by pod", "Over all replicas.", "short", (Query(_INFLIGHT, "{{pool}} {{pod}}"),)),
        Panel(
            "Imbalance",
            "The fullest pod's requests in flight over the pool's mean: 1 is even. Prefix affinity keeps it above.",
            "short",
            (Query(f"max by (pool) ({_INFLIGHT}) / (avg by (pool) ({_INFLIGHT}) > 0)", "{{pool}}"),),
        ),
        Panel(
            "Tokens in flight",
            "Prompt and expected answer tokens; of these, prompt tokens whose first token is still to come.",
            "short",
            (
                Query(f"sum by (pool) ({_pod('turnout_inflight_tokens')})", "{{pool}} in flight"),
                Query(f"sum by (pool) ({_pod('turnout_pending_prefill_tokens')})", "{{pool}} waiting for prefill"),
            ),
        ),
        Panel(
            "Inside the engines",
            "Queued and running by the engines' own reports.",
            "short",
            (
                Query(f"sum by (pool) ({_pod('turnout_queued_requests')})", "{{pool}} queued"),
                Query(f"sum by (pool) ({_pod('turnout_running_requests')})", "{{pool}} running"),
            ),
        ),
        Panel(
            "KV cache in use", "By pod.", "percentunit", (Query(_pod("turnout_kv_usage_ratio"), "{{pool}} {{pod}}"),)
        ),
        Panel(
            "Waiting in the gateway",
            "Requests that wait for a saturated pool, by replica.",
            "short",
            _replica("turnout_waiting_requests"),
        ),
        Panel(
            "Routable pods",
            "Of how many: pods that fail probes, are ejected or drained are not.",
            "short",
            (
                Query(f"sum by (pool) (min by (pool, pod) (turnout_pod_routable{{{POOL}}}))", "{{pool}} routable"),
                Query(f"count by (pool) (max by (pool, pod) (turnout_pod_routable{{{POOL}}}))", "{{pool}} known"),
            ),
        ),
        Panel(
            "Ejections",
            "Pods taken out after failures, in the last ten minutes.",
            "short",
            (Query(f"sum by (pod, reason) (increase(turnout_ejections_total{{{HERE}}}[10m]))", "{{pod}} {{reason}}"),),
        ),
    ),
)

PREFIX = Row(
    "Prefix cache",
    (
        Panel(
            "Hit rate, predicted and true",
            "Prompt tokens that the picked pod was believed to hold, of all; and, where engines tell, what they held "
            "of what they were believed to.",
            "percentunit",
            (
                Query(
                    f"{_rate('turnout_prefix_cache_hits_total', POOL, 'pool')} / "
                    f"({_rate('turnout_prefix_cache_queries_total', POOL, 'pool')} > 0)",
                    "{{pool}} predicted",
                ),
                Query(
                    f"sum(rate(turnout_prefix_true_tokens_total{{{HERE}}}[{RATE}])) / "
                    f"(sum(rate(turnout_prefix_predicted_tokens_total{{{HERE}}}[{RATE}])) > 0)",
                    "true over predicted",
                ),
            ),
        ),
        Panel(
            "Error of the index by pod",
            "Differences between belief and truth, too high or too low, over what was believed.",
            "percentunit",
            (
                Query(
                    f"{_rate('turnout_prefix_error_tokens_total', HERE, 'pod')} / "
                    f"({_rate('turnout_prefix_predicted_tokens_total', HERE, 'pod')} > 0)",
                    "{{pod}}",
                ),
            ),
        ),
        Panel(
            "Trust by pod",
            "Share of a pod's KV capacity that the index keeps.",
            "percentunit",
            (Query(f"max by (pod) (turnout_prefix_trust_ratio{{{HERE}}})", "{{pod}}"),),
        ),
        Panel("Size of the index", "Memory by replica.", "bytes", _replica("turnout_prefix_index_bytes")),
        Panel("Blocks in the index", "By replica.", "short", _replica("turnout_prefix_index_blocks")),
    ),
)

STATE = Row(
    "Shared state",
    (
        Panel(
            "Link",
            "1 while there is a link to the shared state, and once all that the others knew has been read.",
            "short",
            (
                Query(f"turnout_state_connected{{{HERE}}}", "{{instance}} connected"),
                Query(f"turnout_state_warm{{{HERE}}}", "{{instance}} warm"),
            ),
        ),
        Panel("Age of the view", "Of what the others said.", "s", _replica("turnout_view_age_seconds")),
        Panel(
            "Not seen yet",
            "Dispatches of other replicas that the loads do not show yet (estimate).",
            "short",
            (Query(f"turnout_unseen_requests{{{POOL}}}", "{{instance}} {{pool}}"),),
        ),
        Panel(
            "Round trips a second",
            "The goal is at most 600 a replica.",
            "ops",
            _per_replica(("turnout_state_round_trips_total", "")),
        ),
        Panel(
            "Bytes",
            "To and from Redis.",
            "Bps",
            _per_replica(
                ("turnout_state_sent_bytes_total", "sent"), ("turnout_state_received_bytes_total", "received")
            ),
        ),
        Panel(
            "What went wrong",
            "Links made anew, leases lost, placements no other replica hears of, messages that could not be read.",
            "ops",
            _per_replica(
                ("turnout_state_reconnects_total", "reconnects"),
                ("turnout_state_lease_losses_total", "leases lost"),
                ("turnout_state_placements_dropped_total", "placements dropped"),
                ("turnout_state_unreadable_total", "unreadable"),
            ),
        ),
        Panel(
            "Engines read for all",
            "Whose metrics each replica reads: together, all pods.",
            "short",
            _replica("turnout_pods_scraped"),
        ),
    ),
)

REPLICAS = Row(
    "Replicas",
    (
        Panel(
            "Replicas by version",
            "Two versions during a roll, one otherwise.",
            "short",
            (Query(f"count by (version) (turnout_build_info{{{HERE}}})", "{{version}}"),),
        ),
        Panel("Replicas seen", "What each replica says of their number.", "short", _replica("turnout_replicas")),
        Panel(
            "Phase",
            "starting, warming, ready, settling, draining, closed.",
            "short",
            (Query(f"count by (phase) (turnout_phase{{{HERE}}} == 1)", "{{phase}}"),),
        ),
        Panel(
            "Still to finish",
            "Requests that have not ended, by replica: a drain waits for these.",
            "short",
            _replica("turnout_active_requests"),
        ),
        Panel(
            "Seconds in each phase",
            "Warming and draining are the ones to watch.",
            "s",
            (Query(f'turnout_phase_seconds{{{HERE},phase!="ready"}}', "{{instance}} {{phase}}"),),
        ),
        Panel("Cold", "1: ready before its warm-up was through.", "short", _replica("turnout_cold")),
        Panel(
            "Policy in force",
            "Its generation, by pool. Two lines for a pool are replicas that disagree.",
            "short",
            (Query(f"max by (pool, policy) (turnout_policy_generation{{{POOL}}})", "{{pool}} {{policy}}"),),
        ),
        Panel(
            "CPU",
            "One process uses one core at most.",
            "percentunit",
            (Query(f"rate(process_cpu_seconds_total{{{HERE}}}[{RATE}])", "{{instance}}"),),
        ),
        Panel("Memory", "Resident.", "bytes", _replica("process_resident_memory_bytes")),
    ),
)

ROWS = (TRAFFIC, LATENCY, PODS, PREFIX, STATE, REPLICAS)
"""The dashboard, from top to bottom."""
