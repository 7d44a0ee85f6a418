"""The exponential moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn


class WeightAverage:
    """A float32 average of what changes in a model: trained parameters, and buffers such as batch norm's statistics.

    After n updates the decay is ``min(decay, (1 + n) / (10 + n))``, so that the random weights of the start are soon
    forgotten (the warm-up of TensorFlow's ``ExponentialMovingAverage``).

    Args:
        module: Where it is to stay: on the device it is trained on.
        decay: Share of the old average that stays in a step, after the warm-up.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        fixed = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
        self.decay = decay
        self._current = {
            name: tensor.detach()
            for name, tensor in module.state_dict().items()
            if tensor.is_floating_point() and name not in fixed
        }
        self.tensors = {name: tensor.float().clone() for name, tensor in self._current.items()}

    def share(self, step: int) -> float:
        """Return the share of the new weights in the average after optimiser step ``step``, counted from 0."""
        return 1 - min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, share: float | torch.Tensor) -> None:
        """Take in the weights.

        Args:
            share: That of :meth:`share`; a tensor, float32 without dimensions on the device, where this is captured.
        """
        average = list(self.tensors.values())
        current = [tensor.float() for tensor in self._current.values()]
        if isinstance(share, float):
            torch._foreach_lerp_(average, current, share)
            return
        # torch's lerp takes no tensor here; this does the same in one pass: a step of SGD of that rate, upwards along
        # (current - average), the weight decay being 1
        torch._fused_sgd_(
            average,
            current,
            [],
            weight_decay=1.0,
            momentum=0.0,
            lr=share,
            dampening=0.0,
            nesterov=False,
            maximize=True,
            is_first_step=False,
        )

    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take over a stored average.

        Raises:
            ValueError: It is of another model.
        """
        if tensors.keys() != self.tensors.keys():
            raise ValueError("the average of the weights is of another model")
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """While the body runs, the module holds the average."""
        trained = [tensor.clone() for tensor in self._current.values()]
        self.apply()
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(list(self._current.values()), trained)

    @torch.no_grad()
    def apply(self) -> None:
        """Put the average into the module."""
        torch._foreach_copy_(list(self._current.values()), list(self.tensors.values()))
