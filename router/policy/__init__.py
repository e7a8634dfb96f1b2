"""The live policy of each pool and how it is replaced. Knows no request and no socket."""
