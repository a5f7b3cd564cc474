"""The files and folders of one Dropbox account, as the HTTP API v2 shows them.

Behaviour is that of the API documentation; each rule names its page:

* [files] https://www.dropbox.com/developers/documentation/http/documentation#files
* [paths] .../http/documentation#path-formats
* [hash] https://www.dropbox.com/developers/reference/content-hash
* [props] .../http/documentation#file_properties
* [case] https://help.dropbox.com/organize/file-names (names differ in more than case)
* [rclone] https://rclone.org/dropbox/#restricted-filename-characters (found by others)

What no page tells is done in the way that asks most of a client, and marked "harsh".
"""

import hashlib
import itertools
import threading
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

BLOCK = 4 << 20
NAME_MAX = 255
PAGE_MAX = 2000


class ApiError(Exception):
    """An answer 409: the tags of the error from outside to inside, and its value."""

    def __init__(self, *tags: str, value: object = None) -> None:
        super().__init__("/".join(tags))
        self.tags = tags
        self.value = value


@dataclass
class Entry:
    """A file or a folder."""

    name: str
    id: str
    data: bytes | None = None
    """None is a folder."""
    rev: str = ""
    client_modified: int = 0
    server_modified: int = 0
    groups: dict[str, dict[str, str]] = field(default_factory=dict)
    target: str | None = None
    """[files] SymlinkInfo: what a desktop client has found as a link."""

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.data is None

    @cached_property
    def hash(self) -> str:
        """The content hash of the bytes, which never change: others are a new entry."""
        return content_hash(self.data or b"")


@dataclass(frozen=True)
class Commit:
    """What a write says besides the bytes ([files] CommitInfo)."""

    path: str
    mode: str = "add"
    rev: str = ""
    is_strict: bool = False
    client_modified: int | None = None
    groups: dict[str, dict[str, str]] = field(default_factory=dict)


def content_hash(data: bytes) -> str:
    """[hash]: SHA-256 over the SHA-256 of each block of 4 MiB."""
    blocks = (data[at : at + BLOCK] for at in range(0, len(data), BLOCK))
    digests = b"".join(hashlib.sha256(block).digest() for block in blocks)
    return hashlib.sha256(digests).hexdigest()


def lowered(path: str) -> str:
    """[case]: names that differ in case or in their Unicode form are one name."""
    return unicodedata.normalize("NFC", path).lower()


def check_path(path: str, *outer: str) -> str:
    """[paths]: "" is the root; else `/name/name`, no slash at the end."""
    if path == "":
        return path
    names = path.split("/")[1:]
    is_good = path.startswith("/") and all(
        name and len(name) <= NAME_MAX and name not in {".", ".."} for name in names
    )
    # [rclone]: these, and a space at the end, are refused.
    bad = any(char in path for char in "\\\x7f\0")
    if not is_good or bad or any(name.endswith(" ") for name in names):
        raise ApiError(*outer, "malformed_path")
    return unicodedata.normalize("NFC", path)


class Tree:
    """All entries by lower-cased path, and what has changed in which order."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.revisions: dict[str, tuple[str, bytes]] = {}
        """Every content that was, by rev: what is gone can be restored."""
        self.changes: list[str] = []
        """The lower-cased path of each change; its place is its number."""
        self.changed = threading.Condition(threading.RLock())
        self.quota = 2 << 30
        self._children: dict[str, dict[str, None]] = {"": {}}
        self._numbers = itertools.count(1)

    # --- looking ----------------------------------------------------------------

    def find(self, path: str, *outer: str) -> Entry:
        """Return the entry of a path, or of `id:...` and `rev:...` ([paths])."""
        if path.startswith("id:"):
            found = [each for each in self.entries.values() if each.id == path]
            if not found:
                raise ApiError(*outer, "not_found")
            return found[0]
        entry = self.entries.get(lowered(check_path(path, *outer)))
        if entry is None:
            raise ApiError(*outer, "not_found")
        return entry

    def display(self, lower: str) -> str:
        """Return `path_display` of an entry."""
        shown, names = "", lower.split("/")[1:]
        for at in range(len(names)):
            entry = self.entries.get("/" + "/".join(names[: at + 1]))
            shown += "/" + (entry.name if entry is not None else names[at])
        return shown

    def below(self, lower: str, *, is_recursive: bool) -> Iterator[str]:
        """Yield the paths below a folder; a folder comes before what is in it."""
        for child in tuple(self._children.get(lower, ())):
            yield child
            if is_recursive and self.entries[child].is_folder:
                yield from self.below(child, is_recursive=True)

    @property
    def used(self) -> int:
        """The bytes of all files."""
        return sum(len(each.data) for each in self.entries.values() if each.data)

    # --- changing ---------------------------------------------------------------

    def write(self, commit: Commit, data: bytes) -> Entry:
        """[files] upload and WriteMode: save a file."""
        path = check_path(commit.path)
        lower = lowered(path)
        old = self.entries.get(lower)
        if old is not None and old.is_folder:
            raise ApiError("conflict", "folder")
        if self._is_conflict(commit, old, data):
            raise ApiError("conflict", "file")
        if self.used + len(data) - len(old.data or b"" if old else b"") > self.quota:
            raise ApiError("insufficient_space")
        if old is not None and old.data == data:
            # WriteMode: "If the target path refers to a file with identical contents,
            # nothing gets written". Harsh: neither do times nor property groups.
            return old
        self._make_parents(lower, path)
        now = int(time.time())
        # Harsh: properties belong to the file, and stay when its bytes are replaced.
        groups = {**old.groups, **commit.groups} if old else dict(commit.groups)
        # The name of a file that is replaced keeps its case.
        name = old.name if old else path.rpartition("/")[2]
        modified = commit.client_modified
        made = Entry(
            name=name,
            id=old.id if old else self._new_id(),
            data=data,
            rev=self.new_rev(lower, data),
            client_modified=now if modified is None else modified,
            server_modified=now,
            groups=groups,
        )
        self._put(lower, made)
        return made

    @staticmethod
    def _is_conflict(commit: Commit, old: Entry | None, data: bytes) -> bool:
        """[files] WriteMode, and `strict_conflict`."""
        if commit.mode == "overwrite":
            return False
        if old is None:
            return commit.mode == "update" and commit.is_strict
        if commit.mode == "update" and old.rev == commit.rev:
            return False
        return commit.is_strict or old.data != data

    def make_folder(self, path: str) -> Entry:
        """[files] create_folder_v2."""
        path = check_path(path, "path")
        lower = lowered(path)
        old = self.entries.get(lower)
        if old is not None or not path:
            kind = "file" if old is not None and not old.is_folder else "folder"
            raise ApiError("path", "conflict", kind)
        self._make_parents(lower, path, "path")
        made = Entry(name=path.rpartition("/")[2], id=self._new_id())
        self._put(lower, made)
        return made

    def delete(self, path: str, rev: str | None) -> tuple[str, Entry]:
        """[files] delete_v2: a folder goes with all that is in it."""
        entry = self.find(path, "path_lookup")
        lower = self._place_of(entry, path)
        if rev is not None and (entry.is_folder or entry.rev != rev):
            raise ApiError("path_write", "conflict", "file")
        shown = self.display(lower)
        for each in [*self.below(lower, is_recursive=True)][::-1]:
            self._remove(each)
        self._remove(lower)
        return shown, entry

    def relocate(self, source: str, target: str, *, is_move: bool) -> str:
        """[files] move_v2 and copy_v2, of a file or a whole folder."""
        entry = self.find(source, "from_lookup")
        target = check_path(target, "to")
        start, end = self._place_of(entry, source), lowered(target)
        if start == end or end.startswith(start + "/"):
            # move_v2: "we do not currently support case-only renaming".
            raise ApiError("duplicated_or_nested_paths")
        if end in self.entries or not target:
            there = self.entries.get(end)
            kind = "file" if there is not None and not there.is_folder else "folder"
            raise ApiError("to", "conflict", kind)
        self._make_parents(end, target, "to")
        moved = [start, *self.below(start, is_recursive=True)]
        if not is_move and len(moved) > 10_000:
            raise ApiError("too_many_files")  # [files] RelocationError
        copies = [(end + each[len(start) :], self.entries[each]) for each in moved]
        if is_move:
            for each in moved[::-1]:
                self._remove(each)
        for place, known in copies:
            self._put(place, self._relocated(place, known, is_move=is_move))
        self.entries[end].name = target.rpartition("/")[2]
        return end

    def _relocated(self, place: str, known: Entry, *, is_move: bool) -> Entry:
        """Return an entry at its new place: a new rev; harsh: a copy has no groups."""
        return Entry(
            name=known.name,
            id=known.id if is_move else self._new_id(),
            data=known.data,
            rev="" if known.data is None else self.new_rev(place, known.data),
            client_modified=known.client_modified,
            server_modified=int(time.time()),
            groups=known.groups if is_move else {},
            target=known.target,
        )

    def restore(self, path: str, rev: str) -> Entry:
        """[files] restore: a revision becomes the file again."""
        if rev not in self.revisions:
            raise ApiError("invalid_revision")
        _, data = self.revisions[rev]
        return self.write(Commit(path, mode="overwrite"), data)

    def touch(self, lower: str) -> None:
        """Note a change of properties, which makes no new revision."""
        self._note(lower)

    def place_of(self, path: str) -> str:
        """Return the lower-cased path of `id:...` or of a path."""
        return self._place_of(self.find(path, "path"), path)

    def _place_of(self, entry: Entry, path: str) -> str:
        if not path.startswith("id:"):
            return lowered(path)
        return next(place for place, each in self.entries.items() if each is entry)

    def new_rev(self, lower: str, data: bytes) -> str:
        """Return a rev: [files] "at least 9 hex characters"."""
        rev = f"{next(self._numbers):015x}"
        self.revisions[rev] = (lower, data)
        return rev

    def _new_id(self) -> str:
        return f"id:fake{next(self._numbers):018d}"

    def _make_parents(self, lower: str, path: str, *outer: str) -> None:
        """[files]: folders above a new file are made; a file there is in the way."""
        names = path.split("/")[1:-1]
        for at in range(len(names)):
            parent = "/" + "/".join(lower.split("/")[1 : at + 2])
            known = self.entries.get(parent)
            if known is None:
                self._put(parent, Entry(name=names[at], id=self._new_id()))
            elif not known.is_folder:
                raise ApiError(*outer, "conflict", "file_ancestor")

    def _put(self, lower: str, entry: Entry) -> None:
        self.entries[lower] = entry
        self._children.setdefault(lower.rpartition("/")[0], {})[lower] = None
        if entry.is_folder:
            self._children.setdefault(lower, {})
        self._note(lower)

    def _remove(self, lower: str) -> None:
        del self.entries[lower]
        self._children[lower.rpartition("/")[0]].pop(lower, None)
        self._children.pop(lower, None)
        self._note(lower)

    def _note(self, lower: str) -> None:
        self.changes.append(lower)
        self.changed.notify_all()
