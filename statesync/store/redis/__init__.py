"""The store behind redis://: keys, connection, session, and what replicas send each other."""
