"""Workloads made by seeded generators: a shape and a seed give a trace. The shapes follow published measurements."""
