"""Names: bytes that come back as they were given, or are refused with a reason."""

import pytest

from mountfs.storage.body import BytesBody
from mountfs.storage.errors import (
    AlreadyExists,
    InvalidRequest,
    KeyTooLong,
    StoreError,
)
from mountfs.storage.protocol import Storager
from mountfs.storage.types import ABSENT, ListMode
from tests.conformance.steps import get, is_absent, keys_of, put
from tests.conformance.stores import Quirk, Subject

PLAIN = {
    "space-inside": "a b",
    "leading-space": " a",
    "trailing-space": "a ",
    "only-space": " ",
    "backslash": "a\\b",
    "percent": "100%",
    "percent-escape": "a%2Fb%20c%00",
    "plus": "a+b",
    "question": "a?b=c&d",
    "hash": "a#b",
    "newline": "a\nb",
    "return": "a\rb",
    "tab": "a\tb",
    "control": "a\x01b\x7fc",
    "quotes": "a'b\"c`d",
    "angle": "<a>&amp;</a>",
    "hidden": ".hidden",
    "three-dots": "...",
    "dot-at-end": "a.",
    "dash": "-rf",
    "star": "*?[a]",
    "colon": "a:b|c",
    "tilde": "~",
    "at-yen": "a@b¥c&d",
    "composed": "caf\u00e9",
    "decomposed": "cafe\u0301",
    "emoji": "\U0001f40d",
    "right-to-left": "\u05d0\u05d1",
    "zero-width": "a\u200bb",
    "byte-order-mark": "\ufeffa",
    "non-character": "a\uffffb",
    "case": "ReadMe",
    "longest-name": "n" * 255,
}

NOT_UTF8 = {
    "latin-1": "caf\udce9",
    "lone-byte": "\udcff",
    "cut-sequence": "a\udce2\udc82",
}

NO_PATH = {
    "double-slash": "a//b",
    "leading-slash": "/a",
    "dot": "a/./b",
    "dots": "a/../b",
    "only-dots": "..",
    "only-dot": ".",
}


def _cases(names: dict[str, str]) -> list[object]:
    return [pytest.param(name, id=label) for label, name in names.items()]


async def _check_round_trip(store: Storager, key: str) -> None:
    await put(store, key, b"bytes")
    assert await get(store, key) == b"bytes"
    assert (await store.stat(key)).key == key
    listed = await keys_of(store, "", ListMode.PREFIX)
    assert [name for name in listed if not name.endswith("/")] == [key]
    await store.delete(key)
    assert await is_absent(store, key)


async def _is_kept(store: Storager, key: str) -> bool:
    """Tell whether the store takes a key and lists it as it was given."""
    try:
        await put(store, key, b"bytes")
    except StoreError:
        return False
    return key in await keys_of(store, "", ListMode.PREFIX)


@pytest.mark.parametrize("name", _cases(PLAIN))
async def test_every_name_survives(
    store: Storager, subject: Subject, name: str
) -> None:
    """What a program may call a file is its key, to the byte, also as a directory."""
    if (
        (Quirk.REWRITES_KEYS in subject.quirks and "\\" in name)
        or (Quirk.REFUSES_NEWLINES in subject.quirks and "\n" in name)
        or (Quirk.REFUSES_RETURNS in subject.quirks and "\r" in name)
    ):
        assert not await _is_kept(store, name), "the quirk is gone: take it away"
        return

    await _check_round_trip(store, name)
    await _check_round_trip(store, f"dir/{name}")
    await _check_round_trip(store, f"{name}/{name}")


@pytest.mark.parametrize("name", _cases(NOT_UTF8))
async def test_bytes_that_are_not_utf8_survive_or_are_refused(
    store: Storager, name: str
) -> None:
    """Stores that take bytes keep them; the others say so before anything is sent."""
    if store.capabilities.utf8_keys:
        for key in (name, f"dir/{name}", f"{name}/file"):
            with pytest.raises(InvalidRequest):
                await put(store, key, b"bytes")
        return

    await _check_round_trip(store, name)
    await _check_round_trip(store, f"{name}/{name}")


@pytest.mark.parametrize("key", _cases(NO_PATH))
async def test_keys_that_are_no_paths_survive_or_are_refused(
    store: Storager, subject: Subject, key: str
) -> None:
    """Key stores keep them as they are; a directory tree refuses them."""
    if store.capabilities.native_dirs:
        for request in (store.stat, store.read, store.delete):
            with pytest.raises(InvalidRequest):
                await request(key)
        with pytest.raises(InvalidRequest):
            await put(store, key, b"bytes")
        return
    if Quirk.REWRITES_KEYS in subject.quirks:
        assert not await _is_kept(store, key), "the quirk is gone: take it away"
        return

    await _check_round_trip(store, key)


async def test_what_no_request_can_name_is_told_beforehand(store: Storager) -> None:
    """`key_check` refuses just what the store refuses, without asking it."""
    able = store.capabilities
    expected = set(NO_PATH.values()) if able.native_dirs else set()
    if able.service == "gs":
        expected = {PLAIN["newline"], PLAIN["return"]}
    refused = set()
    for key in (*PLAIN.values(), *NO_PATH.values()):
        try:
            if able.key_check is not None:
                able.key_check(key)
        except InvalidRequest:
            refused.add(key)

    assert refused == expected
    for key in refused:
        with pytest.raises(InvalidRequest):
            await put(store, key, b"bytes")


async def test_normal_forms_are_two_names(store: Storager) -> None:
    """Nothing is normalised: a composed and a decomposed name are two objects."""
    await put(store, PLAIN["composed"], b"composed")
    await put(store, PLAIN["decomposed"], b"decomposed")

    assert await get(store, PLAIN["composed"]) == b"composed"
    assert await get(store, PLAIN["decomposed"]) == b"decomposed"


async def test_case_is_kept_apart(store: Storager, subject: Subject) -> None:
    """Names that differ in case are two objects, or the second is refused."""
    await put(store, "Name", b"upper")
    if Quirk.FOLDS_CASE in subject.quirks:
        for condition in (None, ABSENT):
            with pytest.raises(AlreadyExists):
                await store.write("name", BytesBody(b"lower"), condition=condition)
        assert await is_absent(store, "name")
        await store.delete("name")
        assert await get(store, "Name") == b"upper"
        return
    await put(store, "name", b"lower")

    assert await get(store, "Name") == b"upper"
    assert await get(store, "name") == b"lower"


async def test_keys_up_to_the_limit_are_taken(store: Storager) -> None:
    """A key of exactly `key_size_max` bytes works; one more is `KeyTooLong`."""
    limit = store.capabilities.key_size_max
    assert limit is not None, "every store here knows its limit"
    longest = ("0123456789" * 20 + "/") * ((limit - 1) // 201)
    longest = longest.ljust(limit, "x")

    await put(store, longest, b"bytes")
    assert await get(store, longest) == b"bytes"
    with pytest.raises(KeyTooLong):
        await put(store, longest + "y", b"bytes")
    await store.delete(longest)


async def test_limits_count_bytes_not_characters(store: Storager) -> None:
    """A key of few characters and too many bytes is `KeyTooLong`."""
    limit = store.capabilities.key_size_max
    assert limit is not None

    with pytest.raises(KeyTooLong):
        await put(store, "é/" * (limit // 3 + 1) + "x", b"bytes")
