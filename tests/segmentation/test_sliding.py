import numpy as np
import pytest
import torch

from unip.segmentation.sliding import sliding_logits, sliding_logits_of_batch


def per_pixel(images):
    """A linear model without a neighbourhood: windows must not change its answer."""
    return torch.stack([images.float().sum(1), images[:, 0].float() * -2 + 1], 1)


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_a_per_pixel_model_gives_the_whole_image_answer(batch):
    images = [torch.randint(0, 256, (3, h, w), dtype=torch.uint8) for h, w in ((40, 33), (16, 50), (7, 9), (16, 16))]
    found = sliding_logits(per_pixel, images, crop=16, stride=11, batch=batch)
    for image, logits in zip(images, found, strict=True):
        assert torch.allclose(logits, per_pixel(image[None])[0])


def test_overlaps_are_averaged():
    """A model that answers with each window's mean, against a plain loop in float64."""

    def mean_model(images):
        return images.float().mean((1, 2, 3), keepdim=True).expand(-1, 2, *images.shape[2:])

    image = torch.randint(0, 256, (3, 20, 26), dtype=torch.uint8)
    total, count = np.zeros((20, 26)), np.zeros((20, 26))
    for top in (0, 6, 8):
        for left in (0, 6, 12, 14):
            window = image[:, top : top + 12, left : left + 12].double().numpy()
            total[top : top + 12, left : left + 12] += window.mean()
            count[top : top + 12, left : left + 12] += 1
    (found,) = sliding_logits(mean_model, [image], crop=12, stride=6, batch=5)
    np.testing.assert_allclose(found[1].numpy(), total / count, rtol=1e-6)


def test_no_images_no_answers():
    assert sliding_logits(per_pixel, [], crop=8, stride=4) == []


@pytest.mark.parametrize("batch", [1, 5, 100])
@pytest.mark.parametrize("size", [(40, 33), (16, 50), (7, 9), (16, 16)])
def test_images_of_one_size_go_through_together(size, batch):
    """Grey or coloured; a model that sees more than a pixel, and answers in the same memory again."""
    answer = {}

    def mean_model(images):
        found = images.float().mean((1, 2, 3), keepdim=True) * torch.tensor([1.0, 2.0])[:, None, None] + images[:, :1]
        return answer.setdefault(found.shape, found).copy_(found)

    for channels in (1, 3):
        images = torch.randint(0, 256, (4, channels, *size), dtype=torch.uint8)
        found = sliding_logits_of_batch(mean_model, images, crop=16, stride=11, batch=batch)
        assert found.dtype == torch.float32
        for image, logits in zip(images, found, strict=True):
            (alone,) = sliding_logits(mean_model, [image.expand(3, -1, -1)], crop=16, stride=11, batch=1000)
            assert torch.equal(logits, alone)
