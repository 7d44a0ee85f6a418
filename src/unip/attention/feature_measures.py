"""Numbers that say what a layer's features are like: fine detail, and how similar two layers are."""

from __future__ import annotations

import torch

CKA_SIDE = 14  # of the grid at most: larger ones are thinned, or Gram matrices would grow with its fourth power


def high_frequency_amplitude(features: torch.Tensor) -> torch.Tensor:
    """Relative log amplitude of the highest frequency: the texture bias of Park et al. (ICLR 2023, section 3.2).

    Delta log amplitude = log |F(pi, pi)| - log |F(0, 0)| of the feature map's Fourier transform, mean over channels
    (Park and Kim, ICLR 2022, figure 2). Higher: more fine detail and texture, less shape.

    Args:
        features: One layer's patch tokens as maps (B, C, h, w).

    Returns:
        (B,), natural logarithm. On a grid of odd side n, pi is its highest frequency, pi (n - 1) / n.
    """
    height, width = features.shape[-2:]
    amplitude = torch.fft.fft2(features.float()).abs()
    smallest = 1e-6  # as the authors add, against the logarithm of 0
    high, low = amplitude[..., height // 2, width // 2] + smallest, amplitude[..., 0, 0] + smallest
    change: torch.Tensor = high.log() - low.log()
    return change.mean(-1)


def token_gram(features: torch.Tensor) -> torch.Tensor:
    """Gram matrix of an image's patch tokens, U-centred, so that inner products of two give unbiased HSIC.

    U-centring is that of Szekely and Rizzo (Annals of Statistics 2014); the mean product of two such matrices is the
    unbiased HSIC of Song et al. (JMLR 2012), which unlike the plain one does not grow with the number of channels.

    Args:
        features: One layer's patch tokens as maps (B, C, h, w), of at least four patches.

    Returns:
        (B, n, n) float32, n = h w; of more than CKA_SIDE rows or columns so many, evenly spread, take part.
    """
    rows, columns = (
        torch.linspace(0, side - 1, min(side, CKA_SIDE), device=features.device).round().long()
        for side in features.shape[-2:]
    )
    tokens = features[:, :, rows][..., columns].flatten(2).transpose(1, 2)
    centred = tokens.float() - tokens.float().mean(1, keepdim=True)  # changes nothing but the rounding
    gram = centred @ centred.transpose(1, 2)
    n = gram.shape[-1]
    gram.diagonal(dim1=1, dim2=2).zero_()
    sums = gram.sum(-1)
    total = sums.sum(-1)[:, None, None] / ((n - 1) * (n - 2))
    gram = gram - (sums[:, :, None] + sums[:, None, :]) / (n - 2) + total
    gram.diagonal(dim1=1, dim2=2).zero_()
    return gram


def cka(grams: torch.Tensor) -> torch.Tensor:
    """Linear CKA between layers (Kornblith et al., ICML 2019), debiased, image by image.

    Args:
        grams: Of each layer from :func:`token_gram`, (B, layers, n, n).

    Returns:
        (B, layers, layers): 1 for layers that differ by a rotation and a scale, about 0 for unrelated ones (it may
        be slightly negative); NaN where a layer's tokens are all equal.
    """
    flat = grams.flatten(2)
    products = flat @ flat.transpose(1, 2)
    norms = products.diagonal(dim1=1, dim2=2).sqrt()
    return products / (norms[:, :, None] * norms[:, None, :])
