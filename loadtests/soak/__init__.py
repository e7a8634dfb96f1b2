"""A million requests through one gateway, many of which fail or are given up: what it holds must not grow."""
