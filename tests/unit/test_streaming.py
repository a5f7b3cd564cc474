"""The ladder of part sizes, and the states of a part."""

import pytest

from mountfs.cache.streaming import Ladder, Slot, SlotState, Stream
from mountfs.storage.errors import ServiceFailed
from mountfs.storage.types import NO_METADATA, MultipartLimits, Part, Upload

MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40
LIMITS = MultipartLimits(part_size_min=5 * MIB, part_size_max=5 * GIB, parts_max=10_000)


def test_the_number_of_parts_never_limits_a_file_below_five_tebibytes() -> None:
    """Parts grow with the file, within the store's limits."""
    ladder = Ladder(LIMITS, 8 * MIB)
    sizes = [ladder.size_of(index) for index in range(10_000)]

    assert sum(sizes) >= 5 * TIB
    assert sizes == sorted(sizes)
    assert sizes[0] == 8 * MIB
    assert max(sizes) <= LIMITS.part_size_max
    assert ladder.size_of(10_000) == sizes[-1]


def test_a_small_cache_bounds_the_parts() -> None:
    """A part has to fit into the budget several times."""
    ladder = Ladder(LIMITS, 8 * MIB, 100 * MIB)

    assert max(ladder.size_of(index) for index in range(10_000)) == 100 * MIB
    assert Ladder(LIMITS, 8 * MIB, MIB).size_of(0) == 5 * MIB


def test_equal_parts_have_one_size() -> None:
    """A store that demands equal parts gets them, larger from the start."""
    limits = MultipartLimits(
        part_size_min=5 * MIB, part_size_max=GIB, parts_max=10_000, equal_parts=True
    )
    ladder = Ladder(limits, 8 * MIB)

    assert {ladder.size_of(index) for index in range(10_000)} == {64 * MIB}


def stream() -> Stream:
    limits = MultipartLimits(part_size_min=10, part_size_max=10, parts_max=4)
    return Stream(Upload("a", "1"), Ladder(limits, 10), NO_METADATA, 0)


def sent(slot: Slot) -> None:
    slot.begin()
    slot.finish(Part(slot.index, slot.size, "etag"), None)


def state_of(slot: Slot) -> SlotState:
    return slot.state


def test_a_stale_part_is_never_taken_for_sent() -> None:
    """Bytes that changed while they were on their way are sent again."""
    slot = Slot(0, 0, 10)
    slot.begin()
    slot.touch()
    slot.finish(Part(0, 10, "etag"), None)
    assert slot.state == SlotState.WAITING
    assert slot.part is None

    sent(slot)
    assert state_of(slot) is SlotState.SENT
    slot.touch()
    assert state_of(slot) is SlotState.WAITING


def test_a_part_that_failed_waits_with_its_error() -> None:
    """The error is kept unless the bytes changed in the meantime."""
    slot = Slot(0, 0, 10)
    slot.begin()
    error = ServiceFailed("down")
    slot.finish(None, error)
    assert slot.error is error

    slot.begin()
    assert slot.error is None


def test_only_whole_parts_that_were_sent_can_be_punched() -> None:
    """A short last part is dropped when the file grows, so its bytes stay."""
    upload = stream()
    for until in (10, 20, 25):
        sent(upload.add(until))

    assert [slot.index for slot in upload.punchable()] == [0, 1]
    upload.drop_short()
    assert upload.end == 20
    assert [part.index for part in upload.parts()] == [0, 1]


def test_a_cut_drops_the_parts_that_reach_behind_it() -> None:
    """Also the part that the cut goes through."""
    upload = stream()
    for until in (10, 20, 30):
        sent(upload.add(until))
    upload.punched.add(20, 30)
    assert [slot.index for slot in upload.behind(15)] == [1, 2]

    upload.cut(15)
    assert upload.end == 10
    assert not upload.punched


@pytest.mark.parametrize(("size", "fits"), [(0, True), (40, True), (41, False)])
def test_a_file_beyond_the_parts_is_known_beforehand(size: int, fits: bool) -> None:
    """The rest of a file must fit into the parts that are left."""
    upload = stream()
    assert upload.fits(size) is fits
    before = upload.is_full
    for until in (10, 20, 30):
        upload.add(until)
    assert (before, upload.is_full) == (False, True)
    assert upload.fits(size) is fits


def test_a_store_that_replaces_no_parts_must_do_without_changes() -> None:
    """Only the last part, if it is short, waits and may be another by then."""
    limits = MultipartLimits(
        part_size_min=10, part_size_max=10, parts_max=4, equal_parts=True, in_place=True
    )
    upload = Stream(Upload("a", "1"), Ladder(limits, 10), NO_METADATA, 0)
    sent(upload.add(10))
    upload.add(15)

    assert upload.cannot_take(9, 10)
    assert not upload.cannot_take(10, 15)
    other = stream()
    sent(other.add(10))
    assert not other.cannot_take(9, 10)
