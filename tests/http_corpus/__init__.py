"""Malformed and borderline HTTP, and what may come of it. Shares no parser with the gateway."""
