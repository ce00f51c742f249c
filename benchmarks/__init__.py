"""
How fast it is: `uv run python -m benchmarks` for the whole, next to its peers, and
`uv run python -m benchmarks.<name>` for a part, next to the best that its own parts could do.

Not tests: nothing here passes or fails. Machines differ and so do hours, so every figure is the
median of several rounds, shown with its spread, and compared with one from the same rounds.
"""
