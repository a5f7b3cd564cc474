"""What was learnt of one object, in a form that can be kept and checked later.

A record is of one state of an object: its size and both parts of its version. It counts
only while a newer answer of the store shows that state. It also names the gates that
were open when it was made, because they decide what was read out of the metadata; it
counts only for a mount with the same ones.

A record is not all that the store keeps of an object: who gets it back as an `Object`
knows the attributes, and nothing else of the metadata.

Pure: no I/O, no clock.
"""

from dataclasses import dataclass, replace

from mountfs.cache import attribute_json
from mountfs.cache.attribute_json import Json
from mountfs.cache.tokens import is_token
from mountfs.storage.types import (
    Attributes,
    Features,
    Metadata,
    Object,
    ObjectKind,
    Version,
    is_same_state,
)

_GATES = {
    "virtual_object_metadata": "a",
    "virtual_link": "l",
    "virtual_xattr": "x",
    "virtual_hard_link": "h",
    "virtual_special": "s",
}


def gates_of(features: Features) -> str:
    """Return the gates that decide what is read out of metadata, a letter each."""
    return "".join(letter for gate, letter in _GATES.items() if getattr(features, gate))


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known of an object besides what a listing tells.

    `content` and `state` are the parts of its version, `time_ns` the store's own time
    of change. `attributes` None means that it carries none.
    """

    kind: ObjectKind = ObjectKind.FILE
    size: int | None = None
    time_ns: int | None = None
    content: str | None = None
    state: str | None = None
    gates: str = ""
    attributes: Attributes | None = None
    target: str | None = None

    @classmethod
    def of(cls, object: Object, gates: str) -> "Record | None":
        """Return the record of an object; None if it could never be checked."""
        if object.metadata is None or object.version is None or object.size is None:
            return None
        if is_token(object.version):
            return None  # the store has not seen it yet
        if object.has_foreign_name:
            return None  # what a foreign tool means by a name, only its object tells
        attributes = object.attributes
        if attributes is not None and attributes.xattrs is None and "x" in gates:
            return None  # they lie elsewhere, and could not be read: to be asked again
        return cls(
            kind=object.kind,
            size=object.size,
            time_ns=object.mtime_ns,
            content=object.version.content,
            state=object.version.attributes,
            gates=gates,
            attributes=attributes,
            target=object.link_target,
        )

    def completed(self, listed: Object, gates: str) -> Object | None:
        """Return a listed object with what is known of it; None if it is another."""
        if self.gates != gates or not self.is_of(listed):
            return None
        return replace(
            listed,
            kind=self.kind,
            metadata=Metadata(attributes=self.attributes, is_whole=False),
            link_target=self.target,
        )

    def is_of(self, listed: Object) -> bool:
        """Tell whether this is a record of the state that a listing shows."""
        if self.content is None:
            return False
        version = Version(self.content, self.state)
        known = Object(
            key=listed.key, size=self.size, mtime_ns=self.time_ns, version=version
        )
        return is_same_state(known, listed)

    def to_json(self) -> dict[str, Json]:
        """Return what stands for the record; what is not known is left out."""
        told: dict[str, Json] = {}
        if self.kind is not ObjectKind.FILE:
            told["kind"] = self.kind.value
        for name in _FIELDS:
            value: int | str | None = getattr(self, name)
            if value is not None:
                told[name] = value
        if self.attributes is not None:
            told["attributes"] = attribute_json.to_json(self.attributes)
        return told

    @classmethod
    def from_json(cls, told: object) -> "Record":
        """Return the record; names that are not known are passed over.

        Raises `ValueError` for what `to_json` would not write.
        """
        if not isinstance(told, dict):
            raise ValueError(f"not a record: {told!r}")  # noqa: TRY004  # of JSON
        numbers = {name: told[name] for name in _NUMBERS if name in told}
        if not all(type(number) is int for number in numbers.values()):
            raise ValueError(f"not numbers: {numbers!r}")
        texts = {name: told[name] for name in _TEXTS if name in told}
        if not all(type(text) is str for text in texts.values()):
            raise ValueError(f"not texts: {texts!r}")
        attributes = told.get("attributes")
        return cls(
            kind=ObjectKind(told.get("kind", ObjectKind.FILE.value)),
            attributes=None
            if attributes is None
            else attribute_json.from_json(attributes),
            **numbers,
            **texts,
        )


_NUMBERS = ("size", "time_ns")
_TEXTS = ("content", "state", "gates", "target")
_FIELDS = (*_NUMBERS, *_TEXTS)
