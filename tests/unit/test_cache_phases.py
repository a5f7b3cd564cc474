"""A process dies at the point that a test names, and at no other."""

import os
import signal
import subprocess
import sys

import pytest

PROGRAM = """
from mountfs.cache.phases import reached
for _ in range(3):
    reached("begun")
    reached("synced")
    print("passed", flush=True)
"""


@pytest.mark.parametrize(
    ("where", "passes", "code"),
    [
        ("synced", 0, -signal.SIGKILL),
        ("synced:3", 2, -signal.SIGKILL),
        ("elsewhere", 3, 0),
        ("", 3, 0),
    ],
)
def test_dies_at_the_named_point_only(where: str, passes: int, code: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "MOUNTFS_TEST_DIE_AT": where},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.stdout.count("passed") == passes
    assert ended.returncode == code
