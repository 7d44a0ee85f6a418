"""What `unip finetune` chooses where a setting is left open: a function each, from facts to a value and the reason.

To leave another setting to the data, write its function and name it in ``CHOOSERS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from unip.data.labelled.drawing import FEW
from unip.data.labelled.statistics import LabelFacts, rare_classes
from unip.data.sampling.segmentation_crops import SegmentationTrainTransform
from unip.errors import UnipError
from unip.features.linear import cache_bytes, count_windows
from unip.runtime.compiling import obstacle_to_compiling
from unip.runtime.memory import use_ram
from unip.segmentation.config import FinetuneConfig, ResolvedConfig
from unip.segmentation.model import default_channels, default_layers
from unip.segmentation.recipes import settle
from unip.vit.backbone import Backbone
from unip.vit.shape import depth_of, patch_size, width_of

InitKind = Literal["scratch", "distilled", "pre-trained"]
Choice = tuple[Any, str]  # a value and the reason for it, "" where the value has no meaning

PAPER = "the paper's"
PAPER_EPOCHS = 100
PAPER_WARMUP = 1500  # steps
QUICK_STEPS = 400  # of 8 crops of cached features, see docs/finetune.md
QUICK_CROP = 256  # pixels
STEPS = 1200  # of 8 crops: what the settings of docs/results.md were chosen with
MIN_STEPS = 200
MAX_STEPS = 12_000
EPOCHS = (10, 100)  # fewest and most, where the numbers of steps allow it
CPU_STEP_DIVISOR = 4  # times fewer steps, within the bounds
SMALL_OBJECT_PATCHES = 2  # patches: smaller objects gain from larger frames
QUICK_SMALL_OBJECT_PATCHES = 1.5  # the same where larger frames take all the time
MAX_ENLARGEMENT = 4  # times, at most: more costs time and shows nothing new


@dataclass(frozen=True)
class TaskFacts:
    """What the choices depend on.

    Attributes:
        labels: What the labelled frames are like.
        init: Random weights, a distilled student of this package or of the paper, or anything else.
        patch: Side of a patch in pixels.
        width: Channels of a token.
        depth: Number of blocks.
        on_gpu: Whether it will be trained on GPUs.
        ranks: Processes that train it together.
        capturable: Whether its pass can be a CUDA graph: timm copies rotary positions from the processor in each.
        not_compilable: What this machine lacks to compile kernels for its GPU; "" if nothing.
    """

    labels: LabelFacts
    init: InitKind
    patch: int
    width: int
    depth: int
    on_gpu: bool
    ranks: int
    capturable: bool = True
    not_compilable: str = ""

    @classmethod
    def of(cls, labels: LabelFacts, backbone: Backbone, *, on_gpu: bool, ranks: int) -> TaskFacts:
        """Gather the facts."""
        model = backbone.model
        shape = {"patch": patch_size(model), "width": width_of(model), "depth": depth_of(model)}
        capturable = getattr(model, "rope", None) is None
        return cls(
            labels,
            init_kind_of(backbone),
            **shape,
            on_gpu=on_gpu,
            ranks=ranks,
            capturable=capturable,
            not_compilable=obstacle_to_compiling(),
        )

    @property
    def frames(self) -> str:
        """The frames in a few words."""
        (height, width), smallest = self.labels.size, self.labels.sizes.prod(1).argmin()
        least = tuple(int(side) for side in self.labels.sizes[smallest])
        many = "" if least == (height, width) else f", the smallest {least[1]}x{least[0]}"
        return f"frames are {width}x{height}{many}"


def init_kind_of(backbone: Backbone) -> InitKind:
    """Say what a backbone has learnt before."""
    if backbone.report is None:
        return "scratch"
    ours = backbone.report.layout in ("unip", "UNIP")  # a run of ours, or a released file
    return "distilled" if ours else "pre-trained"


def choose(config: FinetuneConfig, facts: TaskFacts) -> tuple[ResolvedConfig, list[str]]:
    """Choose what is left open.

    Args:
        config: The settings. Those given win, and later choices follow them and the earlier choices.
        facts: What to choose from.

    Returns:
        All settings, and a line for each chosen one that has a meaning here, which says why.

    Raises:
        UnipError: Settings that were given do not fit together.
    """
    config, lines = settle(config, on_gpu=facts.on_gpu, ranks=facts.ranks)
    if config.mode == "linear" and config.decoder not in ("auto", "linear"):
        raise UnipError(f"mode linear has no decoder {config.decoder}", "Leave the decoder out, or use mode frozen.")
    if facts.init == "scratch" and (config.mode == "frozen" or config.lora is not None or config.freeze_layers):
        kept = {"lora": config.lora is not None, "freeze_layers": config.freeze_layers > 0, "mode frozen": True}
        option = next(name for name, given in kept.items() if given)
        raise UnipError(
            f"{option} leaves weights as they are, and those of {config.model} are random",
            f"Give a pre-trained --model, or leave {option} out.",
        )
    for name, chooser in CHOOSERS.items():
        if config.is_open(name):
            value, reason = chooser(config, facts)
            config = config.model_copy(update={name: value})
            if reason:
                lines.append(f"{name.replace('_', ' ')} {shown(value)}: {reason}")
    if config.cache_features and (problem := changing_setting(config)):
        raise UnipError(f"features cannot be cached: {problem}", "Change that, or leave cache_features at auto.")
    return ResolvedConfig.make(**config.model_dump()), lines + few_labels(config, facts)


def few_labels(config: FinetuneConfig, facts: TaskFacts) -> list[str]:
    """Say what is done about very few labels: nothing, since on 91 frames no remedy was better (docs/lab-notes.md).

    `unip bench few_labels` measures LoRA, frozen layers and quick on 5, 10 and 20 frames: a remedy that wins there is
    to be chosen here.
    """
    remedied = config.frozen or config.lora is not None or config.freeze_layers > 0
    if facts.labels.images >= FEW or config.recipe != "fast" or facts.init == "scratch" or remedied:
        return []
    return [
        f"few labels, {facts.labels.images} images: the whole backbone is trained, as with more; on 91 frames LoRA "
        "did as well, six frozen layers worse. Compare with --lora 8 and --recipe quick on frames held out"
    ]


def shown(value: Any) -> str:
    """Write a value as a person would."""
    if isinstance(value, tuple):
        return " ".join(map(shown, value))
    return ("no", "yes")[value] if isinstance(value, bool) else value if isinstance(value, str) else f"{value:g}"


def decoder(config: FinetuneConfig, facts: TaskFacts) -> Choice:
    """Choose the decode head."""
    if config.mode == "linear":
        return "linear", "a linear probe"
    if config.mode == "frozen" and config.recipe != "paper":
        return "conv", "small, for features that are computed once"
    return ("upernet", PAPER) if config.recipe == "paper" else ("light", "a fraction of upernet's work")


def layers(config: FinetuneConfig, facts: TaskFacts) -> Choice:
    """Choose the layers that feed the decoder, counted from 1."""
    kind: Any = config.decoder
    what_for = {"linear": "a linear probe", "conv": "a frozen backbone"}.get(kind, config.pyramid)
    return default_layers(kind, config.pyramid, facts.depth), f"{PAPER} for {what_for}"


def channels(config: FinetuneConfig, facts: TaskFacts) -> Choice:
    """Choose the channels inside the decoder: no fewer than classes, which a last layer could not tell apart."""
    kind: Any = config.decoder
    usual, classes = default_channels(kind, facts.width), facts.labels.classes
    if kind == "linear":
        return usual, ""  # it has no inner channels; a model's record still names a number
    if kind == "upernet":
        return usual, "as wide as the backbone"
    return (usual, f"enough for {classes} classes") if classes <= usual else (classes, f"as many as classes, {classes}")


def auxiliary_weight(config: FinetuneConfig, facts: TaskFacts) -> Choice:
    """Choose the weight of the auxiliary head's loss."""
    return (0.4, PAPER) if config.decoder == "upernet" else (0.0, f"{config.decoder} has no second head")


def loss(config: FinetuneConfig, facts: TaskFacts) -> Choice:
    """Choose the loss: with dice, in which every class counts alike, where some are rare."""
    rare = rare_classes_text(config, facts)
    return ("ce+dice", rare) if rare else ("ce", "")


def rare_crops(config: FinetuneConfig, facts: TaskFacts) -> Choice:
    """Choose the share of crops that are drawn for a class: some where classes are rare."""
    rare = rare_classes_text(config, facts)
    if rare and config.mode == "frozen" and config.cache_features is not False:
        return 0.0, ""  # features that are computed once have no crops around objects
    return (0.33, rare) if rare else (0.0, "")


def rare_classes_text(config: FinetuneConfig, facts: TaskFacts) -> str:
    """Name the rare classes that ``fast`` does something about, if there are any."""
    cared_for = config.class_weights != "none" or config.hard_pixels is not None
    if config.recipe == "paper" or config.mode == "linear" or cared_for:
        return ""
    shares = [f"{name} {100 * share:.2g} %" for name, share in rare_classes(facts.labels.pixels).items()]
    if not shares:
        return ""
    return f"rare, of the labelled pixels: {', '.join(shares[:3])}" + f" and {len(shares) - 3} more" * (len(shares) > 3)


def steps(config: FinetuneConfig, facts: TaskFacts) -> Choice:
    """Choose the optimiser steps: a fixed number, unless that would be too few epochs or too many."""
    images = facts.labels.images
    if config.recipe == "quick" and config.epochs is None:
        return QUICK_STEPS, "a small decoder learns fast"
    if config.epochs is not None or config.recipe == "paper":
        epochs = config.epochs or PAPER_EPOCHS
        given = config.model_copy(update={"epochs": epochs})
        return given.count_steps(images), f"{epochs:g} epochs of {images} labelled images"
    fewest, most = (round(epochs * images / config.batch_size) for epochs in EPOCHS)
    usual = max(fewest, min(STEPS, most))
    on_gpu, on_cpu = (min(max(MIN_STEPS, usual // share), MAX_STEPS) for share in (1, CPU_STEP_DIVISOR))
    count = on_gpu if facts.on_gpu or config.frozen else on_cpu
    why = f"{images} labelled images, {count * config.batch_size / images:.3g} epochs"
    bound = {MIN_STEPS: "; never fewer steps", MAX_STEPS: "; never more steps"}.get(count, "")
    return count, why + bound + f"; on a GPU {on_gpu}" * (count < on_gpu)


def flip(config: FinetuneConfig, facts: TaskFacts) -> Choice:
    """Choose the probability of a mirror image; a budget of time may leave them out later."""
    return 0.5, ""


def warmup(config: FinetuneConfig, facts: TaskFacts) -> Choice:
    """Choose the steps of linear warm-up."""
    tenth = config.steps // 10
    return (tenth, "a tenth of all steps") if tenth < PAPER_WARMUP else (PAPER_WARMUP, PAPER)


def lr(config: FinetuneConfig, facts: TaskFacts) -> Choice:
    """Choose the highest learning rate."""
    if config.recipe == "paper":
        return 1e-4, PAPER
    if config.mode == "linear":
        return 4e-3, "one layer learns fast"
    if config.mode == "frozen":
        return 2e-3, "a decoder alone learns fast"
    return (1e-3, "adapters learn fast") if config.lora is not None else (4e-4, "short runs need a rate above 1e-4")


def layer_decay(config: FinetuneConfig, facts: TaskFacts) -> Choice:
    """Choose the factor on the learning rate per layer towards the input."""
    if config.frozen:
        return 1.0, "the backbone is frozen"
    if facts.init == "scratch":
        return 1.0, "from scratch, there is nothing to keep"
    if config.lora is not None:
        return 1.0, "with LoRA, the backbone stays as it is"
    if facts.init == "pre-trained" and config.recipe == "paper":
        return 0.65, f"{PAPER} for other pre-trained backbones"
    return 0.85, "a backbone of unip or UNIP" if facts.init == "distilled" else "a pre-trained backbone"


def base(config: FinetuneConfig, facts: TaskFacts) -> Choice:
    """Choose the long and short side that frames are resized to fit: larger where objects are small."""
    if config.recipe == "paper":
        return (2048, 512), PAPER
    frame, across = min(facts.labels.size), facts.labels.object_side
    short, why = 512, f"{facts.frames}, without objects to go by"
    if across is not None:
        patches = QUICK_SMALL_OBJECT_PATCHES if config.recipe == "quick" else SMALL_OBJECT_PATCHES
        small = across * 512 / frame < patches * facts.patch
        short = 1024 if small else 512
        half = f"half of the objects (connected regions) are under {across:.0f} px across"
        why = f"objects are {'small' if small else 'large enough'}: {half}, {facts.frames}"
    if not facts.on_gpu and config.recipe != "quick":
        short, why = short // 2, f"{why}; {short} on a GPU, half of it on a CPU"
    if short > MAX_ENLARGEMENT * frame:
        short, why = MAX_ENLARGEMENT * frame, f"{facts.frames}, and enlarged {MAX_ENLARGEMENT} times at most"
    short = whole_patches(max(short, 2 * facts.patch), facts.patch)  # LL-FPN halves the grid of patches
    return (4 * short, short), why


def crop(config: FinetuneConfig, facts: TaskFacts) -> Choice:
    """Choose the side of crops: no larger than the short side of frames, as they are resized."""
    if config.recipe == "paper":
        return 512, PAPER
    most, where = (512, "a GPU") if facts.on_gpu else (256, "the CPU")
    if config.recipe == "quick":
        most, where = QUICK_CROP, "features that are computed once"
    assert config.base is not None  # chosen before
    short = min(config.base)
    if short < most:
        return whole_patches(max(short, 2 * facts.patch), facts.patch), f"{facts.frames}, resized to short side {short}"
    return whole_patches(most, facts.patch), f"for {where}; {facts.frames}, resized to short side {short}"


def ratio(config: FinetuneConfig, facts: TaskFacts) -> Choice:
    """Choose the range of the random resize."""
    if config.recipe == "paper":
        return (0.5, 2.0), PAPER
    kept = config.cache_features is True or (
        config.cache_features == "auto" and not not_cacheable(at_one_size(config), facts)
    )
    if config.frozen and kept:
        return (1.0, 1.0), "frames of one size have features that can be kept"
    return (0.75, 1.5), "a camera sees its objects at similar sizes"


def photometric(config: FinetuneConfig, facts: TaskFacts) -> Choice:
    """Choose whether to distort brightness, contrast and colours: where they say more of the light than of objects."""
    if config.recipe == "paper":
        return True, PAPER
    if facts.labels.coloured <= 0.5:
        return False, "infrared brightness has a meaning"
    if config.mode == "linear":
        return False, "a single layer is hard to overfit"
    if config.recipe == "quick":
        return False, "features are computed once"
    return True, "frames are in natural colours, which change with light and camera"


def cache_features(config: FinetuneConfig, facts: TaskFacts) -> Choice:
    """Choose whether a frozen backbone's features are computed once: where that is possible and less work."""
    budgeted = bool(config.minutes) and config.recipe == "quick"  # it makes them fit the memory
    if problem := (unchanging_here if budgeted else not_cacheable)(config, facts):
        return False, problem
    if config.recipe == "quick":
        return True, "the backbone is frozen"
    windows, crops = count_windows(_plain(config), facts.labels.sizes, facts.patch), config.steps * config.batch_size
    why = f"the frames have {windows:,} windows, training sees {crops:,} crops"
    return windows < crops, why


def changing_setting(config: FinetuneConfig) -> str | None:
    """Say which setting makes a frame's features change from step to step, if one does."""
    if not config.frozen:
        return "only those of a frozen backbone stay the same"
    if config.photometric:
        return "frames are distorted at random (photometric)"
    if config.inverted:
        return "frames are inverted at random (inverted)"
    if config.pseudo is not None:
        return "frames with pseudo-labels are distorted at random (pseudo)"
    if config.corrupt:
        return "frames are corrupted at random (corrupt)"
    if config.rare_crops:
        return "crops are cut around objects (rare_crops)"
    if config.ratio != (1.0, 1.0):
        return "frames are resized at random (ratio)"
    return None


def unchanging_here(config: FinetuneConfig, facts: TaskFacts) -> str | None:
    """Say what keeps features, apart from their size, from being computed once here, if anything does."""
    if facts.ranks > 1:
        return f"each of {facts.ranks} processes would compute all"
    return changing_setting(config)


def not_cacheable(config: FinetuneConfig, facts: TaskFacts) -> str | None:
    """Say what keeps features, all else being chosen, from being computed once here, if anything does."""
    if problem := unchanging_here(at_one_size(config), facts):
        return problem
    channels = facts.width * len(config.layers)
    size = cache_bytes(_plain(config), facts.labels.sizes, channels=channels, patch=facts.patch)
    if not use_ram("auto", size):
        return f"{size / 2**30:.3g} GiB are more than a quarter of the free memory"
    return changing_setting(config)


def at_one_size(config: FinetuneConfig) -> FinetuneConfig:
    """Return the settings without the random resize."""
    return config.model_copy(update={"ratio": (1.0, 1.0)})


def _plain(config: Any) -> SegmentationTrainTransform:
    return SegmentationTrainTransform(crop=config.crop, base=config.base, flip=config.flip)


def whole_patches(side: int, patch: int) -> int:
    """Return ``side`` rounded up to whole patches."""
    return -(-side // patch) * patch


#: In this order: later ones see what earlier ones chose.
CHOOSERS: dict[str, Callable[[FinetuneConfig, TaskFacts], Choice]] = {
    "decoder": decoder,
    "layers": layers,
    "channels": channels,
    "auxiliary_weight": auxiliary_weight,
    "loss": loss,
    "rare_crops": rare_crops,
    "flip": flip,
    "steps": steps,
    "warmup": warmup,
    "lr": lr,
    "layer_decay": layer_decay,
    "base": base,
    "crop": crop,
    "photometric": photometric,
    "ratio": ratio,
    "cache_features": cache_features,
}
