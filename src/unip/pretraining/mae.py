"""Masked autoencoding (He et al., CVPR 2022), the paper's baseline: most patches are hidden, a decoder paints them."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from timm.models.vision_transformer import Block
from torch import nn

from unip.errors import UnipError
from unip.pretraining.inputs import normalise_crops
from unip.pretraining.objective import Objective, patch_grid
from unip.pretraining.pictures import draw_masked
from unip.pretraining.sample_noise import seeded_noise
from unip.runtime.seeds import seed_for
from unip.vit.forward import embed, patchify, run_block
from unip.vit.positions import sincos_positions, xavier_linears
from unip.vit.shape import patch_size, prefix_tokens

HEAD = 32  # channels of a decoder head: 16 heads in the paper's 512


class MaskedAutoencoding(Objective):
    """A student that sees a few patches and a decoder that paints the others; all of both is trained.

    The crops are grey in three equal channels, so that one channel is painted: the mean over three would be the same.

    Args:
        student: A timm ViT with absolute positions.
        size: Side of the square training crops, in pixels.
        seed: Seed of the masks.
        mask_ratio: Share of the patches that are hidden.
        depth: Blocks of the decoder.
        width: Channels of the decoder, a multiple of 32.

    Raises:
        UnipError: Crops are not a multiple of the patches, the student has rotary positions, or nothing is left to see
            or to paint.
    """

    def __init__(
        self,
        student: nn.Module,
        *,
        size: int,
        seed: int = 0,
        mask_ratio: float = 0.75,
        depth: int = 8,
        width: int = 512,
    ) -> None:
        super().__init__()
        grid = patch_grid(student, size)
        self.patches, self.visible = grid**2, int(grid**2 * (1 - mask_ratio))
        if not 0 < self.visible < self.patches:
            raise UnipError(
                f"of {self.patches} patches, mask_ratio {mask_ratio:g} leaves {self.visible} visible",
                "Choose another --mask-ratio or a larger --size.",
            )
        self.patch, self.seed = patch_size(student), seed_for(seed, size)
        device = next(student.parameters()).device
        self.encoder = MaskedEncoder(student)
        self.decoder = Decoder(
            int(student.embed_dim),  # type: ignore[arg-type]
            outputs=self.patch**2,
            grid=grid,
            prefix=prefix_tokens(student),
            depth=depth,
            width=width,
        ).to(device)
        self.extra = {"decoder": self.decoder}
        self.parts = (self.encoder, self.decoder)

    def paint(self, pixels: torch.Tensor, positions: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Hide patches of normalised images (B, 1, S, S) and paint all patches.

        Returns:
            The painted patches (B, L, P * P), and which were hidden (B, L) bool.
        """
        if positions is None:
            positions = torch.arange(len(pixels), device=pixels.device)
        order = seeded_noise(self.seed, positions, self.patches).argsort(dim=1, stable=True)
        place = order.argsort(dim=1)  # of each patch within `order`, whose first ones are visible
        painted: torch.Tensor = self.decoder(self.encoder(pixels, order[:, : self.visible]), place)
        return painted, place >= self.visible

    def forward(
        self, images: torch.Tensor, flips: torch.Tensor | None = None, positions: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Compute the loss: mean squared error of the hidden patches' normalised pixels; see :class:`Objective`."""
        pixels = normalise_crops(images, flips)
        painted, hidden = self.paint(pixels, positions)
        with torch.autocast(images.device.type, enabled=False):
            wanted = normalised_patches(patchify(pixels, self.patch, self.patch))
            errors = (painted.float() - wanted).square().mean(dim=-1)
            return {"loss": (errors * hidden).sum() / hidden.sum()}

    def draw(self, images: torch.Tensor) -> npt.NDArray[np.uint8]:
        """Draw what the student sees, what the decoder makes of it, and the image."""
        painted, hidden = self.paint(normalise_crops(images), None)
        wanted = patchify(images.float(), self.patch, self.patch)
        # painted patches are normalised each by itself: they get the mean and deviation of the true ones
        mean, deviation = wanted.mean(-1, keepdim=True), wanted.var(-1, keepdim=True).sqrt()
        filled = torch.where(hidden[..., None], painted.float() * deviation + mean, wanted)
        seen = wanted.masked_fill(hidden[..., None], 128)
        return draw_masked(images, *(unpatchify(patches, self.patch) for patches in (seen, filled)))


class MaskedEncoder(nn.Module):
    """A ViT that runs on some of its patches only; class token and registers always take part.

    Args:
        student: A timm ViT with absolute positions.

    Raises:
        UnipError: It has rotary positions.
    """

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        if getattr(student, "rope", None) is not None:
            raise UnipError(
                "mae needs a student with absolute positions, and this one has rotary ones",
                "Start from another model, or choose another --objective.",
            )
        self.student: Any = student

    def forward(self, pixels: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """Run normalised images (B, 1, S, S) on the patches numbered ``visible`` (B, K).

        Returns:
            Final tokens (B, prefix + K, C), patches in the order of ``visible``.
        """
        x, _ = embed(self.student, pixels)
        prefix = prefix_tokens(self.student)
        patches = x[:, prefix:].gather(1, visible[..., None].expand(-1, -1, x.shape[-1]))
        x = torch.cat([x[:, :prefix], patches], dim=1)
        for block in self.student.blocks:
            x = run_block(self.student, block, x)
        out: torch.Tensor = self.student.norm(x)
        return out


class Decoder(nn.Module):
    """A light ViT on the visible tokens and a learnt token for each hidden patch, with fixed sin-cos positions.

    Args:
        inputs: Channels of the encoder.
        outputs: Numbers to paint a patch.
        grid: Patches along a side.
        prefix: Class and register tokens.
        depth: Blocks.
        width: Channels, a multiple of 32.
    """

    def __init__(self, inputs: int, *, outputs: int, grid: int, prefix: int, depth: int, width: int) -> None:
        super().__init__()
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.prefix = prefix
        self.embed = nn.Linear(inputs, width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.register_buffer("positions", sincos_positions((grid, grid), width, prefix=prefix), persistent=False)
        self.blocks = nn.Sequential(
            *(Block(width, width // HEAD, qkv_bias=True, norm_layer=norm) for _ in range(depth))
        )
        self.norm = norm(width)
        self.paint = nn.Linear(width, outputs)
        xavier_linears(self)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, tokens: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        """Paint all patches.

        Args:
            tokens: Of the encoder, (B, prefix + K, C).
            place: (B, L), where each patch is among the visible and then the hidden ones.

        Returns:
            (B, L, outputs).
        """
        x = self.embed(tokens)
        hidden = self.mask_token.to(x.dtype).expand(len(x), place.shape[1] + self.prefix - x.shape[1], -1)
        patches = torch.cat([x[:, self.prefix :], hidden], dim=1)
        patches = patches.gather(1, place[..., None].expand(-1, -1, x.shape[-1]))
        x = torch.cat([x[:, : self.prefix], patches], dim=1) + self.get_buffer("positions")
        painted: torch.Tensor = self.paint(self.norm(self.blocks(x)))
        return painted[:, self.prefix :]


def unpatchify(patches: torch.Tensor, patch: int) -> torch.Tensor:
    """Put (B, L, patch * patch) of a square grid together again as (B, 1, S, S)."""
    side = math.isqrt(patches.shape[1])
    cut = patches.reshape(-1, side, side, patch, patch).transpose(2, 3)
    return cut.reshape(-1, 1, side * patch, side * patch)


def normalised_patches(patches: torch.Tensor) -> torch.Tensor:
    """Give each grey patch (..., P * P) mean 0 and deviation 1 (He et al., section 4.1, reconstruction target)."""
    centred = patches - patches.mean(dim=-1, keepdim=True)
    # the n - 1 of the variance of three equal channels, so that one channel is what each of the three would be
    return centred / (patches.var(dim=-1, keepdim=True, correction=1 / 3) + 1e-6).sqrt()
