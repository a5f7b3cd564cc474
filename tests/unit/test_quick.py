"""What is made quickly is what its class makes."""

import copy
import dataclasses
import pickle
from dataclasses import dataclass, field

import pytest

from mountfs.storage.quick import maker
from mountfs.storage.types import NO_PAIRS, Metadata, Object, Version


@dataclass(frozen=True, slots=True)
class Point:
    """Some value."""

    across: int
    down: int = 2
    names: list[str] = field(default_factory=list, compare=False)


make_point = maker(Point)


def test_a_value_is_the_same_however_it_is_made() -> None:
    """Its class, its equality, its hash and its text, with defaults and without."""
    make_object, make_version = maker(Object), maker(Version)
    made = make_object(key="k", size=3, version=make_version("a", "b"))
    wanted = Object(key="k", size=3, version=Version("a", "b"))
    assert type(made) is Object
    assert made == wanted
    assert hash(made) == hash(wanted)
    assert repr(made) == repr(wanted)
    assert make_object(key="k") == Object(key="k")
    assert maker(Metadata)(commit_id="c") == Metadata(commit_id="c")
    assert maker(Metadata)().user is NO_PAIRS
    assert make_point(1).names is not make_point(1).names


def test_a_value_is_frozen_however_it_is_made() -> None:
    """From the moment that anybody has it."""
    made = make_point(1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.down = 3  # type: ignore[misc]  # that it is refused is the point


def test_what_the_class_refuses_is_refused() -> None:
    """A field that is missing, and one that there is not."""
    with pytest.raises(TypeError):
        make_point()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        make_point(1, up=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        maker(Object)("k")  # type: ignore[call-arg]


def test_a_value_can_be_copied_and_changed() -> None:
    """As any other of its class."""
    made = make_point(1, 5)
    assert copy.copy(made) == pickle.loads(pickle.dumps(made)) == Point(1, 5)
    assert dataclasses.replace(made, down=7) == Point(1, 7)
