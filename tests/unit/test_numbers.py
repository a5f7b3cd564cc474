"""Inode numbers: the same in every mount, and never two files' at once."""

from pathlib import Path

import hypothesis.strategies as st
import pytest
import trio
from hypothesis import given
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
)

from mountfs.cache.numberfile import NumberFile
from mountfs.vfs.numbers import (
    Number,
    Numbers,
    Place,
    kept_numbers,
    number_of,
    place_of,
    place_of_group,
)

PLACE = place_of(1, b"name", is_directory=False)
OTHER = place_of(1, b"other", is_directory=False)


def nobody(inode: int) -> bool:
    return False


def test_number_needs_no_memory() -> None:
    """Two mounts that know nothing of each other give a name the same number."""
    assert Numbers().assign(PLACE, nobody) == Numbers().assign(PLACE, nobody)


def test_kinds_and_directories_have_their_own_numbers() -> None:
    """A file and a directory of one name, and names of two directories, differ."""
    places = {
        place_of(parent, b"name", is_directory=is_directory)
        for parent in (1, 2)
        for is_directory in (False, True)
    }

    assert len({*places, place_of_group("name")}) == 5


def test_renamed_file_brings_its_number() -> None:
    """The new place has the file's number, and the old one is free for another."""
    numbers = Numbers()
    number = numbers.assign(PLACE, nobody)

    numbers.move(number, PLACE, OTHER)

    assert numbers.assign(OTHER, nobody) == number
    again = numbers.assign(PLACE, nobody)
    assert again.inode != number.inode
    assert again.generation == 1


def test_renamed_back_is_no_exception() -> None:
    """A file that comes back to its place has the number that needs no note."""
    numbers = Numbers()
    number = numbers.assign(PLACE, nobody)
    numbers.move(number, PLACE, OTHER)

    numbers.move(number, OTHER, PLACE)

    assert len(numbers) == 0
    assert numbers.assign(PLACE, nobody) == number


def test_first_number_of_a_place_comes_back_over_a_later_one() -> None:
    """A file that is renamed back over one made meanwhile keeps its number."""
    numbers = Numbers()
    number = numbers.assign(PLACE, nobody)
    numbers.move(number, PLACE, OTHER)
    between = numbers.assign(PLACE, nobody)
    numbers.retire(between, PLACE)

    numbers.move(number, OTHER, PLACE)

    assert numbers.assign(PLACE, nobody) == number


def test_file_made_again_has_another_number() -> None:
    """What was removed in this mount does not come back as another file."""
    numbers = Numbers()
    seen = set()
    for _ in range(10):
        number = numbers.assign(PLACE, nobody)
        seen.add(number)
        numbers.retire(number, PLACE)

    assert len({number.inode for number in seen}) == 10
    assert {number.generation for number in seen} == set(range(10))


def test_number_in_use_is_given_to_nobody_else() -> None:
    """A place whose number a living file has gets the next one."""
    taken = number_of(PLACE, 0)

    number = Numbers().assign(PLACE, {taken}.__contains__)

    assert number == Number(number_of(PLACE, 1), 1)


def test_kept_number_in_use_is_forgotten() -> None:
    """A place whose own exception another file has gets one that it keeps."""
    numbers = Numbers({PLACE: Number(77, 3)})

    number = numbers.assign(PLACE, {77}.__contains__)

    assert number.inode != 77
    assert numbers.assign(PLACE, nobody) == number


def test_group_keeps_the_number_that_its_file_had() -> None:
    """A file that gets a second name stays the same file."""
    numbers = Numbers()
    number = numbers.assign(PLACE, nobody)

    numbers.keep_if_new(place_of_group("id"), number)

    assert numbers.assign(place_of_group("id"), nobody) == number
    assert numbers.assign(PLACE, nobody) != number


def test_group_with_a_number_keeps_it() -> None:
    """Who meets a group later does not change what was kept for it."""
    numbers = Numbers({place_of_group("id"): Number(77, 0)})

    numbers.keep_if_new(place_of_group("id"), Number(88, 0))

    assert numbers.assign(place_of_group("id"), nobody) == Number(77, 0)


def test_memory_of_removed_files_is_bounded() -> None:
    """What was removed long ago may lend its number to a new file."""
    numbers = Numbers(retired_max=2)
    places = [place_of(1, name, is_directory=False) for name in (b"0", b"1", b"2")]
    for place in places:
        numbers.retire(numbers.assign(place, nobody), place)

    generations = [numbers.assign(place, nobody).generation for place in places]

    assert generations == [0, 1, 1]


def test_exceptions_are_bounded() -> None:
    """The oldest exception goes, and its note with it."""
    notes: dict[Place, Number | None] = {}
    numbers = Numbers(note=notes.__setitem__, kept_max=3)
    places = [place_of(2, b"%d" % each, is_directory=False) for each in range(5)]
    for each, place in enumerate(places):
        numbers.keep(place, Number(1000 + each, 0))

    assert len(numbers) == 3
    assert [notes[place] is None for place in places] == [True] * 2 + [False] * 3


@given(st.binary(min_size=1, max_size=255), st.integers(1, 2**63 - 1), st.booleans())
def test_numbers_are_what_the_kernel_takes(
    name: bytes, parent: int, is_directory: bool
) -> None:
    """Never 0, never the root's, and no more than 63 bits."""
    place = place_of(parent, name, is_directory=is_directory)
    for generation in range(3):
        assert 1 < number_of(place, generation) < 2**63


async def test_exceptions_survive_a_remount(tmp_path: Path) -> None:
    """What one mount notes, the next one with the same directory knows."""
    path = tmp_path / "inodes.sqlite"
    async with await NumberFile.open(path, kept_max=10) as file:
        numbers = kept_numbers(file.kept, file.note)
        number = numbers.assign(PLACE, nobody)
        numbers.move(number, PLACE, OTHER)

    async with await NumberFile.open(path, kept_max=10) as file:
        assert kept_numbers(file.kept, file.note).assign(OTHER, nobody) == number


async def test_damaged_file_is_begun_anew(tmp_path: Path) -> None:
    """Numbers are worth no failed mount."""
    path = tmp_path / "inodes.sqlite"
    path.write_bytes(b"this is no database" * 100)

    async with await NumberFile.open(path, kept_max=10) as file:
        assert file.kept == {}
        file.note(PLACE, Number(77, 0))

    async with await NumberFile.open(path, kept_max=10) as file:
        assert file.kept == {PLACE: (77, 0)}


async def test_newest_exceptions_are_read(tmp_path: Path) -> None:
    """A file of more than may be kept is cut to the newest."""
    path = tmp_path / "inodes.sqlite"
    async with await NumberFile.open(path, kept_max=10) as file:
        for each in range(8):
            file.note(Place(100 + each), (200 + each, 0))

    async with await NumberFile.open(path, kept_max=3) as file:
        assert list(file.kept) == [105, 106, 107]


class Mounts(RuleBasedStateMachine):
    """Files come, go, move and are forgotten: no number is two files'."""

    live: Bundle[str] = Bundle("live")

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[Place, Number] = {}
        self.numbers = self.mounted()
        self.named: dict[str, Number] = {}
        self.in_memory: set[str] = set()

    def mounted(self) -> Numbers:
        return Numbers(dict(self.kept), note=self.note)

    def note(self, place: Place, number: Number | None) -> None:
        if number is None:
            self.kept.pop(place, None)
        else:
            self.kept[place] = number

    def is_used(self, inode: int) -> bool:
        return any(self.named[name].inode == inode for name in self.in_memory)

    @rule(target=live, name=st.sampled_from("abcd"))
    def make(self, name: str) -> str:
        if name not in self.named:
            self.named[name] = self.numbers.assign(at(name), self.is_used)
            self.in_memory.add(name)
        return name

    @rule(name=live)
    def look_up(self, name: str) -> None:
        if name in self.named and name not in self.in_memory:
            assert self.numbers.assign(at(name), self.is_used) == self.named[name]
            self.in_memory.add(name)

    @rule(name=live)
    def forget(self, name: str) -> None:
        self.in_memory.discard(name)

    @rule(name=consumes(live))
    def remove(self, name: str) -> None:
        if name in self.named:
            self.look_up(name)
            self.numbers.retire(self.named.pop(name), at(name))
            self.in_memory.discard(name)

    @rule(target=live, old=live, new=st.sampled_from("abcd"))
    def rename(self, old: str, new: str) -> str:
        if old in self.named and old != new:
            self.remove(new)
            self.look_up(old)
            number = self.named.pop(old)
            self.numbers.move(number, at(old), at(new))
            self.named[new] = number
            self.in_memory.discard(old)
            self.in_memory.add(new)
        return new

    @rule()
    def remount(self) -> None:
        self.in_memory.clear()
        self.numbers = self.mounted()

    @invariant()
    def no_number_is_two_files(self) -> None:
        inodes = [number.inode for number in self.named.values()]
        assert len(set(inodes)) == len(inodes)


def at(name: str) -> Place:
    return place_of(1, name.encode(), is_directory=False)


TestMounts = Mounts.TestCase


async def test_lack_of_threads_costs_notes_and_not_the_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit of processes may be reached while it runs."""

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    async with await NumberFile.open(tmp_path / "inodes.sqlite", kept_max=9) as file:
        with monkeypatch.context() as patched:
            patched.setattr(trio.lowlevel, "start_thread_soon", refuse)
            file.note(1, (2, 0))
            await file._write_waiting()
        file.note(3, (4, 0))

    async with await NumberFile.open(tmp_path / "inodes.sqlite", kept_max=9) as file:
        assert file.kept == {3: (4, 0)}
