"""Pods from DNS: A, AAAA and SRV records."""
