"""Frozen values, made as quickly as others.

The constructor of a frozen dataclass calls `object.__setattr__` for each field, and a
page of a listing is thousands of them.
"""

import copy
import dataclasses
from typing import TypeVar

T = TypeVar("T")


def maker(frozen: type[T]) -> type[T]:
    """Return what makes the values of a frozen dataclass with slots, in half the time.

    It is called like the class itself. What it makes can be assigned to until it is
    complete; then it becomes one of the frozen class.
    """

    def become_frozen(self: object) -> None:
        self.__class__ = frozen

    fields = dataclasses.fields(frozen)  # type: ignore[arg-type]  # it is one
    made: type[T] = dataclasses.make_dataclass(
        frozen.__name__,
        [(each.name, each.type, copy.copy(each)) for each in fields],
        slots=True,
        namespace={"__post_init__": become_frozen},
    )
    return made
