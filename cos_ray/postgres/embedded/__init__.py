"""A PostgreSQL server of the service's own: its binaries, its folder of data, its start and end."""
