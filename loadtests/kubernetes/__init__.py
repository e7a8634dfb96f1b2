"""A stub of Kubernetes' API server, its objects, and a thread that runs it: for runs and tests of pods' discovery.

It knows no gateway and starts no pod.
"""
