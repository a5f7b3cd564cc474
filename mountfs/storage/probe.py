"""Finding out what a store really does, and living with it.

Many stores that speak a protocol take a condition and ignore it. `probe_store` tries
each claim on fresh keys and can only shrink what a backend claims. `NarrowedStorager`
stands above the retries and makes the result known.

Where the store ignores conditions, `NarrowedStorager` checks them itself: it asks for
the object first and then sends the request without the condition. A foreign change
between the two goes unnoticed, so such calls stay out of `capabilities.conditions`.
Above this wrapper a condition may be given with every call: it is checked as well as
the store allows.
"""

import contextlib
import dataclasses
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

import trio

from mountfs.storage.body import Body, BytesBody
from mountfs.storage.conditions import look_first
from mountfs.storage.errors import (
    NotFound,
    PreconditionFailed,
    StoreError,
    Throttled,
    Unreachable,
)
from mountfs.storage.protocol import Storager
from mountfs.storage.reason import Reason, because
from mountfs.storage.types import (
    ABSENT,
    NO_METADATA,
    Call,
    Capabilities,
    Condition,
    Metadata,
    Object,
    Part,
    Upload,
    Version,
)
from mountfs.storage.wrapper import StoragerWrapper

_log = logging.getLogger(__name__)

_PREFIX = ".mountfs/probe-"
_CLEANUP_S = 10.0
_MARK = {"mountfs-probe": "kept"}


@dataclass(frozen=True, slots=True)
class Probe:
    """What was found out about one bucket of one endpoint; worth keeping."""

    conditions: frozenset[Call]
    dir_metadata: bool

    @classmethod
    def of_claims(cls, capabilities: Capabilities) -> "Probe":
        """Believe a backend, where nothing may be tried out (--read-only)."""
        return cls(capabilities.conditions, capabilities.dir_metadata)

    @classmethod
    def of_nothing(cls, capabilities: Capabilities) -> "Probe":
        """Believe no condition to be honoured, while nothing could be tried out."""
        return cls(frozenset(), capabilities.dir_metadata)

    @classmethod
    def from_json(cls, value: object) -> "Probe":
        """Read what `to_json` wrote. Raises `ValueError` for anything else."""
        match value:
            case {"conditions": list(calls), "dir_metadata": bool(dir_metadata)}:
                return cls(frozenset(Call(call) for call in calls), dir_metadata)
            case _:
                raise ValueError(f"not a probe: {value!r}")

    def to_json(self) -> dict[str, object]:
        """Return plain values for a JSON file."""
        return {
            "conditions": sorted(call.value for call in self.conditions),
            "dir_metadata": self.dir_metadata,
        }


async def probe_store(store: Storager) -> Probe:
    """Try what `store` claims, on fresh keys only, and clean up.

    Raises what the store raises if a plain request fails, such as `PermissionDenied`
    for credentials that may only read, or if it does not answer.
    """
    probing = _Probing(store, f"{_PREFIX}{secrets.token_hex(8)}/")
    trials: dict[Call, Callable[[], Awaitable[bool]]] = {
        Call.WRITE: probing.write_is_conditional,
        Call.COPY: probing.copy_is_conditional,
        Call.COMPLETE: probing.complete_is_conditional,
        Call.DELETE: probing.delete_is_conditional,
    }
    claimed = store.capabilities.conditions
    with because(Reason.PROBE):
        try:
            honoured = frozenset(
                [call for call in trials if call in claimed and await trials[call]()]
            )
            return Probe(honoured, await probing.markers_keep_metadata())
        finally:
            with trio.move_on_after(_CLEANUP_S, shield=True):
                await probing.clean_up()


class _Probing:
    """One run of trials and the keys and uploads that it leaves behind."""

    def __init__(self, store: Storager, prefix: str) -> None:
        self._store = store
        self._prefix = prefix
        self._keys: list[str] = []
        self._uploads: list[Upload] = []

    async def write_is_conditional(self) -> bool:
        key = self._key("write")
        stale, fresh = await self._two_versions(key)
        return await _is_honoured(
            lambda condition: self._store.write(
                key, BytesBody(b"3"), condition=condition
            ),
            stale,
            fresh,
        )

    async def copy_is_conditional(self) -> bool:
        key, source = self._key("copy"), self._key("source")
        stale, fresh = await self._two_versions(key)
        await self._store.write(source, BytesBody(b"3"))
        return await _is_honoured(
            lambda condition: self._store.copy(source, key, condition=condition),
            stale,
            fresh,
        )

    async def complete_is_conditional(self) -> bool:
        key = self._key("complete")
        stale, fresh = await self._two_versions(key)

        async def complete(condition: Condition) -> Object:
            # A refused upload may be gone, so each trial gets one of its own.
            upload = await self._store.create_multipart(key)
            self._uploads.append(upload)
            part = await self._store.write_part(upload, 0, BytesBody(b"3"))
            return await self._store.complete_multipart(
                upload, [part], condition=condition
            )

        return await _is_honoured(complete, stale, fresh)

    async def delete_is_conditional(self) -> bool:
        key = self._key("delete")
        stale, fresh = await self._two_versions(key)
        return await _is_honoured(
            lambda condition: self._store.delete(key, condition=condition),
            stale,
            fresh,
            try_absent=False,
        )

    async def markers_keep_metadata(self) -> bool:
        capabilities = self._store.capabilities
        if capabilities.native_dirs or not capabilities.dir_metadata:
            return capabilities.dir_metadata
        key = self._key("marker/")
        await self._store.write(key, None, metadata=Metadata(user=_MARK))
        try:
            marker = await self._store.stat(key)
        except NotFound:
            return False
        known = marker.metadata or NO_METADATA
        return all(known.user.get(name) == text for name, text in _MARK.items())

    async def clean_up(self) -> None:
        for upload in self._uploads:
            with _logged(upload.key):
                await self._store.abort_multipart(upload)
        keys = list(self._keys)
        if keys and self._store.capabilities.native_dirs:
            keys.append(self._prefix)
        for key in keys:
            with _logged(key):
                await self._store.delete(key)

    async def _two_versions(self, key: str) -> tuple[Condition, Condition]:
        """Write a key twice; return a version that it had, and the one it has."""
        stale = await self._store.write(key, BytesBody(b"1"))
        fresh = await self._store.write(key, BytesBody(b"22"))
        return stale.version, fresh.version

    def _key(self, name: str) -> str:
        key = self._prefix + name
        self._keys.append(key)
        return key


async def _is_honoured(
    request: Callable[[Condition], Awaitable[object]],
    stale: Condition,
    fresh: Condition,
    *,
    try_absent: bool = True,
) -> bool:
    """Tell whether wrong conditions are refused and a right one is not.

    A store that answers anything else, say that it does not implement the request,
    does not honour conditions. No answer at all is no finding, and is raised.
    """
    wrong = (ABSENT, stale) if try_absent else (stale,)
    for condition in wrong:
        try:
            await request(condition)
        except PreconditionFailed:
            continue
        except (Throttled, Unreachable):
            raise
        except StoreError as error:
            _log.debug("a condition is not understood: %s", error)
        return False
    try:
        await request(fresh)
    except (Throttled, Unreachable):
        raise
    except StoreError as error:
        _log.debug("a condition that holds is refused: %s", error)
        return False
    return True


@contextlib.contextmanager
def _logged(key: str) -> Iterator[None]:
    """Go on with cleaning up when one request fails."""
    try:
        yield
    except StoreError as error:
        _log.debug("a probe is left behind at %r: %s", key, error)


class NarrowedStorager(StoragerWrapper):
    """Says what a probe found, and checks the conditions that the store ignores."""

    def __init__(self, inner: Storager, probe: Probe) -> None:
        super().__init__(inner)
        self._capabilities = inner.capabilities
        self.take_in(probe)

    def take_in(self, probe: Probe) -> None:
        """Go by another probe from now on; who has asked must ask again."""
        claimed = self._inner.capabilities
        self._capabilities = dataclasses.replace(
            claimed,
            conditions=claimed.conditions & probe.conditions,
            dir_metadata=claimed.dir_metadata and probe.dir_metadata,
        )

    @property
    def ignored(self) -> tuple[Call, ...]:
        """The calls whose conditions are checked here, just before they are sent."""
        calls = set(Call) - self._capabilities.conditions
        if self._capabilities.multipart is None:
            calls.discard(Call.COMPLETE)  # there is none
        return tuple(call for call in Call if call in calls)

    @property
    def capabilities(self) -> Capabilities:
        """What the inner store claims, without what the probe refuted."""
        return self._capabilities

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
        """Write, after checking the condition if the store does not."""
        return await self._inner.write(
            key,
            body,
            size=size,
            metadata=metadata,
            inherit=inherit,
            condition=await self._checked(Call.WRITE, key, condition),
        )

    async def delete(self, key: str, *, condition: Condition = None) -> None:
        """Delete, after checking the condition if the store does not."""
        try:
            left = await self._checked(Call.DELETE, key, condition)
        except NotFound:
            return
        await self._inner.delete(key, condition=left)

    async def copy(
        self,
        source: str,
        target: str,
        *,
        source_version: Version | None = None,
        metadata: Metadata | None = None,
        condition: Condition = None,
    ) -> Object:
        """Copy, after checking the condition if the store does not."""
        return await self._inner.copy(
            source,
            target,
            source_version=source_version,
            metadata=metadata,
            condition=await self._checked(Call.COPY, target, condition),
        )

    async def set_metadata(
        self, object: Object, metadata: Metadata, *, condition: Condition = None
    ) -> Object:
        """Set metadata, after checking the condition if the store does not."""
        return await self._inner.set_metadata(
            object,
            metadata,
            condition=await self._checked(Call.COPY, object.key, condition),
        )

    async def make_link(
        self,
        key: str,
        target: str,
        *,
        metadata: Metadata = NO_METADATA,
        condition: Condition = None,
    ) -> Object:
        """Make a link, after checking the condition if the store does not."""
        return await self._inner.make_link(
            key,
            target,
            metadata=metadata,
            condition=await self._checked(Call.WRITE, key, condition),
        )

    async def complete_multipart(
        self,
        upload: Upload,
        parts: Sequence[Part],
        *,
        inherit: Object | None = None,
        condition: Condition = None,
    ) -> Object:
        """Complete, after checking the condition if the store does not."""
        return await self._inner.complete_multipart(
            upload,
            parts,
            inherit=inherit,
            condition=await self._checked(Call.COMPLETE, upload.key, condition),
        )

    async def _checked(self, call: Call, key: str, condition: Condition) -> Condition:
        """Return the condition that is left for the store to check."""
        return await look_first(self, call, key, condition)
