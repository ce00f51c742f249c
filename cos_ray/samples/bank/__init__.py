"""
A small bank: the sample application, written to be copied.

Read `accounts` first (the rules, in two plain functions), then `write_handler` (the rules behind
gRPC; `http_write_handler` has them behind HTTP, `python_handler` inside the service),
`read_handler` (a table of balances kept from the events) and `client` (commands and states for a
Python program). `python -m cos_ray.samples.bank --help` runs each of them.

An application in a repository of its own looks the same. It imports nothing of cos_ray but the
generated code of `chief_of_state.v1`, the public protocol, and, for a handler inside the service,
what `import cos_ray` offers; beside its own, made from `protos/`.
"""
