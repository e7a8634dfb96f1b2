"""Shared state: what a store can do, and which one a URL opens."""
