"""
The doors out to the application's write and read handlers.

Here belong channels, deadlines and the translation of what comes back into the domain's
values and errors. What to do about a failure is decided elsewhere.
"""
