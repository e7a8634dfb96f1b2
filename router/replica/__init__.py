"""One replica: built from its settings, started, drained. The composition root."""
