"""Streams that outlive the connection of their client, and the replica that serves them."""
