"""Names and key components correspond one to one."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountfs.vfs.names import NAME_SIZE_MAX, Entry, Names, ShortEntry

BYTES_STORE = Names(utf8_keys=False)
TEXT_STORE = Names(utf8_keys=True)
STORES = pytest.mark.parametrize("names", [BYTES_STORE, TEXT_STORE])

FRAGMENTS = st.sampled_from(
    [
        b"mountfs%",
        b"mountfs%=",
        b"mountfs-bytes%",
        b"mountfs%#",
        b"mountfs%#=",
        b"~" + b"0" * 64,
        b"%2E",
        b"%",
        b".",
        b"a",
        b"\xff",
        b"\xff" * 90,
        b"\xc3\xa4" * 130,
        b"n" * 250,
    ]
)
RAW = st.one_of(
    st.lists(FRAGMENTS, min_size=1, max_size=6).map(b"".join),
    st.binary(min_size=1, max_size=20),
)
RAW_NAMES = RAW.filter(
    lambda raw: (
        b"/" not in raw
        and b"\0" not in raw
        and raw not in (b".", b"..")
        and len(raw) <= NAME_SIZE_MAX
        and not isinstance(BYTES_STORE.entry(raw), ShortEntry)
    )
)
RAW_COMPONENTS = RAW.filter(lambda raw: b"/" not in raw)


def component_of(names: Names, name: bytes, there: set[str]) -> Entry | None:
    """Return what a name stands for in a directory that holds these components."""
    entry = names.entry(name)
    return names.matching(entry, there) if isinstance(entry, ShortEntry) else entry


@given(RAW_NAMES)
@STORES
def test_a_name_comes_back_from_what_it_stands_for(names: Names, raw: bytes) -> None:
    """Name to component and back is the identity, for every possible name."""
    entry = names.entry(raw)

    assert isinstance(entry, Entry)
    assert "/" not in entry.component
    assert names.name(entry.component, is_shadowed=entry.is_shadowed) == raw


@given(RAW_COMPONENTS, RAW_COMPONENTS, st.booleans())
def test_a_component_comes_back_from_its_name_on_a_store_of_bytes(
    raw: bytes, other: bytes, is_shadowed: bool
) -> None:
    """Component to name and back is the identity, for every possible component."""
    component = raw.decode("utf-8", "surrogateescape")
    there = {component, other.decode("utf-8", "surrogateescape")}

    name = BYTES_STORE.name(component, is_shadowed=is_shadowed)

    assert component_of(BYTES_STORE, name, there) == Entry(component, is_shadowed)


@given(st.one_of(st.text(), RAW_COMPONENTS.map(lambda raw: raw.decode("latin-1"))))
def test_a_component_comes_back_from_its_name_on_a_store_of_text(text: str) -> None:
    """The same for stores whose keys are UTF-8."""
    if "/" in text or any("\ud800" <= character <= "\udfff" for character in text):
        return

    assert component_of(TEXT_STORE, TEXT_STORE.name(text), {text}) == Entry(text)


@given(RAW_COMPONENTS, st.booleans())
@STORES
def test_every_component_has_a_possible_name(
    names: Names, raw: bytes, is_shadowed: bool
) -> None:
    """No name is too long, empty, a dot, or has a slash or a NUL byte."""
    component = raw.decode("latin-1")

    name = names.name(component, is_shadowed=is_shadowed)

    assert 0 < len(name) <= NAME_SIZE_MAX
    assert name not in (b".", b"..")
    assert not {0, ord("/")} & {*name}


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
        entry = TEXT_STORE.entry(raw)
        assert isinstance(entry, Entry)
        assert "/" not in entry.component


@pytest.mark.parametrize("component", ["n" * 256, "ä" * 128, "a\0" * 128])
def test_what_is_too_long_for_a_name_has_a_short_form(component: str) -> None:
    """The short form has the beginning and the SHA-256 of what it stands for."""
    digest = hashlib.sha256(component.encode()).hexdigest().encode()

    for is_shadowed, mark in ((False, b"mountfs%#"), (True, b"mountfs%#=")):
        name = TEXT_STORE.name(component, is_shadowed=is_shadowed)
        assert name.startswith(mark)
        assert name.endswith(b"~" + digest)
        assert TEXT_STORE.entry(name) == ShortEntry(name, is_shadowed)


def test_short_form_is_the_beginning_and_the_digest() -> None:
    """The documented form, byte by byte; no percent escape is cut in two."""
    component = "file " + "\N{SNOWMAN}" * 100
    digest = hashlib.sha256(component.encode()).hexdigest()
    beginning = "file%20" + "%E2%98%83" * 12 + "%E2"

    name = BYTES_STORE.name(component)

    assert name.decode() == f"mountfs%#{beginning}~{digest}"


def test_short_name_means_its_component_alone() -> None:
    """The right digest behind another beginning stands for nothing."""
    name = BYTES_STORE.name("n" * 300)
    entry = BYTES_STORE.entry(name.replace(b"#nn", b"#mn"))
    assert isinstance(entry, ShortEntry)

    assert BYTES_STORE.matching(entry, ["n" * 300, "other"]) is None


def test_component_that_looks_like_a_short_form_is_escaped() -> None:
    """So a name in short form is never the component itself."""
    component = BYTES_STORE.name("n" * 300).decode()

    name = BYTES_STORE.name(component)

    assert name != component.encode()
    assert component_of(BYTES_STORE, name, {component}) == Entry(component)
