"""
A command's path: router, mailbox, entity.

Async, but free of Ray, of gRPC and of every driver: the world is reached through
`cos_ray.ports`. What a handler's answer means and how a state goes on is decided in
`cos_ray.domain`.
"""
