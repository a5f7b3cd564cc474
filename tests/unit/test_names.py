"""Names and key components correspond one to one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountfs.vfs.names import Entry, Names

BYTES_STORE = Names(utf8_keys=False)
TEXT_STORE = Names(utf8_keys=True)
STORES = pytest.mark.parametrize("names", [BYTES_STORE, TEXT_STORE])

FRAGMENTS = st.sampled_from(
    [b"mountfs%", b"mountfs%=", b"mountfs-bytes%", b"%2E", b"%", b".", b"a", b"\xff"]
)
RAW = st.one_of(
    st.lists(FRAGMENTS, min_size=1, max_size=6).map(b"".join),
    st.binary(min_size=1, max_size=20),
)
RAW_NAMES = RAW.filter(
    lambda raw: b"/" not in raw and b"\0" not in raw and raw not in (b".", b"..")
)


@given(RAW_NAMES)
@STORES
def test_a_name_comes_back_from_what_it_stands_for(names: Names, raw: bytes) -> None:
    """Name to component and back is the identity, for every possible name."""
    entry = names.entry(raw)

    assert "/" not in entry.component
    assert names.name(entry.component, is_shadowed=entry.is_shadowed) == raw


@given(RAW.filter(lambda raw: b"/" not in raw))
def test_a_component_comes_back_from_its_name_on_a_store_of_bytes(raw: bytes) -> None:
    """Component to name and back is the identity, for every possible component."""
    component = raw.decode("utf-8", "surrogateescape")

    assert BYTES_STORE.entry(BYTES_STORE.name(component)) == Entry(component)


@given(st.text().filter(lambda text: "/" not in text))
def test_a_component_comes_back_from_its_name_on_a_store_of_text(text: str) -> None:
    """The same for stores whose keys are UTF-8."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        return

    assert TEXT_STORE.entry(TEXT_STORE.name(text)) == Entry(text)


@STORES
def test_ordinary_names_are_their_own_components(names: Names) -> None:
    """Nothing is normalised: backslash, percent, newline and spaces stay."""
    for raw in (b"a\\b", b"50%", b"line\nbreak", b" trailing ", "e\u0301".encode()):
        assert names.entry(raw) == Entry(raw.decode())


@pytest.mark.parametrize(
    ("component", "name"),
    [
        ("", b"mountfs%"),
        (".", b"mountfs%."),
        ("..", b"mountfs%.."),
        ("a\0b", b"mountfs%a%00b"),
        ("mountfs%..", b"mountfs%mountfs%25.."),
    ],
)
def test_components_that_are_no_names_are_shown(component: str, name: bytes) -> None:
    """A key that POSIX cannot express is shown under its documented form."""
    assert BYTES_STORE.name(component) == name


def test_a_name_that_is_not_utf8_is_stored_as_text() -> None:
    """Stores whose keys are UTF-8 get the documented form of such a name."""
    assert TEXT_STORE.entry(b"caf\xe9") == Entry("mountfs-bytes%caf%E9")


def test_no_name_reaches_into_another_directory() -> None:
    """An encoded slash stays what it is: part of a literal name."""
    for raw in (b"mountfs%=a%2Fb", b"mountfs%a%2Fb%00", b"mountfs-bytes%%2F%FF"):
        assert "/" not in TEXT_STORE.entry(raw).component
