"""A model that fails on a test image: the image is named."""

import re

import numpy as np
import pytest

from patchscout.checks import InputValueError
from patchscout.data.layout import read_dataset
from patchscout.evaluation import evaluate
from patchscout.monitor import Monitor
from patchscout.types import check_probabilities


def test_the_image_whose_map_is_none_is_named(sample_data):
    samples = read_dataset(sample_data).anomalous[:2]
    maps = iter([np.zeros((96, 96), np.float32), np.full((96, 96), np.nan, np.float32)])

    def score(image):
        anomaly_map = next(maps)
        check_probabilities(anomaly_map)
        return anomaly_map

    says = re.escape(f"{samples[1].image_path}: The model gives values that are not finite")
    with pytest.raises(InputValueError, match=says):
        evaluate(score, samples, 0.5, (96, 96), Monitor())
