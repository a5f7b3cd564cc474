"""Buckets as other tools write them, object by object, and what is in them.

Taken from what the tools wrote into an S3 server (rclone 1.75.2, s3fs 1.90) and from
their sources (s3fs 1.97, GeeseFS 0.43, gcsfuse 3.11, go-storage v5, Hadoop's
NativeS3FileSystem). gcsfuse writes to GCS; its names are the same on any store.
"""

import stat
from collections.abc import Mapping
from dataclasses import dataclass, field

NS = 10**9


@dataclass(frozen=True)
class Stored:
    """One object, as the tool put it."""

    key: str
    body: bytes = b""
    user: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/octet-stream"


@dataclass(frozen=True)
class Shown:
    """What a mount is to show under a path; None is not looked at."""

    kind: int
    content: bytes | None = None
    target: bytes | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    mtime_ns: int | None = None
    atime_ns: int | None = None
    rdev: int = 0
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Bucket:
    """What a tool has written, and every path below the root that there is."""

    stored: tuple[Stored, ...]
    shown: Mapping[str, Shown]


def _times(seconds: str) -> dict[str, str]:
    return {"atime": seconds, "mtime": seconds, "ctime": seconds}


ROOT = {"uid": "0", "gid": "0"}
SOME_TIME = "1795704888"
SOME_TIME_NS = 1_795_704_888 * NS

S3FS = Bucket(
    (
        Stored(
            "d/",
            # 1.90 leaves the file type out, 1.97 does not.
            user={
                **ROOT,
                **_times(SOME_TIME),
                "mode": "488",
                "xattr": "%7B%22user.dir%22%3A%22eA%3D%3D%22%7D",
            },
            content_type="application/x-directory",
        ),
        Stored(
            "d/file",
            b"bytes",
            {
                "atime": "1000000000.000000005",
                "ctime": SOME_TIME,
                "gid": "100",
                "mode": "33184",
                "mtime": "1700000000.123456789",
                "uid": "1000",
                "xattr": "%7B%22user.a%22%3A%22AP8%3D%22%2C"
                "%22user.color%22%3A%22Z3LDvG4%3D%22%7D",
            },
        ),
        Stored("d/old", b"old", {"mode": "33188", "mtime": "1700000000"}),
        Stored("d/link", b"../target \xc3\xbc", {"mode": "41471", **_times(SOME_TIME)}),
        Stored("d/fifo", b"", {**ROOT, "mode": "4480", **_times(SOME_TIME)}),
        Stored("d/null", b"", {**ROOT, "mode": "8630", **_times(SOME_TIME)}),
        Stored("d/implicit/file", b"x", {"mode": "33152", "uid": "7", "gid": "8"}),
    ),
    {
        "d": Shown(
            stat.S_IFDIR,
            mode=0o750,
            uid=0,
            gid=0,
            mtime_ns=SOME_TIME_NS,
            xattrs={"user.dir": b"x"},
        ),
        "d/file": Shown(
            stat.S_IFREG,
            b"bytes",
            mode=0o640,
            uid=1000,
            gid=100,
            mtime_ns=1_700_000_000_123_456_789,
            atime_ns=10**18 + 5,
            xattrs={"user.a": b"\0\xff", "user.color": "grün".encode()},
        ),
        "d/old": Shown(stat.S_IFREG, b"old", mode=0o644, mtime_ns=1_700_000_000 * NS),
        "d/link": Shown(
            stat.S_IFLNK, target=b"../target \xc3\xbc", mtime_ns=SOME_TIME_NS
        ),
        "d/fifo": Shown(stat.S_IFIFO, mode=0o600, uid=0, mtime_ns=SOME_TIME_NS),
        "d/null": Shown(stat.S_IFCHR, mode=0o666, uid=0),
        "d/implicit": Shown(stat.S_IFDIR),
        "d/implicit/file": Shown(stat.S_IFREG, b"x", mode=0o600, uid=7, gid=8),
    },
)

RCLONE = Bucket(
    (
        # --s3-directory-markers
        Stored("d/", user={"mtime": "1795704888.363045543"}),
        # --metadata
        Stored(
            "d/file",
            b"bytes",
            {
                "atime": "2001-09-09T01:46:40.000000005Z",
                "btime": "2026-11-26T14:54:48.096215454Z",
                "color": "green",
                "gid": "100",
                "mode": "100640",
                "mtime": "1700000000.123456789",
                "uid": "1000",
            },
        ),
        # --links, with --metadata and without
        Stored(
            "d/link.rclonelink",
            b"../target \xc3\xbc",
            {
                "atime": "2026-11-26T14:54:48.504215478+01:00",
                "btime": "2026-11-26T14:54:48.101404659+01:00",
                "gid": "0",
                "mode": "120777",
                "mtime": "1795704888.101404659",
                "uid": "0",
            },
        ),
        Stored("plain.rclonelink", b"d/file", {"mtime": "1700000000"}),
        Stored("both", b"a file", {"mtime": "1700000000.5"}),
        Stored("both.rclonelink", b"d/file", {"mtime": "1700000000"}),
        Stored("e/", user={"mtime": "1795704888.372543412"}),
    ),
    {
        "d": Shown(stat.S_IFDIR, mtime_ns=1_795_704_888_363_045_543),
        "d/file": Shown(
            stat.S_IFREG,
            b"bytes",
            mode=0o640,
            uid=1000,
            gid=100,
            mtime_ns=1_700_000_000_123_456_789,
            atime_ns=10**18 + 5,
        ),
        "d/link": Shown(
            stat.S_IFLNK,
            target=b"../target \xc3\xbc",
            uid=0,
            gid=0,
            mtime_ns=1_795_704_888_101_404_659,
        ),
        "plain": Shown(stat.S_IFLNK, target=b"d/file", mtime_ns=1_700_000_000 * NS),
        "both": Shown(stat.S_IFREG, b"a file", mtime_ns=1_700_000_000 * NS + NS // 2),
        "both.rclonelink": Shown(stat.S_IFLNK, target=b"d/file"),
        "e": Shown(stat.S_IFDIR, mtime_ns=1_795_704_888_372_543_412),
    },
)

GCSFUSE = Bucket(
    (
        Stored("d/"),
        Stored(
            "d/file",
            b"bytes",
            {"gcsfuse_mtime": "2023-11-14T22:13:20.123456789Z"},
            "text/plain; charset=utf-8",
        ),
        Stored("d/legacy", b"", {"gcsfuse_symlink_target": "../t a/r%get"}),
        Stored(
            "d/standard",
            b"../target",
            {
                "goog-reserved-file-is-symlink": "true",
                "gcsfuse_symlink_target": "../target",
            },
        ),
        # gcloud storage cp --preserve-posix --preserve-symlinks
        Stored(
            "d/gcloud",
            b"bytes",
            {
                "goog-reserved-file-atime": "1000000000",
                "goog-reserved-file-mtime": "1700000000",
                "goog-reserved-posix-gid": "100",
                "goog-reserved-posix-mode": "640",
                "goog-reserved-posix-uid": "1000",
            },
        ),
        Stored("d/gcloud-link", b"t", {"goog-reserved-file-is-symlink": "true"}),
    ),
    {
        "d": Shown(stat.S_IFDIR),
        "d/file": Shown(stat.S_IFREG, b"bytes", mtime_ns=1_700_000_000_123_456_789),
        "d/legacy": Shown(stat.S_IFLNK, target=b"../t a/r%get"),
        "d/standard": Shown(stat.S_IFLNK, target=b"../target"),
        "d/gcloud": Shown(
            stat.S_IFREG,
            b"bytes",
            mode=0o640,
            uid=1000,
            gid=100,
            mtime_ns=1_700_000_000 * NS,
            atime_ns=10**18,
        ),
        "d/gcloud-link": Shown(stat.S_IFLNK, target=b"t"),
    },
)

GEESEFS = Bucket(
    (
        # --enable-perms: what differs from the mount's own is written.
        Stored("d/", user={"mode": "16872", "uid": "1000"}),
        Stored(
            "d/file",
            b"bytes",
            {
                "gid": "100",
                "mode": "33184",
                "mtime": "1700000000",
                "uid": "1000",
                # user.color; what is not printable, and %, is escaped
                "color": "50%25 gr%0An",
            },
        ),
        # Without --enable-specials a mode has no type.
        Stored("d/untyped", b"x", {"mode": "416"}),
        Stored("d/link", b"", {"--symlink-target": "../50%25/a%0Ab"}),
        Stored("d/null", b"", {"mode": "8630", "rdev": "259"}),
        Stored("d/socket", b"", {"mode": "49645"}),
    ),
    {
        "d": Shown(stat.S_IFDIR, mode=0o750, uid=1000),
        "d/file": Shown(
            stat.S_IFREG,
            b"bytes",
            mode=0o640,
            uid=1000,
            gid=100,
            mtime_ns=1_700_000_000 * NS,
        ),
        "d/untyped": Shown(stat.S_IFREG, b"x", mode=0o640),
        "d/link": Shown(stat.S_IFLNK, target=b"../50%/a\nb"),
        "d/null": Shown(stat.S_IFCHR, mode=0o666, rdev=259),
        "d/socket": Shown(stat.S_IFSOCK, mode=0o755),
    },
)

GO_STORAGE = Bucket(
    (
        Stored("d/", content_type="binary/octet-stream"),
        Stored("d/file", b"bytes"),
        # It prefixes the name itself, and makes the target absolute.
        Stored("d/link", b"", {"x-amz-meta-bs-link-target": "d/file"}),
    ),
    {
        "d": Shown(stat.S_IFDIR),
        "d/file": Shown(stat.S_IFREG, b"bytes"),
        "d/link": Shown(stat.S_IFLNK, target=b"/d/file"),
    },
)

HADOOP = Bucket(
    (
        # s3n and EMRFS
        Stored("empty_$folder$"),
        Stored("full_$folder$", content_type="binary/octet-stream"),
        Stored("full/part-00000", b"bytes"),
        Stored("full/sub_$folder$"),
        # s3a
        Stored("marked/", content_type="application/x-directory"),
        Stored("full/_SUCCESS"),
    ),
    {
        "empty": Shown(stat.S_IFDIR),
        "full": Shown(stat.S_IFDIR),
        "full/part-00000": Shown(stat.S_IFREG, b"bytes"),
        "full/_SUCCESS": Shown(stat.S_IFREG, b""),
        "full/sub": Shown(stat.S_IFDIR),
        "marked": Shown(stat.S_IFDIR),
    },
)

BUCKETS: Mapping[str, Bucket] = {
    "s3fs": S3FS,
    "rclone": RCLONE,
    "gcsfuse": GCSFUSE,
    "geesefs": GEESEFS,
    "go-storage": GO_STORAGE,
    "hadoop": HADOOP,
}
