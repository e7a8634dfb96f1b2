"""What it costs to follow the KV events of a fleet, and whether all of them arrive."""
