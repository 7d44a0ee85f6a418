import copy

import pytest
import torch
from timm.layers import PatchEmbed
from torch import nn

from unip.training.bf16_copies import Bf16Copies
from unip.training.optim import parameter_groups
from unip.vit.forward import embed_patches


class Net(nn.Module):
    """A convolution, a norm, a frozen layer, one that is not used, and a layer used twice."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 2, stride=2), nn.LayerNorm(8)
        self.up = nn.ConvTranspose2d(3, 3, 2, stride=2)
        self.twice, self.last = nn.Linear(8, 8), nn.Linear(8, 1, bias=False)
        self.frozen, self.unused = nn.Linear(8, 8).requires_grad_(False), nn.Linear(8, 8)

    def forward(self, images):
        tokens = self.norm(self.conv(self.up(images)).flatten(2).transpose(1, 2))
        return self.last(self.frozen(self.twice(self.twice(tokens).relu()))).float().square().mean()


def pass_of(net, images):
    with torch.autocast("cpu", torch.bfloat16):
        loss = net(images)
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize("compiled", [False, True])
def test_the_numbers_are_those_of_autocast(compiled):
    torch.manual_seed(0)
    plain = Net()
    other = copy.deepcopy(plain)
    if compiled:
        other.compile(backend="aot_eager", fullgraph=True)
    copies = Bf16Copies(other)
    names = [name for name, _ in other.named_parameters()]
    for rate in (0.1, 0.2, 0.3):
        images = torch.randn(2, 3, 6, 6)
        plain.zero_grad()
        other.zero_grad()
        with copies.used():
            found = pass_of(other, images)
        assert torch.equal(found, pass_of(plain, images))
        assert [name for name, _ in other.named_parameters()] == names
        for ours, theirs in zip(other.parameters(), plain.parameters(), strict=True):
            assert ours.dtype == torch.float32
            assert (ours.grad is None) == (theirs.grad is None)
            if ours.grad is not None:
                assert ours.grad.dtype == torch.float32
                assert torch.equal(ours.grad, theirs.grad)
        for net in (plain, other):
            torch.optim.SGD(parameter_groups(net, lr=rate, weight_decay=0.0)).step()


def test_grey_images_are_embedded_as_by_autocast():
    torch.manual_seed(0)
    embed = PatchEmbed(img_size=8, patch_size=4, in_chans=3, embed_dim=6)
    other = copy.deepcopy(embed)
    copies, grey = Bf16Copies(other), torch.randn(2, 1, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        expected = embed_patches(embed, grey)
    expected.float().square().sum().backward()
    with copies.used():
        with torch.autocast("cpu", torch.bfloat16):
            found = embed_patches(other, grey)
        found.float().square().sum().backward()
    assert torch.equal(found, expected)
    assert torch.equal(other.proj.weight.grad, embed.proj.weight.grad)


def test_a_weight_of_two_modules_gets_both_gradients():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    net[2].weight = net[0].weight
    plain = copy.deepcopy(net)
    copies, x = Bf16Copies(net), torch.randn(3, 4)
    with copies.used():
        with torch.autocast("cpu", torch.bfloat16):
            net(x).float().square().sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        plain(x).float().square().sum().backward()
    for ours, theirs in zip(net.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


def test_a_failed_pass_leaves_the_weights_in_place():
    net = Net()
    before = list(net.parameters())
    with pytest.raises(RuntimeError), Bf16Copies(net).used():
        assert net.twice.weight.dtype == net.up.bias.dtype == torch.bfloat16
        assert net.frozen.weight.dtype == net.norm.weight.dtype == torch.float32
        net(torch.randn(2, 5, 6, 6))
    assert all(ours is theirs for ours, theirs in zip(net.parameters(), before, strict=True))
