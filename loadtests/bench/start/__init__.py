"""How long a replica takes until it is ready, by the number of its pods."""
