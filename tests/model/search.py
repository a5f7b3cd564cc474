"""How far the models look: a sample by default, more at length, or for so many minutes.

`MODEL_MINUTES=60 MODEL_SEED=1` goes from seed to seed until the time is over.
"""

import itertools
import os
import time
from collections.abc import Iterator

from hypothesis import HealthCheck, Phase, settings

MINUTES = float(os.environ.get("MODEL_MINUTES", "0"))
SEED = int(os.environ.get("MODEL_SEED", "20260101"))
IS_LONG = bool(MINUTES) or "AT_LENGTH" in os.environ
TIME_S = 3600 + 120 * MINUTES if IS_LONG else 300
"""What pytest may allow for one test."""


def seeds() -> Iterator[int]:
    """Yield the seed; if there is time, the next ones until it is over."""
    ends_at = time.monotonic() + 60 * MINUTES
    for seed in itertools.count(SEED):
        yield seed
        if time.monotonic() > ends_at:
            return


def search(examples: int, steps: int) -> settings:
    """Return how far to look with one seed."""
    return settings(
        max_examples=100 if MINUTES else (6 if IS_LONG else 1) * examples,
        stateful_step_count=60 if IS_LONG else steps,
        derandomize=False,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        print_blob=False,
    )
