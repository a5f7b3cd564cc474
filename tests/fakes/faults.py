"""A wrapper that fails chosen requests, before or after they took effect."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import trio

from mountfs.storage.errors import StoreError
from mountfs.storage.protocol import Storager
from mountfs.storage.wrapper import StoragerWrapper


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one request of a call.

    `is_lost` lets the request take effect before its reply is lost; without an
    error the request hangs until it is cancelled.
    """

    call: str
    error: StoreError | None
    is_lost: bool = False


class FaultyStore(StoragerWrapper):
    """Fails requests by a script: each fault is used once, in order, per call."""

    def __init__(self, inner: Storager, *faults: Fault) -> None:
        super().__init__(inner)
        self.script = list(faults)
        self.times: list[tuple[str, float]] = []

    async def _through(self, call: str, request: Callable[[], Awaitable[Any]]) -> Any:
        self.times.append((call, trio.current_time()))
        fault = next((fault for fault in self.script if fault.call == call), None)
        if fault is None:
            return await request()
        self.script.remove(fault)
        if fault.is_lost:
            await request()
        if fault.error is None:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        assert fault.error is not None
        raise fault.error


def _faulty(name: str) -> Any:
    forward = getattr(StoragerWrapper, name)

    async def method(self: FaultyStore, *args: Any, **options: Any) -> Any:
        return await self._through(name, lambda: forward(self, *args, **options))

    return method


for _name in vars(StoragerWrapper):
    if not _name.startswith("_") and _name not in {"capabilities", "features", "close"}:
        setattr(FaultyStore, _name, _faulty(_name))
