"""What a mount tells who looks at it: counters, what happens now, what it is doing."""

from collections.abc import Callable, Mapping

import trio

from mountfs.control import Request
from mountfs.serving.control_server import Deed, Stream
from mountfs.serving.metrics_text import Look, exposition
from mountfs.status import Outcome, Progress
from mountfs.storage.tracing import Tracer


def observing(
    look: Callable[[], Look], tracer: Tracer, dump: Callable[[], Mapping[str, object]]
) -> Mapping[str, Deed | Stream]:
    """Return what these can tell a command, by the word that asks for it."""

    async def metrics(request: Request, progress: Progress) -> Outcome:
        looked = look()
        text = await trio.to_thread.run_sync(exposition, looked)
        return Outcome(lines=tuple(text.splitlines()), told=looked.snapshot.told())

    async def insides(request: Request, progress: Progress) -> Outcome:
        return Outcome(told=dump())

    return {
        "metrics": Deed(carry_out=metrics, tells="nothing"),
        "dump": Deed(carry_out=insides, tells="nothing"),
        "trace": Stream(tracer.watching),
    }
