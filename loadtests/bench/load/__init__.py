"""What benches share: engines, load generators, processes and what they used. Knows no router."""
