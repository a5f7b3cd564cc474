"""What is wrong with what mountfs keeps, here and in the store: found, and mended.

Compares the block files with their checksums, the journal with the spool, and all that
lies under `.mountfs/` in the store with the listing of the store. Only what is provably
ours, and of no use to anybody, is ever deleted, on the condition that it still is what
was looked at; everything else is told. The whole listing is held in memory.
"""

import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mountfs.cache import index_format, salvage, zeros
from mountfs.cache.blockfiles import BlockFiles
from mountfs.cache.index_format import Damaged, UnknownFormat
from mountfs.cache.records import Record
from mountfs.cache.salvage import Kept
from mountfs.cache.spool import on_disk
from mountfs.configuration.config import MountConfig
from mountfs.sentences import sentence_about
from mountfs.status import Outcome
from mountfs.storage import dialects, sidecars
from mountfs.storage.attempts import RetryPolicy
from mountfs.storage.errors import Corrupt, NotFound, StoreError
from mountfs.storage.parallel import run_all
from mountfs.storage.protocol import Storager
from mountfs.storage.retry import RetryStorager
from mountfs.storage.types import Call, ListMode, Object
from mountfs.vfs import groups

REQUESTS_MAX = 64
UNLINKED = ".mountfs/unlinked/"
EXCHANGE = ".mountfs/exchange/"
PROBE = ".mountfs/probe-"
PROBE_AGE_NS = 24 * 3600 * 10**9
"""A trial object that is older belongs to no mount that is just beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong, or worth knowing."""

    text: str
    is_fault: bool = True
    remedy: str | None = None
    """What `mend` does, in words; None if nothing is to be done here."""
    mend: Callable[[], Awaitable[object]] | None = None

    @property
    def told(self) -> dict[str, object]:
        """What programs are told of it."""
        return {
            "text": self.text,
            "is_fault": self.is_fault,
            "remedy": self.remedy,
            "can_be_mended": self.mend is not None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What is looked at. `store` is the plain store, with retries and no emulation."""

    store: Storager
    state_dir: Path
    cache_dir: Path
    owner: str | None
    """Whose unlinked files are ours; None if that is not known."""
    is_in_use: bool
    """A mount of this process works in these directories."""
    url: str = ""
    is_read_only: bool = False

    async def answer(self, *, is_repair: bool) -> Outcome:
        """Look at everything, mend what can be if that is asked, and tell it all."""
        if is_repair and self.is_read_only:
            return Outcome(error="a read-only mount mends nothing", code=2)
        try:
            findings = await self.run()
        except StoreError as error:
            return Outcome(error=sentence_about(self.url, error), code=1)
        mended = await mend(findings) if is_repair else []
        is_faulty = any(each.is_fault for each in findings)
        return Outcome(
            lines=(*report(findings), *mended),
            told={
                "findings": [each.told for each in findings],
                "mended": mended,
                "is_faulty": is_faulty,
            },
            code=1 if is_faulty else 0,
        )

    async def run(self) -> list[Finding]:
        """Look at everything. Raises what the store says if it cannot be listed."""
        found = await self._blocks()
        found += await self._journal()
        listing = await self._listing()
        found += self._leftovers(listing)
        found += await self._records(listing, groups.FOLDER, self._group)
        found += await self._records(listing, index_format.PREFIX, self._index)
        found += await self._sidecars(listing)
        found += await self._uploads()
        return found

    # --- here -----------------------------------------------------------------------

    async def _blocks(self) -> list[Finding]:
        files = BlockFiles(self.cache_dir / "blocks")
        return [
            Finding(
                text=f"{path}: the cached bytes do not match their checksum",
                remedy="delete the file; its bytes are fetched again",
                mend=partial(on_disk, partial(path.unlink, missing_ok=True)),
            )
            for path in await on_disk(files.damaged)
        ]

    async def _journal(self) -> list[Finding]:
        look = partial(salvage.look, self.state_dir, is_in_use=self.is_in_use)
        left = await on_disk(look)
        found = []
        if left.damage is not None and not self.is_in_use:
            text = f"the journal of {self.state_dir}: {left.damage}"
            found.append(
                Finding(text=f"{text}; see `mountfs recover {self.state_dir}`")
            )
        for kept in left.kept:
            if kept.spool is None and kept.content is None:
                continue
            if await on_disk(_is_short, kept):
                if self.is_in_use and kept not in (await on_disk(look)).kept:
                    continue  # it was stored since we looked
                text = f"{kept.key}: the journal names bytes that are not in the spool"
                found.append(Finding(text=f"{text} ({kept.name})"))
            elif not self.is_in_use:
                why = kept.reason or kept.what
                text = f"{kept.key} is kept and not in the store: {why}"
                found.append(Finding(text=text, is_fault=bool(kept.reason)))
        return found

    # --- in the store ---------------------------------------------------------------

    async def _listing(self) -> dict[str, Object]:
        objects: dict[str, Object] = {}
        token: str | None = None
        while True:
            try:
                page = await self.store.list("", mode=ListMode.PREFIX, token=token)
            except NotFound:
                return objects
            objects.update({object.key: object for object in page.objects})
            if page.token is None:
                return objects
            token = page.token

    def _leftovers(self, listing: dict[str, Object]) -> list[Finding]:
        found = []
        for key, object in listing.items():
            if key.endswith("/"):
                continue
            if key.startswith(UNLINKED):
                found += self._unlinked(object)
            elif key.startswith(EXCHANGE):
                text = f"{key}: a file that was changing places is set aside here"
                more = "the next mount of the host that did it puts it in its place"
                found.append(Finding(text=f"{text}; {more}"))
            elif key.startswith(PROBE) and _age_ns(object) > PROBE_AGE_NS:
                text = f"{key}: a trial object that a mount did not remove"
                found.append(self._deletion(object, text))
            elif key == zeros.KEY and _age_ns(object) > PROBE_AGE_NS:
                text = f"{key}: zeros for holes of a file that was being stored"
                found.append(self._deletion(object, text))
        return found

    def _unlinked(self, object: Object) -> list[Finding]:
        owner = object.key.removeprefix(UNLINKED).partition("/")[0]
        text = f"{object.key}: bytes of an open file that lost its name"
        if owner != self.owner:
            more = "another host's, which may still have it open"
            return [Finding(text=f"{text}: {more}", is_fault=False)]
        if self.is_in_use:
            return []
        return [self._deletion(object, f"{text}, and no program has it open any more")]

    async def _records(
        self,
        listing: dict[str, Object],
        prefix: str,
        look: Callable[[Object, bytes, dict[str, Object]], list[Finding]],
    ) -> list[Finding]:
        """Read every object below a prefix, and look at each."""
        keys = [k for k in listing if k.startswith(prefix) and not k.endswith("/")]
        contents = await run_all(
            [partial(self._read, key) for key in keys], at_once=REQUESTS_MAX
        )
        found: list[Finding] = []
        for content in contents:
            if isinstance(content, Finding):
                found.append(content)
            elif content is not None:
                found += look(content[0], content[1], listing)
        return found

    async def _read(self, key: str) -> tuple[Object, bytes] | Finding | None:
        try:
            content = await self.store.read(key)
        except NotFound:
            return None  # gone since it was listed
        except StoreError as error:
            return Finding(text=f"{key} cannot be read: {error.reason}")
        return content.object, content.data

    def _group(
        self, record: Object, content: bytes, listing: dict[str, Object]
    ) -> list[Finding]:
        try:
            names = groups.decode(content, record.key)
        except Corrupt as error:
            return [Finding(text=f"{record.key}: {error.reason}")]
        gone = sorted(name for name in names if name not in listing)
        if names and len(gone) < len(names):
            return [
                Finding(text=f"{record.key}: the name {name} of a file is gone")
                for name in gone
            ]
        text = f"{record.key}: the names of a file of which none is left"
        return [self._deletion(record, text)]

    def _index(
        self, shard: Object, content: bytes, listing: dict[str, Object]
    ) -> list[Finding]:
        directory = index_format.directory_of(content)
        if directory is None:
            text = f"{shard.key}: a damaged index, which counts as empty"
            return [Finding(text=f"{text} and is written anew")]
        is_gone = directory != "" and not any(k.startswith(directory) for k in listing)
        if is_gone:
            text = f"{shard.key}: the index of {directory}, which is gone"
            return [self._deletion(shard, text)]
        number = shard.key.rpartition("/")[2]
        try:
            told = index_format.decode(directory, int(number), content)
        except UnknownFormat as error:
            text = f"{shard.key}: a newer mountfs wrote this index ({error})"
            return [Finding(text=text, is_fault=False)]
        except (Damaged, ValueError):
            return [Finding(text=f"{shard.key}: this is no index of {directory}")]
        old = [
            name
            for name, record in told.entries.items()
            if not name.endswith("/")
            and name
            and record.content is not None
            and not _is_current(record, listing.get(directory + name))
        ]
        text = f"{shard.key}: {len(old)} entries of {directory or '/'} are outdated"
        more = "they are not believed, and replaced in time"
        return [Finding(text=f"{text}; {more}", is_fault=False)] if old else []

    async def _sidecars(self, listing: dict[str, Object]) -> list[Finding]:
        prefix = sidecars.PREFIX
        there = {key.removeprefix(prefix) for key in listing if key.startswith(prefix)}
        keys = [k for k in listing if not k.startswith(".mountfs/")]
        if not there:
            return []  # then metadata are not worth a request for each object
        named = await run_all(
            [partial(self._sidecar_of, key) for key in keys], at_once=REQUESTS_MAX
        )
        wanted = {name: key for key, name in zip(keys, named, strict=True) if name}
        lost = [
            Finding(text=f"{key}: its extended attributes ({name}) are gone")
            for name, key in wanted.items()
            if name not in there
        ]
        # A copy outside of what is mounted here may need it: so it stays.
        return lost + [
            Finding(
                text=f"{prefix}{name}: extended attributes that no object here names",
                is_fault=False,
            )
            for name in sorted(there - wanted.keys() - {""})
        ]

    async def _sidecar_of(self, key: str) -> str | None:
        try:
            metadata = (await self.store.stat(key)).metadata
        except StoreError:
            return None
        return (
            metadata.user.get(dialects.SIDECAR_NAME) if metadata is not None else None
        )

    async def _uploads(self) -> list[Finding]:
        if self.store.capabilities.multipart is None or self.is_in_use:
            return []
        known = await on_disk(salvage.uploads, self.state_dir)
        found = []
        for upload in await self.store.list_uploads(""):
            is_ours = upload.id in known
            text = f"{upload.key}: an upload that is not finished"
            more = (
                "ours; the next mount goes on with it or ends it"
                if is_ours
                else "not known to be ours, and left alone"
            )
            found.append(Finding(text=f"{text}, {more}", is_fault=is_ours))
        return found

    def _deletion(self, object: Object, text: str) -> Finding:
        return Finding(
            text=text,
            remedy=f"delete {object.key}",
            mend=partial(self._delete, object),
        )

    async def _delete(self, object: Object) -> None:
        is_able = Call.DELETE in self.store.capabilities.conditions
        newest = await self.store.stat(object.key)
        if newest.version != object.version and not is_able:
            return  # it changed since, so somebody needs it
        condition = object.version if is_able else None
        await self.store.delete(object.key, condition=condition)


def audit_of(
    store: Storager, config: MountConfig, identity: str, *, is_in_use: bool
) -> Audit:
    """Return what checks a store, and what is kept of it here under its identity."""
    state_dir = config.state_dir / identity
    owner = state_dir / "owner"
    return Audit(
        store=RetryStorager(store, RetryPolicy()),
        state_dir=state_dir,
        cache_dir=config.cache_dir / identity,
        owner=owner.read_text() if owner.exists() else None,
        is_in_use=is_in_use,
        url=config.url,
        is_read_only=config.read_only,
    )


async def mend(findings: Iterable[Finding]) -> list[str]:
    """Do what can be done about what was found; return a line about each."""
    lines = []
    for finding in findings:
        if finding.mend is None:
            continue
        try:
            await finding.mend()
        except (StoreError, OSError) as error:
            lines.append(f"failed: {finding.remedy}: {error}")
        else:
            lines.append(f"done: {finding.remedy}")
    return lines


def report(findings: list[Finding]) -> list[str]:
    """Return what was found, as lines for people, and what could be done about it."""
    lines = []
    for finding in findings:
        lines.append(("" if finding.is_fault else "note: ") + finding.text)
        if finding.remedy is not None:
            lines.append(f"  could be mended: {finding.remedy}")
    return lines or ["everything agrees"]


def _is_current(record: Record, listed: Object | None) -> bool:
    return listed is not None and record.is_of(listed)


def _age_ns(object: Object) -> int:
    return time.time_ns() - object.mtime_ns if object.mtime_ns is not None else 0


def _is_short(kept: Kept) -> bool:
    """Tell whether bytes that the journal names are not in the spool."""
    if kept.spool is None:
        return False
    needed = max((end for _, end in kept.extents), default=0)
    try:
        return kept.spool.stat().st_size < needed
    except OSError:
        return True
