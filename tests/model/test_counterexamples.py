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
