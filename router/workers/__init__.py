"""`turnout serve --workers N`: several replicas on one port of one machine, and a supervisor that rolls them.

`roster.py` decides, `supervisor.py` acts; `slots.py` holds the sockets, `ipc.py` the messages between supervisor and
worker, `worker.py` is the worker's side.
"""
