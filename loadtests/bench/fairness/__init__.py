"""Whether a full pool is shared fairly between tenants, by real gateways: `make bench-fairness`."""
