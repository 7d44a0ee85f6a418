"""Words of other packages: the error says what to write here, and that exists."""

from __future__ import annotations

import copy
import pickle
import re
from functools import reduce
from pathlib import Path

import numpy as np
import pytest

import unip
from tests.deployment.test_result import make, noise
from tests.segmentation.conftest import make_segmenter  # noqa: F401
from unip import hints
from unip.segmentation.storage import save_segmenter

WORD = re.compile(r"\b(model|result|unip)\.([\w.]+)")


@pytest.fixture
def things(tmp_path: Path, make_segmenter) -> dict[str, object]:  # noqa: F811
    save_segmenter(make_segmenter(), tmp_path / "model")
    shares = np.zeros((3, *noise().shape), np.float32)
    model, result = unip.load(tmp_path / "model", device="cpu"), make(noise(), found_probabilities=shares)
    return {"model": model, "result": result, "unip": unip}


@pytest.mark.parametrize(
    ("owner", "words"), [("model", hints.MODEL), ("result", hints.RESULT), ("unip", hints.PACKAGE)]
)
def test_every_hint_is_of_a_name_that_is_missing_and_leads_to_one_that_is_there(things, owner, words):
    for word, here in words.items():
        assert word not in dir(things[owner])
        with pytest.raises(AttributeError) as caught:
            getattr(things[owner], word)
        assert repr(word) in str(caught.value) and str(caught.value).endswith(f"instead: {here}")
        for name, path in WORD.findall(here):
            if not path.startswith("segmentation."):
                reduce(getattr, path.rstrip(".").split("."), things[name])


@pytest.mark.parametrize("owner", ["model", "result", "unip"])
def test_other_names_are_missing_without_a_hint(things, owner):
    assert not hasattr(things[owner], "nonsense")
    with pytest.raises(AttributeError, match=r"has no attribute 'nonsense'$"):
        things[owner].nonsense  # noqa: B018


def test_a_result_still_travels():
    """Copying and pickling ask for names before there is anything."""
    result = make(noise())
    for again in (copy.copy(result), copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
        np.testing.assert_array_equal(again.mask, result.mask)
