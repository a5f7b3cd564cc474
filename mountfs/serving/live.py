"""What of a mount's settings can change while it lives, and how it is changed.

There are two ways. `mountfs set` says something by hand, which stands above all else
until the mount ends. SIGHUP has the files read again; what is wrong in them changes
nothing. What they say otherwise and cannot change is told, and waits for the next
mount.
"""

import dataclasses
import logging
import signal
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext

import trio

from mountfs.checks import check_cache_size
from mountfs.configuration.config import MountConfig, settled
from mountfs.configuration.effective import Effective, effective
from mountfs.configuration.options import BY_FIELD
from mountfs.configuration.settings import Layer, Setting, find_option
from mountfs.configuration.shown import attribute_of, shown
from mountfs.errors import UsageError
from mountfs.status import Outcome

log = logging.getLogger(__name__)

Apply = Callable[[MountConfig], Awaitable[None]]
"""Lets one setting of a configuration count from now on."""
Around = Callable[[], AbstractContextManager[object]]
"""Makes what lasts as long as the files are read."""


class Live:
    """The settings of one mount."""

    def __init__(self, config: MountConfig, appliers: Mapping[str, Apply]) -> None:
        """`appliers` are for what can change, by the field of its option."""
        self._config = config
        self._said = config.found
        """What everybody but `set` says, with what could not change as it was."""
        self._by_hand: Layer = {}
        self._appliers = appliers
        self._lock = trio.Lock()
        self.problem = ""
        """Why what the files say now was not taken; empty if it was."""
        self.waiting: tuple[str, ...] = ()
        """What they say otherwise now, and what waits for the next mount."""

    @property
    def config(self) -> MountConfig:
        """What counts now."""
        return self._config

    @property
    def names(self) -> list[str]:
        """The names of what can change."""
        return sorted(BY_FIELD[field].name for field in self._appliers)

    async def set(self, settings: Mapping[str, str]) -> Outcome:
        """Let these settings count, all or none; an empty one as all else has it.

        Without any, tell what could be set, and how it is.
        """
        async with self._lock:
            try:
                by_hand = self._taken_in(settings)
                config = await trio.to_thread.run_sync(self._laid, self._said, by_hand)
            except UsageError as error:
                return Outcome(error=str(error), code=error.exit_code)
            self._by_hand = by_hand
            fields = {find_option(name, name).field for name in settings}
            changes = await self._adopt(config)
        if changes:
            log.info("set by hand: %s", "; ".join(changes.values()))
        wanted = fields or self._appliers.keys()
        return Outcome(
            lines=tuple(
                changes.get(each) or self._line(each) for each in sorted(wanted)
            )
        )

    async def reread(self) -> None:
        """Take what the files say now, if nothing in them is wrong."""
        async with self._lock:
            try:
                found = await trio.to_thread.run_sync(effective, self._config.asked)
                # Without what was set by hand, which covers what is wrong: the next
                # mount would be refused.
                await trio.to_thread.run_sync(self._laid, found, {})
                config = await trio.to_thread.run_sync(self._laid, found, self._by_hand)
            except UsageError as error:
                self._refuse(str(error))
                return
            self.problem = ""
            self.waiting = tuple(self._waiting(found))
            self._said = _merged(self._said, found, self._appliers)
            changes = await self._adopt(config)
        told = "; ".join(changes.values()) or "nothing has changed"
        log.info("read the configuration again: %s", told)
        if self.waiting:
            log.warning(
                "%s cannot change while it is mounted, and waits for the next mount",
                ", ".join(self.waiting),
            )

    def _refuse(self, problem: str) -> None:
        self.problem = problem
        log.error(
            "the configuration has an error, and nothing was changed: %s", problem
        )

    async def reread_at_hangup(self, around: Around = nullcontext) -> None:
        """Read the files again at each SIGHUP, until cancelled."""
        with trio.open_signal_receiver(signal.SIGHUP) as signals:
            async for _ in signals:
                with around():
                    await self._reread_safely()

    async def _reread_safely(self) -> None:
        try:
            await self.reread()
        except Exception as error:
            # What stands in a file must not cost the mount.
            self.problem = f"a bug in mountfs: {error!r}"
            log.exception("a bug in mountfs: the configuration was not read again")

    def _taken_in(self, settings: Mapping[str, str]) -> dict[str, Setting]:
        """Return what is set by hand after this. Raises `UsageError`."""
        by_hand = dict(self._by_hand)
        for name, text in settings.items():
            option = find_option(name, name)
            if option.field not in self._appliers:
                raise UsageError(
                    f"{option.name} cannot change while it is mounted: unmount, and"
                    f" mount with another --{option.name}; what can change is"
                    f" {', '.join(self.names)}"
                )
            if option.field == "ttl" and self._config.exclusive:
                raise UsageError(
                    "ttl means nothing to this mount: it is --exclusive, and trusts"
                    " what it knows until it changes it"
                )
            by_hand[option.field] = Setting(text, option.name)
            if not text:
                del by_hand[option.field]
        return by_hand

    def _laid(self, said: Effective, by_hand: Layer) -> MountConfig:
        """Return what counts if this is said. Raises `UsageError`. Reads the disk."""
        settings = {**said.settings, **by_hand}
        found = dataclasses.replace(said, settings=settings)
        config = settled(self._config.asked, found)
        if _differ("cache_size", found, self._config.found):
            check_cache_size(config)
        return config

    async def _adopt(self, config: MountConfig) -> dict[str, str]:
        """Apply what has changed; return a line for each, by its field.

        What was not said anew stays as it is: a default may come out otherwise now.
        """
        before = self._config
        changed = [
            field
            for field in sorted(self._appliers)
            if _differ(field, config.found, before.found)
        ]
        found = _merged(before.found, config.found, self._appliers)
        values = {
            attribute_of(each): getattr(config, attribute_of(each)) for each in changed
        }
        self._config = dataclasses.replace(before, **values, found=found)
        lines: dict[str, str] = {}
        for field in changed:
            await self._appliers[field](self._config)
            old, new = shown(before, field), shown(self._config, field)
            lines[field] = f"{BY_FIELD[field].name}: {old} -> {new}"
        return lines

    def _line(self, field: str) -> str:
        return f"{BY_FIELD[field].name}: {shown(self._config, field)}"

    def _waiting(self, found: Effective) -> Iterator[str]:
        if found.url.text != self._config.found.url.text:
            yield "url"
        places = (found.mount_point, self._config.found.mount_point)
        if len({each.text if each is not None else "" for each in places}) > 1:
            yield "mount-point"
        for field, option in sorted(BY_FIELD.items()):
            if field not in self._appliers and _differ(
                field, found, self._config.found
            ):
                yield option.name


def _merged(before: Effective, after: Effective, live: Iterable[str]) -> Effective:
    """Return what was said before, with what is said now of what can change."""
    kept = {k: v for k, v in before.settings.items() if k not in live}
    anew = {k: v for k, v in after.settings.items() if k in live}
    return dataclasses.replace(before, settings={**kept, **anew})


def _differ(field: str, one: Effective, other: Effective) -> bool:
    """Tell whether something else is said of a setting.

    What is compared is what was said: a path, or a name, may mean something else where
    the daemon stands.
    """
    texts = [
        each.settings[field].text if field in each.settings else None
        for each in (one, other)
    ]
    return texts[0] != texts[1]
