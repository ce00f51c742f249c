"""Measurements: each module is run by itself, `uv run python -m benchmarks.<name> --help`."""
