"""Answers that cannot be true go no further than the layer above the store."""

import dataclasses
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mountfs.backends.memory import MEMORY_CAPABILITIES, MemoryStore
from mountfs.fuse.attributes import entry_of
from mountfs.storage.dialects import ATTRIBUTE_NAMES, LINK_NAMES, Fields, decode
from mountfs.storage.errors import Corrupt, ServiceFailed, StoreError, VersionChanged
from mountfs.storage.types import (
    Capabilities,
    Content,
    ListMode,
    Metadata,
    Object,
    ObjectKind,
    Page,
    Version,
)
from mountfs.storage.vetted import SIZE_MAX, VettedStorager
from mountfs.vfs import pages
from mountfs.vfs.attributes import Defaults, Stat, effective
from mountfs.vfs.inodes import Inode
from mountfs.vfs.pages import list_all

AT_LENGTH = 2000 if "AT_LENGTH" in os.environ else 0


class Lying(MemoryStore):
    """A store that answers what it was told to, whatever is asked."""

    def __init__(
        self,
        *,
        page: Page | None = None,
        content: Content | None = None,
        able: Capabilities = MEMORY_CAPABILITIES,
    ) -> None:
        super().__init__(capabilities=able)
        self._page = page
        self._content = content

    async def list(self, *_: object, **__: object) -> Page:
        assert self._page is not None
        return self._page

    async def read(self, *_: object, **__: object) -> Content:
        assert self._content is not None
        return self._content

    async def stat(self, *_: object, **__: object) -> Object:
        assert self._page is not None
        return self._page.objects[0]


def vetted(*objects: Object, token: str | None = None) -> VettedStorager:
    """Return a store whose every listing is that of these objects."""
    return VettedStorager(Lying(page=Page(objects, token)))


@pytest.mark.parametrize(
    "object",
    [
        Object(key="a", size=-1),
        Object(key="a", size=1 << 63),
        Object(key="a", size=1, mtime_ns=1 << 63),
        Object(key="a", size=1, mtime_ns=-(1 << 63)),
    ],
)
async def test_numbers_that_no_kernel_takes_are_refused(object: Object) -> None:
    """In listings, and of one object, and of what is read."""
    with pytest.raises(ServiceFailed):
        await vetted(object).list("")
    with pytest.raises(ServiceFailed):
        await vetted(object).stat("a")
    with pytest.raises(ServiceFailed):
        await VettedStorager(Lying(content=Content(object, b""))).read("a")


@pytest.mark.parametrize("key", ["b/x", "a", "", "../a/x", "a/x/y", "a/x/y/"])
async def test_keys_of_elsewhere_are_refused(key: str) -> None:
    """A directory has its own children, and nothing from above or below."""
    with pytest.raises(ServiceFailed):
        await vetted(Object(key=key, size=1)).list("a/")


async def test_an_endless_key_is_refused() -> None:
    """No store has keys longer than it says."""
    with pytest.raises(ServiceFailed):
        await vetted(Object(key="a" * 100_000, size=1)).list("")


async def test_a_key_that_is_no_text_is_refused() -> None:
    """Where keys must be; no request could name it."""
    able = dataclasses.replace(MEMORY_CAPABILITIES, utf8_keys=True)
    store = Lying(page=Page((Object(key="\udcff", size=1),), None))
    assert (await VettedStorager(store).list("")).objects

    store = Lying(page=Page((Object(key="\udcff", size=1),), None), able=able)
    with pytest.raises(ServiceFailed):
        await VettedStorager(store).list("")


async def test_a_page_that_leads_to_itself_is_refused() -> None:
    """Whoever follows it would never end."""
    store = vetted(token="1")

    assert (await store.list("", token="0")).token == "1"
    with pytest.raises(ServiceFailed):
        await store.list("", token="1")


async def test_what_was_asked_for_passes() -> None:
    """Children, directories, and below a prefix everything."""
    child, below = Object(key="a/x", size=1), Object(key="a/y/z", size=1)
    directory = Object(key="a/y/", kind=ObjectKind.DIRECTORY)

    assert len((await vetted(child, directory).list("a/")).objects) == 2
    page = await vetted(child, directory, below).list("a/", mode=ListMode.PREFIX)
    assert len(page.objects) == 3


@pytest.mark.parametrize(
    ("offset", "size", "data", "whole"),
    [(0, 2, b"123", 10), (9, 5, b"12", 10), (20, 5, b"1", 10)],
)
async def test_bytes_that_nobody_asked_for_are_corrupt(
    offset: int, size: int, data: bytes, whole: int
) -> None:
    """More than wanted, or from behind the end."""
    content = Content(Object(key="a", size=whole), data)

    with pytest.raises(Corrupt):
        await VettedStorager(Lying(content=content)).read("a", offset, size)


async def test_no_other_version_is_believed() -> None:
    """A store that ignores which version is wanted mixes no two in one file."""
    known = Object(key="a", size=1, version=Version("2"))
    store = VettedStorager(Lying(content=Content(known, b"x")))

    assert (await store.read("a", version=Version("2", "any"))).data == b"x"
    with pytest.raises(VersionChanged):
        await store.read("a", version=Version("1"))


@pytest.mark.parametrize("is_empty", [True, False])
async def test_a_listing_without_end_is_given_up(
    monkeypatch: pytest.MonkeyPatch, *, is_empty: bool
) -> None:
    """Of always other pages, full or empty, so many are taken and no more."""
    monkeypatch.setattr(pages, "ENTRIES_MAX", 50)
    monkeypatch.setattr(pages, "EMPTY_PAGES_MAX", 50)
    asked = 0

    class Endless(MemoryStore):
        async def list(self, *_: object, **__: object) -> Page:
            nonlocal asked
            asked += 1
            some = (Object(key=f"a{asked}", size=1),)
            return Page(() if is_empty else some, str(asked))

    with pytest.raises(ServiceFailed, match="no end"):
        await list_all(VettedStorager(Endless()), "")
    assert asked == 51


OBJECTS = st.builds(
    Object,
    key=st.text(max_size=20),
    kind=st.sampled_from(ObjectKind),
    size=st.none() | st.integers(),
    mtime_ns=st.none() | st.integers(),
)


@settings(max_examples=AT_LENGTH or 40)
@given(objects=st.lists(OBJECTS, max_size=4), prefix=st.sampled_from(["", "a/"]))
async def test_whatever_is_listed(objects: list[Object], prefix: str) -> None:
    """It is refused, or fits what was asked and what the kernel takes."""
    store = vetted(*(dataclasses.replace(each) for each in objects))
    try:
        page = await store.list(prefix)
    except StoreError:
        return
    for each in page.objects:
        assert each.key.startswith(prefix)
        assert "/" not in each.key[len(prefix) :].removesuffix("/")
        assert 0 <= (each.size or 0) < 1 << 63


NUMBERS = st.sampled_from(["-1", "0", "9" * 30, "1e999", "99999999999.9", "0x7f", "٣"])
METADATA = st.dictionaries(
    st.sampled_from(sorted(ATTRIBUTE_NAMES | LINK_NAMES)),
    NUMBERS | st.integers().map(str) | st.text(max_size=30),
)


@settings(max_examples=AT_LENGTH or 40)
@given(user=METADATA, size=st.integers(0, SIZE_MAX), time_ns=st.integers(0, 1 << 62))
def test_whatever_metadata_say_the_kernel_takes_it(
    user: dict[str, str], size: int, time_ns: int
) -> None:
    """No mode, owner, time or device number of anybody is more than it has room for."""
    decoded = decode(user, Fields(posix=True, xattrs=True, group=True))
    object = Object(
        key="a",
        kind=decoded.kind,
        size=size,
        mtime_ns=time_ns,
        metadata=Metadata(attributes=decoded.attributes),
    )
    seen = effective(object, Defaults(uid=0, gid=0))
    assert seen.mode is not None
    assert seen.uid is not None
    assert seen.gid is not None
    assert seen.atime_ns is not None
    assert seen.mtime_ns is not None
    assert seen.ctime_ns is not None

    entry = entry_of(
        Stat(
            inode=Inode(2),
            generation=0,
            mode=seen.mode,
            links=1,
            uid=seen.uid,
            gid=seen.gid,
            size=size,
            atime_ns=seen.atime_ns,
            mtime_ns=seen.mtime_ns,
            ctime_ns=seen.ctime_ns,
            rdev=seen.rdev or 0,
        ),
        1.0,
    )
    assert (entry.st_size, entry.st_uid) == (size, seen.uid)
    assert decoded.link_target is None or "\0" not in decoded.link_target
