"""Routers that others ship, as their users install them, beside this gateway: real time, simulated engines."""
