"""What a mount does when it is asked on its control socket: one table of words.

`status`, `follow` and `unmount` are the server's own, and what only looks stands in
`mountfs.serving.observing`; everything else stands here.
"""

import os
from collections.abc import Awaitable, Callable, Mapping

from mountfs.control import Request
from mountfs.serving.access import Access
from mountfs.serving.audit import Audit
from mountfs.serving.control_server import Deed
from mountfs.serving.live import Live
from mountfs.serving.waiter import Waiter
from mountfs.serving.warmer import Warmer
from mountfs.status import Outcome, Progress
from mountfs.vfs.explain import Explainer


def deeds_of(
    waiter: Waiter,
    audit: Audit,
    warmer: Warmer,
    *,
    explainer: Explainer,
) -> Mapping[str, Deed]:
    """Return what these can do for a command, by the word that asks for it."""

    async def wait(request: Request, progress: Progress) -> Outcome:
        return await waiter.wait(request.paths, below=False)

    async def flush(request: Request, progress: Progress) -> Outcome:
        return await waiter.wait(request.paths, below=True)

    async def check(request: Request, progress: Progress) -> Outcome:
        return await audit.answer(is_repair=request.is_repair)

    async def warm(request: Request, progress: Progress) -> Outcome:
        return await warmer.warm(request.paths, jobs=request.jobs, progress=progress)

    async def explain(request: Request, progress: Progress) -> Outcome:
        path = request.paths[0] if request.paths else ""
        return Outcome(told=await explainer.explain(os.fsencode(path)))

    return {
        "wait": Deed(carry_out=wait),
        "flush": Deed(carry_out=flush),
        "check": Deed(carry_out=check),
        "explain": Deed(carry_out=explain, tells="nothing"),
        "warm": Deed(carry_out=warm, tells="progress"),
    }


def changes_of(
    access: Access,
    live: Live,
    hand_over: Callable[[], Awaitable[Outcome]],
    leave: Callable[[], Awaitable[Outcome]],
) -> Mapping[str, Deed]:
    """Return what changes a mount while it lives, or ends it for another."""

    async def read_only(request: Request, progress: Progress) -> Outcome:
        return await access.forbid()

    async def read_write(request: Request, progress: Progress) -> Outcome:
        return await access.allow()

    async def set_(request: Request, progress: Progress) -> Outcome:
        return await live.set(request.settings)

    async def yield_(request: Request, progress: Progress) -> Outcome:
        return await hand_over()

    async def leave_(request: Request, progress: Progress) -> Outcome:
        return await leave()

    return {
        "leave": Deed(carry_out=leave_, tells="nothing"),
        "read-only": Deed(carry_out=read_only),
        "read-write": Deed(carry_out=read_write),
        "set": Deed(carry_out=set_, tells="nothing"),
        "yield": Deed(carry_out=yield_),
    }
