"""Turn a page of the docs into a man page.

Headings, paragraphs, lists, code and tables of options; links become their text, for a
terminal follows none. The macros are those of man(7), which groff and mandoc know.
"""

import re
from collections.abc import Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

# What has a meaning to roff, and what would be typeset as something else: a hyphen or a
# quote that somebody copies must be the one of the keyboard.
_ESCAPES = str.maketrans(
    {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}
)
_MARKS = {"strong_open": r"\fB", "em_open": r"\fI", "link_open": r"\fI"}


def escape(text: str) -> str:
    """Return text that means nothing to roff, but at the start of a line."""
    return text.translate(_ESCAPES)


def page(
    name: str, section: int, summary: str, text: str, *, version: str, more: str = ""
) -> str:
    """Return the man page of a page in Markdown, with `more` at its end.

    Code before all else is the synopsis; what follows it, the description.
    """
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    head = (
        f'.TH "{name.upper()}" "{section}" "" "mountfs {version}" "mountfs"\n'
        ".nh\n.ad l\n"
        f".SH NAME\n{escape(name)} \\- {escape(summary)}\n"
    )
    return head + _Writer(tokens).written() + more


class _Writer:
    """Writes tokens one after the other."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        self._out: list[str] = []
        self._lists: list[str] = []
        self._is_item_begun = False
        self._has_description = False

    def written(self) -> str:
        """Return the page."""
        index = 0
        while index < len(self._tokens):
            index += self._write(index)
        return "".join(self._out)

    def _write(self, index: int) -> int:
        """Write what begins at a token; return how many tokens that was."""
        token = self._tokens[index]
        match token.type:
            case "heading_open":
                self._heading(token.tag, self._tokens[index + 1])
                return 3
            case "fence" | "code_block":
                self._code(token)
            case "paragraph_open":
                self._paragraph(self._tokens[index + 1])
                return 3
            case "bullet_list_open" | "ordered_list_open":
                self._lists.append(token.type)
                self._line(".RS" if len(self._lists) > 1 else "")
            case "bullet_list_close" | "ordered_list_close":
                self._lists.pop()
                self._line(".RE" if self._lists else "")
            case "list_item_open":
                self._item(token)
            case "table_open":
                return self._table(index)
            case _:
                pass
        return 1

    def _line(self, text: str) -> None:
        if text:
            self._out.append(f"{text}\n")

    def _heading(self, tag: str, inline: Token) -> None:
        if tag == "h1":
            return
        text = inline_text(inline, plain=True)
        self._line(f".SH {text.upper()}" if tag == "h2" else f".SS {text}")

    def _code(self, token: Token) -> None:
        lines = [_guard(escape(line)) for line in token.content.splitlines()]
        # Code before all else is the synopsis.
        begin, end = (
            (".PP\n.RS 4\n.EX", ".EE\n.RE")
            if self._out
            else (".SH SYNOPSIS\n.nf", ".fi")
        )
        self._out.append("\n".join([begin, *lines, end, ""]))

    def _paragraph(self, inline: Token) -> None:
        if not self._has_description:
            self._line(".SH DESCRIPTION")
            self._has_description = True
        elif self._is_item_begun:
            self._is_item_begun = False
        elif not self._out[-1].startswith(".S"):
            self._line(".IP" if self._lists else ".PP")
        self._line(inline_text(inline))

    def _item(self, token: Token) -> None:
        is_ordered = self._lists[-1].startswith("ordered")
        mark = f'"{token.info}." 4' if is_ordered else r"\(bu 2"
        self._line(f".IP {mark}")
        self._is_item_begun = True

    def _table(self, index: int) -> int:
        """Write the rows as a list: the first cell, and what it means."""
        end = index
        while self._tokens[end].type != "table_close":
            end += 1
        row: list[str] = []
        is_head = True
        for token in self._tokens[index:end]:
            match token.type:
                case "thead_close":
                    is_head = False
                case "tr_open":
                    row = []
                case "inline":
                    row.append(inline_text(token))
                case "tr_close" if not is_head:
                    self._row(row)
                case _:
                    pass
        return end - index + 1

    def _row(self, cells: Sequence[str]) -> None:
        term, *middle, meaning = cells
        between = "".join(f" ({cell})" for cell in middle if cell)
        self._line(f".TP\n{_guard(term + between)}\n{meaning}")


def inline_text(token: Token, *, plain: bool = False) -> str:
    """Return what stands in a line of Markdown; `plain` without typefaces."""
    out: list[str] = []
    for child in token.children or ():
        match child.type:
            case "text":
                out.append(escape(child.content))
            case "code_inline":
                code = escape(child.content)
                out.append(code if plain else rf"\fB{code}\fR")
            case "softbreak" | "hardbreak":
                out.append("\n")
            case "strong_open" | "em_open" | "link_open" if not plain:
                out.append(_MARKS[child.type])
            case "strong_close" | "em_close" | "link_close" if not plain:
                out.append(r"\fR")
            case _:
                pass  # what is not shown
    return "\n".join(_guard(line) for line in "".join(out).split("\n"))


def _guard(line: str) -> str:
    """Return a line that is not taken for a request."""
    return re.sub(r"^([.']|\\\(aq)", r"\\&\1", line)
