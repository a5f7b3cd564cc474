"""A store whose calls fail, hang or come late as a script says.

A fault is bound to a call of one operation, or of any (`ANY`), and strikes before the
call has an effect or after it (the reply is lost). Each fault strikes once, in the
order of the script. With an empty script the wrapper changes nothing; it keeps the
list of calls either way.
"""

import math
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any

import trio

from mountfs.storage.errors import StoreError
from mountfs.storage.protocol import Storager
from mountfs.storage.wrapper import StoragerWrapper

ANY = "any"


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one call.

    Without an error the call goes through, after `delay_s` (`math.inf` hangs until it
    is cancelled). `is_after` lets the call take effect first. Calls before the `nth`
    of the operation are left alone.
    """

    call: str = ANY
    error: StoreError | None = None
    _: KW_ONLY
    nth: int = 1
    delay_s: float = 0.0
    is_after: bool = False


def hang(call: str, *, is_after: bool = False) -> Fault:
    """Return the fault of a call that is never answered."""
    return Fault(call, delay_s=math.inf, is_after=is_after)


class FaultyStore(StoragerWrapper):
    """Forwards every call, except where the script has a fault for it."""

    def __init__(self, inner: Storager, *faults: Fault) -> None:
        super().__init__(inner)
        self.script = list(faults)
        self.times: list[tuple[str, float]] = []
        self._counts: Counter[str] = Counter()

    @property
    def calls(self) -> list[str]:
        """The names of all calls so far."""
        return [call for call, _ in self.times]

    async def _pass(self, call: str, request: Callable[[], Awaitable[Any]]) -> Any:
        fault = self._next_fault(call)
        if fault is None:
            return await request()
        if fault.is_after:
            answer = await request()
            await self._strike(fault)
            return answer
        await self._strike(fault)
        return await request()

    def _next_fault(self, call: str) -> Fault | None:
        self.times.append((call, trio.current_time()))
        self._counts.update((call, ANY))
        for fault in self.script:
            if fault.call in {call, ANY} and self._counts[fault.call] >= fault.nth:
                self.script.remove(fault)
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
