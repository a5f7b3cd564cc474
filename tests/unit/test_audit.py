"""`mountfs check`: what is wrong is told, and only what is ours and useless deleted."""

import dataclasses
import gzip
import time
from pathlib import Path

import pytest

from mountfs.backends.memory import MemoryStore
from mountfs.cache import index_format
from mountfs.cache.index_format import Shard
from mountfs.cache.records import Record
from mountfs.serving import audit
from mountfs.serving.audit import Audit, Finding
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import Unreachable
from mountfs.storage.types import Metadata, Object
from mountfs.vfs import groups
from tests.fakes.cache_stack import open_stack

DAY_NS = 24 * 3600 * 10**9


class Scene:
    """A store, and the directories of a mount that has gone."""

    def __init__(self, place: Path) -> None:
        self.store = MemoryStore()
        self.place = place
        for name in ("state", "cache"):
            (place / name).mkdir()

    async def put(self, key: str, content: bytes = b"x", **user: str) -> Object:
        metadata = Metadata(user={k.replace("_", "-"): v for k, v in user.items()})
        return await self.store.write(key, BytesBody(content), metadata=metadata)

    def audit(self, *, is_in_use: bool = False) -> Audit:
        return Audit(
            store=self.store,
            state_dir=self.place / "state",
            cache_dir=self.place / "cache",
            owner="us",
            is_in_use=is_in_use,
        )

    async def texts(self) -> list[str]:
        """Return what is found: faults as they are, notes marked."""
        return [
            ("" if each.is_fault else "note: ") + each.text
            for each in await self.audit().run()
        ]

    async def mend(self) -> set[str]:
        """Mend what can be; return the keys that are gone by that."""
        before = set(self.store.bucket.entries)
        await audit.mend(await self.audit().run())
        return before - set(self.store.bucket.entries)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


async def test_a_store_in_order_has_nothing_to_tell(scene: Scene) -> None:
    """Files, a group with all its names and a good index are no findings."""
    known = await scene.put("d/a")
    assert known.version is not None
    names = {"d/a": known.version.content}
    await scene.put(f"{groups.FOLDER}id", groups.encode(names))
    record = Record(size=1, time_ns=known.mtime_ns, content=known.version.content)
    shard = index_format.encode("d/", Shard(entries={"a": record}))
    await scene.put(index_format.shard_key("d/", 0), shard)

    found = await scene.audit().run()

    assert found == []
    assert audit.report(found) == ["everything agrees"]


async def test_only_our_own_unlinked_files_are_deleted(scene: Scene) -> None:
    """Those of other hosts are told of: a program may have them open there."""
    await scene.put(".mountfs/unlinked/us/1")
    await scene.put(".mountfs/unlinked/them/1")

    texts = await scene.texts()

    assert len(texts) == 2
    assert any(text.startswith("note: .mountfs/unlinked/them/1") for text in texts)
    assert await scene.mend() == {".mountfs/unlinked/us/1"}


async def test_a_mount_that_lives_keeps_its_own(scene: Scene) -> None:
    """What an open file needs is no leftover."""
    await scene.put(".mountfs/unlinked/us/1")

    assert await scene.audit(is_in_use=True).run() == []


async def test_what_is_set_aside_in_an_exchange_is_never_deleted(scene: Scene) -> None:
    """It may be the only copy of somebody's file."""
    await scene.put(".mountfs/exchange/1")

    (text,) = await scene.texts()
    assert "a file that was changing places" in text
    assert await scene.mend() == set()


@pytest.mark.parametrize("age_days", [0, 2])
@pytest.mark.parametrize("key", [".mountfs/probe-1", ".mountfs/zeros"])
async def test_old_trial_objects_are_deleted(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, key: str, age_days: int
) -> None:
    """What a mount may be using just now is left alone."""
    await scene.put(key)
    now_ns = time.time_ns() + age_days * DAY_NS
    monkeypatch.setattr(time, "time_ns", lambda: now_ns)

    assert await scene.mend() == ({key} if age_days else set())


async def test_a_record_of_names_that_are_gone_is_deleted(scene: Scene) -> None:
    """With a name left it stays, and the lost one is told."""
    await scene.put("there")
    await scene.put(f"{groups.FOLDER}half", groups.encode({"there": "1", "gone": "2"}))
    await scene.put(f"{groups.FOLDER}none", groups.encode({"gone": "2"}))
    await scene.put(f"{groups.FOLDER}bad", b"no record")

    texts = await scene.texts()

    assert sorted(texts) == [
        ".mountfs/links/bad: no group record of this version of mountfs",
        ".mountfs/links/half: the name gone of a file is gone",
        ".mountfs/links/none: the names of a file of which none is left",
    ]
    assert await scene.mend() == {f"{groups.FOLDER}none"}


async def test_an_index_of_a_directory_that_is_gone_is_deleted(scene: Scene) -> None:
    """Damaged, newer and outdated ones are told of and stay."""
    await scene.put("d/a")
    entries = {"a": Record(size=9, content="old"), "gone": Record(content="x", size=1)}
    good = index_format.encode("d/", Shard(entries=entries))
    newer = index_format._unpacked(good).replace(b'"format":1', b'"format":99')
    await scene.put(index_format.shard_key("d/", 0), good)
    await scene.put(
        index_format.shard_key("gone/", 0), index_format.encode("gone/", Shard())
    )
    await scene.put(index_format.shard_key("bad/", 0), b"no gzip")
    await scene.put(index_format.shard_key("d/", 1), gzip.compress(newer))

    texts = await scene.texts()

    assert len(texts) == 4
    assert sum("2 entries of d/ are outdated" in text for text in texts) == 1
    assert sum("a damaged index" in text for text in texts) == 1
    assert sum("a newer mountfs wrote this index" in text for text in texts) == 1
    assert await scene.mend() == {index_format.shard_key("gone/", 0)}


async def test_extended_attributes_apart_are_told_and_never_deleted(
    scene: Scene,
) -> None:
    """A lost one is a fault, one that nobody names a note."""
    await scene.put(".mountfs/xattr/used")
    await scene.put(".mountfs/xattr/unused")
    await scene.put("a", mountfs_xattr="used")
    await scene.put("b", mountfs_xattr="lost")

    texts = await scene.texts()

    assert texts == [
        "b: its extended attributes (lost) are gone",
        "note: .mountfs/xattr/unused: extended attributes that no object here names",
    ]
    assert await scene.mend() == set()


async def test_what_changed_since_it_was_looked_at_stays(scene: Scene) -> None:
    """Somebody who writes it anew needs it."""
    key = f"{groups.FOLDER}none"
    await scene.put(key, groups.encode({"gone": "2"}))
    findings = await scene.audit().run()
    await scene.put(key, groups.encode({"new": "3"}))

    lines = await audit.mend(findings)

    assert key in scene.store.bucket.entries
    assert lines[0].startswith("failed: delete")


async def test_damaged_blocks_are_found_and_deleted(scene: Scene) -> None:
    """A block whose bytes do not match its checksum goes; the good ones stay."""
    known = [await scene.put(name, bytes(range(40))) for name in "abc"]
    async with open_stack(scene.store, scene.place) as stack:
        for each in known:
            await stack.blocks.read(each, 0, 40)
    blocks = sorted((scene.place / "cache" / "blocks").glob("?/*"))
    assert len(blocks) == 3
    blocks[0].write_bytes(blocks[0].read_bytes()[:-1] + b"!")
    blocks[1].rename(blocks[1].with_name("f" * 32 + ".0+3"))

    found = await scene.audit().run()
    await audit.mend(found)

    assert len(found) == 2
    assert all("do not match their checksum" in each.text for each in found)
    assert list((scene.place / "cache" / "blocks").glob("?/*")) == [blocks[2]]
    assert await scene.audit().run() == []


@pytest.mark.parametrize("harm", ["none", "short", "missing", "journal"])
async def test_the_journal_is_compared_with_the_spool(scene: Scene, harm: str) -> None:
    """What is kept is told, bytes that are missing are, and a damaged journal is."""
    async with open_stack(scene.store, scene.place) as stack:
        dirty = stack.writeback.begin("new", None)
        await stack.writeback.write(dirty, 0, b"123456789", metadata=Metadata)
        error = Unreachable("no route")
        await stack.writeback.keep_failed(dirty, error, Metadata())
    (spool,) = (scene.place / "state" / "spool").glob("*.spool")
    match harm:
        case "short":
            spool.write_bytes(b"123")
        case "missing":
            spool.unlink()
        case "journal":
            (scene.place / "state" / "journal.sqlite").write_bytes(b"no journal" * 100)
        case _:
            pass

    texts = await scene.texts()

    expected = {
        "none": "new is kept and not in the store: no route",
        "short": "new: the journal names bytes that are not in the spool",
        "missing": "new: the journal names bytes that are not in the spool",
        "journal": "see `mountfs recover",
    }
    assert expected[harm] in texts[0]
    assert scene.store.bucket.entries.keys() == set()


async def test_uploads_are_told_and_left_alone(scene: Scene) -> None:
    """Nobody can prove whose an upload is that no journal knows."""
    await scene.store.create_multipart("big")

    (text,) = await scene.texts()

    assert text.startswith("note: big: an upload that is not finished, not known")
    await scene.mend()
    assert len(await scene.store.list_uploads("")) == 1


def test_what_could_be_done_is_explained() -> None:
    """A report names the remedy before anything is done."""
    finding = Finding(text="bad", remedy="delete x")
    note = dataclasses.replace(finding, is_fault=False, remedy=None)

    assert audit.report([finding, note]) == [
        "bad",
        "  could be mended: delete x",
        "note: bad",
    ]
