"""What a bare client needs for the same work: the floor of each row.

It sends the requests that any file system has to send that keeps files as objects,
knows beforehand all that a program will ask for, and does nothing else. What a program
waits for one after the other (a close in `durability=store`) is sent one after the
other; what may be sent at once is sent by 32 threads (16 for parts of 8 MiB).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bench import contents
from bench.bare import BareClient
from bench.contents import MIB, PAGE, Sizes, small_content, small_names

PART = 8 * MIB
LEAST_PART = 5 * MIB


@dataclass(slots=True)
class FloorRun:
    """A bucket through the delayed link, and beside it."""

    slow: BareClient
    direct: BareClient
    sizes: Sizes
    number: int = 0
    times: dict[str, float] = field(default_factory=dict)

    def time(self, what: str, act: Callable[[], object]) -> None:
        """Take the time of a call."""
        start = time.perf_counter()
        act()
        self.times[what] = time.perf_counter() - start


def prepare(run: FloorRun) -> None:
    """Make what is only read."""
    for name in small_names(run.sizes.small):
        run.direct.put(f"data/small/{name}", small_content(name))
    run.direct.put("data/big", _big(run.sizes.big))
    for name, content in contents.tree_files(run.sizes.tree):
        run.direct.put(f"data/tree/{name}", content)


def _big(size: int) -> bytes:
    return b"".join(contents.big_block(index) for index in range(size // MIB))


def write_big(run: FloorRun) -> None:
    """Send parts, 16 at once."""
    whole = memoryview(_big(run.sizes.big))
    key = f"write-{run.number}"

    def part(offset: int) -> Callable[[str, int], str]:
        body = whole[offset : offset + PART]
        return lambda upload, number: run.slow.put_part(key, upload, number, body)

    parts = [part(offset) for offset in range(0, len(whole), PART)]
    run.time("close", lambda: run.slow.upload(key, parts))
    run.times["in the bucket"] = run.times["close"]


def _get_big(run: FloorRun) -> None:
    offsets = range(0, run.sizes.big, PART)
    run.slow.each(offsets, lambda offset: run.slow.get("data/big", offset, PART), 16)


def read_big(run: FloorRun) -> None:
    """Get ranges, 16 at once."""
    run.time("cold", lambda: _get_big(run))


def first_byte(run: FloorRun) -> None:
    """Get the first MiB."""
    run.time("first byte", lambda: run.slow.get("data/big", 0, MIB))


def random_reads(run: FloorRun) -> None:
    """Get pages, one after the other, or the whole file if that is faster."""

    def pages() -> None:
        for index in range(run.sizes.random):
            run.slow.get(
                "data/big", (index * 7919 % (run.sizes.big // PAGE)) * PAGE, 4096
            )

    run.time("pages", pages)
    run.time("whole", lambda: _get_big(run))
    fastest = min(run.times.values())
    run.times.clear()
    run.times["reads"] = fastest


def scattered_edits(run: FloorRun) -> None:
    """Send the parts around each edit, have the store copy what lies between."""
    key = f"edits-{run.number}"
    whole = _big(run.sizes.big)
    run.direct.put(key, whole)
    distance = run.sizes.big // run.sizes.edits
    least = min(LEAST_PART, distance)
    view = memoryview(whole)

    def sent(offset: int, size: int) -> Callable[[str, int], str]:
        def send(upload: str, number: int) -> str:
            run.slow.get(key, offset, size)
            body = view[offset : offset + size]
            return run.slow.put_part(key, upload, number, body)

        return send

    def copied(offset: int, size: int) -> Callable[[str, int], str]:
        return lambda upload, number: run.slow.copy_part(
            key, upload, number, key, offset, size
        )

    parts: list[Callable[[str, int], str]] = []
    for index in range(run.sizes.edits):
        offset = index * distance
        end = run.sizes.big if index == run.sizes.edits - 1 else offset + distance
        rest = end - offset - least
        is_last = end == run.sizes.big
        if rest >= LEAST_PART or (rest > 0 and is_last):
            parts += [sent(offset, least), copied(offset + least, rest)]
        else:
            parts.append(sent(offset, end - offset))
    run.time("close", lambda: run.slow.upload(key, parts))
    run.times["in the bucket"] = run.times["close"]


def create_small(run: FloorRun) -> None:
    """Put files, one after the other, and then all at once."""
    files = [(n, small_content(n)) for n in small_names(run.sizes.small)]

    def one_by_one() -> None:
        for name, content in files:
            run.slow.put(f"create-{run.number}/{name}", content)

    def at_once() -> None:
        put = run.slow.put
        run.slow.each(files, lambda file: put(f"all-{run.number}/{file[0]}", file[1]))

    run.time("close", one_by_one)
    run.time("in the bucket", at_once)


def list_small(run: FloorRun) -> None:
    """List one directory."""
    run.time("ls -l", lambda: run.slow.keys("data/small/"))


def read_small(run: FloorRun) -> None:
    """List a directory and get its files, 32 at once."""

    def act() -> None:
        run.slow.each(run.slow.keys("data/small/"), run.slow.get)

    run.time("read", act)


def _small_below(run: FloorRun, prefix: str) -> list[str]:
    keys = [f"{prefix}-{run.number}/{name}" for name in small_names(run.sizes.small)]
    content = small_content("any")
    run.direct.each(keys, lambda key: run.direct.put(key, content), 8)
    return keys


def rename_directory(run: FloorRun) -> None:
    """List, copy 32 at once, and delete in one request per 1 000."""
    _small_below(run, "rename")

    def act() -> None:
        keys = list(run.slow.keys(f"rename-{run.number}/"))
        run.slow.each(keys, lambda key: run.slow.copy(key, f"re{key}"))
        for start in range(0, len(keys), 1000):
            run.slow.delete_many(keys[start : start + 1000])

    run.time("rename", act)
    run.times["in the bucket"] = run.times["rename"]


def remove_directory(run: FloorRun) -> None:
    """List, and delete one after the other; and again in one request per 1 000."""

    def one_by_one() -> None:
        for key in run.slow.keys(f"remove-{run.number}/"):
            run.slow.delete(key)

    def at_once() -> None:
        keys = list(run.slow.keys(f"remove-{run.number}/"))
        for start in range(0, len(keys), 1000):
            run.slow.delete_many(keys[start : start + 1000])

    _small_below(run, "remove")
    run.time("rm -r", one_by_one)
    _small_below(run, "remove")
    run.time("in the bucket", at_once)


def append(run: FloorRun) -> None:
    """Put the file as it grows, once for each append; or once in all."""
    pieces = [small_content(f"piece {n}", PAGE) for n in range(run.sizes.appends)]
    key = f"append-{run.number}"

    def one_by_one() -> None:
        for count in range(1, len(pieces) + 1):
            run.slow.put(key, b"".join(pieces[:count]))

    run.time("close", one_by_one)
    run.time("in the bucket", lambda: run.slow.put(key, b"".join(pieces)))


def untar(run: FloorRun) -> None:
    """Put the files one after the other, or at once; list and get them."""
    files = list(contents.tree_files(run.sizes.tree))

    def one_by_one() -> None:
        for name, content in files:
            run.slow.put(f"untar-{run.number}/{name}", content)

    def at_once() -> None:
        put = run.slow.put
        run.slow.each(files, lambda file: put(f"tree-{run.number}/{file[0]}", file[1]))

    def compare() -> None:
        run.slow.each(run.slow.keys("data/tree/"), run.slow.get)

    run.time("untar", one_by_one)
    run.time("in the bucket", at_once)
    run.time("diff cold", compare)


FLOORS: dict[str, Callable[[FloorRun], None]] = {
    "write": write_big,
    "read": read_big,
    "first": first_byte,
    "random": random_reads,
    "edits": scattered_edits,
    "create": create_small,
    "ls": list_small,
    "small": read_small,
    "small8": read_small,
    "rename": rename_directory,
    "remove": remove_directory,
    "append": append,
    "untar": untar,
}
"""By the names of rows. What git and sqlite do has no floor of its own."""
