"""What `make test` takes of what is crossed with the stores; `make proof` takes it all.

A test that mounts for itself takes seconds, most of them the same on each store. Each
such test runs on one of them: on S3, or one in four on the local store; what takes
longest, whole applications, on either as often. A test in a mount that many share runs
on S3, and on one of the local store and memory.
"""

import zlib
from collections import defaultdict
from collections.abc import Iterable

import pytest

LONG = {
    "test_applications",
    "test_large_files",
    "test_programs",
    "test_real_tools",
    "test_standard_library",
}
LOCAL_SHARE = 4


def leave_some(items: Iterable[pytest.Item], below: str) -> None:
    """Mark as slow what is left to `make proof`."""
    twins: dict[str, dict[str, pytest.Function]] = defaultdict(dict)
    for item in items:
        if isinstance(item, pytest.Function) and item.nodeid.startswith(below):
            store = _store(item)
            is_slow = item.get_closest_marker("slow") is not None
            if store is not None and "mounter" in item.fixturenames and not is_slow:
                twins[_name_without_store(item)][store] = item
    for name, stores in twins.items():
        if not stores.keys() >= {"local", "s3"}:
            continue
        number = zlib.crc32(name.encode())
        share = 2 if stores["s3"].path.stem in LONG else LOCAL_SHARE
        left = "local" if number % share else "s3"
        stores[left].add_marker(pytest.mark.slow)


def leave_twins(items: Iterable[pytest.Item], below: str) -> None:
    """Of what runs on memory, on the local store and on S3 leave one of the former."""
    twins: dict[str, dict[str, pytest.Function]] = defaultdict(dict)
    for item in items:
        if not isinstance(item, pytest.Function) or not item.nodeid.startswith(below):
            continue
        callspec = getattr(item, "callspec", None)
        places = [
            value
            for value in (callspec.params.values() if callspec is not None else ())
            if value in ("memory", "local", "s3")
        ]
        if len(places) == 1 and callspec is not None:
            others = [part for part in callspec.id.split("-") if part != places[0]]
            name = f"{item.path.stem} {item.originalname} {others}"
            twins[name][places[0]] = item
    for name, found in twins.items():
        if found.keys() >= {"memory", "local", "s3"}:
            left = "memory" if zlib.crc32(name.encode()) % 2 else "local"
            found[left].add_marker(pytest.mark.slow)


def leave_crossed(items: Iterable[pytest.Item], names: Iterable[str]) -> None:
    """Of four crossings of store and durability take two, which have all of both."""
    names = set(names)
    for item in items:
        if item.path.stem not in names or not isinstance(item, pytest.Function):
            continue
        callspec = getattr(item, "callspec", None)
        chosen = callspec.params if callspec is not None else {}
        pair = (chosen.get("store"), chosen.get("durability"))
        if pair in {("s3", "store"), ("local", "journal")}:
            item.add_marker(pytest.mark.slow)


def _store(item: pytest.Function) -> str | None:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("store") if callspec is not None else None


def _name_without_store(item: pytest.Function) -> str:
    """Return what the twin of a test on the other store has in common with it.

    It is the same in every process, as the parameters themselves need not be.
    """
    store = item.callspec.params["store"]
    others = [part for part in item.callspec.id.split("-") if part != store]
    return f"{item.path.stem} {item.originalname} {others}"
