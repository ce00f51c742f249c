"""
What the operating system gives: clocks, processes, ports, signals, certificates in files.

Nothing here knows the service.
"""
