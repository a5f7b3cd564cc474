"""Appending to objects of stores that cannot append.

The old bytes are copied by the store itself, as parts of a multipart upload, where it
can and they are large enough; otherwise they are read and sent again. Either way the
result replaces the object in one step, and only if it is still the one that the
append began with. What is to be appended is kept as bodies, not as bytes.
"""

import itertools
from dataclasses import dataclass

import trio

from mountfs.storage.body import Body, BytesBody
from mountfs.storage.conditions import look_first
from mountfs.storage.errors import ObjectTooLarge
from mountfs.storage.protocol import Storager
from mountfs.storage.splice import SplicedBody
from mountfs.storage.types import (
    NO_METADATA,
    Append,
    Call,
    Capabilities,
    Condition,
    Metadata,
    MultipartLimits,
    Object,
    Part,
    Upload,
)

_MIB = 1 << 20
_WRITE_MAX = 8 * _MIB
"""Up to here one write is cheaper than an upload in parts."""
_PIECE = 16 * _MIB
"""The part that is wanted when bytes pass through here; it bounds the memory."""
MEMORY_MAX = 64 * _MIB
"""The largest object that is rewritten on a store without multipart uploads."""
_ABORT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualAppend(Append):
    """An append that lives here until it is committed."""

    metadata: Metadata = NO_METADATA
    bodies: tuple[Body, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the result: a range of the old bytes followed by one of the new."""

    old: range
    new: range


def pieces_by_copy(
    old_size: int, new_size: int, capabilities: Capabilities
) -> tuple[Piece, ...] | None:
    """Return parts that the store copies and parts that are sent; None if it cannot."""
    limits = capabilities.multipart
    if limits is None or not capabilities.multipart_copy or limits.equal_parts:
        return None
    if old_size < limits.part_size_min:
        return None
    nothing = range(0)
    piece = max(limits.part_size_min, min(_PIECE, limits.part_size_max))
    old = _split(old_size, limits.part_size_max)
    room = limits.parts_max - len(old)
    if room < 1:
        return None
    new = _split(new_size, min(limits.part_size_max, max(piece, -(-new_size // room))))
    if len(new) > room:
        return None
    return tuple(Piece(part, nothing) for part in old) + tuple(
        Piece(nothing, part) for part in new
    )


def pieces_by_rewrite(
    old_size: int, new_size: int, limits: MultipartLimits
) -> tuple[Piece, ...]:
    """Return parts that are all sent; all but the last have one size.

    Raises `ObjectTooLarge` if the store takes no object of that size.
    """
    total = old_size + new_size
    size = max(_PIECE, limits.part_size_min, -(-total // limits.parts_max))
    size = min(size, limits.part_size_max)
    if size * limits.parts_max < total:
        raise ObjectTooLarge(f"{total} bytes are more than the store takes")
    return tuple(
        Piece(
            range(min(start, old_size), min(start + size, old_size)),
            range(
                max(0, start - old_size), min(max(0, start + size - old_size), new_size)
            ),
        )
        for start in range(0, total, size)
    )


async def commit(store: Storager, append: VirtualAppend) -> Object:
    """Make what was appended visible, in one step."""
    tail = SplicedBody.of(append.bodies)
    base = append.base
    old_size = base.size or 0 if base is not None else 0
    capabilities = store.capabilities
    if base is not None and tail.size == 0:
        return await _unchanged(store, base, append.metadata)
    if base is not None:
        pieces = pieces_by_copy(old_size, tail.size, capabilities)
        if pieces is not None:
            return await _in_parts(store, append, pieces, tail)
    total = old_size + tail.size
    fits = capabilities.write_size_max is None or total <= capabilities.write_size_max
    if fits and (total <= _WRITE_MAX or capabilities.multipart is None):
        return await _at_once(store, append, tail)
    if capabilities.multipart is None:
        raise ObjectTooLarge(f"{total} bytes cannot be written at once", key=append.key)
    rewritten = pieces_by_rewrite(old_size, tail.size, capabilities.multipart)
    return await _in_parts(store, append, rewritten, tail)


async def _unchanged(store: Storager, base: Object, metadata: Metadata) -> Object:
    if metadata == NO_METADATA:
        return await store.stat(base.key)
    return await store.set_metadata(base, metadata)


async def _at_once(store: Storager, append: VirtualAppend, tail: SplicedBody) -> Object:
    base = append.base
    body: Body = tail
    if base is not None and base.size:
        if base.size > MEMORY_MAX:
            raise ObjectTooLarge(
                "the object is too large to be rewritten", key=base.key
            )
        body = SplicedBody.of([await _old_bytes(store, base, range(base.size)), tail])
    return await store.write(
        append.key,
        body,
        metadata=append.metadata,
        inherit=base,
        condition=await _condition(store, Call.WRITE, base),
    )


async def _in_parts(
    store: Storager,
    append: VirtualAppend,
    pieces: tuple[Piece, ...],
    tail: SplicedBody,
) -> Object:
    base = append.base
    upload = await store.create_multipart(
        append.key, metadata=append.metadata, inherit=base
    )
    try:
        parts = [
            await _part(store, upload, index, piece, base, tail)
            for index, piece in enumerate(pieces)
        ]
        return await store.complete_multipart(
            upload,
            parts,
            inherit=base,
            condition=await _condition(store, Call.COMPLETE, base),
        )
    except BaseException:
        with trio.move_on_after(_ABORT_S, shield=True):
            await store.abort_multipart(upload)
        raise


async def _part(
    store: Storager,
    upload: Upload,
    index: int,
    piece: Piece,
    base: Object | None,
    tail: SplicedBody,
) -> Part:
    new = tail.cut(piece.new.start, len(piece.new))
    if base is None or not piece.old:
        return await store.write_part(upload, index, new)
    if not piece.new and store.capabilities.multipart_copy:
        return await store.copy_part(
            upload, index, base, piece.old.start, len(piece.old)
        )
    old = await _old_bytes(store, base, piece.old)
    return await store.write_part(upload, index, SplicedBody.of([old, new]))


async def _old_bytes(store: Storager, base: Object, wanted: range) -> BytesBody:
    content = await store.read(
        base.key, wanted.start, len(wanted), version=base.version
    )
    return BytesBody(content.data)


async def _condition(store: Storager, call: Call, base: Object | None) -> Condition:
    if base is None:
        return None
    return await look_first(store, call, base.key, base.version)


def _split(size: int, largest: int) -> tuple[range, ...]:
    """Cut a size into as few ranges as possible, as equal as possible."""
    count = -(-size // largest)
    edges = [size * index // count for index in range(count + 1)] if count else []
    return tuple(range(start, end) for start, end in itertools.pairwise(edges))
