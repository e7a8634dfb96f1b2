"""The dashboard's row about tenants; empty where `auth` is not configured."""

from __future__ import annotations

from scripts.monitoring.panels import HERE, Panel, Query, Row, rate

_ANSWERED = rate("turnout_tenant_requests_total", HERE, "tenant, status_class")

TENANTS = Row(
    "Tenants",
    (
        Panel(
            "Requests by tenant",
            "Requests answered.",
            "reqps",
            (Query(_ANSWERED, "{{tenant}} {{status_class}}"),),
        ),
        Panel(
            "Tokens by tenant",
            "Tokens that engines report as used.",
            "short",
            (Query(rate("turnout_tenant_tokens_total", HERE, "tenant, kind"), "{{tenant}} {{kind}}"),),
        ),
        Panel(
            "Refused by tenant",
            "By reason: no permission, a limit, an unknown model, and others.",
            "reqps",
            (Query(rate("turnout_tenant_rejections_total", HERE, "tenant, reason"), "{{tenant}} {{reason}}"),),
        ),
    ),
)
