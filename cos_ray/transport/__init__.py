"""
How processes of the service talk to each other: connections, frames, secrets, many commands in one call.

Free of Ray, but for what finds the address of a node. What the messages mean is decided elsewhere.
"""
