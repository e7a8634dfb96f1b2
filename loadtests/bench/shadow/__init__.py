"""What a trial costs a request: CPU time with and without a shadow, with and without a canary, in one run."""
