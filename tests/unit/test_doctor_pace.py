"""How fast a store is: nothing that was written for it stays."""

from typing import Any

import trio
from trio.testing import MockClock

from mountfs.backends.memory import MemoryStore
from mountfs.doctor import pace
from mountfs.doctor.deeds import Trial
from mountfs.storage.types import Object


class LateStore(MemoryStore):
    """Lets large writes arrive, unheard, when whoever sent them has given them up."""

    async def write(self, key: str, *arguments: Any, **options: Any) -> Object:
        if "bytes-" in key:
            trio.lowlevel.spawn_system_task(self._arrive, key, arguments, options)
            await trio.sleep_forever()
        return await super().write(key, *arguments, **options)

    async def _arrive(self, key: str, arguments: Any, options: Any) -> None:
        await trio.sleep(pace.MOVING_S + pace.GRACE_S + 0.5)
        await super().write(key, *arguments, **options)


async def test_what_arrives_late_is_removed_too(autojump_clock: MockClock) -> None:
    """A write that was given up may have been taken."""
    store = LateStore()
    trial = Trial(store, {}, read_only=False)
    await trial.run()

    await pace.pace_findings(store, trial)
    assert await trial.clean_up() == []

    await trio.sleep(60)
    assert (await store.list("")).objects == ()
