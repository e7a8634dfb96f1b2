"""`turnout prove OLD NEW`: may NEW take OLD's place? Two installations on this machine, simulated engines, one Redis.

Read in this order: `installation` finds the two programs, `traffic` the requests, `load` sends them, `replicas` are the
processes; `wire` and `scene` look for faults while both serve one fleet, `pairs` measures both side by side;
`confidence` is the statistics, `judgement` the verdict and its words, `command` the command line.
"""
