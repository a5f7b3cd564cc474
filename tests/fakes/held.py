"""A store whose calls can be counted, stopped for a while, or refused."""

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import trio

from mountfs.storage.errors import StoreError
from mountfs.storage.protocol import Storager
from mountfs.storage.wrapper import StoragerWrapper


@dataclass(slots=True, eq=False)
class Hold:
    """One call that is to stop: `reached` is set when it has, `release` lets it go on.

    `is_after` stops it when the store has done its part, so that its answer comes late.
    """

    call: str
    is_after: bool
    error: Exception | None = None
    """What the call raises when it is released, if anything."""
    reached: trio.Event = field(default_factory=trio.Event)
    _released: trio.Event = field(default_factory=trio.Event)

    def release(self) -> None:
        self._released.set()

    async def stop(self) -> None:
        self.reached.set()
        await self._released.wait()
        if self.error is not None:
            raise self.error


class Crash(Exception):
    """The process is gone: nothing that it would have done next is done."""


class HeldStore(StoragerWrapper):
    """Forwards every call, except the next one of a kind that was named."""

    def __init__(self, inner: Storager) -> None:
        super().__init__(inner)
        self._holds: list[Hold] = []
        self.asked: Counter[str] = Counter()
        """How often each call came."""
        self.refused: dict[str, StoreError] = {}
        """Calls that fail without an effect for as long as they stand here."""
        self.dies_at: tuple[int, bool] | None = None
        """After how many calls the process dies; whether the last is carried out."""
        self.at_death: Callable[[], None] = lambda: None
        self.is_dead = False

    def hold(self, call: str, *, is_after: bool = False) -> Hold:
        """Stop the next call of this name."""
        hold = Hold(call, is_after)
        self._holds.append(hold)
        return hold

    async def _pass(self, call: str, request: Callable[[], Awaitable[Any]]) -> Any:
        self.asked[call] += 1
        if self.dies_at is not None:
            return await self._count_down(request)
        if call in self.refused:
            await trio.lowlevel.checkpoint()
            raise self.refused[call]
        hold = next((hold for hold in self._holds if hold.call == call), None)
        if hold is None:
            return await request()
        self._holds.remove(hold)
        if not hold.is_after:
            await hold.stop()
            return await request()
        answer = await request()
        await hold.stop()
        return answer

    async def _count_down(self, request: Callable[[], Awaitable[Any]]) -> Any:
        assert self.dies_at is not None
        left, is_after = self.dies_at
        self.dies_at = (left - 1, is_after)
        if left > 0:
            return await request()
        if not self.is_dead:
            if is_after:
                await request()
            self.is_dead = True
            self.at_death()
        raise Crash


def _held(name: str) -> Callable[..., Awaitable[Any]]:
    async def call(self: HeldStore, *args: Any, **options: Any) -> Any:
        forward = getattr(StoragerWrapper, name)
        return await self._pass(name, lambda: forward(self, *args, **options))

    call.__name__ = name
    return call


for _name in vars(StoragerWrapper):
    if not _name.startswith("_") and _name not in {"capabilities", "features", "close"}:
        setattr(HeldStore, _name, _held(_name))
