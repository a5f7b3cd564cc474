"""How the bytes of a changed file get into the store with the fewest bytes moved.

Pure: from sizes, extents and limits to a list of requests. The bytes of a file are,
in this order of precedence: what was written (`extents`), the base object below
`base_size`, zeros. `base_size` is what is still visible of the base: shrinking a file
and extending it again does not bring the old bytes back.

Every plan tiles [0, size) exactly and in order. `fills` are ranges of the base that
have to be read before they can be sent.
"""

from dataclasses import dataclass

from mountfs.cache.extents import Extents, Range
from mountfs.storage.append import MEMORY_MAX
from mountfs.storage.errors import ObjectTooLarge
from mountfs.storage.types import Capabilities, MultipartLimits

_COPY_SHARE = 8


@dataclass(frozen=True, slots=True)
class SendPart:
    """A range that is sent from here, after `fills` were read from the base."""

    offset: int
    size: int
    fills: tuple[Range, ...] = ()


@dataclass(frozen=True, slots=True)
class CopyPart:
    """A range of the base that the store copies; it lies at the same offset there."""

    offset: int
    size: int


Piece = SendPart | CopyPart


@dataclass(frozen=True, slots=True)
class PutWhole:
    """The whole file in one request."""

    size: int
    fills: tuple[Range, ...] = ()


@dataclass(frozen=True, slots=True)
class SendParts:
    """A multipart upload."""

    parts: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class AppendTail:
    """The store adds the tail to the base by itself."""

    offset: int
    size: int


Plan = PutWhole | SendParts | AppendTail


@dataclass(slots=True)
class _Run:
    """A stretch of the file that is copied or sent as a whole, before splitting."""

    start: int
    end: int
    is_copy: bool

    @property
    def size(self) -> int:
        return self.end - self.start


def plan_commit(
    size: int,
    extents: Extents,
    base_size: int,
    capabilities: Capabilities,
    *,
    is_base_whole: bool = True,
    put_size_max: int = 8 << 20,
    part_size: int = 8 << 20,
) -> Plan:
    """Choose how to store a file of `size` bytes.

    A copy of less than an eighth of `part_size` is not worth its request.
    `is_base_whole` says that nothing was ever cut off the base, so that a native
    append continues where it ends. Raises `ObjectTooLarge` if no request that the
    store takes can hold the file.
    """
    base_end = min(base_size, size)
    if _is_append(size, extents, base_end, capabilities, is_base_whole):
        return AppendTail(base_end, size - base_end)
    limits = capabilities.multipart
    whole = PutWhole(size, _fills(extents, base_end, 0, size))
    if limits is None or size == 0:
        return _checked(whole, capabilities)
    parts = _tile(
        size, extents, base_end, limits, part_size, capabilities.multipart_copy
    )
    copied = sum(part.size for part in parts if isinstance(part, CopyPart))
    if len(parts) == 1 and isinstance(parts[0], SendPart):
        copied = 0
        put_size_max = max(put_size_max, size)
    if copied < max(
        1, limits.part_size_min, part_size // _COPY_SHARE
    ) and size <= _write_max(put_size_max, capabilities):
        return _checked(whole, capabilities)
    return SendParts(parts)


def _is_append(
    size: int,
    extents: Extents,
    base_end: int,
    capabilities: Capabilities,
    is_base_whole: bool,
) -> bool:
    """Tell whether the store itself can continue the base (a true append).

    With part copies nothing is gained by it, and only parts can be conditional.
    """
    if not capabilities.append or capabilities.multipart_copy or not is_base_whole:
        return False
    if capabilities.multipart is None and base_end > MEMORY_MAX:
        return False  # it is emulated, in memory: through the disk, larger ones can be
    least = max(1, capabilities.append_size_min)
    return least <= base_end < size and not extents.overlaps(0, base_end)


def _write_max(put_size_max: int, capabilities: Capabilities) -> int:
    return min(put_size_max, capabilities.write_size_max or put_size_max)


def _checked(plan: PutWhole, capabilities: Capabilities) -> PutWhole:
    limit = capabilities.write_size_max
    if limit is not None and plan.size > limit:
        raise ObjectTooLarge(
            f"{plan.size} bytes are more than one write of at most {limit} takes, "
            "and the store has no multipart uploads"
        )
    return plan


def _fills(extents: Extents, base_end: int, start: int, end: int) -> tuple[Range, ...]:
    """Return the ranges of the base that lie in a range and were not written."""
    end = min(end, base_end)
    return tuple(extents.gaps(start, end)) if start < end else ()


def _tile(
    size: int,
    extents: Extents,
    base_end: int,
    limits: MultipartLimits,
    part_size: int,
    can_copy: bool,
) -> tuple[Piece, ...]:
    """Cut a file into parts within the limits, growing them until they are few enough.

    Both the size of a part and the smallest range worth a copy grow together, so
    that even a file with very many scattered edits fits into `parts_max`.
    """
    if size > limits.parts_max * limits.part_size_max:
        raise ObjectTooLarge(
            f"{size} bytes do not fit into {limits.parts_max} parts of at most "
            f"{limits.part_size_max} bytes"
        )
    fewest = -(-size // limits.parts_max)
    part = min(max(part_size, limits.part_size_min, fewest), limits.part_size_max)
    worth = max(limits.part_size_min, part_size // _COPY_SHARE)
    least = limits.part_size_min
    while True:
        if limits.equal_parts:
            runs = _equal_runs(size, extents, base_end, part, can_copy)
        else:
            runs = _widen(_runs(size, extents, base_end, worth, can_copy), least, worth)
            runs = _split(runs, limits, part)
        if len(runs) <= limits.parts_max:
            return tuple(_piece(run, extents, base_end) for run in runs)
        if part >= limits.part_size_max and worth >= limits.part_size_max:
            raise ObjectTooLarge(
                f"{size} bytes do not fit into {limits.parts_max} parts of at most "
                f"{limits.part_size_max} bytes"
            )
        part = min(part * 2, limits.part_size_max)
        worth = min(max(1, worth) * 2, limits.part_size_max)


def _piece(run: _Run, extents: Extents, base_end: int) -> Piece:
    if run.is_copy:
        return CopyPart(run.start, run.size)
    return SendPart(run.start, run.size, _fills(extents, base_end, run.start, run.end))


def _equal_runs(
    size: int, extents: Extents, base_end: int, part: int, can_copy: bool
) -> list[_Run]:
    """Cut into cells of one size; a cell that is all base is copied."""
    return [
        _Run(
            start,
            min(start + part, size),
            can_copy
            and min(start + part, size) <= base_end
            and not extents.overlaps(start, min(start + part, size)),
        )
        for start in range(0, size, part)
    ]


def _runs(
    size: int, extents: Extents, base_end: int, worth: int, can_copy: bool
) -> list[_Run]:
    """Alternate stretches that are sent and stretches that are worth a copy."""
    gaps = extents.gaps(0, base_end) if can_copy else []
    runs: list[_Run] = []
    position = 0
    for start, end in gaps:
        if end - start < max(1, worth) and end < size:
            continue
        if start > position:
            runs.append(_Run(position, start, is_copy=False))
        runs.append(_Run(start, end, is_copy=True))
        position = end
    if position < size:
        runs.append(_Run(position, size, is_copy=False))
    return runs


def _widen(runs: list[_Run], least: int, worth: int) -> list[_Run]:
    """Give sent stretches that are too short some of the copied ones beside them."""
    index = 0
    while index < len(runs) - 1:
        run = runs[index]
        if run.is_copy or run.size >= least:
            index += 1
            continue
        before = runs[index - 1] if index else None
        after = runs[index + 1]
        need = least - run.size
        is_last = index + 1 == len(runs) - 1
        right = _spare(after, worth, is_last=is_last)
        left = _spare(before, worth, is_last=False) if before is not None else 0
        if left + right < need:
            _swallow(runs, index)
            continue
        taken = min(need, right)
        run.end += taken
        after.start += taken
        if before is not None:
            run.start -= need - taken
            before.end -= need - taken
        if after.size == 0:
            del runs[index + 1]
        index += 1
    return runs


def _spare(run: _Run, worth: int, *, is_last: bool) -> int:
    """Return how much a copied stretch can give without becoming too short."""
    return run.size if is_last else max(0, run.size - worth)


def _swallow(runs: list[_Run], index: int) -> None:
    """Merge a sent stretch with the copied one behind it and what is sent after."""
    runs[index].end = runs[index + 1].end
    del runs[index + 1]
    if index + 1 < len(runs):
        runs[index].end = runs[index + 1].end
        del runs[index + 1]


def _split(runs: list[_Run], limits: MultipartLimits, part: int) -> list[_Run]:
    """Cut stretches into parts of about one size, none too small and none too large."""
    pieces: list[_Run] = []
    for run in runs:
        most = limits.part_size_max if run.is_copy else part
        count = -(-run.size // most)
        if run is not runs[-1] or run.is_copy:
            count = min(count, max(1, run.size // max(1, limits.part_size_min)))
            count = max(count, -(-run.size // limits.part_size_max))
            pieces.extend(_evenly(run, count))
        else:
            pieces.extend(
                _Run(start, min(start + part, run.end), run.is_copy)
                for start in range(run.start, run.end, part)
            )
    return pieces


def _evenly(run: _Run, count: int) -> list[_Run]:
    """Cut a stretch into `count` pieces that differ by at most one byte."""
    size, longer = divmod(run.size, count)
    pieces: list[_Run] = []
    start = run.start
    for index in range(count):
        end = start + size + (1 if index < longer else 0)
        pieces.append(_Run(start, end, run.is_copy))
        start = end
    return pieces
