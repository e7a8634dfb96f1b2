"""`turnout serve --workers N`: several replicas on one port of one machine, and a supervisor that rolls them.

`roster.py` decides, `supervisor.py` acts; `slots.py` holds the sockets, `ipc.py` what the two sides say to each
other, `worker.py` is the other side.
"""
