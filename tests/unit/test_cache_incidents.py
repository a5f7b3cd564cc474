"""Late errors are kept until somebody has seen them, and never without bound."""

from mountfs.cache.incidents import KEPT_MAX, IncidentKind, Incidents


def test_the_newest_late_error_of_a_key_is_found() -> None:
    incidents = Incidents(now_ns=lambda: 7)
    incidents.note(IncidentKind.FAILED, "a", "first")
    incidents.note(IncidentKind.CONFLICT, "a", "second", kept_as="a (conflict)")
    incidents.note(IncidentKind.FAILED, "b", "other")
    last = incidents.last("a")
    assert last is not None
    assert (last.text, last.kept_as, last.time_ns) == ("second", "a (conflict)", 7)


def test_a_key_whose_state_is_stored_has_no_late_error() -> None:
    incidents = Incidents()
    incidents.note(IncidentKind.FAILED, "a", "no route")
    incidents.note(IncidentKind.FAILED, "b", "no route")
    incidents.clear("a")
    assert incidents.last("a") is None
    assert [each.key for each in incidents] == ["b"]


def test_the_list_is_bounded_and_the_counts_are_whole() -> None:
    incidents = Incidents()
    for number in range(KEPT_MAX + 5):
        incidents.note(IncidentKind.FAILED, str(number), "no route")
    assert len(list(incidents)) == KEPT_MAX
    assert incidents.last("0") is None
    assert incidents.count(IncidentKind.FAILED) == KEPT_MAX + 5


def test_what_was_shown_is_not_shown_as_new() -> None:
    """What a program was told is seen by that; the rest when a person looks."""
    incidents = Incidents()
    incidents.note(IncidentKind.REFUSED, "a", "told")
    incidents.note(IncidentKind.FAILED, "b", "no route")
    assert [each.key for each in incidents.unseen()] == ["b"]

    incidents.mark_seen()
    assert incidents.unseen() == ()
    incidents.note(IncidentKind.CONFLICT, "c", "lost a race")
    assert [each.key for each in incidents.unseen()] == ["c"]
    assert [each.key for each in incidents] == ["a", "b", "c"]
