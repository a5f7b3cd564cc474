"""A file system that tables are tried on: a directory, and an agent at work in it."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Self

from tests.fuse.posix import agent
from tests.fuse.posix.calls import Case

BATCH = 25
"""So many cases must be done within the time of a test."""


class Place:
    """An agent at work in a directory; `check` gives it a table."""

    def __init__(self, directory: Path, watch: Callable[[], None]) -> None:
        self._watch = watch
        self._numbers = count()
        self._agent = subprocess.Popen(
            [sys.executable, "-P", "-S", str(Path(agent.__file__))],
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def check(self, cases: Sequence[Case], *, at: str | None = None) -> None:
        """Try every case; fail with the list of the answers that are wrong.

        Each is tried in a new directory, or all of them in the one that is named.
        """
        assert cases
        wrong: list[str] = []
        for start in range(0, len(cases), BATCH):
            batch = cases[start : start + BATCH]
            self._watch()
            for each, answers in zip(batch, self._ask(batch, at), strict=True):
                wrong += _wrong(each, answers)
        assert not wrong, f"{len(wrong)} answers:\n" + "\n".join(wrong)

    def _ask(self, cases: Sequence[Case], at: str | None) -> list[list[str]]:
        request = {
            "at": at,
            "name": f"case-{next(self._numbers)}",
            "cases": [
                [(step.who, step.name, step.args) for step, _ in each.steps]
                for each in cases
            ],
        }
        assert self._agent.stdin is not None
        assert self._agent.stdout is not None
        self._agent.stdin.write(json.dumps(request) + "\n")
        self._agent.stdin.flush()
        answers: list[list[str]] = json.loads(self._agent.stdout.readline())
        return answers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._agent.communicate(timeout=30)


def _wrong(case: Case, answers: Sequence[str]) -> list[str]:
    return [
        f"{case.title}: {step} must answer {wanted}, and did {answer}"
        for (step, wanted), answer in zip(case.steps, answers, strict=True)
        if answer != wanted
    ]
