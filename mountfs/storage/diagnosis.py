"""What a store tells of itself to `mountfs doctor`, and how a finding looks.

A `Diagnosis` belongs to one backend and knows its service by name: where credentials
come from, which permission a request needs, what is set for the bucket. Nothing of it
is needed to mount.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


class State(enum.Enum):
    """How a finding is to be taken."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"
    """It could not be looked at, or does not apply."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is, and what to do about it."""

    what: str
    state: State
    text: str
    cure: str = ""


class Deed(enum.Enum):
    """What a mount does to a store; each may need a permission of its own."""

    LIST = "list"
    STAT = "head"
    READ = "get"
    WRITE = "put"
    COPY = "copy"
    DELETE = "delete"
    MULTIPART = "multipart"
    ABORT = "multipart abort"


@dataclass(frozen=True, slots=True)
class Address:
    """The server that is asked, and the certificates that are trusted for it."""

    url: str
    ca_file: str | None = None
    """None: those of the system, or of the SDK."""


class Diagnosis(Protocol):
    """What one store tells of itself."""

    @property
    def needs(self) -> Mapping[Deed, str]:
        """The permission that each deed needs, in the words of the service."""
        ...

    def address(self) -> Address | None:
        """Return which server is asked; None if there is none. Blocks."""
        ...

    def credentials(self) -> Finding:
        """Tell where the credentials come from, never what they are. Blocks."""
        ...

    async def bucket(self) -> Sequence[Finding]:
        """Tell what is set for the bucket that costs money or surprises."""
        ...

    def policy(self, *, read_only: bool) -> str:
        """Return what must be allowed, as the service wants it written. Pure."""
        ...

    async def close(self) -> None:
        """Give back connections and threads."""
        ...
