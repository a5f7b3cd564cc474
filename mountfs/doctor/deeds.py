"""Whether the credentials allow what a mount does, found out by doing it harmlessly.

What is written lies under one fresh key below `.mountfs/`, and is removed again. With
`--read-only` nothing is written. Of each deed one finding is made; what is refused
names the permission that is missing.
"""

import contextlib
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence

import trio

from mountfs.sentences import reason_of
from mountfs.storage.body import BytesBody
from mountfs.storage.diagnosis import Deed, Finding, State
from mountfs.storage.errors import (
    NotFound,
    PermissionDenied,
    StoreError,
    Unsupported,
)
from mountfs.storage.probe import probe_store
from mountfs.storage.protocol import Storager
from mountfs.storage.reason import Reason, because
from mountfs.storage.types import Call, Object, ObjectKind, Upload

DIRECTORY = ".mountfs/"
PREFIX = f"{DIRECTORY}doctor-"
CLEANUP_S = 3.0
ARRIVAL_S = 1.0
"""So long after it was given up a write may still arrive."""
_SIZE = 1 << 10
_MENDED = "allow {needed}: `mountfs doctor --policy URL` prints all that is needed"


class Trial:
    """One run over a store, and what it leaves behind until `clean_up`."""

    def __init__(
        self, store: Storager, needs: Mapping[Deed, str], *, read_only: bool
    ) -> None:
        self._store = store
        self._needs = needs
        self._read_only = read_only
        self.prefix = f"{PREFIX}{secrets.token_hex(8)}/"
        self._keys: list[str] = []
        self._uploads: list[Upload] = []
        self._findings: dict[Deed, Finding] = {}
        self.example: Object | None = None
        """An object that can be read, ours or one that was there."""
        self.may_write = False
        self.is_in_doubt = False
        """Whether writes were given up, which may arrive all the same."""

    async def run(self) -> Sequence[Finding]:
        """Do everything; return a finding for each deed, in their order."""
        with because(Reason.PROBE):
            await self._try(Deed.LIST, self._list)
            if not self._read_only:
                await self._try(Deed.WRITE, self._write)
                self.may_write = self._findings[Deed.WRITE].state is State.OK
            async with trio.open_nursery() as nursery:
                for deed, work in self._after_writing().items():
                    nursery.start_soon(self._try, deed, work)
            if self.may_write:
                await self._try(Deed.DELETE, self._delete)
        return [self._findings[deed] for deed in Deed if deed in self._findings]

    def _after_writing(self) -> Mapping[Deed, Callable[[], Awaitable[str]]]:
        found: dict[Deed, Callable[[], Awaitable[str]]] = {
            Deed.STAT: self._stat,
            Deed.READ: self._read,
        }
        able = self._store.capabilities
        if self.may_write and able.copy:
            found[Deed.COPY] = self._copy
        if self.may_write and able.multipart is not None:
            found[Deed.MULTIPART] = self._multipart
        return found

    async def conditions(self) -> Finding:
        """Tell which conditions the store really honours, on keys of their own."""
        name, claimed = "conditional writes", self._store.capabilities.conditions
        if not self.may_write:
            return Finding(name, State.SKIP, "nothing may be written")
        try:
            probe = await probe_store(self._store)
        except StoreError as error:
            return Finding(name, State.SKIP, reason_of(error))
        honoured = [call.value for call in Call if call in probe.conditions]
        ignored = [call.value for call in Call if call not in probe.conditions]
        if self._store.capabilities.multipart is None:
            ignored = [each for each in ignored if each != Call.COMPLETE.value]
        if not ignored:
            return Finding(name, State.OK, f"honoured: {', '.join(honoured)}")
        # A service that does not claim a call is known for it, and still no better.
        text = f"ignored: {', '.join(ignored)}"
        if honoured:
            text = f"{text} (honoured: {', '.join(honoured)})"
        cure = "let only one mount write to a file at a time"
        state = State.WARN if claimed else State.SKIP
        return Finding(name, state, text, cure)

    async def clean_up(self) -> list[Finding]:
        """Remove what was written; tell what could not be."""
        if self.is_in_doubt:
            with trio.CancelScope(shield=True):
                await trio.sleep(ARRIVAL_S)
        left: list[str] = []
        with trio.move_on_after(CLEANUP_S, shield=True):
            for upload in self._uploads:
                try:
                    await self._store.abort_multipart(upload)
                except StoreError:
                    left.append(upload.key)
            for key in self._keys:
                try:
                    await self._store.delete(key)
                except StoreError:
                    left.append(key)
            if self._keys and self._store.capabilities.native_dirs:
                await self._remove_directories()
            if not left:
                return []
        text = f"left behind: {', '.join(left) or self.prefix}"
        return [Finding("clean-up", State.WARN, text, "delete it by hand")]

    async def _remove_directories(self) -> None:
        """Remove the directories that came with the keys, if nothing else is there."""
        for key in (self.prefix, DIRECTORY):
            with contextlib.suppress(StoreError):
                await self._store.delete(key)

    def key(self, name: str) -> str:
        """Return a key of ours, which is removed in the end."""
        key = self.prefix + name
        self._keys.append(key)
        return key

    # --- the deeds --------------------------------------------------------------

    async def _try(self, deed: Deed, work: Callable[[], Awaitable[str]]) -> None:
        name = deed.value
        try:
            finding = Finding(name, State.OK, await work())
        except PermissionDenied as error:
            needed = self._needs.get(deed, "it")
            code = error.code or "refused"
            cure = _MENDED.format(needed=needed)
            finding = Finding(name, State.FAIL, f"not allowed ({code})", cure)
        except Unsupported as error:
            finding = Finding(name, State.SKIP, reason_of(error))
        except StoreError as error:
            finding = Finding(name, State.FAIL, reason_of(error), "see the log")
        self._findings[deed] = finding

    async def _list(self) -> str:
        page = await self._store.list("", limit=100)
        plain = [each for each in page.objects if each.kind is ObjectKind.FILE]
        if plain:
            self.example = max(plain, key=lambda each: each.size or 0)
        return "allowed"

    async def _write(self) -> str:
        body = BytesBody(secrets.token_bytes(_SIZE))
        self.example = await self._store.write(self.key("object"), body)
        return "allowed"

    async def _stat(self) -> str:
        if self.example is not None:
            await self._store.stat(self.example.key)
            return "allowed"
        try:
            await self._store.stat(f"{self.prefix}absent")
        except NotFound:
            return "allowed (of what is not there)"
        return "allowed"

    async def _read(self) -> str:
        if self.example is None:
            raise Unsupported("there is no object to read")
        await self._store.read(self.example.key, 0, _SIZE)
        return "allowed"

    async def _copy(self) -> str:
        assert self.example is not None, "it was written"
        await self._store.copy(self.example.key, self.key("copy"))
        return "allowed"

    async def _multipart(self) -> str:
        upload = await self._store.create_multipart(self.key("upload"))
        self._uploads.append(upload)
        await self._store.write_part(upload, 0, BytesBody(secrets.token_bytes(_SIZE)))
        await self._store.list_parts(upload)
        await self._try(Deed.ABORT, lambda: self._abort(upload))
        return "allowed"

    async def _abort(self, upload: Upload) -> str:
        await self._store.abort_multipart(upload)
        self._uploads.remove(upload)
        return "allowed"

    async def _delete(self) -> str:
        await self._store.delete(self.key("to-delete"))
        return "allowed"
