"""Policies inside Ray Serve: a request router class for its deployments. Only `serve.py` imports Ray."""
