"""Several requests at once, bounded, with one plain exception if any fails."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import trio

T = TypeVar("T")


async def run_all(
    deeds: Sequence[Callable[[], Awaitable[T]]], *, at_once: int
) -> list[T]:
    """Run all deeds, at most `at_once` at a time; return their results in order.

    The first failure cancels the others and is raised as it is, not in a group, so
    that callers catch what a single request would raise.
    """
    if len(deeds) < 2:  # then it is not worth a nursery
        return [await deed() for deed in deeds]
    results: dict[int, T] = {}
    failures: list[Exception] = []
    waiting = iter(enumerate(deeds))

    async def work(scope: trio.CancelScope) -> None:
        for index, deed in waiting:
            try:
                results[index] = await deed()
            except Exception as error:  # noqa: BLE001  # raised again below, at once
                failures.append(error)
                scope.cancel()
                return

    async with trio.open_nursery() as nursery:
        for _ in range(min(at_once, len(deeds))):
            nursery.start_soon(work, nursery.cancel_scope)
    if failures:
        raise failures[0]
    return [results[index] for index in range(len(deeds))]
