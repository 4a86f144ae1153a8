import os
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.dont_write_bytecode = True  # a test run leaves the working tree as it was

import machine_unlearning as mu  # noqa: E402


@pytest.fixture(scope="session")
def settings():
    return mu.Settings()


@pytest.fixture(scope="session")
def patients(settings):
    """The comparison of the demo, made once; tests only read it."""
    rng = np.random.RandomState(settings.seed)
    return mu.compare(mu.hospital_data(settings, rng), settings, rng)


@pytest.fixture(scope="session")
def abstract():
    settings = mu.Settings(patients=1000, forget=160)
    rng = np.random.RandomState(settings.seed)
    return mu.compare(mu.abstract_data(settings, rng), settings, rng)


@pytest.fixture
def rows():
    """A small two-class data set that is not separable."""
    rng = np.random.RandomState(0)
    X = rng.randn(60, 2)
    return X, (X.sum(axis=1) + rng.randn(60) > 0).astype(int)
