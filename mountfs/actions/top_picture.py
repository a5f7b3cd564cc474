"""`mountfs top` on a terminal, drawn with rich as `mountfs.actions.picture` draws."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mountfs.actions import overview, top
from mountfs.actions.picture import NARROW, Drawing, LivePicture
from mountfs.actions.top import Load
from mountfs.actions.usage import Row

NARROW_COLUMNS = (0, 2, 3, 6)
"""What a narrow terminal has room for: the name, the rate, failures, the longest."""


class Screen(LivePicture):
    """What mounts do."""

    def show(self, loads: Sequence[Load]) -> None:
        """Show the newest look."""
        drawn = [each for load in loads for each in self._load(load)]
        self._update(Group(*drawn) if drawn else Text("nothing is mounted"))

    def _load(self, load: Load) -> Iterator[RenderableType]:
        drawing = Drawing(self._console)
        yield drawing.text(overview.title(load.place), style="bold")
        if load.usage is None:
            yield drawing.text(f"  {top.nothing_text(load)}", style="dim")
            return
        for word, text in top.summary_rows(load.usage):
            yield drawing.text(f"  {word:<9} {text}")
        for name, rows in top.tables_of(load.usage):
            yield Padding(self._table(name, rows), (0, 0, 0, 2))

    def _table(self, name: str, rows: Sequence[Row]) -> Table:
        is_narrow = self._console.width < NARROW
        wanted = NARROW_COLUMNS if is_narrow else range(len(top.HEADS))
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        heads = (name, *top.HEADS[1:])
        for index in wanted:
            justify = "left" if index == 0 else "right"
            table.add_column(
                heads[index],
                justify=justify,  # type: ignore[arg-type]  # one of its words
                no_wrap=True,
                min_width=16 if index == 0 else 7,
            )
        for row in rows:
            cells = top.cells_of(row)
            table.add_row(
                *(cells[index] for index in wanted),
                style="red" if row.failed else "",
            )
        return table
