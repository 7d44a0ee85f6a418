"""Fixed sin-cos positions and the initial weights of a student that is trained from scratch."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def sincos_positions(grid: tuple[int, int], width: int, *, prefix: int = 1) -> Tensor:
    """Return the fixed 2-D sin-cos positions of MAE's and UNIP's ViTs.

    The first half of the channels encodes the column, the second half the row; each half is
    ``[sin(x w_i), cos(x w_i)]`` with ``w_i = 10000^(-i / (width / 4))`` (He et al., Masked Autoencoders,
    appendix A.1, after Vaswani et al.; UNIP, section 4.1 takes them over).

    Args:
        grid: Rows and columns of the patch grid.
        width: Channels, a multiple of 4.
        prefix: Tokens before the patches (class token); their position is zero.

    Returns:
        ``(1, prefix + rows * columns, width)`` float32, patches in row-major order.

    Raises:
        ValueError: ``width`` is not a multiple of 4.
    """
    if width % 4:
        raise ValueError(f"2-D sin-cos positions need a width that is a multiple of 4, got {width}")
    quarter = width // 4
    frequency = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    rows, columns = (torch.arange(n, dtype=torch.float64) for n in grid)
    row, column = torch.meshgrid(rows, columns, indexing="ij")
    angles = [axis.reshape(-1, 1) * frequency for axis in (column, row)]
    patches = torch.cat([f(a) for a in angles for f in (torch.sin, torch.cos)], dim=1)
    return torch.cat([patches.new_zeros(prefix, width), patches])[None].float()


def initialise_from_scratch(model: nn.Module) -> None:
    """Set MAE's initial weights and fixed positions in a timm ViT, in place.

    Linear layers are Xavier-uniform with zero biases, the patch embedding is seen as a linear layer, tokens are
    normal with deviation 0.02 (He et al., appendix A.2). Positions do not take gradients.

    Args:
        model: A timm ``VisionTransformer`` with absolute positions and no classifier.
    """
    xavier_linears(model)
    kernel = model.get_parameter("patch_embed.proj.weight")
    nn.init.xavier_uniform_(kernel.data.view(kernel.shape[0], -1))
    for name in ("cls_token", "reg_token"):
        token = getattr(model, name, None)
        if token is not None:
            nn.init.normal_(token, std=0.02)
    positions = model.get_parameter("pos_embed")
    grid: tuple[int, int] = model.patch_embed.grid_size  # type: ignore[union-attr,assignment]
    prefix = positions.shape[1] - grid[0] * grid[1]
    positions.data.copy_(sincos_positions(grid, positions.shape[2], prefix=prefix))
    positions.requires_grad_(False)


def xavier_linears(model: nn.Module) -> None:
    """Make all linear layers Xavier-uniform with zero biases, in place."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
