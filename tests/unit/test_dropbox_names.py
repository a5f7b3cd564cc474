"""Keys as Dropbox names: one bijection, and rclone's names where it has some."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountfs.backends._tokens import key_bytes, key_text
from mountfs.backends.dropbox_names import component_of, is_plain, name_of, path_of

# What the escape is made of, and what it is for, in every order.
PIECES = st.sampled_from(
    [
        *"aAe0F4C1~.$ \\\x7f\n",
        *"\u201b\u2421\u2420\uff3c",
        *["\u0301", "\u00e9", "\u212b", "\udce9", "\udcff"],
        *["desktop.ini", "\u201bCC", "\u201b81", "\u201b64"],
    ]
)
TEXTS = st.lists(PIECES, min_size=1, max_size=6).map("".join)


@given(TEXTS)
def test_every_component_has_a_name_of_its_own(text: str) -> None:
    """Dropbox takes the name as it is, and it leads back."""
    component = key_text(key_bytes(text))
    if component in {".", ".."}:
        return
    name = name_of(component)

    assert is_plain(name)
    assert component_of(name) == component


@given(TEXTS)
def test_every_name_is_reached(name: str) -> None:
    """Whatever others call a file, there is a key that means just that."""
    if is_plain(name):
        component = component_of(name)
        assert component is not None
        assert name_of(component) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "a/b", "a\0b", "\ud800", "\udce9", "x" * 256),
        *("desktop.ini", ".DS_Store", "~$x.docx", "e\u0301", "a ", "a\\b"),
    ],
)
def test_a_name_that_no_key_has_leads_nowhere(name: str) -> None:
    """What is no name, and what we write otherwise, though others may not."""
    assert component_of(name) is None


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("dir/file", "dir/file"),
        ("dir/", "dir"),
        ("a\\b", "a\uff3cb"),
        ("a /b\x7f", "a\u2420/b\u2421"),
        ("caf\udce9", "caf\u201bE9"),
        ("caf\u00e9", "caf\u00e9"),
        ("cafe\u0301", "cafe\u201bCC\u201b81"),
        ("Desktop.ini", "\u201b44esktop.ini"),
        ("~$x.docx", "\u201b7E$x.docx"),
        ("\uff3c", "\u201b\uff3c"),
    ],
)
def test_what_dropbox_refuses_is_written_as_rclone_does(key: str, path: str) -> None:
    """And what it keeps for itself, or takes for another name, likewise."""
    assert path_of(key) == path
