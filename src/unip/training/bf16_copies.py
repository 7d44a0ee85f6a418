"""bfloat16 copies of weights, made once a step in one pass instead of one by one where each is used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from timm.layers import PatchEmbed
from torch import Tensor, nn

#: Modules of which autocast casts weights and biases.
CAST = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


class Bf16Copies:
    """What autocast would cast of a model, cast beforehand, and the gradients of it cast back together.

    Autocast starts a kernel for each weight, and another for its gradient: hundreds in a step, each shorter than the
    time between two. The numbers are the same. Copies stand in the model's place only while a pass runs, so
    the optimiser, checkpoints and evaluations see float32 weights with float32 gradients.

    Left to autocast are kernels that embed patches, whose channels are summed in float32 for grey images, and weights
    that several modules share.

    Args:
        model: Whose trained float32 weights of linear layers and convolutions are copied, on their device. They must
            be used under bfloat16 autocast, and gradients of several passes must not be added up.
    """

    def __init__(self, model: nn.Module) -> None:
        embedding = {id(module.proj) for module in model.modules() if isinstance(module, PatchEmbed)}
        cast = [module for module in model.modules() if isinstance(module, CAST) and id(module) not in embedding]
        uses = Counter(id(each) for module in model.modules() for each in module._parameters.values())
        self.places = [
            (module, name)
            for module in cast
            for name, parameter in module._parameters.items()
            if parameter is not None
            and parameter.requires_grad
            and parameter.dtype == torch.float32
            and uses[id(parameter)] == 1
        ]
        self.weights: list[Tensor] = [module.get_parameter(name) for module, name in self.places]
        self.copies: list[Tensor] = [nn.Parameter(weight.detach().to(torch.bfloat16)) for weight in self.weights]

    @contextmanager
    def used(self) -> Iterator[None]:
        """While the body runs, forward and backward, the model holds copies; then the weights have the gradients."""
        if not self.places:
            yield
            return
        with torch.no_grad():
            torch._foreach_copy_(self.copies, self.weights)
        self._place(self.copies)
        try:
            yield
        finally:
            self._place(self.weights)
        found, wanted = [], []
        for weight, copy in zip(self.weights, self.copies, strict=True):
            if copy.grad is not None:
                found.append(copy.grad)
                weight.grad = torch.empty_like(weight)
                wanted.append(weight.grad)
            copy.grad = None
        if found:
            torch._foreach_copy_(wanted, found)

    def _place(self, tensors: list[Tensor]) -> None:
        for (module, name), tensor in zip(self.places, tensors, strict=True):
            module._parameters[name] = tensor  # type: ignore[assignment]  # nn.Parameters, all of them
