"""What programs see of an object, whoever wrote its metadata."""

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountfs.storage import dialects
from mountfs.storage.types import Metadata, Object, ObjectKind
from mountfs.vfs.attributes import Defaults, effective

DEFAULTS = Defaults(uid=12, gid=34, file_mode=0o640, directory_mode=0o750)

MODES = ["", "0", "00", "0000", "512", "2048", "420", "644", "0644", "33188", "100644"]
WHOLE_ZEROS = {
    ObjectKind.FILE: {"32768", "100000", "0100000"},
    ObjectKind.DIRECTORY: {"16384", "40000", "040000"},
}
ODD = ["x", "-1", "99999999", "0x1ff", "0o777", "rw-r--r--", " 0 ", "0.0", "61440"]
NAMES = ["mode", "goog-reserved-posix-mode", "uid", "gid", "mtime", "ctime", "rdev"]
KINDS = [ObjectKind.FILE, ObjectKind.DIRECTORY]
TEXTS = st.sampled_from([*MODES, *ODD, *sorted(set().union(*WHOLE_ZEROS.values()))])


def seen(user: dict[str, str], kind: ObjectKind, defaults: Defaults = DEFAULTS) -> int:
    """Return the mode that programs see of an object with these user metadata."""
    key = "name/" if kind is ObjectKind.DIRECTORY else "name"
    attributes = dialects.decode(user, dialects.Fields(posix=True)).attributes
    object = Object(key=key, kind=kind, metadata=Metadata(attributes=attributes))
    mode = effective(object, defaults).mode
    assert mode is not None
    return mode


@given(
    user=st.dictionaries(st.sampled_from(NAMES), TEXTS),
    kind=st.sampled_from(KINDS),
    file_mode=st.integers(1, 0o777),
    directory_mode=st.integers(1, 0o777),
)
def test_nobody_is_locked_out_but_by_chmod(
    user: dict[str, str], kind: ObjectKind, file_mode: int, directory_mode: int
) -> None:
    """Mode 000 is seen of nothing but a whole mode that says so, of such an object."""
    defaults = Defaults(
        uid=0, gid=0, file_mode=file_mode, directory_mode=directory_mode
    )

    permissions = seen(user, kind, defaults) & 0o777

    modes = {user.get(name, "") for name in NAMES[:2]}
    assert permissions or modes & WHOLE_ZEROS[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "user",
    [
        {},
        {"mtime": "1"},
        {"uid": "5"},
        {"mode": "0"},
        {"mode": "0000"},
        {"mode": "512"},
        {"mode": "not understood"},
        {"goog-reserved-posix-mode": "0"},
        {"goog-reserved-posix-mode": "000", "mode": "0"},
    ],
)
def test_mode_that_says_nothing_is_the_mounts(
    user: dict[str, str], kind: ObjectKind
) -> None:
    """Parts of metadata, zeros and nonsense leave the mode to the mount's options."""
    expected = 0o640 if kind is ObjectKind.FILE else 0o750

    assert stat.S_IMODE(seen(user, kind)) == expected


@pytest.mark.parametrize(
    ("kind", "text"),
    [(kind, text) for kind in KINDS for text in sorted(WHOLE_ZEROS[kind])],
)
def test_whole_mode_without_permissions_is_meant(kind: ObjectKind, text: str) -> None:
    """What chmod 000 has written, here, by s3fs or by rclone, is seen."""
    assert stat.S_IMODE(seen({"mode": text}, kind)) == 0


@pytest.mark.parametrize(
    ("kind", "text"),
    [(ObjectKind.FILE, "16384"), (ObjectKind.DIRECTORY, "32768")],
)
def test_empty_mode_of_another_kind_is_not_meant(kind: ObjectKind, text: str) -> None:
    """A mode that speaks of a directory says nothing of a file."""
    assert stat.S_IMODE(seen({"mode": text}, kind)) in {0o640, 0o750}


def test_link_is_always_open() -> None:
    """A link has mode 777, whatever is kept with it."""
    assert stat.S_IMODE(seen({"mode": "40960"}, ObjectKind.LINK)) == 0o777
