"""The dashboard, from top to bottom."""

from __future__ import annotations

from scripts.monitoring.replicas import PREFIX, REPLICAS, STATE, TRIALS
from scripts.monitoring.requests import LATENCY, PODS, TRAFFIC
from scripts.monitoring.tenants import TENANTS

ROWS = (TRAFFIC, LATENCY, PODS, TENANTS, PREFIX, TRIALS, STATE, REPLICAS)
