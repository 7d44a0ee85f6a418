"""What is left out to stay within minutes and memory: cases of a machine and a data set, in numbers only."""

import pytest

from unip.segmentation.budget import MIN_STEPS, Amounts, Costs, Limits, Work, fit, seconds_of, smaller_sides

WANTED = Work(mirrors=True, short_side=512, steps=400)
SMALLER = (448, 384, 320, 256)


def amounts(work):
    """100 frames of six windows and a gigabyte in all, at 512 pixels with their mirror images."""
    share = (work.short_side / 512) ** 2 * (2 if work.mirrors else 1) / 2
    return Amounts(round(1200 * share), round(1e9 * share))


CASES = {
    "all fits": ((20, 0.02, 0.1), {}, WANTED, []),
    "mirrors go first": ((20, 0.22, 0.1), {}, Work(False, 512, 400), ["no mirror images (flip 0)"]),
    "given mirrors stay": ((20, 0.22, 0.1), {"mirrors": False}, Work(True, 448, 400), ["frames of short side 448"]),
    "then frames": ((20, 0.5, 0.1), {}, Work(False, 448, 400), ["no mirror images", "short side 448 instead of 512"]),
    "given frames stay": ((20, 0.4, 0.1), {"short_sides": ()}, Work(False, 512, 400), ["no mirror images"]),
    "steps at last": ((20, 0.3, 1.0), {}, Work(False, 512, 100), ["no mirror images", "100 steps instead of 400"]),
    "fewer steps are enough": ((20, 0.02, 1.0), {}, Work(False, 512, 260), ["no mirror", "260 steps instead of 400"]),
    "frames leave time for the fewest steps": (
        (40, 0.16, 2.0),
        {},
        Work(False, 384, 100),
        ["no mirror images", "short side 384", "100 steps instead of 400"],
    ),
    "given steps stay": ((20, 0.02, 1.0), {"steps": False}, Work(False, 512, 400), ["no mirror images"]),
    "nothing is enough": (
        (20, 10.0, 9.0),
        {},
        Work(False, 256, MIN_STEPS),
        ["no mirror images", "short side 256", f"{MIN_STEPS} steps"],
    ),
    "memory": ((20, 0.02, 0.1), {"memory": 3e8}, Work(False, 384, 400), ["no mirror images", "short side 384"]),
    "no time is left": ((400, 0.02, 0.1), {}, Work(False, 256, MIN_STEPS), ["mirror", "256", f"{MIN_STEPS} steps"]),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_left_out(case):
    costs, limits, expected, said = CASES[case]
    limits = Limits(
        **{"seconds": 300, "memory": 2**40, "mirrors": True, "short_sides": SMALLER, "steps": True, **limits}
    )
    work, lines = fit(WANTED, amounts, Costs(*costs), limits)
    assert work == expected
    assert len(lines) == len(said) and all(text in line for text, line in zip(said, lines, strict=True))
    if case not in ("given steps stay", "nothing is enough", "no time is left"):
        assert seconds_of(work, amounts, Costs(*costs)) <= limits.seconds
        assert amounts(work).memory <= limits.memory


def test_smaller_sides_are_whole_patches_and_hold_a_crop():
    assert smaller_sides(1024, 256, 16) == (896, 768, 640, 512, 384, 256)
    assert smaller_sides(512, 256, 14) == (448, 378, 322)
    assert smaller_sides(256, 256, 16) == ()
