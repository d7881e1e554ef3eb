"""Samples of the prepared photos."""

import numpy as np

from tests.ml.packaging.test_conditions import data_of


def test_a_sample_has_photos_of_every_class_that_is_asked_for():
    data = data_of(2000, 2000, 20, 6)
    plain = data.sample("train", 200, 0)
    assert np.bincount(data.labels[plain], minlength=4)[3] == 0
    sample = data.sample("train", 200, 0, 10)
    assert set(plain) < set(sample)
    assert np.array_equal(sample, np.unique(sample))
    assert set(data.splits[sample]) == {"train"}
    assert np.bincount(data.labels[sample])[2:].tolist() == [10, 3]  # the last class has no more
    even = data_of(200, 200)
    assert np.array_equal(even.sample("train", 100, 0, 10), even.sample("train", 100, 0))
