"""HTTP/1.1 on both sides: connections, heads, chunks, time limits. Knows no policy and no model."""
