"""
What the service is told from outside, once, as typed and documented values.

Here belong the settings (`settings`), the file they may stand in (`environment`), what a wrong
one is answered with (`complaints`), what this release makes of them (`serving`), how they are
shown (`description`) and the read sides' files and variables (`read_sides`). All of it works on
a mapping it is given: nothing here looks at the process's environment, and the flows get
policies as domain values, never settings.
"""
