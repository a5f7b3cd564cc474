"""How a mount does, and how a request to it ended, as values and as JSON lines.

Both sides of the control socket may be of different versions: a line may have fields
that the reader does not know, and lack those that came later.
"""

import dataclasses
import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mountfs.cache.activity import Activity
from mountfs.storage.secrets import blotted

PENDING_MAX = 100
"""So many pending files are described; the counts are of all."""
REFUSED_MAX = 5
"""So many refused requests are described, the newest."""
INCIDENTS_MAX = 20
"""So many late errors are described, the newest; the counts are of all."""

T = TypeVar("T")


class State(enum.Enum):
    """Where a mount stands."""

    MOUNTED = "mounted"
    DRAINING = "draining"
    """Unmounted, and still sending what is pending."""
    DONE = "done"
    """The daemon's last word; what is pending now stays in the state directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingPath:
    """A file, or a name, that the store does not have as it is here."""

    path: str
    size: int
    error: str | None = None
    """Why, if it was tried."""
    sent: int = 0
    """Bytes that lie in an upload which is not finished."""
    is_sending: bool = False
    attempts: int = 0
    """How often it was tried in vain, if that is counted."""
    next_try_s: float | None = None
    """When it is tried again, if that is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LateError:
    """An incident; see `mountfs.cache.incidents`."""

    kind: str
    path: str
    text: str
    time_ns: int
    kept_as: str | None = None
    is_new: bool = False
    """Nobody has been shown it, and no program was told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A request that the store refused, and that is not worth trying again."""

    path: str
    text: str
    time_ns: int
    code: str | None = None
    request: str | None = None
    """What was asked, in the service's own word."""
    http_status: int | None = None
    request_id: str | None = None
    needs: str | None = None
    """The permission that the credentials lack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a mount does."""

    url: str
    mount_point: str
    pid: int
    state: State
    since_ns: int = 0
    """When the mount began; 0 if it does not say."""
    pending_files: int = 0
    pending_bytes: int = 0
    waiting: tuple[str, ...] = ()
    """Paths, below the mount point, of some or all of the pending files."""
    pending: tuple[PendingPath, ...] = ()
    """The same, with sizes and errors."""
    local_only_files: int = 0
    """Files that stay here until they are renamed, and are not among the pending."""
    local_only_bytes: int = 0
    store_state: str = "online"
    """online, degraded or offline."""
    store_reason: str = ""
    """Why it is not online."""
    durability: str = "store"
    is_told: bool = False
    """Whether the store tells of what others change."""
    untold: str = ""
    """Why it does not, although it was asked to."""
    config_problem: str = ""
    """Why what the configuration files say now was not taken."""
    config_waiting: tuple[str, ...] = ()
    """The settings that they changed, and that wait for the next mount."""
    conflicts: int = 0
    """Commits that lost a race since the mount began."""
    late_errors: int = 0
    """What could not be stored and was told to no call, since the mount began."""
    unseen: int = 0
    """How many of both nobody has been shown."""
    incidents: tuple[LateError, ...] = ()
    """The newest of both, and the newest that nobody has been shown."""
    refused: tuple[Refused, ...] = ()
    """The newest requests that the store refused for good."""
    cache_used: int = 0
    cache_dirty: int = 0
    """How much of it exists nowhere else. Bytes, as all sizes here."""
    cache_limit: int = 0
    journal_size: int = 0
    names: int = 0
    """How many names are in memory."""
    state_dir: str = ""
    activity: Activity = dataclasses.field(default_factory=Activity)
    """What it has done since it began."""

    @property
    def needs_attention(self) -> bool:
        """Whether somebody should look at this mount."""
        has_failed = any(each.error is not None for each in self.pending)
        has_failed = has_failed or bool(self.config_problem or self.untold)
        return has_failed or self.unseen > 0 or self.store_state != "online"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a request that took its time has ended."""

    error: str | None = None
    """What went wrong, in a sentence."""
    is_passing: bool = False
    """The same may succeed later, and nothing is lost meanwhile."""
    lines: tuple[str, ...] = ()
    """What it has to tell, if that is its purpose."""
    told: Mapping[str, object] = dataclasses.field(default_factory=dict)
    """The same for programs, as JSON has it."""
    code: int = 0
    """The exit code for the command that asked."""


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a request is that fetches files. What fetches them writes here."""

    files: int = 0
    """Of which every byte is here."""
    files_found: int = 0
    bytes: int = 0
    """Which are here, fetched for this request or before."""
    bytes_fetched: int = 0
    bytes_found: int = 0
    is_counted: bool = False
    """Nothing more will be found."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has just happened, for who looks; empty: nothing has, lately."""

    told: Mapping[str, object] = dataclasses.field(default_factory=dict)


Said = Status | Progress | Outcome | Event
"""What a daemon may say."""


def encode(said: Said) -> bytes:
    """Return what is said as one line."""
    fields = dataclasses.asdict(said)
    match said:
        case Status():
            fields["state"] = said.state.value
        case Progress():
            fields = {"progress": fields}
        case Outcome():
            fields = {"outcome": fields}
        case Event():
            fields = {"event": said.told}
    return blotted(json.dumps(fields)).encode() + b"\n"


def decode(line: bytes) -> Said:
    """Return what a line says. Raises `ValueError` if it is nothing known."""
    fields = _mapping(json.loads(line))
    if "progress" in fields:
        return _progress(_mapping(fields["progress"]))
    if "event" in fields:
        return Event(_mapping(fields["event"]))
    if "outcome" in fields:
        return _outcome(_mapping(fields["outcome"]))
    if not fields.keys() >= {"url", "mount_point", "pid", "state"}:
        raise ValueError("not a status")
    return Status(
        url=_text(fields, "url"),
        mount_point=_text(fields, "mount_point"),
        pid=_number(fields, "pid"),
        state=State(_text(fields, "state")),
        waiting=tuple(map(str, _sequence(fields, "waiting"))),
        pending=tuple(map(_pending, _sequence(fields, "pending"))),
        incidents=tuple(map(_late_error, _sequence(fields, "incidents"))),
        refused=tuple(map(_refused, _sequence(fields, "refused"))),
        store_state=_text(fields, "store_state", "online"),
        store_reason=_text(fields, "store_reason"),
        durability=_text(fields, "durability", "store"),
        is_told=fields.get("is_told") is True,
        untold=_text(fields, "untold"),
        config_problem=_text(fields, "config_problem"),
        config_waiting=tuple(map(str, _sequence(fields, "config_waiting"))),
        state_dir=_text(fields, "state_dir"),
        activity=_activity(_mapping(fields.get("activity", {}))),
        **{name: _number(fields, name) for name in _NUMBERS},
    )


def _outcome(fields: Mapping[str, object]) -> Outcome:
    return Outcome(
        error=_text_or_none(fields, "error"),
        is_passing=fields.get("is_passing") is True,
        lines=tuple(map(str, _sequence(fields, "lines"))),
        told=_mapping(fields.get("told", {})),
        code=_number(fields, "code"),
    )


def _progress(fields: Mapping[str, object]) -> Progress:
    return Progress(
        files=_number(fields, "files"),
        files_found=_number(fields, "files_found"),
        bytes=_number(fields, "bytes"),
        bytes_fetched=_number(fields, "bytes_fetched"),
        bytes_found=_number(fields, "bytes_found"),
        is_counted=fields.get("is_counted") is True,
    )


_NUMBERS = (
    "since_ns",
    "pending_files",
    "pending_bytes",
    "local_only_files",
    "local_only_bytes",
    "conflicts",
    "late_errors",
    "unseen",
    "cache_used",
    "names",
    "cache_dirty",
    "cache_limit",
    "journal_size",
)


def _pending(told: object) -> PendingPath:
    fields = _mapping(told)
    return PendingPath(
        path=_text(fields, "path"),
        size=_number(fields, "size"),
        error=_text_or_none(fields, "error"),
        sent=_number(fields, "sent"),
        is_sending=fields.get("is_sending") is True,
        attempts=_number(fields, "attempts"),
        next_try_s=_seconds_or_none(fields, "next_try_s"),
    )


def _late_error(told: object) -> LateError:
    fields = _mapping(told)
    return LateError(
        kind=_text(fields, "kind"),
        path=_text(fields, "path"),
        text=_text(fields, "text"),
        time_ns=_number(fields, "time_ns"),
        kept_as=_text_or_none(fields, "kept_as"),
        is_new=fields.get("is_new") is True,
    )


def _refused(told: object) -> Refused:
    fields = _mapping(told)
    is_answered = fields.get("http_status") is not None
    return Refused(
        path=_text(fields, "path"),
        text=_text(fields, "text"),
        time_ns=_number(fields, "time_ns"),
        code=_text_or_none(fields, "code"),
        request=_text_or_none(fields, "request"),
        http_status=_number(fields, "http_status") if is_answered else None,
        request_id=_text_or_none(fields, "request_id"),
        needs=_text_or_none(fields, "needs"),
    )


def _activity(fields: Mapping[str, object]) -> Activity:
    names = [field.name for field in dataclasses.fields(Activity)]
    return Activity(**{name: _number(fields, name) for name in names})


def _mapping(told: object) -> Mapping[str, object]:
    if not isinstance(told, dict):
        raise ValueError("not a status")  # noqa: TRY004 - of JSON
    return told


def _sequence(fields: Mapping[str, object], name: str) -> Sequence[object]:
    return _field(fields, name, list, [])


def _number(fields: Mapping[str, object], name: str) -> int:
    return _field(fields, name, int, 0)


def _text(fields: Mapping[str, object], name: str, default: str = "") -> str:
    return _field(fields, name, str, default)


def _seconds_or_none(fields: Mapping[str, object], name: str) -> float | None:
    value = fields.get(name)
    return float(value) if isinstance(value, int | float) else None


def _text_or_none(fields: Mapping[str, object], name: str) -> str | None:
    return _text(fields, name) if fields.get(name) is not None else None


def _field(fields: Mapping[str, object], name: str, kind: type[T], default: T) -> T:
    value = fields.get(name, default)
    if not isinstance(value, kind):
        raise ValueError("not a status")  # noqa: TRY004 - of JSON
    return value
