"""The segmentation model: backbone, pyramid and head in one module that carries all it needs to run."""

from __future__ import annotations

from typing import Annotated, Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from unip.config import Config
from unip.data.images.config import Conversion
from unip.data.images.conversion import DEFAULT
from unip.data.labelled.classes import IGNORE, Classes
from unip.data.sampling.scaling import Scaling
from unip.errors import UnipError
from unip.limits import MAX_CROP, MAX_OVERLAP, MAX_SIDE, MAX_TOKENS, MAX_WIDTH
from unip.segmentation.heads import ConvHead, FCNHead, LightHead, LinearHead, UPerNetHead, resize, upsample
from unip.segmentation.losses import PixelLoss, total
from unip.segmentation.pyramid import FPN, LLFPN, spread_layers
from unip.segmentation.settings import Decoder, PyramidName, Scale, Window, meant_scale
from unip.segmentation.training_images import TrainingImages
from unip.vit.architecture import BackboneSpec
from unip.vit.forward import embed, run_block
from unip.vit.shape import depth_of, patch_size, prefix_tokens, width_of
from unip.vit.spec import blocks, build_backbone

Positive = Annotated[float, Field(gt=0)]


class SegmenterSpec(Config):
    """All that rebuilds a segmentation model, and how images must be given to it."""

    backbone: BackboneSpec
    classes: Classes
    decoder: Decoder = "upernet"
    pyramid: PyramidName = Field("llfpn", description="Levels from the last layer or from four; not for conv, linear.")
    layers: tuple[int, ...] = Field(
        max_length=128, description="Backbone layers that feed the decoder, counted from 1."
    )
    channels: int = Field(ge=1, le=MAX_WIDTH, description="Channels inside the decoder.")
    auxiliary_weight: float = Field(
        0.4, ge=0, description="Weight of the auxiliary FCN head's loss; 0 has no such head."
    )
    probe_norm: bool = Field(False, description="Linear decoder only: standardise the features first.")
    mean: tuple[float, float, float]
    std: tuple[Positive, Positive, Positive]
    short_side: int = Field(512, ge=1, le=MAX_SIDE, description="Images are resized to this short side, in pixels.")
    crop: int = Field(512, ge=1, le=MAX_CROP, description="Side of training crops and of sliding windows, in pixels.")
    stride: int = Field(341, ge=1, description="Pixels from one sliding window to the next.")
    conversion: Conversion = Field(
        DEFAULT, description="How counts or temperatures become the 8 bits that it was trained on."
    )
    images: TrainingImages | None = Field(None, description="What the images of training were like, if it is known.")

    def scaling(self, scale: Scale = "auto", window: Window = "slide") -> Scaling:
        """Return how frames are resized, see :func:`.meant_scale`."""
        trained = None if self.images is None else min(self.images.size)
        return Scaling(self.short_side, trained, meant_scale(scale, window), self.crop, self.stride)

    @model_validator(mode="after")
    def _check_overlap(self) -> Self:
        if self.crop > MAX_OVERLAP * self.stride:
            raise ValueError(f"windows of {self.crop} pixels every {self.stride}: the stride is a sixteenth at least")
        return self


def default_layers(decoder: Decoder, pyramid: PyramidName, depth: int) -> tuple[int, ...]:
    """Return the paper's layers for a decoder on a ViT of ``depth`` blocks, counted from 1."""
    if decoder not in PYRAMID_HEADS:
        return tuple(dict.fromkeys(spread_layers(depth)))
    return (LLFPN if pyramid == "llfpn" else FPN).layers(depth)


def default_channels(decoder: Decoder, width: int) -> int:
    """Return the usual channels inside a decoder on a backbone of ``width`` channels."""
    return 128 if decoder in ("light", "conv") else width


#: The decoders that work on a pyramid, by their names in the settings.
PYRAMID_HEADS: dict[str, type[UPerNetHead] | type[LightHead]] = {"upernet": UPerNetHead, "light": LightHead}


def describe_decoder(spec: SegmenterSpec) -> str:
    """Name the decoder, and its pyramid if it has one."""
    return f"{spec.decoder} on {spec.pyramid}" if spec.decoder in PYRAMID_HEADS else spec.decoder


class Segmenter(nn.Module):
    """uint8 images in, class logits of the same size out; normalisation and padding happen inside.

    The features are the blocks' outputs without the backbone's final norm (which belongs to its classifier), and
    without prefix tokens. Parts of the backbone that no feature depends on are frozen.

    Args:
        spec: What to build.
        backbone: A backbone built from ``spec.backbone``, with weights; a random one when not given.

    Raises:
        UnipError: A layer is out of range, or their number does not fit the pyramid.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: SegmenterSpec, backbone: nn.Module | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = build_backbone(spec.backbone) if backbone is None else backbone
        self.depth = depth_of(self.backbone)
        _check_layers(spec, self.depth)
        width = width_of(self.backbone)
        self.used_layers = sorted(set(spec.layers))
        self.patch = patch_size(self.backbone)
        _check_tokens(spec.crop, self.patch)
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)

        count = len(spec.classes.names)
        self.pyramid: nn.Module = nn.Identity()
        self.head: nn.Module
        self.auxiliary: nn.Module | None = None
        if spec.decoder == "linear":
            self.head = LinearHead(width * len(spec.layers), count, norm=spec.probe_norm)
        elif spec.decoder == "conv":
            self.head = ConvHead(width * len(spec.layers), spec.channels, count)
        else:
            self.pyramid = LLFPN(width) if spec.pyramid == "llfpn" else FPN(width)
            self.head = PYRAMID_HEADS[spec.decoder](width, spec.channels, count)
            if spec.auxiliary_weight > 0:
                self.auxiliary = FCNHead(width, 256, count)
        for name, parameter in self.backbone.named_parameters():
            parts = name.split(".")
            late = parts[0] == "blocks" and int(parts[1]) >= self.used_layers[-1]
            if late or parts[0] in ("norm", "fc_norm", "head", "attn_pool"):
                parameter.requires_grad_(False)  # gets no gradient, which distributed training would wait for

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the maps ``(B, width, h, w)`` of ``spec.layers`` for normalised, padded images."""
        maps = self.backbone.forward_intermediates(  # type: ignore[operator]
            images,
            indices=[layer - 1 for layer in self.used_layers],
            norm=False,
            stop_early=True,
            output_fmt="NCHW",
            intermediates_only=True,
        )
        return [maps[self.used_layers.index(layer)] for layer in self.spec.layers]

    def levels(self, images: Tensor) -> list[Tensor]:
        """Return what the head sees of uint8 images: the pyramid's levels, finest first, or the probe's features."""
        return self.pyramid(self.features(self.normalise(images)))  # type: ignore[no-any-return]

    def normalise(self, images: Tensor) -> Tensor:
        """Turn uint8 ``(B, 3, H, W)`` into normalised floats, padded right and below with the mean colour."""
        scaled = (images.to(self.mean.dtype) / 255 - self.mean) / self.std
        height, width = self.padded_size(images)
        below, right = height - images.shape[-2], width - images.shape[-1]
        return F.pad(scaled, (0, right, 0, below)) if below or right else scaled

    def padded_size(self, images: Tensor) -> tuple[int, int]:
        """Return the sides as multiples of the patch, of at least two so that the coarsest level is not empty."""
        height, width = images.shape[-2:]
        patch = self.patch
        # not -(-side // patch): sizes may be symbols, and in exported graphs a division of integers rounds towards 0
        return max(2, (height + patch - 1) // patch) * patch, max(2, (width + patch - 1) // patch) * patch

    def all_logits(self, levels: list[Tensor], images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the logits ``(B, C, H, W)`` of the head, and of the auxiliary head if there is one.

        Args:
            levels: What the heads see.
            images: Of which only the size counts: the pixels that the logits are for.
        """
        auxiliary = None if self.auxiliary is None else self.to_pixels(self.auxiliary(levels[2]), images)
        return self.to_pixels(self.head(levels), images), auxiliary

    def forward(self, images: Tensor) -> Tensor:
        """Segment images.

        Args:
            images: uint8 ``(B, 3, H, W)`` of any size; grey images have three equal channels.

        Returns:
            Logits ``(B, C, H, W)``.
        """
        return self.to_pixels(self.head(self.levels(images)), images)

    def to_pixels(self, logits: Tensor, images: Tensor) -> Tensor:
        """Resize logits of the patches of ``images`` (of which only the size counts) to their pixels."""
        size = self.padded_size(images)
        # losses want more than 16 bits; where nothing is learnt, interpolation is faster for such a large map
        larger = upsample(logits.float(), size) if logits.requires_grad else resize(logits, size)
        return larger[..., : images.shape[-2], : images.shape[-1]]


class Embedding(nn.Module):
    """From uint8 images to the tokens that enter the first block, in one piece that can be compiled.

    Args:
        segmenter: Whose backbone embeds them.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return tokens ``(B, L, width)``, prefix tokens first, and the rotary positions that blocks take, or None."""
        return embed(self.segmenter.backbone, self.segmenter.normalise(images), product=True)


class DecoderLoss(nn.Module):
    """From the backbone's features to the loss: what comes after the blocks, in one piece that can be compiled.

    Args:
        segmenter: Whose pyramid and heads it runs.
        pixel_loss: The loss of either head.
    """

    def __init__(self, segmenter: Segmenter, pixel_loss: PixelLoss) -> None:
        super().__init__()
        self.segmenter, self.pixel_loss = segmenter, pixel_loss

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Do what ``nn.Module.compile`` does, with all maps of torch's own compiler in channels-last layout.

        It leaves that layout for the whole graph where a 3x3 convolution has half as many channels out as in, or
        fewer, as two of UPerNet's. But weights are in that layout, so convolutions copied maps there and back.
        """
        if "backend" not in kwargs:
            kwargs.setdefault("options", {"force_layout_optimization": True})
        super().compile(*args, **kwargs)

    def forward(self, features: list[Tensor], masks: Tensor) -> dict[str, Tensor]:
        """Compute what :meth:`SegmentationLoss.forward` returns, from the maps ``(B, width, h, w)`` of the layers."""
        target = masks.long()
        logits, auxiliary = self.segmenter.all_logits(self.segmenter.pyramid(features), masks)
        parts = self.pixel_loss.parts(logits, target)
        main = total(parts)
        right = (logits.detach().argmax(1) == target).sum()
        values = {"loss": main, "loss_main": main, "pixel_accuracy": right / (target != IGNORE).sum().clamp(min=1)}
        if len(parts) > 1:
            values |= parts
        if auxiliary is not None:
            values["loss_aux"] = self.pixel_loss(auxiliary, target)
            values["loss"] = main + self.segmenter.spec.auxiliary_weight * values["loss_aux"]
        return values


class SegmentationLoss(nn.Module):
    """What training minimises: the loss of the head's pixels plus the weighted one of the auxiliary head's.

    Args:
        segmenter: The model to train.
        pixel_loss: The loss of either; left out, cross-entropy.
        frozen_backbone: Keep the backbone in evaluation mode without gradients.
    """

    def __init__(
        self, segmenter: Segmenter, pixel_loss: PixelLoss | None = None, *, frozen_backbone: bool = False
    ) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.embedding = Embedding(segmenter)
        self.decoder_loss = DecoderLoss(segmenter, pixel_loss or PixelLoss())
        if frozen_backbone:
            segmenter.backbone.requires_grad_(False)

    @property
    def regions(self) -> tuple[nn.Module, ...]:
        """The parts to compile, each on its own.

        They are the embedding, the blocks, and the decoder with its loss. The blocks are alike, so torch compiles one
        and takes it for all: the first step comes much sooner than with the whole model as one. Not so with adapters:
        with one, each weight is of a class of its own.
        """
        if any(map(parametrize.is_parametrized, self.segmenter.backbone.modules())):
            return (self,)
        return (self.embedding, *blocks(self.segmenter.backbone)[: self.segmenter.used_layers[-1]], self.decoder_loss)

    def train(self, mode: bool = True) -> SegmentationLoss:
        """Set training mode, except where a backbone or a block of it is frozen (its drop path must stay off)."""
        super().train(mode)
        for part in (self.segmenter.backbone, *blocks(self.segmenter.backbone)):
            if not any(parameter.requires_grad for parameter in part.parameters()):
                part.eval()
        return self

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the maps ``(B, width, h, w)`` of the layers that the decoder sees: :meth:`Segmenter.features`'s."""
        backbone, spec = self.segmenter.backbone, self.segmenter.spec
        grid = [side // self.segmenter.patch for side in self.segmenter.padded_size(images)]
        tokens, rope = self.embedding(images)
        maps = {}
        for index, block in enumerate(blocks(backbone)[: self.segmenter.used_layers[-1]]):
            tokens = run_block(backbone, block, tokens, rope, index=index)
            if index + 1 in spec.layers:
                patches = tokens[:, prefix_tokens(backbone) :]
                maps[index + 1] = patches.transpose(1, 2).reshape(len(images), -1, *grid).contiguous()
        return [maps[layer] for layer in spec.layers]

    def forward(self, images: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Compute the losses.

        Args:
            images: uint8 ``(B, 3, H, W)``.
            masks: Class ids ``(B, H, W)``, any integer type; 255 counts for nothing.

        Returns:
            Scalars ``loss``, ``loss_main``, its parts ``ce`` and ``dice`` (where there are two), ``loss_aux`` (with
            an auxiliary head) and ``pixel_accuracy``.
        """
        values: dict[str, Tensor] = self.decoder_loss(self.features(images), masks)
        return values


def _check_tokens(crop: int, patch: int) -> None:
    if (-(-crop // patch)) ** 2 > MAX_TOKENS:
        raise UnipError(
            f"windows of {crop} pixels with patches of {patch} make more than {MAX_TOKENS} tokens",
            "Take a smaller crop, or larger patches.",
        )


def _check_layers(spec: SegmenterSpec, depth: int) -> None:
    out = [layer for layer in spec.layers if not 1 <= layer <= depth]
    if out or not spec.layers:
        raise UnipError(
            f"layers {list(spec.layers)} of the decoder: {'none given' if not out else f'no layer {out[0]}'}",
            f"The backbone has {depth} layers, counted from 1.",
        )
    if spec.decoder not in PYRAMID_HEADS:
        return
    wanted = 1 if spec.pyramid == "llfpn" else 4
    if len(spec.layers) != wanted:
        raise UnipError(
            f"pyramid {spec.pyramid} takes {wanted} layer{'s' * (wanted > 1)}, got {list(spec.layers)}",
            "Leave layers out for the paper's choice.",
        )


class CachedLoss(SegmentationLoss):
    """The loss on a frozen backbone with batches of :class:`CachedFeatures` instead of images; the decoder is run."""

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the layers of features ``(B, channels, h, w)``."""
        return list(images.float().chunk(len(self.segmenter.spec.layers), dim=1))
