"""Fixtures that are shared with other rooms."""

from tests.segmentation.conftest import _one_thread as _one_thread
from tests.segmentation.conftest import backbone_folder as backbone_folder
from tests.segmentation.conftest import make_segmenter as make_segmenter
from tests.segmentation.conftest import segmentation_folder as segmentation_folder
