"""`mountfs features`: what a store does by itself, what is emulated, and the limits."""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import trio

from mountfs.backends import open_store
from mountfs.configuration.config import StoreConfig
from mountfs.configuration.values import format_size
from mountfs.errors import UsageError
from mountfs.sentences import sentence_about
from mountfs.storage.errors import StoreError
from mountfs.storage.protocol import Storager
from mountfs.storage.types import Call, Capabilities, Features

How = Literal["native", "virtual", "none"]

_CLAIMED = "as claimed; a mount tries it"
_LOOKED_AT = "looked at before it is sent: a change in between is lost"


@dataclass(frozen=True, slots=True)
class Row:
    """How one operation is done on a store."""

    operation: str
    how: How
    gate: str | None = None
    """The gate that the emulation needs."""
    is_on: bool = True
    """False: it could be emulated, and the gate is off."""
    limits: tuple[str, ...] = ()


def rows(capabilities: Capabilities, features: Features) -> tuple[Row, ...]:
    """Return one row per operation of the contract, in the order of the contract."""
    return (
        *_reading(capabilities),
        *_writing(capabilities),
        *_emulated(capabilities, features),
        *_conditions(capabilities),
        Row("sign_read", "native" if capabilities.signed_urls else "none"),
    )


def _reading(able: Capabilities) -> Iterator[Row]:
    yield Row("stat", "native")
    yield Row("list", "native", limits=(f"{able.list_page_max} keys a page",))
    yield Row("read", "native")


def _writing(able: Capabilities) -> Iterator[Row]:
    utf8 = ("keys are UTF-8",) if able.utf8_keys else ()
    key = (f"keys of {able.key_size_max} bytes",) if able.key_size_max else ()
    yield Row(
        "write",
        "native",
        limits=(
            *_at_most("objects", able.object_size_max),
            *_at_most("one request", able.write_size_max),
            *key,
            *utf8,
        ),
    )
    yield Row("delete", "native")
    batch = (f"{able.delete_many_max} keys a request",)
    is_batched = able.delete_many_max > 1
    yield Row("delete_many", "native", limits=batch if is_batched else ())
    multipart = able.multipart
    if multipart is None:
        yield Row("multipart", "none")
        return
    smallest, largest = multipart.part_size_min, multipart.part_size_max
    equal = ("parts of one size",) if multipart.equal_parts else ()
    yield Row(
        "multipart",
        "native",
        limits=(
            f"parts of {format_size(smallest)} to {format_size(largest)}",
            f"{multipart.parts_max} parts",
            *equal,
        ),
    )
    yield Row("multipart_copy", "native" if able.multipart_copy else "none")


def _emulated(able: Capabilities, features: Features) -> Iterator[Row]:
    def row(
        operation: str, *, is_native: bool, gate: str, limits: tuple[str, ...] = ()
    ) -> Row:
        if is_native:
            return Row(operation, "native", limits=limits)
        return Row(operation, "virtual", gate, gate in features.names(), limits)

    copy = _at_most("one request", able.copy_size_max)
    yield Row("copy", "native" if able.copy else "none", limits=copy)
    yield row("move", is_native=able.move, gate="virtual_move")
    yield row("move of directories", is_native=able.move_dir, gate="virtual_move")
    yield row("make_dir", is_native=able.native_dirs, gate="virtual_dir")
    yield row("make_link", is_native=able.native_links, gate="virtual_link")
    yield row("append", is_native=able.append, gate="virtual_append")
    metadata = _at_most("an object", able.metadata_size_max)
    yield Row("metadata", "native" if able.metadata else "none", limits=metadata)
    for operation, is_native, gate in (
        ("attributes", able.attributes, "virtual_object_metadata"),
        ("extended attributes", able.xattrs, "virtual_xattr"),
        ("hard links", able.groups, "virtual_hard_link"),
        ("special files", able.specials, "virtual_special"),
    ):
        # They ride in metadata, or not at all.
        if is_native or able.metadata:
            yield row(operation, is_native=is_native, gate=gate)
        else:
            yield Row(operation, "none")
    yield row("list attributes", is_native=able.list_metadata, gate="virtual_index")
    if able.metadata:
        has_links = not able.native_links or able.link_metadata
        for what, is_native in (
            ("directory", able.dir_metadata),
            ("link", has_links),
            ("root", able.root_metadata),
        ):
            yield row(f"{what} attributes", is_native=is_native, gate="virtual_index")
    pairs = (", ".join(sorted(able.pairs)),) if able.pairs else ()
    yield row("pairs", is_native=bool(able.pairs), gate="virtual_pair", limits=pairs)
    yield Row("set_metadata", "native" if able.set_metadata else "none")


def _conditions(able: Capabilities) -> Iterator[Row]:
    for call in Call:
        if call in able.conditions:
            yield Row(f"conditional {call.value}", "native", limits=(_CLAIMED,))
        else:
            yield Row(f"conditional {call.value}", "none", limits=(_LOOKED_AT,))


def _at_most(what: str, size: int | None) -> tuple[str, ...]:
    return (f"{what} up to {format_size(size)}",) if size is not None else ()


def report(settings: StoreConfig, *, as_json: bool) -> str:
    """Open the store and return the report on it. Raises `UsageError`."""
    able = trio.run(_capabilities, settings)
    found = rows(able, settings.features)
    return (
        _as_json(settings, able, found) if as_json else _as_text(settings, able, found)
    )


async def _capabilities(settings: StoreConfig) -> Capabilities:
    try:
        store: Storager = open_store(settings.url, settings.store_options)
    except StoreError as error:
        raise UsageError(sentence_about(settings.url, error)) from error
    try:
        return store.capabilities
    finally:
        await store.close()


def _as_json(settings: StoreConfig, able: Capabilities, found: tuple[Row, ...]) -> str:
    document = {
        "url": settings.url,
        "service": able.service,
        "features": settings.features.names(),
        "operations": {row.operation: _json_row(row) for row in found},
    }
    return json.dumps(document, indent=2)


def _json_row(row: Row) -> dict[str, object]:
    fields = dataclasses.asdict(row)
    del fields["operation"]
    return fields


def _as_text(settings: StoreConfig, able: Capabilities, found: tuple[Row, ...]) -> str:
    lines = [f"{settings.url} ({able.service})", ""]
    lines += [
        f"{row.operation:<22}{_how(row):<48}{'; '.join(row.limits)}".rstrip()
        for row in found
    ]
    return "\n".join(lines)


def _how(row: Row) -> str:
    if row.how != "virtual":
        return row.how
    return f"virtual, {'on' if row.is_on else 'off'} ({row.gate})"
