"""Trace-driven simulation in virtual time: the real policies, view and prefix index over the engine model."""
