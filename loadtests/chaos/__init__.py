"""Replicas, Redis and simulated engines as processes under load, and a seeded plan of faults injected into all of them.

`plan.py` decides what fails and when, `faults.py` makes it fail, `load.py` sends, `oracle.py` judges each answer, and
`report.py` gives the verdict. It knows the gateway by its ports and its settings file only.
"""
