"""What every store checks before it does anything, and how metadata are carried over.

Pure: it looks at arguments and capabilities, never at a store.
"""

import dataclasses
from collections.abc import Iterable, Mapping

from mountfs.backends._tokens import key_bytes
from mountfs.storage.errors import (
    AlreadyExists,
    InvalidRequest,
    KeyTooLong,
    MetadataTooLarge,
    ObjectTooLarge,
    Unsupported,
    VersionChanged,
)
from mountfs.storage.types import (
    Absent,
    Call,
    Capabilities,
    Condition,
    ListMode,
    Metadata,
    MultipartLimits,
    Version,
)


def check_options(
    options: Mapping[str, object], known: Iterable[str], scheme: str
) -> None:
    """Raise `InvalidRequest` if there is an option that the scheme does not know."""
    known = sorted(known)
    unknown = sorted(set(options) - set(known))
    if unknown:
        wanted = ", ".join(known) if known else "none"
        raise InvalidRequest(
            f"{scheme}:// has no option {unknown[0]!r}; its options are: {wanted}"
        )


def check_key(key: str, capabilities: Capabilities) -> None:
    """Raise `InvalidRequest` or `KeyTooLong` for a key that the store cannot hold."""
    if not key:
        raise InvalidRequest("an object needs a key, and the empty text is none")
    size = len(key_bytes(key))
    if capabilities.key_size_max is not None and size > capabilities.key_size_max:
        raise KeyTooLong(
            f"{size} bytes, and the store takes {capabilities.key_size_max}", key=key
        )
    if capabilities.utf8_keys and not is_utf8(key):
        raise InvalidRequest("the store takes only UTF-8 keys", key=key)


def is_utf8(text: str) -> bool:
    """Tell whether the text has no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_condition(
    call: Call, condition: Condition, capabilities: Capabilities
) -> None:
    """Raise `Unsupported` for a condition that the store would not honour."""
    if condition is None:
        return
    if call not in capabilities.conditions:
        raise Unsupported(f"{capabilities.service} has no conditional {call.value}")
    if call is Call.DELETE and isinstance(condition, Absent):
        raise InvalidRequest("deleting what is absent cannot be a condition")


def check_holds(key: str, condition: Condition, current: Version | None) -> None:
    """Raise `AlreadyExists` or `VersionChanged` if the condition does not hold.

    `current` is the version that is there now; None is absence.
    """
    match condition:
        case None:
            return
        case Absent():
            if current is not None:
                raise AlreadyExists("an object is there", key=key)
        case Version():
            if current is None:
                raise VersionChanged("the object is gone", key=key)
            if current.content != condition.content:
                raise VersionChanged("the object is another by now", key=key)


def check_metadata(metadata: Metadata, capabilities: Capabilities) -> None:
    """Raise `Unsupported` or `MetadataTooLarge` for what the store cannot keep."""
    if metadata.user and not capabilities.metadata:
        raise Unsupported(f"{capabilities.service} keeps no user metadata")
    if metadata.attributes is not None and not capabilities.attributes:
        raise Unsupported(f"{capabilities.service} keeps no POSIX attributes")
    refused = sorted(set(metadata.pairs) - capabilities.pairs)
    if refused:
        raise Unsupported(f"{capabilities.service} keeps no {refused[0]}")
    size = user_size(metadata.user)
    limit = capabilities.metadata_size_max
    if limit is not None and size > limit:
        raise MetadataTooLarge(f"{size} bytes of metadata, the limit is {limit}")


def user_size(user: Mapping[str, str]) -> int:
    """Return the bytes of all names and values, as the services count them."""
    return sum(len(key_bytes(name + value)) for name, value in user.items())


def check_write_size(key: str, size: int, capabilities: Capabilities) -> None:
    """Raise `ObjectTooLarge` for a body over the limit of one write."""
    limits = (capabilities.write_size_max, capabilities.object_size_max)
    for limit in limits:
        if limit is not None and size > limit:
            raise ObjectTooLarge(f"{size} bytes, the limit is {limit}", key=key)


def check_part(index: int, size: int, capabilities: Capabilities) -> None:
    """Raise for a part that no multipart upload of the store can hold."""
    limits = _multipart_limits(capabilities)
    if not 0 <= index < limits.parts_max:
        raise InvalidRequest(
            f"part {index} is not one of the {limits.parts_max} that there can be"
        )
    if size > limits.part_size_max:
        raise ObjectTooLarge(
            f"a part of {size} bytes, the limit is {limits.part_size_max}"
        )


def check_parts(
    indexes: Iterable[int], sizes: Iterable[int], capabilities: Capabilities
) -> None:
    """Raise `InvalidRequest` for parts that cannot be made an object."""
    indexes, sizes = list(indexes), list(sizes)
    if not indexes:
        raise InvalidRequest("an upload needs at least one part")
    if indexes != sorted(set(indexes)):
        raise InvalidRequest("the parts are not in the order of their indexes")
    limits = _multipart_limits(capabilities)
    small = [size for size in sizes[:-1] if size < limits.part_size_min]
    if small:
        raise InvalidRequest(
            f"a part of {small[0]} bytes is not the last, "
            f"and {limits.part_size_min} are the least"
        )
    if limits.equal_parts and len(set(sizes[:-1])) > 1:
        raise InvalidRequest("all parts but the last must have one size")


def _multipart_limits(capabilities: Capabilities) -> MultipartLimits:
    if capabilities.multipart is None:
        raise Unsupported(f"{capabilities.service} has no multipart uploads")
    return capabilities.multipart


def check_listing(prefix: str, mode: ListMode, limit: int | None) -> None:
    """Raise `InvalidRequest` for a listing that makes no sense."""
    if limit is not None and limit < 1:
        raise InvalidRequest(f"a page of {limit} objects cannot be")
    if mode is ListMode.DIRECTORY and prefix and not prefix.endswith("/"):
        raise InvalidRequest("the prefix of a directory ends in '/'", key=prefix)


def cut_range(offset: int, size: int | None, total: int) -> tuple[int, int]:
    """Return where a read starts and how many bytes there are for it."""
    check_range(offset, size)
    start = min(offset, total)
    return start, total - start if size is None else min(size, total - start)


def check_range(offset: int, size: int | None) -> None:
    """Raise `InvalidRequest` for a negative offset or size."""
    if offset < 0 or (size is not None and size < 0):
        raise InvalidRequest(f"no bytes are at offset {offset}, size {size}")


def inherited(metadata: Metadata, base: Metadata | None) -> Metadata:
    """Return the metadata of new bytes that take the place of an object with `base`.

    Whatever only `base` names is carried over, but for the commit id: it names one
    commit.
    """
    if base is None:
        return metadata
    return dataclasses.replace(
        changed(metadata, base), user={**base.user, **metadata.user}
    )


def changed(metadata: Metadata, base: Metadata) -> Metadata:
    """Return the metadata after a change: the user metadata are replaced as a whole.

    Pairs that the change does not name stay.
    """
    return dataclasses.replace(
        metadata,
        pairs={**base.pairs, **metadata.pairs},
        attributes=metadata.attributes or base.attributes,
    )
