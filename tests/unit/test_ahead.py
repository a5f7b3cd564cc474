"""What is fetched ahead is counted, and how fast the store is is known."""

from mountfs.cache.ahead import AheadLedger
from mountfs.cache.pace import Pace

MIB = 1 << 20


def test_bytes_ahead_are_used_or_wasted_once() -> None:
    """Each byte that was fetched ahead is counted at one end, whatever comes then."""
    ledger = AheadLedger()
    for name in "abc":
        ledger.note_fetched(name, 10)
    ledger.note_failed("c")
    for _ in range(2):
        ledger.note_used("a")
        ledger.note_gone("a")
        ledger.note_gone("b")
        ledger.note_used("b")

    counts = ledger.counts
    assert (counts.fetched_bytes, counts.used_bytes, counts.wasted_bytes) == (
        20,
        10,
        10,
    )


def test_waste_is_noticed_and_forgiven() -> None:
    """When most was in vain nothing more is fetched ahead, for a while."""
    now = [0.0]
    ledger = AheadLedger(clock=lambda: now[0])
    for name in range(100):
        ledger.note_fetched(name, MIB)
    for name in range(30):
        ledger.note_used(name)
    seen = [ledger.is_wasteful]
    for name in range(30, 100):
        ledger.note_gone(name)
    seen.append(ledger.is_wasteful)
    now[0] = 600.0
    seen.append(ledger.is_wasteful)

    assert seen == [False, True, False]


def test_what_waits_is_a_bet_that_has_a_limit() -> None:
    """Whatever leaves, for whichever reason, makes room; what was used makes more."""
    ledger = AheadLedger()
    for name in range(512):
        ledger.note_fetched(name, MIB)
    seen = [ledger.is_unproven]
    ledger.note_fetched(512, MIB)
    seen.append(ledger.is_unproven)
    ledger.note_failed(512)
    seen.append(ledger.is_unproven)
    for name in range(512, 515):
        ledger.note_fetched(name, MIB)
    ledger.note_gone(1)
    seen.append(ledger.is_unproven)
    ledger.note_used(2)
    seen.append(ledger.is_unproven)

    assert seen == [False, True, False, True, False]


def test_nothing_is_remembered_without_bound() -> None:
    """Of very many things that wait the oldest count as wasted."""
    ledger = AheadLedger()
    for name in range(30_000):
        ledger.note_fetched(name, 1)

    assert ledger.counts.wasted_bytes == 10_000


def test_a_fast_line_allows_more_than_a_slow_one() -> None:
    """What comes along is what the line carries in the time of two round trips."""
    sizes = []
    for rate in (400 * MIB, 10 * MIB):
        pace = Pace()
        for size in (4096, 8 * MIB, 4096, 8 * MIB):
            pace.note(size, 0.02 + size / rate)
        sizes.append(pace.free_size())

    assert 12 * MIB < sizes[0] < 20 * MIB
    assert sizes[1] < MIB
