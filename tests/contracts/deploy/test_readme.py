"""deploy/README.md and its neighbours: links lead somewhere, commands exist, the service says such words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

from cos_ray.cli.app import app
from tests.support.deploy import DEPLOY, ROOT

PAGES = sorted(path for path in DEPLOY.rglob("*.md"))
README = DEPLOY / "README.md"
MAY_BE_TO_COME = ("serve", "observability")
"""Folders that other changes bring; a link into one counts when the folder is there."""


def _broken_links(page: Path, text: str) -> list[str]:
    anchors = {_anchor(title) for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if "://" in path:
            continue
        if not path:
            broken += [target] if anchor not in anchors else []
        elif not (page.parent / path).exists() and not _is_to_come(path):
            broken.append(target)
    return broken


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _is_to_come(path: str) -> bool:
    folder = path.split("/")[0]
    return folder in MAY_BE_TO_COME and not (DEPLOY / folder).exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DEPLOY)))
def test_links_lead_somewhere(page: Path) -> None:
    assert _broken_links(page, page.read_text(encoding="utf-8")) == []


def test_a_broken_link_is_found() -> None:
    text = "# One\n[a](journal.md) [b](jornal.md) [c](#one) [d](#two) [e](https://example.com)"
    assert _broken_links(README, text) == ["jornal.md", "#two"]


def test_the_journal_and_the_roles_are_linked() -> None:
    text = README.read_text(encoding="utf-8")
    assert "](journal.md)" in text
    assert "](roles.sql)" in text


def _unknown_commands(text: str) -> set[str]:
    """What is said to be called and is no command of `cos-ray`."""
    unknown = set()
    for code in re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        words = code.split()
        if "cos-ray" not in words:
            continue
        called = [word for word in words[words.index("cos-ray") + 1 :] if not word.startswith("-")]
        command = typer.main.get_command(app)
        for word in called:
            commands = getattr(command, "commands", None)
            if commands is None:
                break
            if word not in commands:
                unknown.add(code)
                break
            command = commands[word]
    return unknown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DEPLOY)))
def test_commands_exist(page: Path) -> None:
    assert _unknown_commands(page.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize(
    "wrong", ["cos-ray readside reset", "cos-ray start", "COS_PORT=1 cos-ray journal dump"]
)
def test_a_command_that_does_not_exist_is_found(wrong: str) -> None:
    assert _unknown_commands(f"run `{wrong}` or `cos-ray journal check --full`") == {wrong}


def _source() -> str:
    """All that the service may say: its source, with texts that go over lines made one."""
    texts = (path.read_text(encoding="utf-8") for path in sorted((ROOT / "cos_ray").rglob("*.py")))
    return re.sub(r"\"\s*\n\s*f?\"", "", "\n".join(texts))


def _never_said(text: str) -> list[str]:
    table = text.split("| it says | then |\n|---|---|\n")[1].split("\n\n")[0]
    pieces = [
        piece.strip(" `;:,'")
        for row in table.splitlines()
        for piece in re.split(r"\.\.\.", row.split("|")[1])
    ]
    source = _source()
    return [piece for piece in pieces if len(piece) > 3 and piece not in source]


def test_the_service_says_what_the_runbook_has_it_say() -> None:
    assert _never_said(README.read_text(encoding="utf-8")) == []


def test_what_the_service_never_says_is_found() -> None:
    text = README.read_text(encoding="utf-8").replace("does not let us in", "keeps us out")
    assert _never_said(text) == ["keeps us out"]


def test_log_lines_in_quotes_are_logged() -> None:
    text = README.read_text(encoding="utf-8")
    source = _source()
    quoted = re.findall(r'"([a-z][^"]{8,})"', " ".join(text.split()))
    assert len(quoted) >= 5
    assert [each for each in quoted if each not in source] == []


def test_every_overlay_is_explained() -> None:
    text = README.read_text(encoding="utf-8")
    for overlay in (DEPLOY / "kuberay/overlays").iterdir():
        assert f"| `{overlay.name}` |" in text
