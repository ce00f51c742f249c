"""
What is true of entities, commands and events, whoever runs them.

Here belong frozen values and plain functions over them. No I/O, no clock, no log, no
`await`, and nothing outside the standard library.
"""
