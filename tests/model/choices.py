"""What a random deed is done to: mostly to something that is there.

A choice is drawn before anything is known and settled when the deed is done, by what
tmpfs has then. So it can be drawn again in the same way, and shrinks.
"""

from dataclasses import dataclass

from hypothesis import strategies as st

from tests.model.hand import Deed, Facts

NAMES = ("a", "b", "c")
SLOTS = 3
DEPTH_MAX = 3


@dataclass(frozen=True, slots=True)
class Some:
    """Something that is there, of a type if there is any of it."""

    type: str
    pick: int

    def settle(self, known: dict[str, Facts]) -> str:
        """Return its path."""
        there = sorted(path for path in known if not path.startswith("<"))
        wanted = [path for path in there if known[path]["type"] == self.type] or there
        return wanted[self.pick % len(wanted)] if wanted else NAMES[0]


@dataclass(frozen=True, slots=True)
class Inside:
    """A name in a directory that is there; it may be taken."""

    pick: int
    name: str

    def settle(self, known: dict[str, Facts]) -> str:
        """Return its path."""
        directories = [
            path
            for path, facts in sorted(known.items())
            if facts["type"] == "directory"
            and not path.startswith("<")
            and path.count("/") < DEPTH_MAX - 1
        ]
        chosen = ["", *directories][self.pick % (len(directories) + 1)]
        return f"{chosen}/{self.name}".removeprefix("/")


@dataclass(frozen=True, slots=True)
class Held:
    """A slot that is in use, if any is."""

    pick: int

    def settle(self, known: dict[str, Facts]) -> int:
        """Return its number."""
        used = sorted(int(path[1:-1]) for path in known if path.startswith("<"))
        return used[self.pick % len(used)] if used else self.pick % SLOTS


def settled(deed: Deed, known: dict[str, Facts]) -> Deed:
    """Return a deed with its choices settled."""
    return tuple(
        each.settle(known)
        if isinstance(each, Some | Inside | Held)
        else settled(each, known)
        if isinstance(each, tuple)
        else each
        for each in deed
    )


picks = st.integers(0, 11)
names = st.sampled_from(NAMES)
free = st.one_of(
    names,
    st.builds("{}/{}".format, names, names),
    st.builds("{}/{}/{}".format, names, names, names),
)
"""Paths whether or not anything is there."""


def some(type_: str = "any") -> st.SearchStrategy[object]:
    """Draw what is there, mostly."""
    there = st.builds(Some, st.just(type_), picks)
    return st.one_of(there, there, there, st.builds(Some, st.just("any"), picks), free)


new = st.one_of(
    st.builds(Inside, picks, names),
    st.builds(Inside, picks, names),
    st.builds(Inside, picks, names),
    st.builds(Some, st.just("any"), picks),
    free,
)
"""A name for something that is to be made."""

slots = st.integers(0, SLOTS - 1)
held = st.builds(Held, st.integers(0, SLOTS - 1))
