"""What a mount does when it is asked on its control socket: one table of words.

`status`, `follow` and `unmount` are the server's own; everything else stands here.
"""

import os
from collections.abc import Awaitable, Callable, Mapping

from mountfs.access import Access
from mountfs.audit import Audit
from mountfs.control import Request
from mountfs.control_server import Deed, Stream
from mountfs.live import Live
from mountfs.metrics_text import Look, exposition
from mountfs.status import Outcome, Progress
from mountfs.storage.tracing import Tracer
from mountfs.vfs.explain import Explainer
from mountfs.waiter import Waiter
from mountfs.warmer import Warmer


def deeds_of(
    waiter: Waiter,
    audit: Audit,
    warmer: Warmer,
    look: Callable[[], Look],
    *,
    explainer: Explainer,
    tracer: Tracer,
) -> Mapping[str, Deed | Stream]:
    """Return what these can do for a command, by the word that asks for it."""

    async def wait(request: Request, progress: Progress) -> Outcome:
        return await waiter.wait(request.paths, below=False)

    async def flush(request: Request, progress: Progress) -> Outcome:
        return await waiter.wait(request.paths, below=True)

    async def check(request: Request, progress: Progress) -> Outcome:
        return await audit.answer(is_repair=request.is_repair)

    async def warm(request: Request, progress: Progress) -> Outcome:
        return await warmer.warm(request.paths, jobs=request.jobs, progress=progress)

    async def metrics(request: Request, progress: Progress) -> Outcome:
        looked = look()
        lines = tuple(exposition(looked).splitlines())
        return Outcome(lines=lines, told=looked.snapshot.told())

    async def explain(request: Request, progress: Progress) -> Outcome:
        path = request.paths[0] if request.paths else ""
        return Outcome(told=await explainer.explain(os.fsencode(path)))

    return {
        "metrics": Deed(carry_out=metrics, tells="nothing"),
        "trace": Stream(tracer.watching),
        "wait": Deed(carry_out=wait),
        "flush": Deed(carry_out=flush),
        "check": Deed(carry_out=check),
        "explain": Deed(carry_out=explain, tells="nothing"),
        "warm": Deed(carry_out=warm, tells="progress"),
    }


def changes_of(
    access: Access, live: Live, hand_over: Callable[[], Awaitable[Outcome]]
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

    return {
        "read-only": Deed(carry_out=read_only),
        "read-write": Deed(carry_out=read_write),
        "set": Deed(carry_out=set_, tells="nothing"),
        "yield": Deed(carry_out=yield_),
    }
