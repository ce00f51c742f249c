"""The first thing a new user runs."""

from __future__ import annotations

import subprocess
import sys

from tests.support.running_service import dying_with_us, plain_environment


def test_the_demo_tells_its_story_and_leaves_nothing_behind() -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", *dying_with_us(), "-m", "cos_ray", "demo"],
        # What a shell has for the real service is none of the demo's business.
        env={**plain_environment(), "COS_TLS_CERT_FILE": "/nowhere", "COS_TLS_CA_FILE": "/nowhere"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        story, _ = demo.communicate(timeout=110)
    finally:
        demo.terminate()
        demo.wait(40)
    assert demo.returncode == 0, story
    for chapter in ("A bank opens", "Commands", "Events", "Death of a process", "Restart", "Every step did"):
        assert chapter in story
