"""The attribute index of a directory: what its objects say, and how two of them merge.

The index of a directory lies in one or more objects, its shards. Shard 0 tells how many
there are, a power of two; a name belongs to the shard that its hash says. So that an
index can grow while others write to it, each shard tells of how many it was one when it
was last divided, and a name is looked for step by step: as shard 0 says, then as the
shard that was found says, until that shard is the name's own (see `owner`).

Pure: no I/O, no clock. docs/reference/format.md has the format byte by byte.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from mountfs.cache.attribute_json import Json
from mountfs.cache.records import Record
from mountfs.storage.types import PUT_TIME_SLACK_NS, Attributes

FORMAT = 1
PREFIX = ".mountfs/index/"
SHARD_ENTRIES_MAX = 10_000
"""A shard with more entries is divided."""
SHARDS_MAX = 1024
TEXT_SIZE_MAX = 256 << 20
"""A shard whose text is longer is none. Bytes."""


class UnknownFormat(Exception):
    """A newer mountfs wrote this: leave it alone."""


class Damaged(Exception):
    """This is no shard of this index."""


@dataclass(frozen=True, slots=True)
class Shard:
    """The entries of one shard, by name; a directory's name ends in a slash.

    `count` is how many shards there were when this one was last divided.
    """

    number: int = 0
    count: int = 1
    entries: Mapping[str, Record] = field(default_factory=dict)


# --- keys ---------------------------------------------------------------------------


def directory_prefix(directory: str) -> str:
    """Return what the keys of a directory's shards begin with."""
    name = hashlib.sha256(_encoded(directory)).hexdigest()[:32]
    return f"{PREFIX}{name}/"


def shard_key(directory: str, number: int) -> str:
    """Return the key of a shard."""
    return f"{directory_prefix(directory)}{number}"


def directory_of(data: bytes) -> str | None:
    """Return whose index some bytes are a shard of, in any format that tells it."""
    try:
        match json.loads(_unpacked(data)):
            case {"directory": str(directory)}:
                return directory
            case _:
                return None
    except (ValueError, RecursionError, zlib.error):
        return None


def place(name: str, count: int) -> int:
    """Return the number of a name's shard, if there are so many."""
    head = hashlib.sha256(_encoded(name)).digest()[:8]
    return int.from_bytes(head) % count


def owner(name: str, shards: Mapping[int, Shard]) -> int:
    """Return the number of the shard that holds a name, if the index has the name.

    A shard that is not there holds nothing, and was not divided.
    """
    count = shards[0].count if 0 in shards else 1
    number = place(name, count)
    while number in shards and shards[number].count > count:
        count = shards[number].count
        number = place(name, count)
    return number


def missing(shards: Mapping[int, Shard], asked: Iterable[int]) -> set[int]:
    """Return the numbers of the shards that are still to be read.

    `asked` are those that were; the ones of them that are there are in `shards`.
    """
    count = shards[0].count if 0 in shards else 1
    wanted = {0, *range(count)}
    for number, shard in shards.items():
        wanted |= set(range(number % count, shard.count, count))
    return wanted - set(asked)


def entries_of(shards: Mapping[int, Shard]) -> dict[str, Record]:
    """Return all entries of an index, each from the shard that owns it."""
    return {
        name: record
        for number, shard in shards.items()
        for name, record in shard.entries.items()
        if len(shards) == 1 or owner(name, shards) == number
    }


def halves(shard: Shard) -> tuple[Shard, Shard]:
    """Divide a shard: what stays, and the new one."""
    count = 2 * shard.count
    upper = shard.number + shard.count
    moved = {n: e for n, e in shard.entries.items() if place(n, count) == upper}
    stays = {n: e for n, e in shard.entries.items() if n not in moved}
    return Shard(shard.number, count, stays), Shard(upper, count, moved)


# --- changes ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Learnt:
    """Something was learnt of an object; a newer entry of it stays.

    `over` is an entry that is known to be of no use.
    """

    record: Record
    over: Record | None = None


@dataclass(frozen=True, slots=True)
class Set:
    """The index is where this is kept; the latest change wins.

    Attributes that the record does not have stay as they are.
    """

    record: Record


@dataclass(frozen=True, slots=True)
class Drop:
    """The object is gone; with `over`, only this entry of it is."""

    over: Record | None = None


Change = Learnt | Set | Drop


def merged(
    entries: Mapping[str, Record], changes: Mapping[str, Change]
) -> dict[str, Record]:
    """Return the entries after some changes."""
    after = dict(entries)
    for name, change in changes.items():
        match change:
            case Learnt():
                after[name] = _newer(change, entries.get(name))
            case Set(record):
                after[name] = _completed(record, entries.get(name))
            case Drop(over):
                if over is None or entries.get(name) == over:
                    after.pop(name, None)
    return after


def _newer(change: Learnt, known: Record | None) -> Record:
    """Return the newer one; what changed in the same second cannot be told apart."""
    if known is None or known == change.over:
        return change.record
    known_ns, learnt_ns = known.time_ns or 0, change.record.time_ns or 0
    # The time of a write of ours may be later than the store's own by a second.
    is_older = learnt_ns + PUT_TIME_SLACK_NS < known_ns
    return known if is_older else change.record


def _completed(record: Record, known: Record | None) -> Record:
    """Return a record with the attributes that only another mount can have set."""
    if known is None or known.attributes is None or known.kind is not record.kind:
        return record
    if record.attributes is None:
        return replace(record, attributes=known.attributes)
    unset = {
        name: getattr(known.attributes, name)
        for name in Attributes.__slots__
        if getattr(record.attributes, name) is None
    }
    return replace(record, attributes=replace(record.attributes, **unset))


# --- bytes --------------------------------------------------------------------------


def encode(directory: str, shard: Shard) -> bytes:
    """Return the bytes of a shard."""
    told: dict[str, Json] = {
        "format": FORMAT,
        "directory": directory,
        "shard": shard.number,
        "shards": shard.count,
        "entries": {
            name: shard.entries[name].to_json() for name in sorted(shard.entries)
        },
    }
    text = json.dumps(told, separators=(",", ":")).encode()
    return gzip.compress(text, compresslevel=1, mtime=0)


def decode(directory: str, number: int, data: bytes) -> Shard:
    """Return the shard that some bytes are.

    Raises `UnknownFormat` for those of a newer mountfs, `Damaged` for anything else
    that `encode` would not write. An entry that is damaged alone is left out.
    """
    try:
        told = json.loads(_unpacked(data))
    except (ValueError, RecursionError, zlib.error) as error:
        raise Damaged(f"no JSON in gzip: {error}") from error
    match told:
        case {"format": int(version)} if version > FORMAT:
            raise UnknownFormat(f"format {version}, and this mountfs knows {FORMAT}")
        case {
            "format": 1,
            "directory": str(key),
            "shard": int(own),
            "shards": int(count),
            "entries": dict(entries),
        } if key == directory and own == number and _is_count(count, number):
            return Shard(number, count, _records(entries))
        case _:
            raise Damaged("another index, or none")


def _unpacked(data: bytes) -> bytes:
    unpacking = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    text = unpacking.decompress(data, TEXT_SIZE_MAX)
    if not unpacking.eof:
        raise ValueError("cut short, or too much")
    return text


def _is_count(count: int, number: int) -> bool:
    is_power = count > 0 and count & (count - 1) == 0
    return is_power and number < count <= SHARDS_MAX


def _records(entries: Mapping[str, object]) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for name, told in entries.items():
        try:
            found[name] = Record.from_json(told)
        except ValueError:
            continue
    return found


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
