"""The load generator: a process of its own that sends requests over HTTP/2 and times the answers."""
