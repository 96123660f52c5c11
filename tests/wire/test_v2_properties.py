"""Whatever happens to the link: no byte lost or repeated, no short answer that looks complete.

``V2_SEED`` names another range of histories than the usual one.
"""

import os

import pytest

from tests.wire.v2_world import World

FIRST_SEED = int(os.environ.get("V2_SEED", "0"))
HISTORIES = 500


@pytest.mark.parametrize("block", range(20))
def test_histories(block: int) -> None:
    begin = FIRST_SEED + block * HISTORIES
    for seed in range(begin, begin + HISTORIES):
        world = World(seed)
        try:
            for _ in range(world.random.choice((20, 60, 200))):
                world.step()
            world.settle()
            world.check_agreement()
            world.finish()
            world.check_agreement()
            world.check_emptiness()
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
