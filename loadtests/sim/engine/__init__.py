"""A model of a continuous-batching engine, in virtual time. It knows no HTTP and no gateway."""
