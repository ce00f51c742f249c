"""Nodes with other versions of this package are refused."""

from __future__ import annotations

import pytest

from cos_ray.cluster.versions import own_build, refuse_others
from cos_ray.domain.errors import StartFailed


def test_a_cluster_of_one_version_is_fine() -> None:
    refuse_others(own_build(), {"10.0.0.1": own_build(), "10.0.0.2": own_build()})


def test_every_node_with_another_build_is_named_with_what_it_has() -> None:
    there = {"10.0.0.1": "1 (build a)", "10.0.0.2": "1 (build b)", "10.0.0.3": "none that can be imported"}
    with pytest.raises(StartFailed) as refused:
        refuse_others("1 (build a)", there)
    (line,) = str(refused.value).splitlines()
    assert "node 10.0.0.2 has 1 (build b), node 10.0.0.3 has none that can be imported" in line
    assert "10.0.0.1" not in line
