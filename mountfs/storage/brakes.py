"""Brakes: limits on what a mount asks of a store, and of the line to it, over time.

Bytes up, bytes down and requests have a limit each; all of them can change any time.
Who must wait does so before its request begins, holds no place of another limit while
it waits, and its deadline stands still: the store is not to blame for our brakes. What
programs wait for goes before what is done in the background, which is left an eighth.

A backend that moves bytes piece by piece keeps the pace itself (see
`mountfs.storage.pace`); of others whole bodies go at once, and those that follow wait
until they are paid for.
"""

import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

from mountfs.storage import pace
from mountfs.storage.body import Body, stated_size
from mountfs.storage.deadline import extender, not_counted
from mountfs.storage.flow import Clock, Flow, Rate
from mountfs.storage.passage import PassageStorager, RequestClass
from mountfs.storage.protocol import Storager
from mountfs.storage.reason import Reason, current_reason
from mountfs.storage.turns import Turns
from mountfs.storage.types import (
    NO_METADATA,
    Append,
    Condition,
    Content,
    Metadata,
    Object,
    Part,
    Upload,
    Version,
)

_IN_BACKGROUND = frozenset({Reason.PREFETCH, Reason.INDEX, Reason.BACKGROUND})


class Brakes:
    """The limits of one mount; without a word from anybody there are none."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.up = Flow(clock)
        self.down = Flow(clock)
        self.requests = Rate(clock)

    @property
    def waiting(self) -> int:
        """How many requests wait for their turn; every one of them will have it."""
        return sum(len(each.turns) for each in (self.up, self.down, self.requests))

    @property
    def are_off(self) -> bool:
        """Whether nothing is limited."""
        return not (self.up.rate or self.down.rate or self.requests.rate)


class _Kept:
    """The pace of one request."""

    def __init__(
        self,
        requests: Rate,
        flow: Flow | None,
        *,
        is_background: bool,
        prepaid: int,
        extend: Callable[[float], None],
    ) -> None:
        self._requests = requests
        self._flow = flow
        self._is_background = is_background
        self._paid = prepaid
        self._moved = 0
        self._extend = extend
        self._has_sent = False
        self._over = threading.Event()

    @property
    def piece(self) -> int | None:
        """How many bytes are to go at once at most."""
        return self._flow.piece if self._flow is not None else None

    def pay(self, size: int) -> None:
        """Wait until so many bytes may go."""
        left_s = self._charge(size)
        if left_s > 0:
            self._extend(left_s)
            self._over.wait(left_s)

    def note_request(self) -> None:
        """Count a request over the wire beyond the first."""
        if self._has_sent:
            self._requests.charge()
        self._has_sent = True

    def end(self, size: int) -> None:
        """Count what nobody paid for of a body that has gone; nobody waits any more."""
        self._over.set()
        self._charge(size - self._moved)

    def abandon(self) -> None:
        """Let a thread that still waits go on at once: nobody wants what it does."""
        self._over.set()

    def _charge(self, size: int) -> float:
        """Count bytes that go now; return how long they are to wait."""
        self._moved += size
        due = self._moved - self._paid
        if self._flow is None or due <= 0:
            return 0.0
        self._paid = self._moved
        return self._flow.charge(due, is_background=self._is_background)


class BrakeStorager(PassageStorager):
    """Lets requests and their bytes go no faster than the brakes allow."""

    def __init__(self, inner: Storager, brakes: Brakes) -> None:
        super().__init__(inner)
        self._brakes = brakes

    def _passing(self, kind: RequestClass) -> AbstractAsyncContextManager[None]:
        return nullcontext() if self._brakes.are_off else self._asking()

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        async with self._moving(None, 0):
            yield

    @asynccontextmanager
    async def _moving(self, flow: Flow | None, size: int) -> AsyncIterator[_Kept]:
        """Surround a request that moves so many bytes, as far as that is known."""
        is_background = current_reason() in _IN_BACKGROUND
        first = min(size, flow.piece or size) if flow is not None else 0
        kept = _Kept(
            self._brakes.requests,
            flow,
            is_background=is_background,
            prepaid=first,
            extend=extender(),
        )
        if flow is not None:
            await _turn(
                flow.turns,
                lambda: flow.charge(first, is_background=is_background),
                is_background=is_background,
            )
            flow.begin(is_background=is_background)
        try:
            requests = self._brakes.requests
            await _turn(requests.turns, requests.charge, is_background=is_background)
            token = pace.keep(kept)
            try:
                yield kept
            finally:
                pace.leave(token)
        finally:
            kept.abandon()
            if flow is not None:
                flow.end(is_background=is_background)

    async def read(
        self,
        key: str,
        offset: int = 0,
        size: int | None = None,
        *,
        version: Version | None = None,
    ) -> Content:
        """Forward when the bytes may come."""
        flow = self._brakes.down
        if not flow.rate:
            return await super().read(key, offset, size, version=version)
        async with self._moving(
            flow, flow.piece or 0 if size is None else size
        ) as kept:
            content = await self._inner.read(key, offset, size, version=version)
            kept.end(len(content.data))
            return content

    async def write(
        self,
        key: str,
        body: Body | None,
        *,
        size: int | None = None,
        metadata: Metadata = NO_METADATA,
        inherit: Object | None = None,
        condition: Condition = None,
    ) -> Object:
        """Forward when the bytes may go."""
        async with self._sending(stated_size(body, size)):
            return await self._inner.write(
                key,
                body,
                size=size,
                metadata=metadata,
                inherit=inherit,
                condition=condition,
            )

    async def write_part(
        self, upload: Upload, index: int, body: Body, *, size: int | None = None
    ) -> Part:
        """Forward when the bytes may go."""
        async with self._sending(stated_size(body, size)):
            return await self._inner.write_part(upload, index, body, size=size)

    async def write_append(self, append: Append, body: Body) -> Append:
        """Forward when the bytes may go."""
        async with self._sending(body.size):
            return await self._inner.write_append(append, body)

    @asynccontextmanager
    async def _sending(self, size: int) -> AsyncIterator[None]:
        if self._brakes.are_off:
            yield
            return
        flow = self._brakes.up
        async with self._moving(flow if flow.rate else None, size) as kept:
            yield
            kept.end(size)


async def _turn(turns: Turns, go: Callable[[], object], *, is_background: bool) -> None:
    if turns.is_free:
        go()
        return
    with not_counted():
        await turns.take(is_background=is_background, go=go)
