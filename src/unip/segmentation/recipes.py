"""Which recipe and which model a fine-tuning takes where none is given."""

from __future__ import annotations

from unip.segmentation.config import DEFAULT_MODEL, FinetuneConfig
from unip.vit.sources import parse_source
from unip.zoo.catalogue import catalogue

LARGER_MODEL = "unip-ir-small"
QUICK_MINUTES = 5.0


def settle(config: FinetuneConfig, *, on_gpu: bool, ranks: int) -> tuple[FinetuneConfig, list[str]]:
    """Choose recipe, mode and budget of time where they are open; all other choices follow them.

    Args:
        config: The settings.
        on_gpu: Whether it will be trained on GPUs.
        ranks: Processes that train it together.

    Returns:
        The settings with the three, and a line for each chosen one that says why.
    """
    lines = []
    if config.recipe == "auto":
        obstacle = "there is a GPU" if on_gpu else obstacle_to_quick(config, ranks)
        recipe = "quick" if obstacle is None else "fast"
        why = obstacle or "there is no GPU; --recipe fast trains the backbone too, which takes hours here"
        config = config.model_copy(update={"recipe": recipe})
        lines.append(f"recipe {recipe}: {why}")
    if config.mode == "auto":
        quick = config.recipe == "quick"
        config = config.model_copy(update={"mode": "frozen" if quick else "full"})
        lines += ["mode frozen: the recipe quick trains a decoder on features that are computed once"] * quick
    if config.minutes == "auto":
        limited = config.recipe == "quick" and obstacle_to_quick(config, ranks) is None  # features are computed once
        config = config.model_copy(update={"minutes": QUICK_MINUTES if limited else 0.0})
    return config, lines


def obstacle_to_quick(config: FinetuneConfig, ranks: int = 1) -> str | None:
    """Say which given setting the recipe quick cannot follow, if one does not fit it."""
    if ranks > 1:
        return f"{ranks} processes train together"
    if is_random(config.model):
        return f"the weights of {config.model} are random, so the backbone must be trained"
    given = {
        f"mode {config.mode}": config.mode not in ("auto", "frozen"),
        "lora": config.lora is not None,
        "freeze_layers": config.freeze_layers > 0,
        "photometric": config.photometric is True,
        "corrupt": bool(config.corrupt),
        "inverted": bool(config.inverted),
        "pseudo": config.pseudo is not None,
        "rare_crops": config.rare_crops not in ("auto", 0.0),
        "ratio": config.ratio not in (None, (1.0, 1.0)),
        "cache_features": config.cache_features is False,
    }
    found = [name for name, obstructs in given.items() if obstructs]
    return f"{found[0]} is given, which the recipe quick cannot do" if found else None


def is_random(model: str) -> bool:
    """Say whether a model's name stands for random weights."""
    return parse_source(model).kind == "student"


def default_model_text() -> str:
    """Say which model is taken where none is given, and what a larger one would cost."""
    taken, larger = (catalogue()[name] for name in (DEFAULT_MODEL, LARGER_MODEL))
    times = (larger.gflops or 0.0) / (taken.gflops or 1.0)
    where = "" if larger.shipped else f", and it is not in the package: unip models {LARGER_MODEL}"
    return (
        f"model {DEFAULT_MODEL}, since none is given; {LARGER_MODEL} would be about {times:.1f} times the work of a "
        f"frame{where}"
    )
