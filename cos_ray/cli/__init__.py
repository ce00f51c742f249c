"""
What users type: `cos-ray serve`, `demo`, `config`, `journal`, `readside`, and what comes of it.

Here belong commands, their help, what they print and their exit status; `app` has them all.
Only this package reads the process's environment. What a command does is elsewhere and is
imported when the command runs, so that `--help` answers at once.
"""

from __future__ import annotations


def main() -> None:
    """Run the command line; the entry point of `cos-ray`."""
    from cos_ray.cli.app import app

    app()
