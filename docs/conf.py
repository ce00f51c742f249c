"""How Sphinx makes a site of these pages: `uv run sphinx-build -W docs build/docs`."""

from __future__ import annotations

project = "cos_ray"
author = "the cos_ray authors"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "index"
exclude_patterns = ["build"]
html_theme = "alabaster"
html_theme_options = {"description": "An event-sourcing service on Ray and Postgres", "page_width": "75em"}
myst_heading_anchors = 3
# Links to files outside this folder are right in the repository, and are checked by tests/unit/test_docs.py.
suppress_warnings = ["myst.xref_missing"]
