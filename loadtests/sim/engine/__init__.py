"""A model of a continuous-batching engine, in virtual time. Knows no HTTP and no gateway."""
