import copy

import pytest
import torch
from torch import nn

from unip.errors import UnipError
from unip.training.config import TrainingConfig
from unip.training.graphs import GraphedPass
from unip.training.loop import check_graphs, make_accelerator

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("mode", ["graphs", "compiled-graphs"])
def test_graphs_want_a_gpu(tmp_path, mode):
    config = TrainingConfig(out=tmp_path, device="cpu", compile=mode)
    with pytest.raises(UnipError, match="CUDA graphs are for one GPU, this is cpu"):
        check_graphs(make_accelerator(config))


@gpu
def test_a_graph_computes_what_single_kernels_do():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.GELU(), nn.Conv2d(8, 4, 1)).cuda()
    graphed = copy.deepcopy(plain)

    def pass_of(model):
        def compute(images, target):
            loss = nn.functional.cross_entropy(model(images), target)
            loss.backward()
            return {"loss": loss}

        return compute

    fast = GraphedPass(pass_of(graphed), graphed)
    for step in range(4):
        torch.manual_seed(step)
        batch = torch.rand(4, 3, 10, 10, device="cuda"), torch.randint(4, (4, 8, 8), device="cuda")
        for model in (plain, graphed):
            model.zero_grad(set_to_none=model is plain)
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

    fast, found = GraphedPass(compute, dropout), {}
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        value = fast(torch.ones(1000, device="cuda"))["loss"].item()
        assert found.setdefault(seed, value) == value
    assert found[0] != found[1]
