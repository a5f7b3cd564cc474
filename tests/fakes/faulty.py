"""A store whose calls fail, hang or come late as a script says.

A fault is bound to the n-th call of one operation, or of any (`ANY`), and strikes
before the call has an effect or after it (the reply is lost). With an empty script
the wrapper changes nothing; it keeps the list of calls either way.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import trio

from mountfs.storage.errors import StoreError
from mountfs.storage.protocol import Storager
from mountfs.storage.wrapper import StoragerWrapper

ANY = "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to one call.

    Without an error the call goes through, after `delay_s` (`math.inf` hangs until it
    is cancelled). `is_after` lets the call take effect first.
    """

    call: str = ANY
    nth: int = 1
    error: StoreError | None = None
    delay_s: float = 0.0
    is_after: bool = False


class FaultyStore(StoragerWrapper):
    """Forwards every call, except where the script has a fault for it."""

    def __init__(self, inner: Storager, script: Iterable[Fault] = ()) -> None:
        super().__init__(inner)
        self.script = list(script)
        self.calls: list[str] = []
        self._counts: Counter[str] = Counter()

    async def _pass(self, call: str, request: Callable[[], Awaitable[Any]]) -> Any:
        fault = self._count(call)
        if fault is None:
            return await request()
        if fault.is_after:
            answer = await request()
            await self._strike(fault)
            return answer
        await self._strike(fault)
        return await request()

    def _count(self, call: str) -> Fault | None:
        self.calls.append(call)
        self._counts.update((call, ANY))
        for fault in self.script:
            if fault.call in {call, ANY} and self._counts[fault.call] == fault.nth:
                return fault
        return None

    async def _strike(self, fault: Fault) -> None:
        await trio.sleep(fault.delay_s)
        if fault.error is not None:
            raise fault.error


def _faulty(name: str) -> Callable[..., Awaitable[Any]]:
    async def call(self: FaultyStore, *args: Any, **options: Any) -> Any:
        forward = getattr(StoragerWrapper, name)
        return await self._pass(name, lambda: forward(self, *args, **options))

    call.__name__ = name
    return call


OPERATIONS = tuple(
    name
    for name in vars(StoragerWrapper)
    if not name.startswith("_") and name not in {"capabilities", "features", "close"}
)
for _name in OPERATIONS:
    setattr(FaultyStore, _name, _faulty(_name))
