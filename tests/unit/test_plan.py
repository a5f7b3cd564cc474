"""Plans: they tile the file, keep the limits, and give the right bytes."""

import os
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mountfs.cache.extents import Extents
from mountfs.cache.plan import (
    AppendTail,
    CopyPart,
    Plan,
    PutWhole,
    SendParts,
    plan_commit,
)
from mountfs.storage.errors import ObjectTooLarge
from mountfs.storage.types import Capabilities, MultipartLimits

MIB = 1 << 20
GIB = 1 << 30
S3_LIMITS = MultipartLimits(
    part_size_min=5 * MIB, part_size_max=5 * GIB, parts_max=10_000
)
S3 = Capabilities(
    service="key store",
    multipart=S3_LIMITS,
    multipart_copy=True,
    write_size_max=5 * GIB,
)


@st.composite
def files(draw: st.DrawFn) -> tuple[int, Extents, int, bytes, bytes]:
    """A size, extents, the visible size of the base, its bytes, the written bytes."""
    size = draw(st.integers(0, 300))
    base_size = draw(st.integers(0, 400))
    extents = Extents()
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, max(0, size)))
        extents.add(start, min(size, start + draw(st.integers(0, 60))))
    base = bytes(1 + i % 100 for i in range(base_size))
    written = {i for start, end in extents for i in range(start, end)}
    spool = bytes(200 + i % 50 if i in written else 0 for i in range(size))
    return size, extents, base_size, base, spool


@st.composite
def limits(draw: st.DrawFn) -> MultipartLimits:
    least = draw(st.integers(1, 20))
    return MultipartLimits(
        part_size_min=least,
        part_size_max=draw(st.integers(least * 3, 400)),
        parts_max=draw(st.integers(310, 400)),
        equal_parts=draw(st.booleans()),
    )


def apply(plan: Plan, base: bytes, spool: bytes) -> bytes:
    """Do what a plan says to bytes in memory."""
    held = bytearray(spool)

    def fill(fills: tuple[tuple[int, int], ...]) -> None:
        for start, end in fills:
            assert not any(held[start:end]), "what was written is not to be filled"
            held[start:end] = base[start:end]

    match plan:
        case PutWhole(size, fills):
            fill(fills)
            return bytes(held[:size])
        case AppendTail(offset, size):
            return base[:offset] + bytes(held[offset : offset + size])
        case SendParts(parts):
            stored = b""
            for part in parts:
                assert part.offset == len(stored)
                assert part.size > 0
                if isinstance(part, CopyPart):
                    piece = base[part.offset : part.offset + part.size]
                else:
                    fill(part.fills)
                    piece = bytes(held[part.offset : part.offset + part.size])
                assert len(piece) == part.size
                stored += piece
            return stored


def check_limits(plan: Plan, limits: MultipartLimits) -> None:
    if not isinstance(plan, SendParts):
        return
    sizes = [part.size for part in plan.parts]
    assert len(sizes) <= limits.parts_max
    assert all(size <= limits.part_size_max for size in sizes)
    assert all(size >= limits.part_size_min for size in sizes[:-1])
    if limits.equal_parts:
        assert len(set(sizes[:-1])) <= 1
        assert sizes[-1] <= sizes[0]


@settings(max_examples=400 if "AT_LENGTH" in os.environ else 100)
@given(
    files(), limits(), st.booleans(), st.booleans(), st.booleans(), st.integers(0, 64)
)
def test_a_plan_gives_the_bytes_of_the_file_within_the_limits(
    file: tuple[int, Extents, int, bytes, bytes],
    limits: MultipartLimits,
    can_copy: bool,
    can_append: bool,
    is_base_whole: bool,
    put_size_max: int,
) -> None:
    """Whatever was written, cut or extended: the stored bytes are the file's."""
    size, extents, base_size, base, spool = file
    capabilities = Capabilities(
        service="any", multipart=limits, multipart_copy=can_copy, append=can_append
    )
    plan = plan_commit(
        size,
        extents,
        base_size,
        capabilities,
        is_base_whole=is_base_whole and base_size <= size,
        put_size_max=put_size_max,
        part_size=32,
    )

    visible = base[: min(base_size, size)]
    whole = bytearray(visible + bytes(size - len(visible)))
    for start, end in extents:
        whole[start:end] = spool[start:end]
    assert apply(plan, base, spool) == bytes(whole)
    check_limits(plan, limits)


@given(st.data())
def test_scattered_edits_upload_at_most_the_smallest_part_each(
    data: st.DataObject,
) -> None:
    """20 edits of 4 KiB in 256 MiB upload at most 20 times the smallest part."""
    offsets = data.draw(st.lists(st.integers(0, 65535), min_size=20, max_size=20))
    extents = Extents((page * 4096, (page + 1) * 4096) for page in offsets)
    plan = plan_commit(256 * MIB, extents, 256 * MIB, S3)

    assert isinstance(plan, SendParts)
    sent = sum(p.size for p in plan.parts if not isinstance(p, CopyPart))
    assert sent <= 20 * 5 * MIB
    check_limits(plan, S3_LIMITS)


@pytest.mark.parametrize("offset", [0, 1, 5 * GIB, 7 * GIB + 4321, 10 * GIB - 4096])
def test_a_small_edit_of_a_large_file_moves_two_parts_at_most(offset: int) -> None:
    """4 KiB changed in 10 GiB: about a part is sent and few requests copy the rest."""
    plan = plan_commit(10 * GIB, Extents([(offset, offset + 4096)]), 10 * GIB, S3)

    assert isinstance(plan, SendParts)
    sent = sum(p.size for p in plan.parts if not isinstance(p, CopyPart))
    assert sent <= 2 * 5 * MIB
    assert len(plan.parts) <= 6


@pytest.mark.parametrize(
    ("size", "extents", "base_size", "expected"),
    [
        (0, [], 0, PutWhole(0)),
        (10, [(0, 10)], 0, PutWhole(10)),
        (8 * MIB, [(0, 8 * MIB)], 8 * MIB, PutWhole(8 * MIB)),
        (MIB, [(5, 10)], MIB, PutWhole(MIB, ((0, 5), (10, MIB)))),
        (4 * MIB, [], 100 * MIB, PutWhole(4 * MIB, ((0, 4 * MIB),))),
        (90 * MIB, [], 100 * MIB, SendParts((CopyPart(0, 90 * MIB),))),
    ],
)
def test_small_files_are_one_put_and_large_ones_are_copied(
    size: int, extents: list[tuple[int, int]], base_size: int, expected: Plan
) -> None:
    """A file up to the limit is one write; a cut of a large one moves no bytes."""
    assert plan_commit(size, Extents(extents), base_size, S3) == expected


def test_an_append_to_a_large_object_sends_only_its_tail() -> None:
    """The old object is one copied part, the tail a part of its own."""
    size = 6 * MIB
    plan = plan_commit(size + 100, Extents([(size, size + 100)]), size, S3)

    assert isinstance(plan, SendParts)
    copy, send = plan.parts
    assert copy == CopyPart(0, size)
    assert (send.offset, send.size) == (size, 100)


def test_a_store_that_appends_is_given_the_tail_alone() -> None:
    """A true append is used if nothing of the base was changed or cut off."""
    store = Capabilities(service="disk", append=True)
    tail = Extents([(10, 15)])

    assert plan_commit(15, tail, 10, store) == AppendTail(10, 5)
    cut = plan_commit(15, tail, 10, store, is_base_whole=False)
    assert cut == PutWhole(15, ((0, 10),))


def test_a_large_file_is_rewritten_through_the_disk_where_there_are_no_parts() -> None:
    """An append that is emulated there holds the old bytes in memory."""
    store = Capabilities(service="no parts", append=True)
    size = 65 * MIB
    tail = Extents([(size, size + 5)])

    assert plan_commit(size + 5, tail, size, store) == PutWhole(size + 5, ((0, size),))


def test_more_edits_than_parts_grow_the_parts() -> None:
    """A hundred thousand scattered edits still fit into the store's number of parts."""
    step = MIB
    extents = Extents((i * step, i * step + 10) for i in range(100_000))
    plan = plan_commit(100_000 * step, extents, 100_000 * step, S3)

    assert isinstance(plan, SendParts)
    check_limits(plan, S3_LIMITS)


def test_a_file_beyond_every_limit_is_refused_before_anything_is_sent() -> None:
    """Too large for one write without parts, or for all parts together."""
    limits = MultipartLimits(part_size_min=1, part_size_max=10, parts_max=10)
    with pytest.raises(ObjectTooLarge, match="one write"):
        plan_commit(11, Extents(), 0, Capabilities(service="x", write_size_max=10))
    with pytest.raises(ObjectTooLarge, match="parts"):
        plan_commit(
            101,
            Extents(),
            0,
            Capabilities(service="x", multipart=limits),
            put_size_max=0,
            part_size=5,
        )


def test_equal_parts_copy_the_cells_that_nothing_touched() -> None:
    """Where all parts must be equal, untouched cells of the file are copied."""
    limits = replace(S3_LIMITS, equal_parts=True)
    plan = plan_commit(
        80 * MIB,
        Extents([(20 * MIB, 21 * MIB)]),
        80 * MIB,
        replace(S3, multipart=limits),
    )

    assert isinstance(plan, SendParts)
    assert [isinstance(part, CopyPart) for part in plan.parts].count(False) == 1
    check_limits(plan, limits)
