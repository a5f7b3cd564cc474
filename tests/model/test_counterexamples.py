"""What the models have found, each replayed step by step."""

from pathlib import Path

from tests.model.twins import Ground, Look, Twins, replay


def test_a_listing_does_not_hide_the_mode_of_a_directory(
    ground: Ground, plain: Path
) -> None:
    """Listings name a directory without its marker; the mode is asked for."""
    steps = [
        ("mkdir", "a", 0o755),
        ("mkdir", "a/a", 0o755),
        ("chmod", "a/a", 0o700),
        ("wait", 0.1),
        ("forget",),
    ]

    replay(Twins(ground, plain, Look()), steps)


def test_chmod_of_a_directory_known_from_a_listing(ground: Ground, plain: Path) -> None:
    """A marker that the listing did not tell of takes the new mode."""
    steps = [
        ("mkdir", "a", 0o755),
        ("mkdir", "a/a", 0o755),
        ("open", 2, "b", 0o102, 0o644),
        ("pwrite", 2, 300_000, 131_072, 186),
        ("chmod", "a/a", 0o2775),
    ]

    replay(Twins(ground, plain, Look(lookup_first=True)), steps)


def test_exchange_of_a_second_name_is_listed(ground: Ground, plain: Path) -> None:
    """A hard link that changes places with a file that is not stored yet."""
    steps = [
        ("mkdir", "a", 0o755),
        ("mkdir", "a/b", 0o755),
        ("open", 0, "a/a", 0o102, 0o644),
        ("open", 1, "b", 0o102, 0o666),
        ("link", "b", "a/b/c", False),
        ("rename", "a/a", "a/b/c", 2),
    ]

    replay(Twins(ground, plain, Look(is_deep=False)), steps)
