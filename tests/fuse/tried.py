"""What the servers of a session honour: one mount tries it out, the others are told.

The first mount of a store tries out which conditions the store honours and remembers
the answer in its state directory. In a test nearly every mount is a first one, and the
thirty requests were half of what it cost. So what was found at a server that lives as
long as the session is put where the next mount looks for it.
"""

from collections.abc import Sequence
from pathlib import Path

from mountfs.configuration.config import StoreConfig, identity_of
from mountfs.storage.types import Features

FILE = "probe.json"
LEFT_OUT = ("--read-only", "--lazy")
"""Mounts with these do not try out at once."""
servers: dict[str, bytes | None] = {}
"""By the endpoint of each such server what was found; None as long as nothing was."""


def is_shared(endpoint_url: str) -> None:
    """Say that a server is the same for every test of the session."""
    servers.setdefault(endpoint_url, None)


def tell(state_dir: Path, url: str, options: Sequence[str]) -> None:
    """Put what is known of its server where a mount that is about to begin looks."""
    found = servers.get(_endpoint_of(options))
    place = _place(state_dir, url, options)
    if found is None or place.exists() or any(each in options for each in LEFT_OUT):
        return
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    place.write_bytes(found)


def learn(state_dir: Path, url: str, options: Sequence[str]) -> None:
    """Take what a mount that has begun has found, for those that follow."""
    endpoint = _endpoint_of(options)
    place = _place(state_dir, url, options)
    if endpoint in servers and servers[endpoint] is None and place.exists():
        servers[endpoint] = place.read_bytes()


def _endpoint_of(options: Sequence[str]) -> str:
    prefix = "--endpoint-url="
    found = [each for each in options if each.startswith(prefix)]
    return found[-1].removeprefix(prefix) if found else ""


def _place(state_dir: Path, url: str, options: Sequence[str]) -> Path:
    store_options = {"endpoint_url": _endpoint_of(options)}
    config = StoreConfig(
        url=url, store_options=store_options, features=Features.for_mounts()
    )
    return state_dir / identity_of(config) / FILE
