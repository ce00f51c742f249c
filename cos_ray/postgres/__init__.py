"""
The door to Postgres: the journal, the read sides' offsets, the tables, and a server of our own.

Here belong SQL, connections and the translation of Postgres' errors into the domain's. The
only package that imports psycopg. What is stored is decided elsewhere; that it is stored once,
whole and in order is decided here.
"""
