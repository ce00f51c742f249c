"""Fixtures that tests of several kinds use live in modules of their own, named here."""

pytest_plugins = ["tests.fixtures_postgres"]
