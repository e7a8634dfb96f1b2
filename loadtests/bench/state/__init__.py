"""`make bench-state`: the cost and the speed of sharing state through Redis, with the real store and server.

Read in this order: `traffic` is one replica's load, `replica` the process it runs in, `fleet` several such processes,
`witness` the server's own counters, `cases` the measurements, `report` the figures and their goals.
"""
