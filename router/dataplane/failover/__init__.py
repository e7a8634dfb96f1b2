"""Streams that outlive their pod: what is kept of an answer, and how another pod goes on with it."""
