"""
The composition root: where the parts are put together, one module for each process.

`entity`, `journal`, `ingress` and `read_side` hold the build functions that run inside the
actors; each imports only what its process needs, for an entity's process must start fast.
`service` runs in the launcher: it starts everything in order and stops it in reverse.
"""
