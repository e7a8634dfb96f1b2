"""The upgrade, shown: replicas behind a real HAProxy are rolled one by one under load, twice, and nothing is lost.

Read in this order: `haproxy`, `redis_server` and `replica` are the processes, `fleet` is all of them, `wire` and `load`
the clients, `verdict` what makes an answer whole, `roll` the plot, `report` what came of it. `make upgrade-demo` runs
it with replicas that share their state and then with replicas that share nothing.
"""
