"""Nodes with other versions of this package are refused."""

from __future__ import annotations

import pytest

from cos_ray.cluster import versions
from cos_ray.cluster.versions import own_build, refuse_others
from cos_ray.domain.errors import StartFailed
from cos_ray.system.certificates import TlsFiles


def test_a_cluster_of_one_version_is_fine() -> None:
    refuse_others(own_build(), {"10.0.0.1": own_build(), "10.0.0.2": own_build()})


def test_every_node_with_another_build_is_named_with_what_it_has() -> None:
    there = {"10.0.0.1": "1 (build a)", "10.0.0.2": "1 (build b)", "10.0.0.3": "none that can be imported"}
    with pytest.raises(StartFailed) as refused:
        refuse_others("1 (build a)", there)
    (line,) = str(refused.value).splitlines()
    assert "node 10.0.0.2 has 1 (build b), node 10.0.0.3 has none that can be imported" in line
    assert "10.0.0.1" not in line


def test_a_node_that_dies_while_it_is_asked_counts_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [{"aaaaaaaa": "10.0.0.1", "bbbbbbbb": "10.0.0.2"}, {"aaaaaaaa": "10.0.0.1"}]
    monkeypatch.setattr(versions, "_alive", lambda: looks.pop(0))
    answers = {"aaaaaaaa": own_build(), "bbbbbbbb": "failed to say (NodeDiedError)"}
    monkeypatch.setattr(versions, "_answers", lambda nodes, ask: answers)
    versions.ensure_same_everywhere()


def test_a_living_node_that_cannot_say_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "_alive", lambda: {"bbbbbbbb": "10.0.0.2"})
    monkeypatch.setattr(versions, "_answers", lambda nodes, ask: dict.fromkeys(nodes, "not answered"))
    with pytest.raises(StartFailed, match=r"10\.0\.0\.2"):
        versions.ensure_same_everywhere()


def test_a_node_that_cannot_use_the_certificates_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [{"aaaaaaaa": own_build(), "bbbbbbbb": own_build()}, {"aaaaaaaa": "usable"}]
    answers[1]["bbbbbbbb"] = "cannot use them: No such file or directory"
    monkeypatch.setattr(versions, "_alive", lambda: {"aaaaaaaa": "10.0.0.1", "bbbbbbbb": "10.0.0.2"})
    monkeypatch.setattr(versions, "_answers", lambda nodes, ask: answers.pop(0))
    with pytest.raises(StartFailed) as refused:
        versions.ensure_same_everywhere(TlsFiles("/etc/cos/tls.crt", "/etc/cos/tls.key", "/etc/cos/ca.crt"))
    (line,) = str(refused.value).splitlines()
    assert "COS_INTERNAL_TLS_" in line
    assert "/etc/cos/tls.crt" in line
    assert "node 10.0.0.2 (bbbbbb) cannot use them: No such file" in line
    assert "10.0.0.1" not in line
