"""The stores under the mounts of the tests, and their other side.

The other side is what another program sees that knows nothing of mountfs: plain files
for `file://`, boto3 for S3, the fakes themselves for others. A memory store lives and
ends with its daemon, so it has no other side.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mountfs.backends.dropbox_names import component_of, path_of
from tests.fakes.dropbox_server import DropboxServer
from tests.fakes.dropbox_tree import Commit
from tests.fakes.gcs_server import GcsServer

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class OtherSide(Protocol):
    """A store as others see it. Keys are those of the store, `/` included."""

    def listing(self) -> set[str]:
        """Return all keys; those of directory markers end in `/`."""
        ...

    def read(self, key: str) -> bytes:
        """Return the bytes of a key."""
        ...

    def write(self, key: str, content: bytes) -> None:
        """Create or replace a key."""
        ...

    def delete(self, key: str) -> None:
        """Delete a key."""
        ...


@dataclass(frozen=True)
class PlainFiles:
    """A directory of plain files."""

    root: Path

    def listing(self) -> set[str]:
        """Return the files, and the directories with a `/` at the end."""
        return set(self._walk(self.root))

    def _walk(self, directory: Path) -> Iterator[str]:
        for entry in os.scandir(directory):
            key = str(Path(entry.path).relative_to(self.root))
            if entry.is_dir(follow_symlinks=False):
                yield key + "/"
                yield from self._walk(Path(entry.path))
            else:
                yield key

    def read(self, key: str) -> bytes:
        """Return the bytes of a file."""
        return (self.root / key).read_bytes()

    def write(self, key: str, content: bytes) -> None:
        """Replace a file as careful programs do."""
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(path.name + ".new")
        beside.write_bytes(content)
        beside.rename(path)

    def delete(self, key: str) -> None:
        """Delete a file."""
        (self.root / key).unlink()


@dataclass(frozen=True)
class S3Objects:
    """The objects of a bucket below a prefix, by boto3."""

    client: "S3Client"
    bucket: str
    prefix: str

    def listing(self) -> set[str]:
        """Return all keys."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self.prefix
        )
        found = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        return {key.removeprefix(self.prefix) for key in found} - {""}

    def read(self, key: str) -> bytes:
        """Return the bytes of an object."""
        answer = self.client.get_object(Bucket=self.bucket, Key=self.prefix + key)
        with answer["Body"] as body:
            return body.read()

    def write(self, key: str, content: bytes) -> None:
        """Put an object."""
        self.client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=content)

    def delete(self, key: str) -> None:
        """Delete an object."""
        self.client.delete_object(Bucket=self.bucket, Key=self.prefix + key)


@dataclass(frozen=True)
class GcsObjects:
    """The objects of a bucket of the fake of Google Cloud Storage below a prefix."""

    server: GcsServer
    bucket: str
    prefix: str

    def listing(self) -> set[str]:
        """Return all keys."""
        names = self.server.objects(self.bucket)
        below = {
            n.removeprefix(self.prefix) for n in names if n.startswith(self.prefix)
        }
        return below - {""}

    def read(self, key: str) -> bytes:
        """Return the bytes of an object."""
        return self.server.objects(self.bucket)[self.prefix + key].data

    def write(self, key: str, content: bytes) -> None:
        """Put an object."""
        self.server.put(self.bucket, self.prefix + key, content)

    def delete(self, key: str) -> None:
        """Delete an object."""
        self.server.remove(self.bucket, self.prefix + key)


@dataclass(frozen=True)
class DropboxFiles:
    """What is in a folder of the fake Dropbox."""

    server: DropboxServer
    prefix: str

    def listing(self) -> set[str]:
        """Return the files, and the folders with a `/` at the end."""
        found = set()
        with self.server.account.lock:
            tree = self.server.account.tree
            for lower, entry in tree.entries.items():
                shown = tree.display(lower)
                key = "/".join(
                    component_of(each) or each for each in shown.split("/")[1:]
                )
                if key.startswith(self.prefix):
                    slash = "/" if entry.is_folder else ""
                    found.add(key.removeprefix(self.prefix) + slash)
        return found

    def read(self, key: str) -> bytes:
        """Return the bytes of a file."""
        with self.server.account.lock:
            data = self.server.account.tree.find(self._path(key)).data
        assert data is not None
        return data

    def write(self, key: str, content: bytes) -> None:
        """Upload a file."""
        account = self.server.account
        with account.lock, account.tree.changed:
            account.tree.write(Commit(self._path(key), mode="overwrite"), content)

    def delete(self, key: str) -> None:
        """Delete a file."""
        account = self.server.account
        with account.lock, account.tree.changed:
            account.tree.delete(self._path(key), None)

    def _path(self, key: str) -> str:
        return "/" + path_of(self.prefix + key)


@dataclass(frozen=True)
class Store:
    """A store to mount: its URL, the options it needs, and its other side."""

    url: str
    options: tuple[str, ...] = ()
    other_side: OtherSide | None = None

    @property
    def there(self) -> OtherSide:
        """Return the other side, which this store must have."""
        assert self.other_side is not None, f"{self.url} cannot be seen from outside"
        return self.other_side

    def below(self, name: str) -> OtherSide:
        """Return the other side of one directory of the store."""
        there = self.there
        if isinstance(there, PlainFiles):
            return PlainFiles(there.root / name)
        assert isinstance(there, S3Objects | GcsObjects | DropboxFiles)
        return replace(there, prefix=f"{there.prefix}{name}/")


def files_of(directory: Path) -> dict[str, bytes]:
    """Return the regular files below a directory and their bytes."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def objects_of(there: OtherSide) -> dict[str, bytes]:
    """Return the objects that are no directory markers, and their bytes."""
    return {key: there.read(key) for key in there.listing() if not key.endswith("/")}
