"""The dashboard's rows about requests and the pods that answer them."""

from __future__ import annotations

from scripts.monitoring.panels import HERE, POOL, Panel, Query, Row, by_pod, by_replica, quantiles, rate

_FAILED = rate("turnout_requests_total", f'{POOL},status=~"5.."', "pool")
_ANSWERED = rate("turnout_requests_total", POOL, "pool")
_PROMISED = rate("turnout_slo_requests_total", POOL, "pool")
_INFLIGHT = by_pod("turnout_inflight_requests")


def _p90(metric: str) -> str:
    return f"histogram_quantile(0.9, {rate(f'{metric}_bucket', HERE, 'cluster, le')})"


TRAFFIC = Row(
    "Traffic",
    (
        Panel(
            "Requests by pool",
            "Requests answered, by pool and policy.",
            "reqps",
            (Query(rate("turnout_requests_total", POOL, "pool, policy"), "{{pool}} {{policy}}"),),
        ),
        Panel(
            "Answers by status",
            "499: the client left first.",
            "reqps",
            (Query(rate("turnout_requests_total", POOL, "status"), "{{status}}"),),
        ),
        Panel(
            "Failed share",
            "Answers with a status of 500 or more, of all.",
            "percentunit",
            (Query(f"({_FAILED} or 0 * {_ANSWERED}) / ({_ANSWERED} > 0)", "{{pool}}"),),
        ),
        Panel(
            "Refused by the gateway",
            "By reason: shed, no pod, too large, and others.",
            "reqps",
            (Query(rate("turnout_rejections_total", HERE, "pool, reason"), "{{pool}} {{reason}}"),),
        ),
        Panel(
            "Retries",
            "Requests that went to another pod before the first byte of an answer.",
            "reqps",
            (Query(rate("turnout_retries_total", POOL, "pool, reason"), "{{pool}} {{reason}}"),),
        ),
        Panel(
            "Moved streams",
            "Streams whose pod or replica died, by result: moved, taken over, or why not. Empty without `failover`.",
            "reqps",
            (Query(rate("turnout_stream_moves_total", POOL, "pool, result"), "{{pool}} {{result}}"),),
        ),
        Panel(
            "Pairs of pods",
            "Requests of pools with `disaggregation`: by two pods, or by a decode pod alone.",
            "reqps",
            (Query(rate("turnout_split_requests_total", POOL, "pool, served_by"), "{{pool}} {{served_by}}"),),
        ),
        Panel(
            "Fallbacks",
            "Requests that another pool took.",
            "reqps",
            (Query(rate("turnout_fallbacks_total", HERE, "from, to, reason"), "{{from}} to {{to}} {{reason}}"),),
        ),
        Panel(
            "Answers by cluster",
            "By the cluster of the pool that answered; `-` if it has none.",
            "reqps",
            (
                Query(
                    rate("turnout_cluster_requests_total", HERE, "cluster, status_class"),
                    "{{cluster}} {{status_class}}",
                ),
            ),
        ),
        Panel(
            "Bytes",
            "Bodies of requests in, answers out.",
            "Bps",
            (
                Query(rate("turnout_received_bytes_total", POOL, "pool"), "{{pool}} in"),
                Query(rate("turnout_sent_bytes_total", POOL, "pool"), "{{pool}} out"),
            ),
        ),
        Panel(
            "Clients",
            "Open connections, and clients that left before their answer was whole.",
            "short",
            (
                Query(f"turnout_client_connections{{{HERE}}}", "{{instance}} connections"),
                Query(rate("turnout_client_disconnects_total", HERE, "instance"), "{{instance}} left a second"),
            ),
        ),
    ),
)

LATENCY = Row(
    "Latency",
    (
        Panel(
            "Time to first token", "From a request's arrival.", "s", quantiles("turnout_time_to_first_token_seconds")
        ),
        Panel("Inter-token latency", "Streams.", "s", quantiles("turnout_inter_token_latency_seconds")),
        Panel("Whole answer", "From arrival to end.", "s", quantiles("turnout_e2e_request_latency_seconds")),
        Panel(
            "Gateway overhead",
            "From a request's arrival to its dispatch, including waiting for a saturated pool.",
            "s",
            quantiles("turnout_gateway_overhead_seconds"),
        ),
        Panel(
            "Goodput",
            "Requests that were promised times: the share for which all were kept, and why the others were not.",
            "percentunit",
            (
                Query(
                    f"{rate('turnout_slo_requests_total', POOL, 'pool, result')} / on (pool) group_left {_PROMISED}",
                    "{{pool}} {{result}}",
                ),
            ),
        ),
        Panel("Decision", "Time a policy took to pick.", "s", quantiles("turnout_decision_seconds")),
        Panel(
            "First token, found over predicted",
            "Where the policy predicts it: 1 is exact, 2 means twice as late.",
            "short",
            quantiles("turnout_time_to_first_token_prediction_ratio"),
        ),
        Panel(
            "By cluster",
            "The 90th percentile of the time to first token and of the whole answer, by the pool's cluster.",
            "s",
            (
                Query(_p90("turnout_cluster_time_to_first_token_seconds"), "{{cluster}} first token"),
                Query(_p90("turnout_cluster_request_latency_seconds"), "{{cluster}} answer"),
            ),
        ),
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
                Query(f"sum by (pool) ({by_pod('turnout_inflight_tokens')})", "{{pool}} in flight"),
                Query(f"sum by (pool) ({by_pod('turnout_pending_prefill_tokens')})", "{{pool}} waiting for prefill"),
            ),
        ),
        Panel(
            "Inside the engines",
            "Queued and running by the engines' own reports.",
            "short",
            (
                Query(f"sum by (pool) ({by_pod('turnout_queued_requests')})", "{{pool}} queued"),
                Query(f"sum by (pool) ({by_pod('turnout_running_requests')})", "{{pool}} running"),
            ),
        ),
        Panel(
            "KV cache in use", "By pod.", "percentunit", (Query(by_pod("turnout_kv_usage_ratio"), "{{pool}} {{pod}}"),)
        ),
        Panel(
            "Waiting in the gateway",
            "Requests that wait for a saturated pool, by replica.",
            "short",
            by_replica("turnout_waiting_requests"),
        ),
        Panel(
            "Signals for autoscalers",
            "Time until a request that comes now is begun; share of the places that are taken; requests that wait.",
            "short",
            (
                Query(f"max by (pool) (turnout_scale_signal_backlog_seconds{{{POOL}}})", "{{pool}} seconds"),
                Query(f"max by (pool) (turnout_scale_signal_saturation_ratio{{{POOL}}})", "{{pool}} saturation"),
                Query(f"sum by (pool) (turnout_scale_signal_waiting_requests{{{POOL}}})", "{{pool}} waiting"),
            ),
        ),
        Panel(
            "Routable pods",
            "Pods that fail, are ejected or drained are not routable. Kept pods fail, too; they get requests because "
            "their pool has too few others.",
            "short",
            (
                Query(f"sum by (pool) (min by (pool, pod) (turnout_pod_routable{{{POOL}}}))", "{{pool}} routable"),
                Query(f"sum by (pool) (max by (pool, pod) (turnout_pod_kept{{{POOL}}}))", "{{pool}} kept"),
                Query(f"max by (pool) (turnout_pool_pods{{{POOL}}})", "{{pool}} known"),
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
