"""Mounts on a terminal: a picture each, of any width, in colour if there is any.

Drawn with rich, which knows what a terminal can do: it is imported only where somebody
looks. Bars and ellipses are ASCII where the terminal has no UTF-8. Names and answers of
stores are text and nothing else: no markup, nothing that moves the cursor.
"""

from collections.abc import Iterator, Sequence
from typing import Self, TextIO

from rich.console import Console, Group, OverflowMethod, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mountfs.actions import overview, watch
from mountfs.actions.overview import Place
from mountfs.actions.watch import Rates, Seen
from mountfs.configuration.values import format_size, format_span
from mountfs.status import PendingPath, State, Status
from mountfs.terminal import plain

WIDTH_MIN = 20
HEIGHT = 25
NARROW = 70
"""A terminal that is narrower has no bars beside the names of files."""
TINY = 45
"""One that is narrower than this has no columns either."""
BAR_WIDTH = 16
PENDING_SHOWN = 8
INCIDENTS_SHOWN = 5

STYLES = {
    "mounted": "green",
    "draining": "yellow",
    "online": "green",
    "degraded": "yellow",
    "offline": "red",
    "dead": "red",
    "silent": "red",
}


def console_of(out: TextIO, *, width: int | None = None) -> Console:
    """Return what draws on a terminal; `width`: as if it had so many columns."""
    console = _console(out, width)
    return console if console.width >= WIDTH_MIN else _console(out, WIDTH_MIN)


def _console(out: TextIO, width: int | None) -> Console:
    height = None if width is None else HEIGHT
    return Console(
        file=out, highlight=False, markup=False, emoji=False, width=width, height=height
    )


def show(directory: str | None, out: TextIO) -> int:
    """Draw how mounts do; return the exit code, as `overview.show` does."""
    places = overview.look(directory, is_seen=True)
    console = console_of(out)
    console.print(picture([(place, None) for place in places], console))
    return overview.code_of(places)


class LivePicture:
    """The newest picture, in the place of the one before."""

    def __init__(self, out: TextIO, *, width: int | None = None) -> None:
        self._console = console_of(out, width=width)
        self._live = Live(
            console=self._console, auto_refresh=False, vertical_overflow="ellipsis"
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._live.stop()

    def _update(self, drawn: RenderableType) -> None:
        self._live.update(drawn, refresh=True)


class Screen(LivePicture):
    """How mounts do."""

    def show(self, seen: Seen) -> None:
        """Show the newest look."""
        self._update(picture(seen, self._console))


def picture(seen: Seen, console: Console) -> RenderableType:
    """Return all mounts, below each other."""
    return Drawing(console).all(seen)


class Drawing:
    """Draws for one terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._is_ascii = console.options.ascii_only

    def all(self, seen: Seen) -> RenderableType:
        """Return all mounts, below each other."""
        if not seen:
            return Text("nothing is mounted")
        drawn: list[RenderableType] = []
        for place, rates in seen:
            if drawn:
                drawn.append(Text(""))
            drawn += self._mount(place, rates)
        return Group(*drawn)

    def _mount(self, place: Place, rates: Rates | None) -> Iterator[RenderableType]:
        status = place.status
        yield self.text(overview.title(place), style="bold")
        grid = Table.grid(padding=(0, 1), expand=True)
        grid.add_column(width=9, no_wrap=True, style="dim")
        grid.add_column(ratio=1, overflow="fold")
        if status is None:
            text = self.text(f"{place.state}: {overview.advice(place)}")
            grid.add_row(Text("state"), _styled(text, place.state))
        else:
            self._fill(grid, status, rates)
        yield _indented(grid)

    def _fill(self, grid: Table, status: Status, rates: Rates | None) -> None:
        since = overview.since_text(status)
        state = self.text(f"{status.state.value}, process {status.pid}{since}")
        grid.add_row(Text("state"), _styled(state, status.state.value))
        store = self.text(overview.store_text(status))
        grid.add_row(Text("store"), _styled(store, status.store_state))
        if rates is None:
            grid.add_row(Text("promise"), self.text(f"durability={status.durability}"))
        for word, text in overview.config_rows(status):
            grid.add_row(Text(word), self.text(text, style="yellow"))
        for word, text in overview.others_rows(status):
            style = "yellow" if status.untold else ""
            grid.add_row(Text(word), self.text(text, style=style))
        self._add_work(grid, status, rates)
        grid.add_row(Text("pending"), self.text(watch.pending_text(status, rates)))
        if status.pending:
            grid.add_row(Text(""), self._pending(status))
        for word, text in overview.local_only_rows(status):
            grid.add_row(Text(word), self.text(text))
        for word, text in _trouble(status):
            grid.add_row(Text(word), self.text(text, style="red"))
        for word, text in overview.refused_rows(status):
            grid.add_row(Text(word), self.text(text, style="red"))
        grid.add_row(Text("cache"), self._cache(status))
        if rates is None:
            journal = f"{format_size(status.journal_size)} in {status.state_dir}"
            grid.add_row(Text("journal"), self.text(journal))
            grid.add_row(Text("memory"), self.text(f"{status.names} names"))
        if status.state is State.DRAINING:
            grid.add_row(Text(""), self.text(overview.DRAINING))

    def _add_work(self, grid: Table, status: Status, rates: Rates | None) -> None:
        done = status.activity
        if rates is None:
            programs = overview.programs_text(status)
            network = overview.network_text(status)
            blocks = overview.share_of(done.block_hits, done.block_misses)
            names = overview.share_of(done.metadata_hits, done.metadata_misses)
        else:
            programs, network = watch.programs_text(rates), watch.network_text(rates)
            blocks, names = rates.block_hits, rates.metadata_hits
        hits = Text.assemble(
            "blocks ", self._share(blocks), "   names ", self._share(names)
        )
        grid.add_row(Text("hits"), hits)
        grid.add_row(Text("programs"), self.text(programs))
        grid.add_row(Text("network"), self.text(network))
        if rates is not None:
            grid.add_row(Text("ahead"), self.text(watch.ahead_text(status)))

    def _share(self, share: float | None) -> Text:
        if share is None or self._console.width < NARROW:
            return Text(overview.percent(share))
        return Text.assemble(
            self.bar(share, width=BAR_WIDTH // 2), f" {overview.percent(share)}"
        )

    def _pending(self, status: Status) -> RenderableType:
        shown = overview.foremost(status.pending, PENDING_SHOWN)
        is_tiny = self._console.width < TINY
        drawn: list[RenderableType] = (
            [self.text(_line(each)) for each in shown]
            if is_tiny
            else [self._table(shown)]
        )
        drawn += [
            self.text(f"{each.path or overview.ROOT}: {each.error}", style="red")
            for each in shown
            if each.error is not None
        ]
        more = status.pending_files - len(shown)
        if more > 0:
            drawn.append(Text(f"and {more} more", style="dim"))
        return Group(*drawn)

    def _table(self, shown: Sequence[PendingPath]) -> Table:
        overflow: OverflowMethod = "crop" if self._is_ascii else "ellipsis"
        has_bars = self._console.width >= NARROW
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(ratio=1, no_wrap=True, overflow=overflow)
        if has_bars:
            table.add_column(width=BAR_WIDTH, no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True)
        for each in shown:
            share = each.sent / each.size if each.size else 0.0
            style = "red" if each.error is not None else "green"
            table.add_row(
                self.text(each.path or overview.ROOT),
                *([self.bar(share)] if has_bars else []),
                Text(overview.size_text(each)),
                Text(_state(each), style=style),
            )
        return table

    def _cache(self, status: Status) -> Text:
        text = overview.cache_text(status)
        if self._console.width < NARROW or not status.cache_limit:
            return self.text(text)
        share = status.cache_used / status.cache_limit
        return Text.assemble(self.bar(share), f" {text}")

    def bar(self, share: float, *, width: int = BAR_WIDTH) -> Text:
        """Return a bar that is full as far as a share says."""
        done = int(min(max(share, 0.0), 1.0) * width)
        full, empty = ("#", ".") if self._is_ascii else ("\u2588", "\u2591")
        return Text.assemble((full * done, "green"), (empty * (width - done), "dim"))

    def text(self, text: str, style: str = "") -> Text:
        """Return text as it is, in letters that the terminal has."""
        shown = plain(text)
        if self._is_ascii:
            shown = shown.encode("ascii", "backslashreplace").decode()
        return Text(shown, style=style)


def _indented(grid: Table) -> Table:
    outer = Table.grid(expand=True)
    outer.add_column(width=2)
    outer.add_column(ratio=1)
    outer.add_row("", grid)
    return outer


def _line(pending: PendingPath) -> str:
    name = pending.path or overview.ROOT
    return f"{name} ({overview.size_text(pending)}) {_state(pending)}"


def _state(pending: PendingPath) -> str:
    """Return what is done about a file, in few words."""
    if pending.is_sending:
        return "sending"
    if pending.next_try_s is not None:
        return f"again in {format_span(pending.next_try_s)}"
    return "failed" if pending.error is not None else "waiting"


def _trouble(status: Status) -> Iterator[overview.Row]:
    rows = list(overview.trouble_rows(status))
    yield from rows[:1]
    yield from rows[1:][-INCIDENTS_SHOWN:]


def _styled(text: Text, state: str) -> Text:
    """Colour the word that says how it is."""
    text.stylize(STYLES.get(state, ""), 0, len(state))
    return text
