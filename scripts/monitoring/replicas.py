"""The dashboard's rows about the prefix index, trials, shared state and the replicas themselves."""

from __future__ import annotations

from scripts.monitoring.panels import HERE, POOL, RATE, Panel, Query, Row, by_replica, rate, rates_by_replica

PREFIX = Row(
    "Prefix cache",
    (
        Panel(
            "Hit rate, predicted and true",
            "Prompt tokens that the index expected in the picked pod's cache, of all; and, for engines that report it, "
            "the share of these that was there.",
            "percentunit",
            (
                Query(
                    f"{rate('turnout_prefix_cache_hits_total', POOL, 'pool')} / "
                    f"({rate('turnout_prefix_cache_queries_total', POOL, 'pool')} > 0)",
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
            "Differences between predicted and true tokens, in both directions, over the predicted ones.",
            "percentunit",
            (
                Query(
                    f"{rate('turnout_prefix_error_tokens_total', HERE, 'pod')} / "
                    f"({rate('turnout_prefix_predicted_tokens_total', HERE, 'pod')} > 0)",
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
        Panel("Size of the index", "Memory by replica.", "bytes", by_replica("turnout_prefix_index_bytes")),
        Panel("Blocks in the index", "By replica.", "short", by_replica("turnout_prefix_index_blocks")),
    ),
)

_TRIED = "pool, arm"

TRIALS = Row(
    "Trials",
    (
        Panel(
            "Canary: requests",
            "Given to each arm.",
            "reqps",
            (Query(rate("turnout_trial_requests_total", POOL, _TRIED), "{{pool}} {{arm}}"),),
        ),
        Panel(
            "Canary: time to first token",
            "The 95th percentile of each arm: what the guard compares.",
            "s",
            (
                Query(
                    f"histogram_quantile(0.95, {rate('turnout_trial_ttft_seconds_bucket', POOL, 'pool, arm, le')})",
                    "{{pool}} {{arm}}",
                ),
            ),
        ),
        Panel(
            "Canary: time per token",
            "The median of each arm's streams, after the first token: what the guard compares.",
            "s",
            (
                Query(
                    f"histogram_quantile(0.5, {rate('turnout_trial_tpot_seconds_bucket', POOL, 'pool, arm, le')})",
                    "{{pool}} {{arm}}",
                ),
            ),
        ),
        Panel(
            "Canary: failures",
            "Failed answers, requests without a pod by the arm's policy, and failures of the policy.",
            "reqps",
            (
                Query(rate("turnout_trial_failures_total", POOL, _TRIED), "{{pool}} {{arm}} failed"),
                Query(rate("turnout_trial_rejections_total", POOL, _TRIED), "{{pool}} {{arm}} no pod"),
                Query(rate("turnout_trial_policy_failures_total", POOL, _TRIED), "{{pool}} {{arm}} policy failed"),
            ),
        ),
        Panel(
            "Canary: goodput",
            "Share of each arm's requests with promised times for which all were kept.",
            "percentunit",
            (
                Query(
                    f"{rate('turnout_trial_slo_kept_total', POOL, _TRIED)}"
                    f" / {rate('turnout_trial_slo_requests_total', POOL, _TRIED)}",
                    "{{pool}} {{arm}}",
                ),
            ),
        ),
        Panel(
            "Canary: guard",
            "1 where a guard is broken; canaries that were rolled back.",
            "short",
            (
                Query(f"max by (pool) (turnout_trial_broken{{{POOL}}})", "{{pool}} broken"),
                Query(f"sum by (pool) (increase(turnout_trial_rollbacks_total{{{POOL}}}[1h]))", "{{pool}} rolled back"),
            ),
        ),
        Panel(
            "Shadow: agreement",
            "Share of the requests for which the shadow picked the same pod.",
            "percentunit",
            (Query(f"avg by (pool) (turnout_shadow_agreement_ratio{{{POOL}}})", "{{pool}}"),),
        ),
        Panel(
            "Shadow: requests",
            "Compared; dropped because too many waited; failed.",
            "reqps",
            (
                Query(rate("turnout_shadow_compared_total", POOL, "pool"), "{{pool}} compared"),
                Query(rate("turnout_shadow_dropped_total", POOL, "pool"), "{{pool}} dropped"),
                Query(rate("turnout_shadow_failures_total", POOL, "pool"), "{{pool}} failed"),
            ),
        ),
    ),
)

STATE = Row(
    "Shared state",
    (
        Panel(
            "Link",
            "1 while connected; 1 once the others' state has been read; replicas of another fleet in the namespace.",
            "short",
            (
                Query(f"turnout_state_connected{{{HERE}}}", "{{instance}} connected"),
                Query(f"turnout_state_warm{{{HERE}}}", "{{instance}} warm"),
                Query(f"turnout_state_strangers{{{HERE}}}", "{{instance}} strangers"),
            ),
        ),
        Panel("Age of the view", "Of the other replicas' state.", "s", by_replica("turnout_view_age_seconds")),
        Panel(
            "Not seen yet",
            "Dispatches of other replicas that the view does not include yet (estimate).",
            "short",
            (Query(f"turnout_unseen_requests{{{POOL}}}", "{{instance}} {{pool}}"),),
        ),
        Panel(
            "Round trips a second",
            "The goal is at most 600 a replica.",
            "ops",
            rates_by_replica(("turnout_state_round_trips_total", "")),
        ),
        Panel(
            "Bytes",
            "To and from Redis.",
            "Bps",
            rates_by_replica(
                ("turnout_state_sent_bytes_total", "sent"), ("turnout_state_received_bytes_total", "received")
            ),
        ),
        Panel(
            "What went wrong",
            "Links made anew, leases lost, placements dropped, messages that could not be read.",
            "ops",
            rates_by_replica(
                ("turnout_state_reconnects_total", "reconnects"),
                ("turnout_state_lease_losses_total", "leases lost"),
                ("turnout_state_placements_dropped_total", "placements dropped"),
                ("turnout_state_policies_put_back_total", "policies put back"),
                ("turnout_state_policies_given_up_total", "policies given up"),
                ("turnout_state_unreadable_total", "unreadable"),
            ),
        ),
        Panel(
            "Engines scraped",
            "Pods whose metrics each replica reads for all: the sum is the number of pods.",
            "short",
            by_replica("turnout_pods_scraped"),
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
        Panel(
            "Replicas seen",
            "The number of replicas, as each replica counts it.",
            "short",
            by_replica("turnout_replicas"),
        ),
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
            by_replica("turnout_active_requests"),
        ),
        Panel(
            "Seconds in each phase",
            "Warming and draining are the ones to watch.",
            "s",
            (Query(f'turnout_phase_seconds{{{HERE},phase!="ready"}}', "{{instance}} {{phase}}"),),
        ),
        Panel("Cold", "1: ready before its warm-up was complete.", "short", by_replica("turnout_cold")),
        Panel(
            "Policy in force",
            "Its generation, by pool, and how many records the replicas have: with two of them they disagree.",
            "short",
            (
                Query(f"max by (pool, policy) (turnout_policy_generation{{{POOL}}})", "{{pool}} {{policy}}"),
                Query(
                    f'count by (pool) (count_values by (pool) ("digest", turnout_policy_digest{{{POOL}}}))',
                    "{{pool}} records",
                ),
            ),
        ),
        Panel(
            "Policies that fail",
            "Failures of a policy, by reason; 1 where it was taken out and another decides.",
            "short",
            (
                Query(rate("turnout_policy_failures_total", POOL, "pool, policy, reason"), "{{policy}} {{reason}}"),
                Query(f"max by (pool, policy) (turnout_policy_taken_out{{{POOL}}})", "{{pool}} {{policy}} out"),
            ),
        ),
        Panel(
            "Audit lines lost",
            "Lines of the control port's audit file that the disk did not take.",
            "ops",
            rates_by_replica(("turnout_audit_lost_total", "lost")),
        ),
        Panel(
            "Local policies",
            "1 where a policy was changed on one replica only, without the shared state.",
            "short",
            (Query(f"turnout_policy_local{{{POOL}}}", "{{instance}} {{pool}}"),),
        ),
        Panel(
            "CPU",
            "One process uses one core at most.",
            "percentunit",
            (Query(f"rate(process_cpu_seconds_total{{{HERE}}}[{RATE}])", "{{instance}}"),),
        ),
        Panel("Memory", "Resident.", "bytes", by_replica("process_resident_memory_bytes")),
    ),
)
