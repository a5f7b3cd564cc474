"""Demand: whether programs ask for anything just now."""

from mountfs.cache.activity import Activity
from mountfs.cache.demand import QUIET_S, Demand
from tests.fakes.clocks import Clock


def test_demand_is_there_until_nothing_was_asked_for_a_while() -> None:
    asked, clock = Activity(), Clock()
    demand = Demand(asked, clock)
    assert not demand.is_there()

    asked.requests += 1
    assert demand.is_there()
    clock.now_s += QUIET_S / 2
    assert demand.is_there()
    asked.requests += 1
    assert demand.is_there()
    clock.now_s += QUIET_S / 2
    assert demand.is_there()
    clock.now_s += QUIET_S / 2
    assert not demand.is_there()
