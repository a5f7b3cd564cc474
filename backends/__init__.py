"""The stores, one module each, and the table of URL schemes that opens them."""

import importlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, cast
from urllib.parse import quote

from mountfs.storage.diagnosis import Diagnosis
from mountfs.storage.errors import InvalidRequest
from mountfs.storage.events import EventSource, SpaceSource
from mountfs.storage.protocol import Servicer, Storager
from mountfs.storage.types import NO_PAIRS

# scheme -> "module:function". A module, and the SDK that it needs, is imported when a
# URL asks for it. None stands for a store that is planned.
STORES: Mapping[str, str | None] = {
    "file": "mountfs.backends.local:open_local",
    "memory": "mountfs.backends.memory:open_memory",
    "s3": "mountfs.backends.s3:open_s3",
    "gs": "mountfs.backends.gcs:open_gcs",
    "dropbox": "mountfs.backends.dropbox:open_dropbox",
}
SERVICES: Mapping[str, str | None] = {
    "memory": "mountfs.backends.memory:open_memory_service",
    "s3": "mountfs.backends.s3:open_s3_service",
    "gs": "mountfs.backends.gcs:open_gcs_service",
}


AUTHORIZATIONS: Mapping[str, str] = {
    "dropbox": "mountfs.backends.dropbox_auth:DropboxAuthorization",
}


EVENTS: Mapping[str, str] = {
    "dropbox": "mountfs.backends.dropbox_events:open_events",
    "gs": "mountfs.backends.gcs_events:open_events",
    "s3": "mountfs.backends.s3_events:open_events",
}
SPACES: Mapping[str, str] = {"dropbox": "mountfs.backends.dropbox_space:open_space"}
DIAGNOSES: Mapping[str, str] = {
    "dropbox": "mountfs.backends.dropbox_diagnosis:open_diagnosis",
    "gs": "mountfs.backends.gcs_diagnosis:open_diagnosis",
    "s3": "mountfs.backends.s3_diagnosis:open_diagnosis",
}


class Authorization(Protocol):
    """How a user lets mountfs into an account."""

    @property
    def url(self) -> str:
        """What the user opens in a browser."""
        ...

    def finish(self, code: str) -> Path:
        """Turn the code that the user was shown into what is kept; return its file."""
        ...


def open_authorization(
    service: str,
    app_key: str,
    options: Mapping[str, object] = NO_PAIRS,
    *,
    in_keyring: bool = False,
) -> Authorization:
    """Begin to let mountfs into an account; nothing is sent.

    `in_keyring` keeps the token there. Raises `InvalidRequest`.
    """
    if service not in AUTHORIZATIONS:
        known = ", ".join(AUTHORIZATIONS)
        raise InvalidRequest(f"{service!r} is not one of {known}")
    opener = cast(
        "Callable[..., Authorization]",
        _loaded(AUTHORIZATIONS[service]),
    )
    return opener(app_key, options, in_keyring=in_keyring)


def open_store(url: str, options: Mapping[str, object] = NO_PAIRS) -> Storager:
    """Open the store that a URL names; nothing is emulated, retried or limited.

    `s3://bucket/prefix`, `file:///directory`, `memory://name`. The options are those
    of the scheme (docs/reference/backends.md). Raises `InvalidRequest` with one
    sentence for a URL or an option that makes no sense. Blocks for a look at the
    disk where the store is one.
    """
    opener = cast(
        "Callable[[str, Mapping[str, object]], Storager]", _opener(url, STORES)
    )
    return opener(url, options)


def open_events(
    url: str, options: Mapping[str, object] = NO_PAIRS
) -> EventSource | None:
    """Return what tells of changes made elsewhere; None for stores that do not."""
    place = EVENTS.get(url.partition("://")[0])
    if place is None:
        return None
    opener = cast(
        "Callable[[str, Mapping[str, object]], EventSource | None]", _loaded(place)
    )
    return opener(url, options)


def open_space(
    url: str, options: Mapping[str, object] = NO_PAIRS
) -> SpaceSource | None:
    """Return what tells how full a store is; None for stores without an end."""
    place = SPACES.get(url.partition("://")[0])
    if place is None:
        return None
    opener = cast("Callable[[str, Mapping[str, object]], SpaceSource]", _loaded(place))
    return opener(url, options)


def open_diagnosis(
    url: str, options: Mapping[str, object] = NO_PAIRS
) -> Diagnosis | None:
    """Return what tells of a store itself; None for stores without a service.

    Raises as `open_store` does.
    """
    place = DIAGNOSES.get(url.partition("://")[0])
    if place is None:
        return None
    opener = cast("Callable[[str, Mapping[str, object]], Diagnosis]", _loaded(place))
    return opener(url, options)


def open_service(url: str, options: Mapping[str, object] = NO_PAIRS) -> Servicer:
    """Open the account that a URL names: `s3://`, `memory://`.

    Raises as `open_store` does.
    """
    opener = cast(
        "Callable[[str, Mapping[str, object]], Servicer]", _opener(url, SERVICES)
    )
    return opener(url, options)


def object_url(url: str, key: str) -> str:
    """Return the URL of one object of a store, as other programs take it.

    In file URLs (RFC 8089) bytes are escaped, in all others a key stands as it is.
    """
    scheme = url.partition("://")[0]
    tail = quote(os.fsencode(key), safe="/~") if scheme == "file" else key
    return f"{url}{'' if url.endswith('/') or not tail else '/'}{tail}"


def _opener(url: str, table: Mapping[str, str | None]) -> object:
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise InvalidRequest(f"{url!r} is no URL; try s3://bucket or file:///directory")
    if scheme not in table:
        known = ", ".join(f"{name}://" for name, place in table.items() if place)
        raise InvalidRequest(f"{scheme}:// is not known here; choose one of {known}")
    place = table[scheme]
    if place is None:
        raise InvalidRequest(f"{scheme}:// is not available in this version")
    return _loaded(place)


def _loaded(place: str) -> object:
    module, _, function = place.partition(":")
    return getattr(importlib.import_module(module), function)
