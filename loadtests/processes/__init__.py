"""Processes that benches and tests start: how each is started, known to be ready, measured and ended.

It sends no load and reports nothing; `bench`, `upgrade` and `swaps` are built on it, and `sim` does not know it.
"""
