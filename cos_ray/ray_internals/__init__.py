"""
Every use of what Ray does not promise to keep: private modules, variables without documentation.

Nothing else belongs here, and no other package may import `ray._private` or `ray.serve._private`: ruff sees
to it. `tests/unit/test_ray_internals.py` holds the installed Ray to what is used here.
"""
