"""The verbs of the command line, with their settings.

Made by ``make stubs`` from the configs of the verbs; do not edit.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Literal, overload

from unip import data as data
from unip import log as log
from unip.analysis.config import AnalyzeConfig
from unip.analysis.program import AnalyzeResult
from unip.data.config import DoctorConfig
from unip.data.examination.records import DoctorResult
from unip.demonstration.config import DemoConfig
from unip.demonstration.program import DemoResult
from unip.deployment.config import PredictConfig
from unip.deployment.export.config import ExportConfig
from unip.deployment.export.program import ExportResult
from unip.deployment.loading import load as load
from unip.deployment.model import Model as Model
from unip.deployment.prediction import PredictResult
from unip.deployment.result import Result as Result
from unip.errors import Interrupted as Interrupted
from unip.errors import UnipError as UnipError
from unip.pretraining.config import PretrainConfig
from unip.pretraining.program import PretrainResult
from unip.segmentation.config import EvaluateConfig, FinetuneConfig
from unip.segmentation.evaluation import EvaluateResult
from unip.segmentation.finetuning import FinetuneResult
from unip.suites.config import BenchConfig
from unip.suites.program import BenchResult
from unip.version import __version__ as __version__
from unip.zoo.config import ModelsConfig
from unip.zoo.verbs import ModelList

@overload
def doctor(
    *,
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str] = "doctor",
    frames: int = 200,
    radiometric: bool = False,
    workers: int = 0,
    max_pixels: int = 200000000,
    overwrite: bool = False,
    dry_run: bool = False,
) -> DoctorResult:
    """Read a sample of a camera's frames once; say what they are, what is wrong with them and what to do next.

    Prints a summary, writes ``OUT/doctor.json`` and ``OUT/doctor.html``. A bad file does not stop it.

    Settings are keywords, or one ``unip.data.config.DoctorConfig``;
    then a dry run is ``doctor(config, dry_run=True)``.

    Args:
        folder: Folder of one camera's frames, or an image.
        out: Folder that gets doctor.json and doctor.html.
        frames: How many frames are read at most, evenly chosen; 0: all.
        radiometric: Examine the temperatures of radiometric JPEGs, not their pictures.
        workers: Threads; 0: one for each core.
        max_pixels: Largest frame to decode, in pixels (width x height); a header that claims more is refused.
        overwrite: Also replace results in out that were changed since.
        dry_run: Read and examine everything, write nothing.

    Raises:
        UnipError: The folder is missing or holds no image, no frame can be read, or ``OUT`` cannot be written.
    """

@overload
def doctor(config: DoctorConfig, /, *, dry_run: bool = False) -> DoctorResult: ...
@overload
def analyze(
    *,
    models: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str] = "runs/analysis",
    pair: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    pair_colour: bool = True,
    groups: Literal["supervised", "contrastive", "masked-image", "distilled", "other"]
    | Sequence[Literal["supervised", "contrastive", "masked-image", "distilled", "other"]] = (),
    max_images: int = 256,
    seed: int = 0,
    size: int | None = None,
    normalization: Literal["model", "imagenet", "infmix"] = "model",
    target_nmi: float = 0.09,
    local_above: float = 0.2,
    global_below: float = 0.05,
    exclude_layers: int | Sequence[int] = (),
    report: bool = True,
    pictures: int = 2,
    explorer: int = 4,
    probe: str | os.PathLike[str] | None = None,
    probe_remap: str | Sequence[str] | Mapping[str, str] | Mapping[int, str] = (),
    probe_images: tuple[int, int] | list[int] = (200, 100),
    probe_side: int = 448,
    batch_size: int = 16,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    max_pixels: int = 200000000,
    overwrite: bool = False,
    dry_run: Literal[False] = False,
) -> AnalyzeResult:
    """Measure each layer's attention and features, name its pattern, recommend the layer to distil, write a report.

    Settings are keywords, or one ``unip.analysis.config.AnalyzeConfig``;
    then a dry run is ``analyze(config, dry_run=True)``.

    Args:
        models: timm:NAME[.TAG], timm:NAME@FILE, hf:REPO, checkpoint files, model or run folders.
        images: Image folders or Parquet manifests.
        out: Where report.html, the numbers and the pictures go.
        pair: Folders of visible images of the same scenes, with the same names; they are measured too.
        pair_colour: Show the visible images in colour, not in grey.
        groups: How each model was pre-trained; none: guessed from the names.
        max_images: Maximum number of images, drawn with the seed.
        seed: Seed of the draw.
        size: Images are resized to squares of this side; none: the model's own.
        normalization: Mean and standard deviation: the model's own, ImageNet's or InfMix's.
        target_nmi: NMI of a hybrid layer.
        local_above: Layers with a higher NMI are local.
        global_below: Layers after the peak with a lower NMI are global.
        exclude_layers: Layers not to choose.
        report: Draw figures and maps and write report.html, not only the numbers.
        pictures: Images whose attention maps are drawn.
        explorer: Images in the report's explorer.
        probe: Segmentation data, a folder or KIND:PATH: a linear probe is trained on every layer.
        probe_remap: Changes of labels, OLD=NEW: a class or an id in the files becomes another class, or ignore.
        probe_images: Maximum numbers of labelled images to train and to test on.
        probe_side: Short side of the probe's images, in pixels.
        batch_size: Images per forward pass.
        device: Where to run.
        max_pixels: Largest frame to decode, in pixels (width x height); a header that claims more is refused.
        overwrite: Also replace results in out that were changed since.
        dry_run: Load models and look at the images, write nothing.

    Returns:
        The result, or None for a dry run.

    Raises:
        UnipError: A model or every image cannot be read, or the settings do not fit a model.
    """

@overload
def analyze(
    *,
    models: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str] = "runs/analysis",
    pair: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    pair_colour: bool = True,
    groups: Literal["supervised", "contrastive", "masked-image", "distilled", "other"]
    | Sequence[Literal["supervised", "contrastive", "masked-image", "distilled", "other"]] = (),
    max_images: int = 256,
    seed: int = 0,
    size: int | None = None,
    normalization: Literal["model", "imagenet", "infmix"] = "model",
    target_nmi: float = 0.09,
    local_above: float = 0.2,
    global_below: float = 0.05,
    exclude_layers: int | Sequence[int] = (),
    report: bool = True,
    pictures: int = 2,
    explorer: int = 4,
    probe: str | os.PathLike[str] | None = None,
    probe_remap: str | Sequence[str] | Mapping[str, str] | Mapping[int, str] = (),
    probe_images: tuple[int, int] | list[int] = (200, 100),
    probe_side: int = 448,
    batch_size: int = 16,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    max_pixels: int = 200000000,
    overwrite: bool = False,
    dry_run: Literal[True],
) -> None: ...
@overload
def analyze(
    *,
    models: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str] = "runs/analysis",
    pair: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    pair_colour: bool = True,
    groups: Literal["supervised", "contrastive", "masked-image", "distilled", "other"]
    | Sequence[Literal["supervised", "contrastive", "masked-image", "distilled", "other"]] = (),
    max_images: int = 256,
    seed: int = 0,
    size: int | None = None,
    normalization: Literal["model", "imagenet", "infmix"] = "model",
    target_nmi: float = 0.09,
    local_above: float = 0.2,
    global_below: float = 0.05,
    exclude_layers: int | Sequence[int] = (),
    report: bool = True,
    pictures: int = 2,
    explorer: int = 4,
    probe: str | os.PathLike[str] | None = None,
    probe_remap: str | Sequence[str] | Mapping[str, str] | Mapping[int, str] = (),
    probe_images: tuple[int, int] | list[int] = (200, 100),
    probe_side: int = 448,
    batch_size: int = 16,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    max_pixels: int = 200000000,
    overwrite: bool = False,
    dry_run: bool,
) -> AnalyzeResult | None: ...
@overload
def analyze(config: AnalyzeConfig, /, *, dry_run: Literal[False] = False) -> AnalyzeResult: ...
@overload
def analyze(config: AnalyzeConfig, /, *, dry_run: Literal[True]) -> None: ...
@overload
def analyze(config: AnalyzeConfig, /, *, dry_run: bool) -> AnalyzeResult | None: ...
@overload
def pretrain(
    *,
    data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    recipe: Literal["paper", "adapt"] = "paper",
    probe_data: str | os.PathLike[str] | None = None,
    objective: Literal["nmi_had", "nmi_had+values", "features", "mae"] = "nmi_had",
    teacher: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    teacher_layer: Literal["auto"] | int | Sequence[Literal["auto"] | int] = ("auto",),
    teacher_weight: float | Sequence[float] = (1.0,),
    teacher_zoom: int | Sequence[int] = (1,),
    teacher_precision: Literal["auto", "fp8"] = "auto",
    teacher_tolerance: float = 0.1,
    student: str = "unip_tiny",
    init: str | os.PathLike[str] = "random",
    init_share: float = 0.0,
    patch_size: int | None = None,
    student_layers: int | Sequence[int] = (),
    distort: float = 0.0,
    distortions: Literal["photometric", "infrared"] = "photometric",
    exclude_layers: int | Sequence[int] = (),
    target_nmi: float = 0.09,
    probe_images: int = 256,
    values_weight: float = 1.0,
    mask_ratio: float = 0.75,
    decoder_depth: Literal["auto"] | int = "auto",
    decoder_width: Literal["auto"] | int = "auto",
    max_images: int | None = None,
    size: int = 224,
    scale: tuple[float, float] | list[float] = (0.2, 1.0),
    cache: Literal["auto", "ram", "none", "gpu"] = "auto",
    lr: Literal["auto"] | float = "auto",
    warmup: Literal["auto"] | int = "auto",
    weight_decay: float = 0.05,
    drop_path: float = 0.1,
    picture_every: int = 500,
    steps: int = 0,
    epochs: float | None = None,
    batch_size: int = 4096,
    accumulate: int = 1,
    seed: int = 0,
    clip: float | None = None,
    ema: float | None = None,
    checkpoint_activations: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    compile: bool | Literal["auto", "graphs", "compiled-graphs"] = "auto",
    workers: int | Literal["auto"] = "auto",
    log_every: int = 10,
    checkpoint_every: int = 500,
    keep_checkpoints: int = 2,
    tensorboard: bool = True,
    max_pixels: int = 200000000,
    overwrite: bool = False,
    dry_run: Literal[False] = False,
) -> PretrainResult:
    """Train a student on unlabelled images, by default on a teacher's hybrid attention.

    Settings are keywords, or one ``unip.pretraining.config.PretrainConfig``;
    then a dry run is ``pretrain(config, dry_run=True)``.

    Args:
        data: Image folders or manifests; infrared=FOLDER and rgb=FOLDER say what is in them.
        out: Run folder; the same command run again continues an interrupted run.
        recipe: How open settings are chosen: the paper's; adapt: a better start for your own frames, in minutes.
        probe_data: adapt: labelled frames, as for finetune --data; if linear probes say that the new start is
            worse, the old one is kept.
        objective: What is learnt: the teacher's attention, also with its value relations, its tokens, or MAE.
        teacher: timm:NAME[.TAG], timm:NAME@FILE, hf:REPO, a checkpoint file or a model folder; one or more, the
            same one twice for two of its layers. Not used by mae.
        teacher_layer: Layer to distil, 1-based; auto: NMI nearest to target_nmi on the data's infrared images.
            One for all teachers, or one each.
        teacher_weight: Weight in the mean of the losses; one for all teachers, or one each.
        teacher_zoom: features: how many times enlarged a teacher sees the crops; one, or one each.
        teacher_precision: Arithmetic of the teachers: auto as precision says, fp8 faster on GPUs since Hopper.
        teacher_tolerance: How far a faster teacher's attention may move (total variation distance).
        student: unip_micro, unip_tiny, unip_small or unip_base.
        init: Model to start from, a source as for teacher; its architecture is then the student's.
        init_share: Share of init's weights in the student that is saved: 0.5 averages both.
        patch_size: Side of init's patches in pixels, if another one is wanted: they are resized.
        student_layers: Attention: the student's layer that learns each teacher's, one each; features: those that
            are mapped, side by side; none: the last.
        distort: Share of the crops that the student sees with other contrast, noise and blur.
        distortions: What distort does: contrast, brightness, noise and blur; infrared: also stripes, dead pixels
            and the other polarity.
        exclude_layers: Layers that auto must not choose.
        target_nmi: NMI of a hybrid layer.
        probe_images: Infrared images that auto measures.
        values_weight: Weight of the value relations in nmi_had+values.
        mask_ratio: Share of the patches that mae hides.
        decoder_depth: Blocks of mae's decoder; auto: 8, for students narrower than 384 channels 4.
        decoder_width: Channels of mae's decoder; auto: 512, for students narrower than 384 channels 256.
        max_images: Maximum number of images, drawn with the seed; none: all.
        size: Side of the training crops, in pixels.
        scale: Share of an image's area that a crop covers.
        cache: Keep decoded images in memory; gpu: on the GPU, which then cuts the crops too.
        lr: Highest learning rate; auto: 2.4e-3 x sqrt(batch_size / 4096), 5e-4 at least.
        warmup: Warm-up steps; auto: a twentieth of all.
        weight_decay: AdamW weight decay of matrices.
        drop_path: Stochastic depth rate of every student block.
        picture_every: Steps between pictures of what is learnt; 0: none.
        steps: Optimiser steps; 0: as many as epochs make, or 1000 without epochs.
        epochs: Passes over the data, where steps are not given.
        batch_size: Samples per step, over all devices together.
        accumulate: Split each device's share of a batch into this many passes.
        seed: Seed of weights, sample order and augmentation.
        clip: Largest gradient norm; none: no limit.
        ema: Decay of a moving average of the weights, which then is the result; none: off.
        checkpoint_activations: Compute activations again in the backward pass: less memory, slower.
        device: Where to run.
        precision: Arithmetic; auto: bf16 where the GPU, or in fine-tuning the CPU, computes in it; on older GPUs
            fp16; else fp32.
        compile: torch.compile the step; auto: on GPUs only; graphs: a CUDA graph, ready at once; compiled-graphs:
            both.
        workers: Loader processes; auto: one a core, up to 16, or 4 where the GPU cuts crops.
        log_every: Steps between lines of log.jsonl.
        checkpoint_every: Steps between checkpoints.
        keep_checkpoints: How many of the newest checkpoints stay on disk.
        tensorboard: Also log to TensorBoard where it is installed.
        max_pixels: Largest frame to decode, in pixels (width x height); a header that claims more is refused.
        overwrite: Start over in a folder that holds another run.
        dry_run: Check data and shapes, print what would happen, write nothing.

    Returns:
        The result, or None for a dry run.

    Raises:
        UnipError: Data, teacher, layer or settings do not fit together; the loss is not finite; the disk is full.
        Interrupted: Stopped by a signal; the same call continues.
    """

@overload
def pretrain(
    *,
    data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    recipe: Literal["paper", "adapt"] = "paper",
    probe_data: str | os.PathLike[str] | None = None,
    objective: Literal["nmi_had", "nmi_had+values", "features", "mae"] = "nmi_had",
    teacher: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    teacher_layer: Literal["auto"] | int | Sequence[Literal["auto"] | int] = ("auto",),
    teacher_weight: float | Sequence[float] = (1.0,),
    teacher_zoom: int | Sequence[int] = (1,),
    teacher_precision: Literal["auto", "fp8"] = "auto",
    teacher_tolerance: float = 0.1,
    student: str = "unip_tiny",
    init: str | os.PathLike[str] = "random",
    init_share: float = 0.0,
    patch_size: int | None = None,
    student_layers: int | Sequence[int] = (),
    distort: float = 0.0,
    distortions: Literal["photometric", "infrared"] = "photometric",
    exclude_layers: int | Sequence[int] = (),
    target_nmi: float = 0.09,
    probe_images: int = 256,
    values_weight: float = 1.0,
    mask_ratio: float = 0.75,
    decoder_depth: Literal["auto"] | int = "auto",
    decoder_width: Literal["auto"] | int = "auto",
    max_images: int | None = None,
    size: int = 224,
    scale: tuple[float, float] | list[float] = (0.2, 1.0),
    cache: Literal["auto", "ram", "none", "gpu"] = "auto",
    lr: Literal["auto"] | float = "auto",
    warmup: Literal["auto"] | int = "auto",
    weight_decay: float = 0.05,
    drop_path: float = 0.1,
    picture_every: int = 500,
    steps: int = 0,
    epochs: float | None = None,
    batch_size: int = 4096,
    accumulate: int = 1,
    seed: int = 0,
    clip: float | None = None,
    ema: float | None = None,
    checkpoint_activations: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    compile: bool | Literal["auto", "graphs", "compiled-graphs"] = "auto",
    workers: int | Literal["auto"] = "auto",
    log_every: int = 10,
    checkpoint_every: int = 500,
    keep_checkpoints: int = 2,
    tensorboard: bool = True,
    max_pixels: int = 200000000,
    overwrite: bool = False,
    dry_run: Literal[True],
) -> None: ...
@overload
def pretrain(
    *,
    data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    recipe: Literal["paper", "adapt"] = "paper",
    probe_data: str | os.PathLike[str] | None = None,
    objective: Literal["nmi_had", "nmi_had+values", "features", "mae"] = "nmi_had",
    teacher: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    teacher_layer: Literal["auto"] | int | Sequence[Literal["auto"] | int] = ("auto",),
    teacher_weight: float | Sequence[float] = (1.0,),
    teacher_zoom: int | Sequence[int] = (1,),
    teacher_precision: Literal["auto", "fp8"] = "auto",
    teacher_tolerance: float = 0.1,
    student: str = "unip_tiny",
    init: str | os.PathLike[str] = "random",
    init_share: float = 0.0,
    patch_size: int | None = None,
    student_layers: int | Sequence[int] = (),
    distort: float = 0.0,
    distortions: Literal["photometric", "infrared"] = "photometric",
    exclude_layers: int | Sequence[int] = (),
    target_nmi: float = 0.09,
    probe_images: int = 256,
    values_weight: float = 1.0,
    mask_ratio: float = 0.75,
    decoder_depth: Literal["auto"] | int = "auto",
    decoder_width: Literal["auto"] | int = "auto",
    max_images: int | None = None,
    size: int = 224,
    scale: tuple[float, float] | list[float] = (0.2, 1.0),
    cache: Literal["auto", "ram", "none", "gpu"] = "auto",
    lr: Literal["auto"] | float = "auto",
    warmup: Literal["auto"] | int = "auto",
    weight_decay: float = 0.05,
    drop_path: float = 0.1,
    picture_every: int = 500,
    steps: int = 0,
    epochs: float | None = None,
    batch_size: int = 4096,
    accumulate: int = 1,
    seed: int = 0,
    clip: float | None = None,
    ema: float | None = None,
    checkpoint_activations: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    compile: bool | Literal["auto", "graphs", "compiled-graphs"] = "auto",
    workers: int | Literal["auto"] = "auto",
    log_every: int = 10,
    checkpoint_every: int = 500,
    keep_checkpoints: int = 2,
    tensorboard: bool = True,
    max_pixels: int = 200000000,
    overwrite: bool = False,
    dry_run: bool,
) -> PretrainResult | None: ...
@overload
def pretrain(config: PretrainConfig, /, *, dry_run: Literal[False] = False) -> PretrainResult: ...
@overload
def pretrain(config: PretrainConfig, /, *, dry_run: Literal[True]) -> None: ...
@overload
def pretrain(config: PretrainConfig, /, *, dry_run: bool) -> PretrainResult | None: ...
@overload
def finetune(
    *,
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    model: str | os.PathLike[str] = "unip-ir-tiny",
    from_backbone: bool = False,
    drop_classes: str | Sequence[str] = (),
    split: str | None = "train",
    val: str | None = None,
    val_share: Literal["auto"] | float = "auto",
    group: str | None = None,
    eval_every: int | None = None,
    patience: int | None = None,
    remap: str | Sequence[str] | Mapping[str, str] | Mapping[int, str] = (),
    empty_classes: str | Sequence[str] = (),
    images: str | os.PathLike[str] | None = None,
    masks: str | os.PathLike[str] | None = None,
    mask_suffix: str | None = None,
    mask_orientation: Literal["shown", "stored"] | None = None,
    label_budget: float | None = None,
    label_seed: int = 0,
    pseudo: str | os.PathLike[str] | None = None,
    pseudo_share: float = 0.5,
    mode: Literal["auto", "full", "frozen", "linear"] = "auto",
    recipe: Literal["auto", "paper", "fast", "quick"] = "auto",
    minutes: Literal["auto"] | float = "auto",
    decoder: Literal["auto", "upernet", "light", "conv", "linear"] = "auto",
    pyramid: Literal["llfpn", "fpn"] = "llfpn",
    layers: int | Sequence[int] = (),
    channels: Literal["auto"] | int = "auto",
    auxiliary_weight: Literal["auto"] | float = "auto",
    probe_norm: bool = False,
    last_heads: Literal["keep", "uniform"] = "keep",
    loss: Literal["auto", "ce", "ce+dice"] = "auto",
    class_weights: Literal["none", "balanced", "root"] = "none",
    hard_pixels: float | None = None,
    lr: Literal["auto"] | float = "auto",
    layer_decay: Literal["auto"] | float = "auto",
    weight_decay: float = 0.05,
    warmup: Literal["auto"] | int = "auto",
    power: float = 1.0,
    freeze_layers: int = 0,
    lora: int | None = None,
    drop_path: float = 0.1,
    crop: Literal["auto"] | int = "auto",
    base: tuple[int, int] | list[int] | None = None,
    ratio: tuple[float, float] | list[float] | None = None,
    cat_max_ratio: float = 0.75,
    flip: Literal["auto"] | float = "auto",
    photometric: bool | Literal["auto"] = "auto",
    corrupt: float | None = None,
    inverted: float | None = None,
    rare_crops: Literal["auto"] | float = "auto",
    cache: Literal["auto", "ram", "none", "gpu"] = "auto",
    cache_features: bool | Literal["auto"] = "auto",
    steps: int = 0,
    epochs: float | None = None,
    batch_size: int = 8,
    accumulate: int = 1,
    seed: int = 0,
    clip: float | None = None,
    ema: float | None = None,
    checkpoint_activations: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    compile: bool | Literal["auto", "graphs", "compiled-graphs"] = "auto",
    workers: int | Literal["auto"] = "auto",
    log_every: int = 10,
    checkpoint_every: int = 500,
    keep_checkpoints: int = 2,
    tensorboard: bool = True,
    max_pixels: int = 200000000,
    overwrite: bool = False,
    conversion: Literal["percentile", "minmax", "plateau", "window"] | None = None,
    percentiles: tuple[float, float] | list[float] | None = None,
    plateau: float | None = None,
    window: tuple[float, float] | list[float] | None = None,
    polarity: Literal["white-hot", "black-hot"] | None = None,
    palette: Literal[
        "keep",
        "invert",
        "arctic",
        "dji-arctic",
        "dji-green",
        "dji-iron",
        "dji-rainbow",
        "dji-spectrum",
        "grey-red",
        "hot",
        "inferno",
        "iron",
        "jet",
        "lava",
        "magma",
        "plasma",
        "rainbow",
        "rainbow-hc",
        "turbo",
        "viridis",
    ]
    | None = None,
    radiometric: bool | None = None,
    nodata: float | None = None,
    dry_run: Literal[False] = False,
) -> FinetuneResult:
    """Fine-tune a backbone for segmentation, or probe it.

    Settings are keywords, or one ``unip.segmentation.config.FinetuneConfig``;
    then a dry run is ``finetune(config, dry_run=True)``.

    Args:
        data: Segmentation folder (images/, masks/, classes.json; with or without splits; other usual places are
            found), or KIND:PATH for another layout: soda, mfnet, mfnet-rgb, scut, pst900, pst900-rgb, tir-ss,
            fmb, semanticrt, mvseg, infraparis, cart, nyudepthv2, nyudepthv2-rgb, sunrgbd, sunrgbd-rgb, ade20k,
            hit-uav, colours, cityscapes, coco, labelme, yolo-seg, cvat, label-studio.
        out: Run folder; the same command run again continues an interrupted run.
        model: A distilled run, timm:NAME, hf:REPO, a checkpoint; a student's name is from scratch. A segmentation
            model is trained further.
        from_backbone: Take only the backbone of a segmentation model, not its decoder and classes.
        drop_classes: Classes of the segmentation model to give up; else the data must have them all.
        split: Split to train on; "" for a folder without splits, where it need not be given.
        val: Split to evaluate on at the end, and with eval_every meanwhile; none: see val_share.
        val_share: Share of the labelled images to hold out for evaluation, if there is no val; auto: 0.1 of ten
            or more, 0 if the data has other splits, with label_budget, and for the recipe paper.
        group: Pattern (regex) in an image's path: its first capture group, or all of it, names the video or
            flight. None: file names are asked.
        eval_every: Steps between evaluations on val; the best weights are the result. None: the last.
        patience: Stop after this many evaluations in a row without a better one; none: never.
        remap: Changes of labels, OLD=NEW: a class or an id in the files becomes another class, or ignore.
        empty_classes: Classes that may be without a labelled pixel; others stop a training on all labels.
        images: Folder of the images in a plain folder, if it is not found; {split}: the split's name.
        masks: Folder of the masks in a plain folder, if it is not found; {split}: the split's name.
        mask_suffix: What follows an image's name in its mask's, such as _mask; "": nothing. None: it is found.
        mask_orientation: What mask files of images with an EXIF orientation fit: the picture as viewers turn it
            (shown), or the pixels as stored. None: it is found where size or tags tell.
        label_budget: Labelled images to use: a share up to 1, or a number above 1.
        label_seed: Seed of the choice of few labels.
        pseudo: Output folder of unip predict, best with --risk: its masks are trained on, too.
        pseudo_share: Share of the crops that pseudo-labelled frames make up.
        mode: Train all; a decoder on the frozen backbone; or a linear probe on it; auto: full, quick frozen.
        recipe: How open settings are chosen: as in the paper; fast, from the data; quick, for minutes on a CPU;
            auto: fast, and quick without a GPU.
        minutes: Minutes that may pass from files to model, where features are cached; 0: no limit; auto: 5 with
            quick, else 0.
        decoder: auto: light, the paper's upernet, conv on a frozen backbone, linear in a probe.
        pyramid: Levels from the last layer, or (fpn) from four layers.
        layers: Layers for the decoder, 1-based; none: the paper's.
        channels: Decoder channels; auto: backbone's width, light and conv 128.
        auxiliary_weight: auto: 0.4 with upernet, else 0 (none).
        probe_norm: Linear decoder: standardise the features first (not in the paper).
        last_heads: Heads of the last block: as distilled, or as many as in the other blocks.
        loss: Cross-entropy, or with soft dice added; auto: ce, fast adds dice for rare classes.
        class_weights: Cross-entropy by class: balanced is 1 / share of pixels, root its square root.
        hard_pixels: Cross-entropy of this share of the pixels only, the hardest; none: of all.
        lr: Highest learning rate; auto: 4e-4, LoRA 1e-3, frozen 2e-3, probe 4e-3, the paper's 1e-4.
        layer_decay: lr factor per layer towards the input; auto: 0.85, 1 from scratch or LoRA, paper 0.65 others.
        weight_decay: AdamW weight decay of matrices.
        warmup: Warm-up steps; auto: 1500, at most a tenth of all.
        power: Power of the polynomial decay to 0.
        freeze_layers: Leave the patch embedding and this many first layers as they are; 0: none.
        lora: Train adapters of this rank on the frozen backbone; none: the backbone itself.
        drop_path: Stochastic depth rate of every block; 0 where frozen.
        crop: Side of crops and, later, windows, in pixels; auto: 512, 256 on the CPU.
        base: Long and short side that ratio multiplies, in pixels; none: larger for small objects.
        ratio: Range of the random resize; none: 0.75 to 1.5, the paper's 0.5 to 2, 1 in a probe.
        cat_max_ratio: A crop that one class fills more than this is redrawn.
        flip: Probability of a horizontal flip; auto: 0.5, or 0 where minutes leave no time.
        photometric: Distort brightness and contrast (and colours); auto: paper always, fast in natural colours.
        corrupt: Probability of one random corruption of severity 1 to 3.
        inverted: Share of the crops shown inverted, so that black-hot frames are segmented, too.
        rare_crops: Share of the crops drawn to show a class, each foreground class as often; auto: 0, fast 0.33
            for rare classes.
        cache: Keep decoded pairs in memory; gpu: grey ones on the GPU, which then cuts the crops too.
        cache_features: Frozen backbone: compute features once; auto: where they stay the same and fit the memory.
        steps: Optimiser steps; 0: as many as epochs make, or as the recipe says.
        epochs: Passes over the data, where steps are not given.
        batch_size: Crops per step, over all devices together.
        accumulate: Split each device's share of a batch into this many passes.
        seed: Seed of weights, sample order and augmentation.
        clip: Largest gradient norm; none: no limit.
        ema: Decay of a moving average of the weights, which then is the result; none: off.
        checkpoint_activations: Compute activations again in the backward pass: less memory, slower.
        device: Where to run.
        precision: Arithmetic; auto: bf16 where the GPU, or in fine-tuning the CPU, computes in it; on older GPUs
            fp16; else fp32.
        compile: torch.compile the step; auto: on GPUs only; graphs: a CUDA graph, ready at once; compiled-graphs:
            both.
        workers: Loader processes; auto: one a core, up to 16, or 4 where the GPU cuts crops.
        log_every: Steps between lines of log.jsonl.
        checkpoint_every: Steps between checkpoints.
        keep_checkpoints: How many of the newest checkpoints stay on disk.
        tensorboard: Also log to TensorBoard where it is installed.
        max_pixels: Largest frame to decode, in pixels (width x height); a header that claims more is refused.
        overwrite: Start over in a folder that holds another run.
        dry_run: Check data and shapes, print what would happen, write nothing.
        conversion: How counts become 8-bit grey; none: as the data says, else percentile.
        percentiles: Of a frame; they become black and white.
        plateau: Plateau equalisation: share of pixels a level counts at most.
        window: Kelvin of radiometric files, else counts, that become black and white in every frame.
        polarity: How the frames are stored; black-hot ones are inverted.
        palette: Colours of a palette: keep, invert (back to grey levels), or a palette's name to invert.
        radiometric: Take temperatures of radiometric JPEGs, not their picture.
        nodata: Value of samples without a measurement, such as a border of 0 or -9999; files may declare it.

    Returns:
        The result, or None for a dry run.

    Raises:
        UnipError: Data, backbone or settings do not fit together; the loss is not finite; the disk is full.
        Interrupted: Stopped by a signal; the same call continues.
    """

@overload
def finetune(
    *,
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    model: str | os.PathLike[str] = "unip-ir-tiny",
    from_backbone: bool = False,
    drop_classes: str | Sequence[str] = (),
    split: str | None = "train",
    val: str | None = None,
    val_share: Literal["auto"] | float = "auto",
    group: str | None = None,
    eval_every: int | None = None,
    patience: int | None = None,
    remap: str | Sequence[str] | Mapping[str, str] | Mapping[int, str] = (),
    empty_classes: str | Sequence[str] = (),
    images: str | os.PathLike[str] | None = None,
    masks: str | os.PathLike[str] | None = None,
    mask_suffix: str | None = None,
    mask_orientation: Literal["shown", "stored"] | None = None,
    label_budget: float | None = None,
    label_seed: int = 0,
    pseudo: str | os.PathLike[str] | None = None,
    pseudo_share: float = 0.5,
    mode: Literal["auto", "full", "frozen", "linear"] = "auto",
    recipe: Literal["auto", "paper", "fast", "quick"] = "auto",
    minutes: Literal["auto"] | float = "auto",
    decoder: Literal["auto", "upernet", "light", "conv", "linear"] = "auto",
    pyramid: Literal["llfpn", "fpn"] = "llfpn",
    layers: int | Sequence[int] = (),
    channels: Literal["auto"] | int = "auto",
    auxiliary_weight: Literal["auto"] | float = "auto",
    probe_norm: bool = False,
    last_heads: Literal["keep", "uniform"] = "keep",
    loss: Literal["auto", "ce", "ce+dice"] = "auto",
    class_weights: Literal["none", "balanced", "root"] = "none",
    hard_pixels: float | None = None,
    lr: Literal["auto"] | float = "auto",
    layer_decay: Literal["auto"] | float = "auto",
    weight_decay: float = 0.05,
    warmup: Literal["auto"] | int = "auto",
    power: float = 1.0,
    freeze_layers: int = 0,
    lora: int | None = None,
    drop_path: float = 0.1,
    crop: Literal["auto"] | int = "auto",
    base: tuple[int, int] | list[int] | None = None,
    ratio: tuple[float, float] | list[float] | None = None,
    cat_max_ratio: float = 0.75,
    flip: Literal["auto"] | float = "auto",
    photometric: bool | Literal["auto"] = "auto",
    corrupt: float | None = None,
    inverted: float | None = None,
    rare_crops: Literal["auto"] | float = "auto",
    cache: Literal["auto", "ram", "none", "gpu"] = "auto",
    cache_features: bool | Literal["auto"] = "auto",
    steps: int = 0,
    epochs: float | None = None,
    batch_size: int = 8,
    accumulate: int = 1,
    seed: int = 0,
    clip: float | None = None,
    ema: float | None = None,
    checkpoint_activations: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    compile: bool | Literal["auto", "graphs", "compiled-graphs"] = "auto",
    workers: int | Literal["auto"] = "auto",
    log_every: int = 10,
    checkpoint_every: int = 500,
    keep_checkpoints: int = 2,
    tensorboard: bool = True,
    max_pixels: int = 200000000,
    overwrite: bool = False,
    conversion: Literal["percentile", "minmax", "plateau", "window"] | None = None,
    percentiles: tuple[float, float] | list[float] | None = None,
    plateau: float | None = None,
    window: tuple[float, float] | list[float] | None = None,
    polarity: Literal["white-hot", "black-hot"] | None = None,
    palette: Literal[
        "keep",
        "invert",
        "arctic",
        "dji-arctic",
        "dji-green",
        "dji-iron",
        "dji-rainbow",
        "dji-spectrum",
        "grey-red",
        "hot",
        "inferno",
        "iron",
        "jet",
        "lava",
        "magma",
        "plasma",
        "rainbow",
        "rainbow-hc",
        "turbo",
        "viridis",
    ]
    | None = None,
    radiometric: bool | None = None,
    nodata: float | None = None,
    dry_run: Literal[True],
) -> None: ...
@overload
def finetune(
    *,
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    model: str | os.PathLike[str] = "unip-ir-tiny",
    from_backbone: bool = False,
    drop_classes: str | Sequence[str] = (),
    split: str | None = "train",
    val: str | None = None,
    val_share: Literal["auto"] | float = "auto",
    group: str | None = None,
    eval_every: int | None = None,
    patience: int | None = None,
    remap: str | Sequence[str] | Mapping[str, str] | Mapping[int, str] = (),
    empty_classes: str | Sequence[str] = (),
    images: str | os.PathLike[str] | None = None,
    masks: str | os.PathLike[str] | None = None,
    mask_suffix: str | None = None,
    mask_orientation: Literal["shown", "stored"] | None = None,
    label_budget: float | None = None,
    label_seed: int = 0,
    pseudo: str | os.PathLike[str] | None = None,
    pseudo_share: float = 0.5,
    mode: Literal["auto", "full", "frozen", "linear"] = "auto",
    recipe: Literal["auto", "paper", "fast", "quick"] = "auto",
    minutes: Literal["auto"] | float = "auto",
    decoder: Literal["auto", "upernet", "light", "conv", "linear"] = "auto",
    pyramid: Literal["llfpn", "fpn"] = "llfpn",
    layers: int | Sequence[int] = (),
    channels: Literal["auto"] | int = "auto",
    auxiliary_weight: Literal["auto"] | float = "auto",
    probe_norm: bool = False,
    last_heads: Literal["keep", "uniform"] = "keep",
    loss: Literal["auto", "ce", "ce+dice"] = "auto",
    class_weights: Literal["none", "balanced", "root"] = "none",
    hard_pixels: float | None = None,
    lr: Literal["auto"] | float = "auto",
    layer_decay: Literal["auto"] | float = "auto",
    weight_decay: float = 0.05,
    warmup: Literal["auto"] | int = "auto",
    power: float = 1.0,
    freeze_layers: int = 0,
    lora: int | None = None,
    drop_path: float = 0.1,
    crop: Literal["auto"] | int = "auto",
    base: tuple[int, int] | list[int] | None = None,
    ratio: tuple[float, float] | list[float] | None = None,
    cat_max_ratio: float = 0.75,
    flip: Literal["auto"] | float = "auto",
    photometric: bool | Literal["auto"] = "auto",
    corrupt: float | None = None,
    inverted: float | None = None,
    rare_crops: Literal["auto"] | float = "auto",
    cache: Literal["auto", "ram", "none", "gpu"] = "auto",
    cache_features: bool | Literal["auto"] = "auto",
    steps: int = 0,
    epochs: float | None = None,
    batch_size: int = 8,
    accumulate: int = 1,
    seed: int = 0,
    clip: float | None = None,
    ema: float | None = None,
    checkpoint_activations: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    compile: bool | Literal["auto", "graphs", "compiled-graphs"] = "auto",
    workers: int | Literal["auto"] = "auto",
    log_every: int = 10,
    checkpoint_every: int = 500,
    keep_checkpoints: int = 2,
    tensorboard: bool = True,
    max_pixels: int = 200000000,
    overwrite: bool = False,
    conversion: Literal["percentile", "minmax", "plateau", "window"] | None = None,
    percentiles: tuple[float, float] | list[float] | None = None,
    plateau: float | None = None,
    window: tuple[float, float] | list[float] | None = None,
    polarity: Literal["white-hot", "black-hot"] | None = None,
    palette: Literal[
        "keep",
        "invert",
        "arctic",
        "dji-arctic",
        "dji-green",
        "dji-iron",
        "dji-rainbow",
        "dji-spectrum",
        "grey-red",
        "hot",
        "inferno",
        "iron",
        "jet",
        "lava",
        "magma",
        "plasma",
        "rainbow",
        "rainbow-hc",
        "turbo",
        "viridis",
    ]
    | None = None,
    radiometric: bool | None = None,
    nodata: float | None = None,
    dry_run: bool,
) -> FinetuneResult | None: ...
@overload
def finetune(config: FinetuneConfig, /, *, dry_run: Literal[False] = False) -> FinetuneResult: ...
@overload
def finetune(config: FinetuneConfig, /, *, dry_run: Literal[True]) -> None: ...
@overload
def finetune(config: FinetuneConfig, /, *, dry_run: bool) -> FinetuneResult | None: ...
@overload
def evaluate(
    *,
    model: str | os.PathLike[str],
    data: str | os.PathLike[str],
    against: str | os.PathLike[str] | None = None,
    split: str | None = "test",
    calibrate: bool = False,
    reference: str | os.PathLike[str] | None = None,
    tolerance: float = 0.5,
    group: str | None = None,
    remap: str | Sequence[str] | Mapping[str, str] | Mapping[int, str] = (),
    images: str | os.PathLike[str] | None = None,
    masks: str | os.PathLike[str] | None = None,
    mask_suffix: str | None = None,
    mask_orientation: Literal["shown", "stored"] | None = None,
    palette: Literal[
        "keep",
        "invert",
        "arctic",
        "dji-arctic",
        "dji-green",
        "dji-iron",
        "dji-rainbow",
        "dji-spectrum",
        "grey-red",
        "hot",
        "inferno",
        "iron",
        "jet",
        "lava",
        "magma",
        "plasma",
        "rainbow",
        "rainbow-hc",
        "turbo",
        "viridis",
    ]
    | None = None,
    polarity: Literal["white-hot", "black-hot"] | None = None,
    out: str | os.PathLike[str] | None = None,
    worst: int = 12,
    window: Literal["auto", "slide", "whole"] = "auto",
    scale: Literal["auto", "fit", "native"] | float = "auto",
    augment: Literal["none", "flip"] = "none",
    augment_scales: float | Sequence[float] = (1.0,),
    batch_size: Literal["auto"] | int = "auto",
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    workers: int | Literal["auto"] = "auto",
    corruption: str | Sequence[str] = (),
    seed: int = 0,
    max_pixels: int = 200000000,
    overwrite: bool = False,
    dry_run: Literal[False] = False,
) -> EvaluateResult:
    """Segment labelled images and compare; of a model folder, or of a file of `unip export`.

    Images are resized to the model's short side with their ratio kept and segmented in overlapping windows whose
    logits are averaged; the logits are resized to the stored size and compared with the mask there. One confusion
    matrix over all images gives every score. Results: ``metrics.json`` and ``evaluation.html`` with the worst frames.
    The same is done for each corruption, whose images are corrupted as soon as they are 8-bit, at their own size. These
    scores go to ``robustness.json`` one after the other, and those that are there already are not computed again.
    With ``against``, both models are evaluated on the same images, and ``comparison.json`` and ``comparison.html`` say
    how much better the new one is. An exported file is also compared with the model that it was made from, if that is
    there: ``acceptance.json``. With ``calibrate``, ``calibration.json`` in the model folder says what confidence means.

    Settings are keywords, or one ``unip.segmentation.config.EvaluateConfig``;
    then a dry run is ``evaluate(config, dry_run=True)``.

    Args:
        model: Folder of a fine-tuning run, its model/, or a file of unip export.
        data: Segmentation folder (images/, masks/, classes.json; with or without splits; other usual places are
            found), or KIND:PATH for another layout: soda, mfnet, mfnet-rgb, scut, pst900, pst900-rgb, tir-ss,
            fmb, semanticrt, mvseg, infraparis, cart, nyudepthv2, nyudepthv2-rgb, sunrgbd, sunrgbd-rgb, ade20k,
            hit-uav, colours, cityscapes, coco, labelme, yolo-seg, cvat, label-studio.
        against: Compare with this older model, on the same images; as words: OLD NEW DATA.
        split: Which split; "" for a folder without splits; held-out: what the fine-tuning held out of the data.
        calibrate: Keep what confidence means on these images in the model's folder (calibration.json).
        reference: Of an exported file: the model folder to compare it with; none: what it was made from, if it is
            still there.
        tolerance: Points of mIoU that an exported file may lose against that model; else exit code 2.
        group: Pattern (regex) in an image's path: its first capture group, or all of it, names the video or
            flight. None: file names are asked.
        remap: Changes of labels, OLD=NEW: a class or an id in the files becomes another class, or ignore.
        images: Folder of the images in a plain folder, if it is not found; {split}: the split's name.
        masks: Folder of the masks in a plain folder, if it is not found; {split}: the split's name.
        mask_suffix: What follows an image's name in its mask's, such as _mask; "": nothing. None: it is found.
        mask_orientation: What mask files of images with an EXIF orientation fit: the picture as viewers turn it
            (shown), or the pixels as stored. None: it is found where size or tags tell.
        palette: Turn colours of a palette back into grey (invert, or its name); none: as in training.
        polarity: How the frames are stored; black-hot ones are inverted; none: as in training.
        out: Where results go; default: MODEL/evaluation/SPLIT, against-OLD-SPLIT.
        worst: How many frames the page shows: the worst, or where two models differ most.
        window: Overlapping windows of the training crop's size, or the whole image at once; auto: whole where no
            side, resized, is longer than 1.5 crops.
        scale: How frames are resized: fit: to the model's short side; native: as those of training were; auto:
            fit, and native from twice the short side of those on; or a factor.
        augment: Test-time augmentation: flip also segments mirrored images; logits are averaged.
        augment_scales: Test-time augmentation: factors of the short side, such as 0.75 1 1.25; logits are
            averaged.
        batch_size: Windows that run together; auto: 8, on a GPU 24, or whole images that are as large.
        device: Where to run.
        precision: Arithmetic; auto: bf16 where the GPU, or for segmenting the CPU, computes in it; on older GPUs
            fp16 in training; else fp32.
        workers: Processes that decode images; auto: up to 8, none on two cores.
        corruption: Also evaluate on corrupted images: NAME, NAME:SEVERITY (1 to 5; 3 if left out), all, or
            all:SEVERITY.
        seed: Seed of the corruptions.
        max_pixels: Largest frame to decode, in pixels (width x height); a header that claims more is refused.
        overwrite: Also replace results in out that were changed since.
        dry_run: Check model and data, print what would happen, write nothing.

    Returns:
        The result, or None for a dry run.

    Raises:
        UnipError: Model or data are missing, damaged, or have other classes than each other; the model was trained on
            the images that it is to be calibrated on; or an exported file loses too much against its model.
        Interrupted: Stopped by Ctrl-C or SIGTERM among corruptions; the same call goes on with the next one.
    """

@overload
def evaluate(
    *,
    model: str | os.PathLike[str],
    data: str | os.PathLike[str],
    against: str | os.PathLike[str] | None = None,
    split: str | None = "test",
    calibrate: bool = False,
    reference: str | os.PathLike[str] | None = None,
    tolerance: float = 0.5,
    group: str | None = None,
    remap: str | Sequence[str] | Mapping[str, str] | Mapping[int, str] = (),
    images: str | os.PathLike[str] | None = None,
    masks: str | os.PathLike[str] | None = None,
    mask_suffix: str | None = None,
    mask_orientation: Literal["shown", "stored"] | None = None,
    palette: Literal[
        "keep",
        "invert",
        "arctic",
        "dji-arctic",
        "dji-green",
        "dji-iron",
        "dji-rainbow",
        "dji-spectrum",
        "grey-red",
        "hot",
        "inferno",
        "iron",
        "jet",
        "lava",
        "magma",
        "plasma",
        "rainbow",
        "rainbow-hc",
        "turbo",
        "viridis",
    ]
    | None = None,
    polarity: Literal["white-hot", "black-hot"] | None = None,
    out: str | os.PathLike[str] | None = None,
    worst: int = 12,
    window: Literal["auto", "slide", "whole"] = "auto",
    scale: Literal["auto", "fit", "native"] | float = "auto",
    augment: Literal["none", "flip"] = "none",
    augment_scales: float | Sequence[float] = (1.0,),
    batch_size: Literal["auto"] | int = "auto",
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    workers: int | Literal["auto"] = "auto",
    corruption: str | Sequence[str] = (),
    seed: int = 0,
    max_pixels: int = 200000000,
    overwrite: bool = False,
    dry_run: Literal[True],
) -> None: ...
@overload
def evaluate(
    *,
    model: str | os.PathLike[str],
    data: str | os.PathLike[str],
    against: str | os.PathLike[str] | None = None,
    split: str | None = "test",
    calibrate: bool = False,
    reference: str | os.PathLike[str] | None = None,
    tolerance: float = 0.5,
    group: str | None = None,
    remap: str | Sequence[str] | Mapping[str, str] | Mapping[int, str] = (),
    images: str | os.PathLike[str] | None = None,
    masks: str | os.PathLike[str] | None = None,
    mask_suffix: str | None = None,
    mask_orientation: Literal["shown", "stored"] | None = None,
    palette: Literal[
        "keep",
        "invert",
        "arctic",
        "dji-arctic",
        "dji-green",
        "dji-iron",
        "dji-rainbow",
        "dji-spectrum",
        "grey-red",
        "hot",
        "inferno",
        "iron",
        "jet",
        "lava",
        "magma",
        "plasma",
        "rainbow",
        "rainbow-hc",
        "turbo",
        "viridis",
    ]
    | None = None,
    polarity: Literal["white-hot", "black-hot"] | None = None,
    out: str | os.PathLike[str] | None = None,
    worst: int = 12,
    window: Literal["auto", "slide", "whole"] = "auto",
    scale: Literal["auto", "fit", "native"] | float = "auto",
    augment: Literal["none", "flip"] = "none",
    augment_scales: float | Sequence[float] = (1.0,),
    batch_size: Literal["auto"] | int = "auto",
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    workers: int | Literal["auto"] = "auto",
    corruption: str | Sequence[str] = (),
    seed: int = 0,
    max_pixels: int = 200000000,
    overwrite: bool = False,
    dry_run: bool,
) -> EvaluateResult | None: ...
@overload
def evaluate(config: EvaluateConfig, /, *, dry_run: Literal[False] = False) -> EvaluateResult: ...
@overload
def evaluate(config: EvaluateConfig, /, *, dry_run: Literal[True]) -> None: ...
@overload
def evaluate(config: EvaluateConfig, /, *, dry_run: bool) -> EvaluateResult | None: ...
@overload
def predict(
    *,
    model: str | os.PathLike[str],
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str] = "predictions",
    palette: Literal[
        "keep",
        "invert",
        "arctic",
        "dji-arctic",
        "dji-green",
        "dji-iron",
        "dji-rainbow",
        "dji-spectrum",
        "grey-red",
        "hot",
        "inferno",
        "iron",
        "jet",
        "lava",
        "magma",
        "plasma",
        "rainbow",
        "rainbow-hc",
        "turbo",
        "viridis",
    ]
    | None = None,
    nodata: float | None = None,
    polarity: Literal["white-hot", "black-hot"] | None = None,
    risk: float | None = None,
    probabilities: bool = False,
    overlays: bool = True,
    overlay_format: Literal["jpeg", "png"] = "jpeg",
    alpha: float = 0.5,
    engine: Literal["auto", "torch", "onnx", "openvino"] = "auto",
    compile: bool = False,
    window: Literal["auto", "slide", "whole"] = "auto",
    scale: Literal["auto", "fit", "native"] | float = "auto",
    augment: Literal["none", "flip"] = "none",
    augment_scales: float | Sequence[float] = (1.0,),
    batch_size: Literal["auto"] | int = "auto",
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    workers: int | Literal["auto"] = "auto",
    max_pixels: int = 200000000,
    overwrite: bool = False,
    dry_run: Literal[False] = False,
) -> PredictResult:
    """Segment images; write indexed masks, overlays and, if wanted, probabilities.

    ``masks/NAME.png`` holds class ids (and shows the classes' colours), ``overlays/NAME.png`` the tinted image with a
    legend, ``probabilities/NAME.npz`` the array ``probabilities``; ``predictions.json`` lists them with each class's
    share of the pixels. NAME is the path within the given folder, with ``-2``, ``-3`` ... where names would meet.

    Settings are keywords, or one ``unip.deployment.config.PredictConfig``;
    then a dry run is ``predict(config, dry_run=True)``.

    Args:
        model: Folder of a fine-tuning run, its model/, or a file of unip export.
        images: Image files and folders of images.
        out: Folder for masks/, overlays/ and probabilities/.
        palette: Turn colours of a palette back into grey (invert, or its name); none: as in training.
        nodata: Value of samples without a measurement, such as a border of 0; none: as in training.
        polarity: How the frames are stored; black-hot ones are inverted; none: as in training.
        risk: Wanted share of wrong pixels of each class: less sure pixels become 255; none: all get a class.
        probabilities: Also write float16 class probabilities (C, H, W) as .npz.
        overlays: Also write images tinted by their masks, for people to look at.
        overlay_format: Of overlays; png keeps every level, and takes ten times as long.
        alpha: Strength of the overlay's colours.
        engine: What runs a model folder: torch, or an accepted file of unip export in its export/; auto: on the
            CPU the fastest file whose engine is installed, else torch.
        compile: Compile the model with torch.compile when it runs first.
        window: Overlapping windows of the training crop's size, or the whole image at once; auto: whole where no
            side, resized, is longer than 1.5 crops.
        scale: How frames are resized: fit: to the model's short side; native: as those of training were; auto:
            fit, and native from twice the short side of those on; or a factor.
        augment: Test-time augmentation: flip also segments mirrored images; logits are averaged.
        augment_scales: Test-time augmentation: factors of the short side, such as 0.75 1 1.25; logits are
            averaged.
        batch_size: Windows that run together; auto: 8, on a GPU 24, or whole images that are as large.
        device: Where to run.
        precision: Arithmetic; auto: bf16 where the GPU, or for segmenting the CPU, computes in it; on older GPUs
            fp16 in training; else fp32.
        workers: Processes that decode images; auto: up to 8, none on two cores.
        max_pixels: Largest frame to decode, in pixels (width x height); a header that claims more is refused.
        overwrite: Also replace results in out that were changed since.
        dry_run: Check model and images, print what would happen, write nothing.

    Returns:
        The result, or None for a dry run.

    Raises:
        UnipError: The model or an image folder is missing; or, after all others were written, some images are damaged.
    """

@overload
def predict(
    *,
    model: str | os.PathLike[str],
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str] = "predictions",
    palette: Literal[
        "keep",
        "invert",
        "arctic",
        "dji-arctic",
        "dji-green",
        "dji-iron",
        "dji-rainbow",
        "dji-spectrum",
        "grey-red",
        "hot",
        "inferno",
        "iron",
        "jet",
        "lava",
        "magma",
        "plasma",
        "rainbow",
        "rainbow-hc",
        "turbo",
        "viridis",
    ]
    | None = None,
    nodata: float | None = None,
    polarity: Literal["white-hot", "black-hot"] | None = None,
    risk: float | None = None,
    probabilities: bool = False,
    overlays: bool = True,
    overlay_format: Literal["jpeg", "png"] = "jpeg",
    alpha: float = 0.5,
    engine: Literal["auto", "torch", "onnx", "openvino"] = "auto",
    compile: bool = False,
    window: Literal["auto", "slide", "whole"] = "auto",
    scale: Literal["auto", "fit", "native"] | float = "auto",
    augment: Literal["none", "flip"] = "none",
    augment_scales: float | Sequence[float] = (1.0,),
    batch_size: Literal["auto"] | int = "auto",
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    workers: int | Literal["auto"] = "auto",
    max_pixels: int = 200000000,
    overwrite: bool = False,
    dry_run: Literal[True],
) -> None: ...
@overload
def predict(
    *,
    model: str | os.PathLike[str],
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str] = "predictions",
    palette: Literal[
        "keep",
        "invert",
        "arctic",
        "dji-arctic",
        "dji-green",
        "dji-iron",
        "dji-rainbow",
        "dji-spectrum",
        "grey-red",
        "hot",
        "inferno",
        "iron",
        "jet",
        "lava",
        "magma",
        "plasma",
        "rainbow",
        "rainbow-hc",
        "turbo",
        "viridis",
    ]
    | None = None,
    nodata: float | None = None,
    polarity: Literal["white-hot", "black-hot"] | None = None,
    risk: float | None = None,
    probabilities: bool = False,
    overlays: bool = True,
    overlay_format: Literal["jpeg", "png"] = "jpeg",
    alpha: float = 0.5,
    engine: Literal["auto", "torch", "onnx", "openvino"] = "auto",
    compile: bool = False,
    window: Literal["auto", "slide", "whole"] = "auto",
    scale: Literal["auto", "fit", "native"] | float = "auto",
    augment: Literal["none", "flip"] = "none",
    augment_scales: float | Sequence[float] = (1.0,),
    batch_size: Literal["auto"] | int = "auto",
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    workers: int | Literal["auto"] = "auto",
    max_pixels: int = 200000000,
    overwrite: bool = False,
    dry_run: bool,
) -> PredictResult | None: ...
@overload
def predict(config: PredictConfig, /, *, dry_run: Literal[False] = False) -> PredictResult: ...
@overload
def predict(config: PredictConfig, /, *, dry_run: Literal[True]) -> None: ...
@overload
def predict(config: PredictConfig, /, *, dry_run: bool) -> PredictResult | None: ...
@overload
def export(
    *,
    model: str | os.PathLike[str],
    to: Literal["onnx", "openvino", "torch"] = "onnx",
    precision: Literal["fp32", "fp16", "bf16", "int8"] = "fp32",
    input: Literal["auto", "uint8", "int32", "float32"] = "auto",
    colours: Literal["auto", "grey", "colour"] = "auto",
    data: str | os.PathLike[str] | None = None,
    split: str | None = "test",
    max_images: int = 200,
    tolerance: float = 0.5,
    calibration: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    calibration_images: int = 32,
    golden: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    max_pixels: int = 200000000,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    dry_run: Literal[False] = False,
) -> ExportResult:
    """Write a model as a file for another engine, and compare both on the same frames.

    The file holds all that happens between a frame and its mask: conversion to 8 bits, resizing, normalisation,
    padding, the model, and resizing back. It says about itself what classes, sizes and licences it has, and carries
    three frames with their masks.

    Settings are keywords, or one ``unip.deployment.export.config.ExportConfig``;
    then a dry run is ``export(config, dry_run=True)``.

    Args:
        model: Folder of a fine-tuning run, or its model/.
        to: ONNX Runtime and what else reads ONNX, OpenVINO, or torch.export's archive.
        precision: Arithmetic of the file.
        input: What the graph takes: 8-bit frames (uint8), counts (int32) or temperatures in Kelvin (float32);
            auto: uint8, or int32 for a model that was trained on frames of more than 8 bits.
        colours: Frames (H, W) or (H, W, 3); auto: colour if some frames of training were in colour.
        data: Labelled frames to compare file and model on. Segmentation folder (images/, masks/, classes.json;
            with or without splits; other usual places are found), or KIND:PATH for another layout: soda, mfnet,
            mfnet-rgb, scut, pst900, pst900-rgb, tir-ss, fmb, semanticrt, mvseg, infraparis, cart, nyudepthv2,
            nyudepthv2-rgb, sunrgbd, sunrgbd-rgb, ade20k, hit-uav, colours, cityscapes, coco, labelme, yolo-seg,
            cvat, label-studio.
        split: Which split of data; "" for a folder without splits.
        max_images: Of data, at most so many, evenly spread; 0: all.
        tolerance: Points of mIoU that the file may lose against the model on data; else it is rejected.
        calibration: int8: frames, files or folders, that ranges are measured on; take them from training.
        calibration_images: int8: of calibration, at most so many, evenly spread.
        golden: Frames that the file carries to be checked with, at most 3; none: made ones, nobody's data.
        max_pixels: Largest frame to decode, in pixels (width x height); a header that claims more is refused.
        out: Where the file and its report go; default: MODEL/export.
        overwrite: Also replace files in out that were changed since.
        dry_run: Check model and data, print what would happen, write nothing.

    Returns:
        The file and how it compares with the model, or None for a dry run.

    Raises:
        UnipError: The model is missing, the engine cannot take it or is not installed; or the file gives other masks
            than the model, which is then kept under another name.
    """

@overload
def export(
    *,
    model: str | os.PathLike[str],
    to: Literal["onnx", "openvino", "torch"] = "onnx",
    precision: Literal["fp32", "fp16", "bf16", "int8"] = "fp32",
    input: Literal["auto", "uint8", "int32", "float32"] = "auto",
    colours: Literal["auto", "grey", "colour"] = "auto",
    data: str | os.PathLike[str] | None = None,
    split: str | None = "test",
    max_images: int = 200,
    tolerance: float = 0.5,
    calibration: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    calibration_images: int = 32,
    golden: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    max_pixels: int = 200000000,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    dry_run: Literal[True],
) -> None: ...
@overload
def export(
    *,
    model: str | os.PathLike[str],
    to: Literal["onnx", "openvino", "torch"] = "onnx",
    precision: Literal["fp32", "fp16", "bf16", "int8"] = "fp32",
    input: Literal["auto", "uint8", "int32", "float32"] = "auto",
    colours: Literal["auto", "grey", "colour"] = "auto",
    data: str | os.PathLike[str] | None = None,
    split: str | None = "test",
    max_images: int = 200,
    tolerance: float = 0.5,
    calibration: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    calibration_images: int = 32,
    golden: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    max_pixels: int = 200000000,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    dry_run: bool,
) -> ExportResult | None: ...
@overload
def export(config: ExportConfig, /, *, dry_run: Literal[False] = False) -> ExportResult: ...
@overload
def export(config: ExportConfig, /, *, dry_run: Literal[True]) -> None: ...
@overload
def export(config: ExportConfig, /, *, dry_run: bool) -> ExportResult | None: ...
@overload
def models(
    *, model: str | os.PathLike[str] | None = None, commercial: bool = False, dry_run: Literal[False] = False
) -> ModelList:
    """List the models that have a name, or show all about one.

    Settings are keywords, or one ``unip.zoo.config.ModelsConfig``;
    then a dry run is ``models(config, dry_run=True)``.

    Args:
        model: A name to show all about, or a run or model folder; none: list the names.
        commercial: Refuse a model whose ancestry does not allow commercial use; of the list, leave such out.
        dry_run: Only see whether there is such a model, print nothing.

    Returns:
        What is known of each, or None for a dry run.

    Raises:
        UnipError: There is no such model; or its ancestry does not allow commercial use, and that was asked for.
    """

@overload
def models(
    *, model: str | os.PathLike[str] | None = None, commercial: bool = False, dry_run: Literal[True]
) -> None: ...
@overload
def models(
    *, model: str | os.PathLike[str] | None = None, commercial: bool = False, dry_run: bool
) -> ModelList | None: ...
@overload
def models(config: ModelsConfig, /, *, dry_run: Literal[False] = False) -> ModelList: ...
@overload
def models(config: ModelsConfig, /, *, dry_run: Literal[True]) -> None: ...
@overload
def models(config: ModelsConfig, /, *, dry_run: bool) -> ModelList | None: ...
@overload
def bench(
    *,
    suite: str | os.PathLike[str],
    data: str | Sequence[str] = (),
    weights: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    only: str | Sequence[str] = (),
    skip_missing: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    workers_per_device: int = 1,
    keep_models: bool = True,
    report_only: bool = False,
    max_pixels: int = 200000000,
    overwrite: bool = False,
    dry_run: Literal[False] = False,
) -> BenchResult:
    """Run what of a suite is not done, then make its tables.

    Settings are keywords, or one ``unip.suites.config.BenchConfig``;
    then a dry run is ``bench(config, dry_run=True)``.

    Args:
        suite: Suite file, or the name of a suite that ships, such as ten_minutes (`unip bench --recipes`).
        data: NAME=FOLDER for each {NAME} of the suite.
        weights: Folder that {weights} stands for in the suite.
        out: Where everything goes; default: runs/bench/ and the suite's name.
        only: Run only the cells whose name contains all of these texts; A,B means A or B.
        skip_missing: Leave out cells whose data or weights are not given.
        device: Where to run; auto: all GPUs, or the CPU.
        workers_per_device: Cells that run at once on a device.
        keep_models: Keep every cell's model, to analyse or evaluate it later.
        report_only: Only make tables and plot again, from the cells that are done.
        max_pixels: Largest frame to decode, in pixels (width x height); a header that claims more is refused.
        overwrite: Also replace tables and plots that were changed since.
        dry_run: Show the grid and which cells are done, write nothing.

    Returns:
        The result, or None for a dry run.

    Raises:
        UnipError: The suite is wrong, data or weights are missing, or cells failed (the others are done).
        Interrupted: Stopped by a signal; the same call continues.
    """

@overload
def bench(
    *,
    suite: str | os.PathLike[str],
    data: str | Sequence[str] = (),
    weights: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    only: str | Sequence[str] = (),
    skip_missing: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    workers_per_device: int = 1,
    keep_models: bool = True,
    report_only: bool = False,
    max_pixels: int = 200000000,
    overwrite: bool = False,
    dry_run: Literal[True],
) -> None: ...
@overload
def bench(
    *,
    suite: str | os.PathLike[str],
    data: str | Sequence[str] = (),
    weights: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    only: str | Sequence[str] = (),
    skip_missing: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    workers_per_device: int = 1,
    keep_models: bool = True,
    report_only: bool = False,
    max_pixels: int = 200000000,
    overwrite: bool = False,
    dry_run: bool,
) -> BenchResult | None: ...
@overload
def bench(config: BenchConfig, /, *, dry_run: Literal[False] = False) -> BenchResult: ...
@overload
def bench(config: BenchConfig, /, *, dry_run: Literal[True]) -> None: ...
@overload
def bench(config: BenchConfig, /, *, dry_run: bool) -> BenchResult | None: ...
@overload
def demo(
    *,
    out: str | os.PathLike[str] = "runs/demo",
    scenes: tuple[int, int] | list[int] = (240, 60),
    distil_steps: int = 220,
    finetune_steps: int = 120,
    zoo_steps: int = 150,
    label_budget: int = 24,
    seeds: int | Sequence[int] = (0,),
    overwrite: bool = False,
    dry_run: Literal[False] = False,
) -> DemoResult:
    """Make scenes, look into a teacher, distil it, fine-tune on few labels also from the zoo, write a page.

    Settings are keywords, or one ``unip.demonstration.config.DemoConfig``;
    then a dry run is ``demo(config, dry_run=True)``.

    Args:
        out: Folder of the scenes, the runs and the page.
        scenes: Scenes to train on and to test on.
        distil_steps: Distillation steps of 48 crops.
        finetune_steps: Fine-tuning steps of 8 crops for the small student, for each init and seed.
        zoo_steps: Steps of the decoder on unip-ir-tiny, for each seed.
        label_budget: Number of labelled scenes to fine-tune on, drawn for each seed.
        seeds: Seeds of labels, weights and crops.
        overwrite: Start over in a folder that holds another demo.
        dry_run: Say what would happen, write nothing.

    Returns:
        The result, or None for a dry run.

    Raises:
        UnipError: The folder holds another demo or cannot be written.
        Interrupted: Stopped by a signal; the same call continues.
    """

@overload
def demo(
    *,
    out: str | os.PathLike[str] = "runs/demo",
    scenes: tuple[int, int] | list[int] = (240, 60),
    distil_steps: int = 220,
    finetune_steps: int = 120,
    zoo_steps: int = 150,
    label_budget: int = 24,
    seeds: int | Sequence[int] = (0,),
    overwrite: bool = False,
    dry_run: Literal[True],
) -> None: ...
@overload
def demo(
    *,
    out: str | os.PathLike[str] = "runs/demo",
    scenes: tuple[int, int] | list[int] = (240, 60),
    distil_steps: int = 220,
    finetune_steps: int = 120,
    zoo_steps: int = 150,
    label_budget: int = 24,
    seeds: int | Sequence[int] = (0,),
    overwrite: bool = False,
    dry_run: bool,
) -> DemoResult | None: ...
@overload
def demo(config: DemoConfig, /, *, dry_run: Literal[False] = False) -> DemoResult: ...
@overload
def demo(config: DemoConfig, /, *, dry_run: Literal[True]) -> None: ...
@overload
def demo(config: DemoConfig, /, *, dry_run: bool) -> DemoResult | None: ...
