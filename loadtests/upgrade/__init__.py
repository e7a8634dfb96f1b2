"""Replicas behind a real HAProxy are replaced one by one under load, twice, and no request may fail.

Read in this order: `haproxy` and `fleet` are the processes, `load` the clients, `roll` is the sequence of events,
`report` turns the findings into numbers. `make upgrade-demo` runs it with replicas that share their state and then with
replicas that share nothing.
"""
