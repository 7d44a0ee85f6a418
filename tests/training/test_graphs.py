import copy

import pytest
import torch
from torch import nn

from unip.errors import UnipError
from unip.training.config import TrainingConfig
from unip.training.ema import WeightAverage
from unip.training.graphs import GraphedPass, GraphedUpdate, StepNumbers
from unip.training.loop import check_graphs, make_accelerator

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("mode", ["graphs", "compiled-graphs"])
def test_graphs_want_a_gpu(tmp_path, mode):
    config = TrainingConfig(out=tmp_path, device="cpu", compile=mode)
    with pytest.raises(UnipError, match="CUDA graphs are for one GPU, this is cpu"):
        check_graphs(make_accelerator(config))


@gpu
@pytest.mark.parametrize("adds", [False, True])
def test_a_graph_computes_what_single_kernels_do(adds):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.GELU(), nn.Conv2d(8, 4, 1)).cuda()
    graphed = copy.deepcopy(plain)

    def pass_of(model):
        def compute(images, target):
            loss = nn.functional.cross_entropy(model(images), target)
            loss.backward()
            return {"loss": loss}

        return compute

    fast = GraphedPass(pass_of(graphed), graphed, adds=adds)
    for step in range(4):
        torch.manual_seed(step)
        batch = torch.rand(4, 3, 10, 10, device="cuda"), torch.randint(4, (4, 8, 8), device="cuda")
        plain.zero_grad()
        if adds:
            graphed.zero_grad(set_to_none=False)
        expected = pass_of(plain)(*batch)["loss"]
        torch.testing.assert_close(fast(*batch)["loss"], expected.detach())
        for ours, theirs in zip(graphed.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)
        for ours, theirs in zip(graphed.buffers(), plain.buffers(), strict=True):
            torch.testing.assert_close(ours, theirs)


@gpu
def test_dropout_in_a_graph_follows_the_seed():
    dropout = nn.Dropout(0.5).cuda()
    weight = torch.ones(1000, device="cuda", requires_grad=True)

    def compute(images):
        loss = (dropout(images) * weight).sum()
        loss.backward()
        return {"loss": loss}

    fast, found = GraphedPass(compute, dropout, adds=False), {}
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        value = fast(torch.ones(1000, device="cuda"))["loss"].item()
        assert found.setdefault(seed, value) == value
    assert found[0] != found[1]


class Side:
    """A model, its optimiser and its averaged weights, on the GPU."""

    def __init__(self, *, captured):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3)).cuda()
        groups = [{"params": list(part.parameters()), "lr": 0.1} for part in self.model]
        self.optimizer = torch.optim.AdamW(groups, fused=True, capturable=captured)
        self.average = WeightAverage(self.model, 0.9)
        for parameter in self.model.parameters():
            parameter.grad = torch.zeros_like(parameter)

    def set_rates(self, rates):
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def update(self, share):
        self.optimizer.step()
        self.average.update(share)
        return {"norm": self.model[0].weight.norm()}

    def tensors(self):
        return [*self.model.parameters(), *self.average.tensors.values()]


@gpu
def test_a_captured_update_follows_its_numbers():
    """Rates of two groups and the share of an average that change at every step, beside an update in single kernels."""
    plain, captured = Side(captured=False), Side(captured=True)
    numbers = StepNumbers(3, torch.device("cuda"))
    captured.set_rates(numbers.tensor[:-1])
    fast = GraphedUpdate(lambda: captured.update(numbers.tensor[-1]), torch.device("cuda"))
    for step in range(5):
        for ours, theirs in zip(captured.model.parameters(), plain.model.parameters(), strict=True):
            theirs.grad.normal_()
            ours.grad.copy_(theirs.grad)
        rates, share = [0.1 / (1 + step), 0.01 * step], plain.average.share(step)
        plain.set_rates(rates)
        numbers.fill([*rates, share])
        torch.testing.assert_close(fast(), plain.update(share))
        for ours, theirs in zip(captured.tensors(), plain.tensors(), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_an_average_takes_its_share_from_a_tensor_too():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    numbers = StepNumbers(2, torch.device("cpu"))
    averages = [WeightAverage(model, 0.95) for _ in range(2)]
    expected = {name: tensor.double() for name, tensor in averages[0].tensors.items()}
    for step in range(20):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_()
        share = averages[0].share(step)
        assert share == max(0.05, 1 - (1 + step) / (10 + step))
        numbers.fill([0.0, share])
        averages[0].update(share)
        averages[1].update(numbers.tensor[-1])
        state = model.state_dict()
        expected = {name: (1 - share) * old + share * state[name].double() for name, old in expected.items()}
    for average in averages:
        for name, tensor in average.tensors.items():
            torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-6)
