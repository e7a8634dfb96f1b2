"""The dashboard, from top to bottom."""

from __future__ import annotations

from scripts.monitoring.replicas import PREFIX, REPLICAS, STATE, TRIALS
from scripts.monitoring.requests import LATENCY, PODS, TRAFFIC

ROWS = (TRAFFIC, LATENCY, PODS, PREFIX, TRIALS, STATE, REPLICAS)
