"""The order in which what is pending is carried out."""

from mountfs.cache.entries import Copy, Entry, EntryTable, Remove
from mountfs.storage.types import Object


def table_of(*entries: Entry) -> EntryTable:
    table = EntryTable()
    for entry in entries:
        table.add(entry)
    return table


def removal(id: int, key: str) -> Entry:
    return Entry(id, key, Remove(), None, None)


def test_a_directory_goes_after_what_is_removed_below_it() -> None:
    """Whichever was removed first: a rename removes the directory before the rest."""
    directory, early, late = removal(2, "d/"), removal(1, "d/a"), removal(3, "d/b")
    table = table_of(early, directory, late)

    assert {each.key for each in table.to_go_before(directory)} == {"d/a", "d/b"}
    assert not table.may_be_tried(directory)
    assert table.may_be_tried(early)
    assert table.may_be_tried(late)


def test_a_directory_waits_for_nothing_that_waits_for_it() -> None:
    """A file that goes once it is copied to the same directory, made anew."""
    directory, source = removal(1, "d/"), removal(2, "d/a")
    copied = Object(key="d/a", size=1)
    table = table_of(directory, source, Entry(3, "d/b", Copy(copied), copied, None))

    assert table.may_be_tried(directory)
    assert not table.may_be_tried(source)
