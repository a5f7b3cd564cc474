"""The words that the tables of this suite are written in.

A case is a list of system calls and of what each must answer: `ok`, the name of an
errno, or what was asked for. It says nothing about where it runs: `agent.py` makes the
calls, as whom they name, in an empty directory of a file system.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from os import environ
from typing import NamedTuple

OK = "ok"
SEED = 20261126


class Who(NamedTuple):
    """A user, the group of its new files, and its other groups."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    def __str__(self) -> str:
        return ":".join(str(number) for number in (self.uid, self.gid, *self.groups))


# Numbers that no system gives to a real account.
ROOT = Who(0, 0)
ALICE = Who(61_001, 62_001)
BOB = Who(61_002, 62_002)
TEAM = 62_100
"""A group that ALICE is never in by itself."""


@dataclass(frozen=True, slots=True)
class Call:
    """One system call by someone."""

    name: str
    args: tuple[str | int | None, ...]
    who: Who = ROOT

    def by(self, who: Who) -> "Call":
        return replace(self, who=who)

    def __str__(self) -> str:
        words = [
            f"0{arg:o}" if isinstance(arg, int) and arg >= 0 else _short(arg)
            for arg in self.args
        ]
        by = "" if self.who == ROOT else f" by {self.who}"
        return " ".join([self.name, *words]) + by


@dataclass(frozen=True, slots=True)
class Case:
    """What is called in turn, and what each call must answer."""

    title: str
    steps: tuple[tuple[Call, str], ...]


def call(name: str, *args: str | int | None, who: Who = ROOT) -> Call:
    """Return a call by root. What there is stands in `agent.CALLS`."""
    return Call(name, args, who)


def case(title: str, given: Iterable[Call], *then: tuple[Call, str]) -> Case:
    """Return a case: what is given must work, then each call has its answer."""
    return Case(title, (*((each, OK) for each in given), *then))


def sample(cases: Sequence[Case], count: int) -> Sequence[Case]:
    """Return some of many cases, the same ones each time; all with AT_LENGTH."""
    if "AT_LENGTH" in environ or len(cases) <= count:
        return cases
    return random.Random(SEED).sample(cases, count)


def _short(arg: str | int | None) -> str:
    text = str(arg)
    return text if len(text) <= 40 else f"{text[:12]}...({len(text)})"
