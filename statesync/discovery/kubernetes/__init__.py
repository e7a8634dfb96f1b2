"""Pods from the Kubernetes API: list, watch, and what its objects say."""
