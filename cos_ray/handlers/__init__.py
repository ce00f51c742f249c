"""
The doors out to the application's write and read handlers.

Here belong channels, deadlines, the circuit breaker and the translation of what comes back into
the domain's values and errors. What to do about a failure is decided elsewhere. `targets` says
where a handler is and costs nothing to import; each kind of handler (`grpc_write`, `http_write`,
`python_write`) brings its library along, so a process imports the one it needs.
"""
