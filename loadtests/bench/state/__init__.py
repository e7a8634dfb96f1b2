"""`make bench-state`: what sharing the state through Redis costs, and how fast it is, with the real store and server.

Read in this order: `traffic` is one replica's load, `replica` the process it runs in, `fleet` the server and several
such processes, `witness` what Redis itself says, `cases` what is measured, `report` the figures and their goals.
"""
