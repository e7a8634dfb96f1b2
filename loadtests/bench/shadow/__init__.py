"""The cost of a trial for a request: CPU time with and without a shadow and a canary, in one run."""
