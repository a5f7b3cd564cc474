"""`mountfs warm`: fetch files into the cache of a mount before programs want them."""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from mountfs import control
from mountfs.actions.waiting import (
    by_mount,
    carry_out,
    code_of,
    told_of,
)
from mountfs.configuration.values import format_size, format_span
from mountfs.control import Request
from mountfs.errors import EXIT_FAILED, EXIT_PENDING, UsageError
from mountfs.status import Outcome, Progress, Status
from mountfs.terminal import plain, write_line

JOBS_MAX = 12
BAR_WIDTH = 24


def read_jobs(text: str | None) -> int:
    """Return how many requests are to be under way at once; 0 of nothing.

    Raises `UsageError`.
    """
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= JOBS_MAX):
        raise UsageError(f"--jobs {text}: give a number from 1 to {JOBS_MAX}")
    return int(text)


def warm(
    paths: Sequence[str],
    *,
    jobs: int,
    out: TextIO,
    progress: TextIO,
    as_json: bool = False,
) -> int:
    """Fetch what is at and below these paths; return the exit code.

    0: all of it is in the cache; 1: some is not; 75: some is not, and the same may
    succeed later. Raises `UsageError` for a path that is in no mount of ours.
    """
    asked = by_mount(paths)
    codes: list[int] = []
    told: list[dict[str, object]] = []
    for entry, names in asked.items():
        bar = Bar(progress)
        request = Request("warm", tuple(names), jobs=jobs)
        socket = control.socket_path(entry.mount_point, uid=entry.user_id)
        outcome = carry_out(socket, entry.mount_point, request, progress, show=bar.show)
        codes.append(code_of(outcome))
        if as_json:
            told.append(told_of(entry, outcome, paths=names, **bar.told(outcome)))
        else:
            _tell(bar, outcome, out, progress)
    if as_json:
        out.write(json.dumps(told, indent=2) + "\n")
    return next((code for code in (EXIT_FAILED, EXIT_PENDING) if code in codes), 0)


def _tell(bar: "Bar", outcome: Outcome, out: TextIO, progress: TextIO) -> None:
    if bar.last is not None:
        out.write(f"{bar.summary()}\n")
        out.flush()
    for line in outcome.lines:
        progress.write(f"mountfs: {plain(line)}\n")
    if outcome.error is not None:
        progress.write(f"mountfs: {plain(outcome.error)}\n")


class Bar:
    """How far it is, in one line that changes in place."""

    def __init__(
        self, out: TextIO, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.last: Progress | None = None
        self._out = out
        self._clock = clock
        self._begun_s = clock()

    def show(self, said: Status | Progress) -> None:
        """Show what the daemon said last."""
        if isinstance(said, Progress):
            self.last = said
            write_line(self.line(said), self._out)

    def line(self, progress: Progress) -> str:
        """Return the line."""
        done = progress.bytes / progress.bytes_found if progress.bytes_found else 0.0
        bar = ("#" * int(done * BAR_WIDTH)).ljust(BAR_WIDTH, ".")
        more = "" if progress.is_counted else "+"
        return (
            f"[{bar}] {progress.files}/{progress.files_found}{more} files,"
            f" {format_size(progress.bytes)} of"
            f" {format_size(progress.bytes_found)}{more}"
            f", {format_size(int(self._rate(progress)))}/s{self._to_go(progress)}"
        )

    def told(self, outcome: Outcome) -> dict[str, object]:
        """Return what was done, for programs."""
        done = dataclasses.asdict(self.last) if self.last is not None else {}
        seconds = round(self._seconds, 3)
        return {**done, "seconds": seconds, "problems": list(outcome.lines)}

    def summary(self) -> str:
        """Return what was done, when it is."""
        assert self.last is not None, "the daemon has said something"
        files = "1 file" if self.last.files == 1 else f"{self.last.files} files"
        fetched = format_size(self.last.bytes_fetched)
        return (
            f"{files}, {format_size(self.last.bytes)} in the cache; {fetched} of that"
            f" fetched now, in {format_span(self._seconds)}"
            f" ({format_size(int(self._rate(self.last)))}/s)"
        )

    @property
    def _seconds(self) -> float:
        return max(self._clock() - self._begun_s, 1e-3)

    def _rate(self, progress: Progress) -> float:
        return progress.bytes_fetched / self._seconds

    def _to_go(self, progress: Progress) -> str:
        left, rate = progress.bytes_found - progress.bytes, self._rate(progress)
        if not (progress.is_counted and rate and left > 0):
            return ""
        return f", {format_span(left / rate)} to go"
