"""Dialects: what is written, what is read, and what is left alone."""

import dataclasses
import json
import stat
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountfs.storage.dialects import (
    LINK_NAMES,
    Fields,
    decode,
    encode,
    format_seconds,
    is_target,
    kind_of_mode,
    parse_rfc3339,
    parse_seconds,
    without_link,
)
from mountfs.storage.types import Attributes, ObjectKind
from tests.unit.test_xattrs import xattr_sets

FIELDS = Fields(posix=True)
ALL_FIELDS = Fields(posix=True, xattrs=True, group=True)
YAS3FS = json.dumps(
    {"st_mode": 33184, "st_uid": 7, "st_gid": 8, "st_mtime": 1700000000.25}
)
_NS = 10**9
_TYPES = [
    stat.S_IFREG,
    stat.S_IFDIR,
    stat.S_IFLNK,
    stat.S_IFIFO,
    stat.S_IFSOCK,
    stat.S_IFCHR,
    stat.S_IFBLK,
]
_times = st.none() | st.integers(-(10**12) * _NS + 1, 10**12 * _NS - 1)
_ids = st.none() | st.integers(0, 2**32 - 2)
_modes = st.builds(int.__or__, st.sampled_from(_TYPES), st.integers(0, 0o7777))
attributes = st.builds(
    Attributes,
    mode=st.none() | _modes,
    uid=_ids,
    gid=_ids,
    rdev=st.none() | st.integers(0, 2**32 - 1),
    atime_ns=_times,
    mtime_ns=_times,
    ctime_ns=_times,
    xattrs=st.none() | xattr_sets,
    group=st.none() | st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
)
names = st.text(max_size=12) | st.sampled_from(
    [
        "mode",
        "uid",
        "gid",
        "rdev",
        "mtime",
        "atime",
        "ctime",
        "gcsfuse_mtime",
        "goog-reserved-posix-mode",
        "goog-reserved-file-mtime",
        "attr",
        "xattr",
        "mountfs-xattr",
        "mountfs-link",
        *sorted(LINK_NAMES),
    ]
)
garbage = st.dictionaries(
    names,
    st.text(max_size=30)
    | st.text("0123456789.-+:TZeE_ ", max_size=30)
    | st.text(st.characters(categories=["Nd", "Cs"]), max_size=8),
)


@given(attributes)
def test_written_attributes_are_read_back(given_attributes: Attributes) -> None:
    """What is encoded decodes to the same, to the nanosecond."""
    user = encode(given_attributes, ObjectKind.FILE, ALL_FIELDS)

    decoded = decode(user, ALL_FIELDS)

    found = decoded.attributes or Attributes(xattrs={})
    assert found == dataclasses.replace(
        given_attributes, xattrs=given_attributes.xattrs or {}
    )
    assert decoded.foreign == {}
    assert decoded.kind is kind_of_mode(given_attributes.mode)


@given(garbage)
def test_garbage_is_never_an_error_and_never_lost(user: dict[str, str]) -> None:
    """Whatever stands in the metadata is read without error; the rest is kept."""
    decoded = decode(user, ALL_FIELDS)

    assert decoded.foreign.items() <= user.items()
    if decoded.attributes is None:
        assert decoded.foreign == user
    assert decode(user, Fields()).foreign == user
    if decoded.link_target is not None:
        assert decoded.kind is ObjectKind.LINK
        assert is_target(decoded.link_target)


@given(garbage)
def test_what_was_read_is_written_again_with_the_same_meaning(
    user: dict[str, str],
) -> None:
    """Decoding, encoding and decoding again changes nothing."""
    first = decode(user, ALL_FIELDS)
    known = first.attributes or Attributes()

    written = encode(known, first.kind, ALL_FIELDS)
    second = decode({**first.foreign, **written}, ALL_FIELDS)

    again = second.attributes or Attributes()
    if not known.xattrs:  # an empty pair is not written again
        known = dataclasses.replace(known, xattrs=again.xattrs)
    if known.mode is not None and not stat.S_IFMT(known.mode):
        assert stat.S_IMODE(again.mode or 0) == stat.S_IMODE(known.mode)
    else:
        assert again == known
    assert second.link_target == first.link_target


@given(garbage)
def test_heir_of_a_link_is_no_link(user: dict[str, str]) -> None:
    """Without its link names an object is no link, whatever they said."""
    assert decode(without_link(user), FIELDS).kind is not ObjectKind.LINK


def test_mode_of_a_link_is_not_inherited() -> None:
    """A mode that says link goes with the link; any other mode stays."""
    assert without_link({"mode": "41471", "k": "v"}) == {"k": "v"}
    assert without_link({"mode": "33188"}) == {"mode": "33188"}
    assert without_link({"attr": "st_mode=41471", "k": "v"}) == {"k": "v"}
    assert without_link({"attr": "of somebody"}) == {"attr": "of somebody"}
    assert without_link({"mode": "8630", "rdev": "1281", "uid": "0"}) == {"uid": "0"}


@pytest.mark.parametrize(
    ("user", "wanted"),
    [
        pytest.param(
            {"mode": "33188", "uid": "1000", "gid": "100", "mtime": "1700000000"},
            Attributes(mode=0o100644, uid=1000, gid=100, mtime_ns=1_700_000_000 * _NS),
            id="s3fs",
        ),
        pytest.param(
            {"mtime": "1700000000.5", "atime": "1.25", "ctime": "2.000000001"},
            Attributes(
                mtime_ns=1_700_000_000_500_000_000,
                atime_ns=1_250_000_000,
                ctime_ns=2_000_000_001,
            ),
            id="s3fs-fractions",
        ),
        pytest.param(
            {"mtime": "1700000000.123456789", "mode": "100600"},
            Attributes(mode=0o100600, mtime_ns=1_700_000_000_123_456_789),
            id="rclone",
        ),
        pytest.param(
            {"mtime": "2023-11-14T22:13:20.000000005+01:00", "mode": "40755"},
            Attributes(mode=0o040755, mtime_ns=1_699_996_400_000_000_005),
            id="rclone-metadata",
        ),
        pytest.param(
            {"mode": "0100755"}, Attributes(mode=0o100755), id="octal-with-a-zero"
        ),
        pytest.param(
            {"mode": "41471"}, Attributes(mode=stat.S_IFLNK | 0o777), id="s3fs-link"
        ),
        pytest.param(
            {"mode": "120777"}, Attributes(mode=stat.S_IFLNK | 0o777), id="rclone-link"
        ),
        pytest.param(
            {"gcsfuse_mtime": "2023-11-14T22:13:20.000000007Z", "mtime": "5"},
            Attributes(mtime_ns=1_700_000_000_000_000_007),
            id="gcsfuse-is-newer",
        ),
        pytest.param(
            {
                "goog-reserved-file-mtime": "7",
                "goog-reserved-file-atime": "8",
                "goog-reserved-posix-mode": "640",
                "goog-reserved-posix-uid": "1",
                "goog-reserved-posix-gid": "2",
            },
            Attributes(mode=0o640, uid=1, gid=2, mtime_ns=7 * _NS, atime_ns=8 * _NS),
            id="gcloud",
        ),
        pytest.param(
            {
                "goog-reserved-file-mtime": "1700000000",
                "mtime": "2023-11-14T22:13:20.000000007Z",
            },
            Attributes(mtime_ns=1_700_000_000_000_000_007),
            id="rclone-on-google-cloud-storage",
        ),
        pytest.param(
            {"attr": YAS3FS},
            Attributes(mode=0o100640, uid=7, gid=8, mtime_ns=1_700_000_000_250_000_000),
            id="yas3fs",
        ),
        pytest.param(
            {"attr": urllib.parse.quote(YAS3FS), "mode": "33188", "mtime": "5"},
            Attributes(mode=0o100640, uid=7, gid=8, mtime_ns=1_700_000_000_250_000_000),
            id="yas3fs-is-newer",
        ),
        pytest.param(
            {"attr": "st_mode=41453;st_mtime=1700000000.5;st_size=0"},
            Attributes(mode=stat.S_IFLNK | 0o755, mtime_ns=1_700_000_000_500_000_000),
            id="yas3fs-link-in-the-older-form",
        ),
        pytest.param(
            {"mode": "8630", "rdev": "1281"},
            Attributes(mode=stat.S_IFCHR | 0o666, rdev=1281),
            id="geesefs-device",
        ),
    ],
)
def test_each_dialect_is_read(user: dict[str, str], wanted: Attributes) -> None:
    """Every tool's way of writing attributes is understood and taken over."""
    decoded = decode({**user, "foreign": "kept"}, FIELDS)

    assert decoded.attributes == wanted
    assert decoded.foreign == {"foreign": "kept"}


@pytest.mark.parametrize(
    ("user", "target"),
    [
        pytest.param({"mode": "41471"}, None, id="s3fs"),
        pytest.param({"goog-reserved-file-is-symlink": "true"}, None, id="gcloud"),
        pytest.param({"gcsfuse_symlink_target": "../x y"}, "../x y", id="gcsfuse"),
        pytest.param({"--symlink-target": "a%25%C3%A4"}, "a%ä", id="geesefs"),
        pytest.param({"--symlink-target": "%ff"}, "\udcff", id="geesefs-bytes"),
        pytest.param(
            {"x-amz-meta-bs-link-target": "dir/file"}, "/dir/file", id="go-storage"
        ),
    ],
)
def test_each_kind_of_link_is_known(user: dict[str, str], target: str | None) -> None:
    """A link is told by its mode or by a name that is only given to links."""
    decoded = decode(user, FIELDS)

    assert decoded.kind is ObjectKind.LINK
    assert decoded.link_target == target


@pytest.mark.parametrize(
    "user",
    [
        {"gcsfuse_symlink_target": ""},
        {"gcsfuse_symlink_target": "a\0b"},
        {"gcsfuse_symlink_target": "x" * 4096},
        {"gcsfuse_symlink_target": "\ud800"},
        {"goog-reserved-file-is-symlink": "false"},
        {"x-amz-meta-bs-link-target": ""},
        {"mode": "33188"},
    ],
)
def test_impossible_target_makes_no_link(user: dict[str, str]) -> None:
    """A target that no link can have is ignored."""
    assert decode(user, FIELDS).kind is ObjectKind.FILE


@pytest.mark.parametrize(
    "user",
    [
        {"mode": "rw-r--r--"},
        {"mode": "-1"},
        {"mode": "0899"},
        {"mode": "8192000"},
        {"mode": "١٢٣"},
        {"uid": "4294967295"},
        {"uid": "root"},
        {"gid": "1_000"},
        {"mtime": "yesterday"},
        {"mtime": "1e9"},
        {"mtime": "nan"},
        {"mtime": "9" * 13},
        {"mtime": "2023-02-30T00:00:00Z"},
        {"mtime": "2023-02-03T00:00:00+99:00"},
        {"gcsfuse_mtime": "1700000000"},
        {"attr": "of somebody else"},
        {"attr": '{"st_uid": 7}'},
        {"attr": '{"st_mode": "rw"}'},
        {"attr": '{"st_mode": [33188]}'},
        {"attr": "[" * 10_000},
        {"attr": "st_mode=" + "9" * 5000},
    ],
)
def test_garbage_stays_where_it_is(user: dict[str, str]) -> None:
    """A value that is not understood is no attribute and is not removed."""
    decoded = decode(user, FIELDS)

    assert decoded.attributes is None
    assert decoded.foreign == user


def test_extended_attributes_of_yas3fs_stand_as_they_are() -> None:
    """Also if they look like base64, in which all others keep them."""
    user = {"attr": YAS3FS, "xattr": '{"user.word": "test"}'}
    decoded = decode(user, ALL_FIELDS)

    assert decoded.attributes is not None
    assert decoded.attributes.xattrs == {b"user.word": b"test"}
    assert decoded.foreign == {}
    assert decode({**user, "xattr": "garbage"}, ALL_FIELDS).foreign == {
        "xattr": "garbage"
    }


def test_mode_gets_the_type_that_s3fs_needs() -> None:
    """A mode without type bits is written with those of its kind."""
    plain = Attributes(mode=0o755)

    assert encode(plain, ObjectKind.FILE, FIELDS) == {"mode": str(0o100755)}
    assert encode(plain, ObjectKind.DIRECTORY, FIELDS) == {"mode": str(0o040755)}
    assert encode(plain, ObjectKind.LINK, FIELDS) == {"mode": str(0o120755)}


def test_whole_seconds_are_written_without_decimals() -> None:
    """s3fs before 1.90 reads whole seconds only; they are written where they do."""
    known = Attributes(mtime_ns=3 * _NS, atime_ns=3)

    written = encode(known, ObjectKind.FILE, FIELDS)

    assert written == {"mtime": "3", "atime": "0.000000003"}


@given(st.integers(-(10**12) * _NS + 1, 10**12 * _NS - 1))
def test_seconds_are_exact(time_ns: int) -> None:
    """Every nanosecond survives, before 1970 too."""
    assert parse_seconds(format_seconds(time_ns)) == time_ns


def test_more_decimals_than_nanoseconds_are_cut() -> None:
    """What a clock cannot show is cut, not rounded."""
    assert parse_seconds("1.9999999999") == 1_999_999_999
    assert parse_rfc3339("1970-01-01T00:00:01.9999999999z") == 1_999_999_999


def test_what_s3fs_writes_is_written_again_byte_for_byte() -> None:
    """The pair of s3fs for two extended attributes is read, and written the same."""
    user = {
        "xattr": "%7B%22user.a%22%3A%22AA%3D%3D%22%2C%22user.b%22%3A%22eC8/%22%7D",
        "mountfs-link": "k",
    }
    known = Attributes(xattrs={b"user.b": b"x/?", b"user.a": b"\0"}, group="k")

    assert decode(user, ALL_FIELDS).attributes == known
    assert encode(known, ObjectKind.FILE, ALL_FIELDS) == user


def test_what_is_not_wanted_is_foreign() -> None:
    """Each field that is not asked for leaves its pair where it is."""
    user = {"uid": "5", "xattr": "%7B%7D", "mountfs-link": "k"}

    nothing = decode(user, Fields())
    one = decode(user, Fields(group=True))

    assert (nothing.attributes, nothing.foreign) == (None, user)
    assert one.attributes == Attributes(group="k")
    assert one.foreign == {"uid": "5", "xattr": "%7B%7D"}


def test_no_pair_is_no_extended_attribute() -> None:
    """Where attributes are kept and none are extended, there are none: not unknown."""
    decoded = decode({"uid": "5"}, ALL_FIELDS)

    assert decoded.attributes == Attributes(uid=5, xattrs={})
    assert decode({}, ALL_FIELDS).attributes is None


def test_attributes_that_lie_elsewhere_are_unknown() -> None:
    """A pair that names another object says nothing by itself, and is kept."""
    user = {"mountfs-xattr": "0" * 64, "xattr": "%7B%7D"}

    decoded = decode(user, ALL_FIELDS)

    assert decoded.attributes == Attributes(xattrs=None)
    assert decoded.foreign == user


@pytest.mark.parametrize(
    "user", [{"mountfs-link": ""}, {"mountfs-link": "../x"}, {"xattr": "nonsense"}]
)
def test_impossible_text_is_foreign(user: dict[str, str]) -> None:
    """A group that is no id, or attributes that are no text of ours, are left."""
    decoded = decode(user, ALL_FIELDS)

    assert (decoded.attributes, decoded.foreign) == (None, user)


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR])
def test_mode_of_a_special_file_says_so(kind: int) -> None:
    """A pipe, a socket or a device is told by its mode."""
    decoded = decode({"mode": str(kind | 0o644), "rdev": "1281"}, Fields())

    assert decoded.kind is ObjectKind.SPECIAL
    assert (decoded.mode, decoded.rdev) == (kind | 0o644, 1281)
