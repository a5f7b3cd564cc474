"""Multipart uploads: parts that wait in the root for their completion.

An upload is the directory `.mountfs-tmp-uploads/ID` of the root: `upload.json` says
what it is to become, and each part is a file named by its index. It survives a crash
and any process can go on with it. To delete such a directory is to abort the upload.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mountfs.backends._checks import check_holds, check_parts, inherited
from mountfs.backends.local_objects import (
    content_version,
    from_xattr,
    to_xattr,
)
from mountfs.backends.local_paths import RESERVED, Root
from mountfs.backends.local_writes import (
    Fill,
    copy_range,
    opened,
    replace_file,
)
from mountfs.storage.errors import InvalidRequest, UploadNotFound
from mountfs.storage.types import (
    NO_METADATA,
    Capabilities,
    Condition,
    Metadata,
    Object,
    Part,
    Upload,
    Version,
)

_FOLDER = os.fsdecode(RESERVED) + "uploads"
_RECORD = "upload.json"
_TRIES = 3


class Uploads:
    """The open uploads of one root."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._folder = Path(root.path).absolute() / _FOLDER

    def create(self, key: str, metadata: Metadata, inherit: Object | None) -> Upload:
        """Begin an upload.

        If the metadata of the replaced object are known, what is to be carried over of
        them is decided here; otherwise it is looked up at the completion.
        """
        number = secrets.token_hex(16)
        is_merged = inherit is not None and inherit.metadata is not None
        if inherit is not None:
            metadata = inherited(metadata, inherit.metadata)
        record = {
            "key": key,
            "metadata": to_xattr(metadata).decode(),
            "inherit": inherit.key if inherit is not None else None,
            "is_merged": is_merged,
        }
        self._make_folder(number)
        # A crash before the record is there leaves a directory that is no upload.
        _write_whole(self._folder / number / _RECORD, json.dumps(record).encode())
        return Upload(key, number, metadata.commit_id)

    def _make_folder(self, number: str) -> None:
        for _ in range(_TRIES):
            # The last upload to end removes the folder, which may be just now: before
            # ours is in it, or (FileExistsError) when it was seen to be there.
            with contextlib.suppress(FileNotFoundError, FileExistsError):
                self._folder.mkdir(exist_ok=True)
                (self._folder / number).mkdir()
                return
        raise InvalidRequest("the folder of uploads vanishes again and again")

    def write_part(self, upload: Upload, index: int, fill: Fill) -> Part:
        """Write one part, in the place of one with the same index."""
        place = self._place(upload)
        new = place / f"new-{secrets.token_hex(8)}"
        try:
            fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileNotFoundError as error:
            raise UploadNotFound("no such upload", key=upload.key) from error
        try:
            fill(fd)
            now = time.time_ns()
            os.utime(fd, ns=(now, now))
            os.fsync(fd)
            part = _part(index, os.fstat(fd))
            # A crash before here leaves a file that is no part.
            new.rename(place / str(index))
        except FileNotFoundError as error:
            raise UploadNotFound("aborted meanwhile", key=upload.key) from error
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)
        return part

    def copy_part(
        self, upload: Upload, index: int, source: Object, offset: int, size: int
    ) -> Part:
        """Make a part of a range of a file."""
        self._place(upload)
        with opened(self._root, source.key) as (old, found):
            before = Version(content_version(found))
            check_holds(source.key, source.version, before)
            if offset + size > found.st_size:
                raise InvalidRequest("the range is not in the source", key=source.key)

            def fill(fd: int) -> None:
                copy_range(old, fd, offset, size, 0)
                check_holds(source.key, before, Version(content_version(os.fstat(old))))

            return self.write_part(upload, index, fill)

    def parts(self, upload: Upload) -> tuple[Part, ...]:
        """Return the parts that have arrived, by index."""
        place = self._place(upload)
        indexes = sorted(int(path.name) for path in _parts_in(place))
        return tuple(_part(index, (place / str(index)).stat()) for index in indexes)

    def all(self, prefix: str) -> tuple[Upload, ...]:
        """Return the open uploads of keys that start with the prefix."""
        found = []
        for path in self._paths():
            with contextlib.suppress(UploadNotFound):
                key, metadata, _ = self._record(path.name)
                if key.startswith(prefix):
                    found.append(Upload(key, path.name, metadata.commit_id))
        return tuple(sorted(found, key=lambda upload: (upload.key, upload.id)))

    def _paths(self) -> list[Path]:
        try:
            return list(self._folder.iterdir())
        except FileNotFoundError:
            return []

    def complete(
        self,
        upload: Upload,
        parts: Sequence[Part],
        capabilities: Capabilities,
        condition: Condition,
    ) -> Object:
        """Write the parts one behind the other into the object."""
        place = self._place(upload)
        _, metadata, inherit = self._record(upload.id)
        check_parts(
            [part.index for part in parts], [part.size for part in parts], capabilities
        )
        known = {part.index: part for part in self.parts(upload)}
        for part in parts:
            if known.get(part.index) != part:
                raise InvalidRequest(f"part {part.index} is not known", key=upload.key)

        def fill(fd: int) -> None:
            offset = 0
            for part in parts:
                with (place / str(part.index)).open("rb") as source:
                    copy_range(source.fileno(), fd, 0, part.size, offset)
                offset += part.size

        done = replace_file(
            self._root,
            upload.key,
            fill,
            metadata,
            inherit=inherit,
            condition=condition,
        )
        # A crash before here leaves the upload beside its object; whoever completes it
        # again finds its own commit id at the key first.
        self.abort(upload)
        return done

    def abort(self, upload: Upload) -> None:
        """Remove an upload and its parts; one that is gone already is fine."""
        if _is_id(upload.id):
            # The record goes first: without it the rest is no upload any more.
            (self._folder / upload.id / _RECORD).unlink(missing_ok=True)
            shutil.rmtree(self._folder / upload.id, ignore_errors=True)
        with contextlib.suppress(OSError):  # others are open, or it is gone
            self._folder.rmdir()

    def part_path(self, upload: Upload, index: int) -> Path:
        """Return where the bytes of a part lie. Raises `UploadNotFound`."""
        return self._place(upload) / str(index)

    def metadata(self, upload: Upload) -> Metadata:
        """Return the metadata that the upload began with."""
        _, metadata, _ = self._record(upload.id)
        return metadata

    def _place(self, upload: Upload) -> Path:
        key, _, _ = self._record(upload.id)
        if key != upload.key:
            raise UploadNotFound("no such upload", key=upload.key)
        return self._folder / upload.id

    def _record(self, number: str) -> tuple[str, Metadata, Object | None]:
        if not _is_id(number):
            raise UploadNotFound(f"{number!r} is no upload")
        try:
            record = json.loads((self._folder / number / _RECORD).read_bytes())
        except (FileNotFoundError, ValueError) as error:
            raise UploadNotFound("no such upload") from error
        inherit = None
        if record["inherit"] is not None:
            left = NO_METADATA if record["is_merged"] else None
            inherit = Object(key=str(record["inherit"]), metadata=left)
        return (
            str(record["key"]),
            from_xattr(str(record["metadata"]).encode()),
            inherit,
        )


def _is_id(number: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{32}", number) is not None


def _parts_in(place: Path) -> Iterator[Path]:
    return (path for path in place.iterdir() if path.name.isdecimal())


def _part(index: int, found: os.stat_result) -> Part:
    return Part(index, found.st_size, content_version(found))


def _write_whole(path: Path, data: bytes) -> None:
    new = path.with_name("new-record")
    with new.open("xb") as sink:
        sink.write(data)
        sink.flush()
        os.fsync(sink.fileno())
    new.rename(path)
