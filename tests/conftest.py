import os
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.dont_write_bytecode = True  # a test run leaves the working tree as it was

from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.text import Text  # noqa: E402

import machine_unlearning as mu  # noqa: E402


@pytest.fixture(scope="session")
def settings():
    return mu.Settings()


@pytest.fixture(scope="session")
def patients(settings):
    """The comparison of the demo, made once; tests only read it."""
    return mu.compare(mu.hospital, settings)


@pytest.fixture(scope="session")
def abstract():
    return mu.compare(mu.abstract, mu.Settings(patients=1000, forget=160))


@pytest.fixture(scope="session")
def clinical():
    return mu.compare(mu.wisconsin, mu.Settings(patients=569, forget=91))


@pytest.fixture(scope="session")
def sweep_result(settings):
    return mu.sweep(settings)


@pytest.fixture(scope="session")
def study_result():
    """The whole study, made once; it takes up to a minute."""
    return mu.study(mu.Settings(**mu.EXPERIMENTS["study"].defaults, quiet=True))


@pytest.fixture(scope="session")
def sequential_result():
    """The whole sequential experiment, made once; it takes about half a minute."""
    return mu.sequential(mu.Settings(**mu.EXPERIMENTS["sequential"].defaults, quiet=True))


@pytest.fixture
def rows():
    """A small two-class data set that is not separable."""
    rng = np.random.RandomState(0)
    X = rng.randn(60, 2)
    return X, (X.sum(axis=1) + rng.randn(60) > 0).astype(int)


def rendered(figure):
    """Draw the figure; figure.words becomes the texts that were really drawn, with their boxes."""
    drawn, draw, canvas = [], Text.draw, FigureCanvasAgg(figure)

    def note(text, renderer):
        if text.get_visible() and text.get_text().strip():
            drawn.append((text, text.get_window_extent(renderer)))
        draw(text, renderer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", note)
        canvas.draw()
    once = {(text.get_text(), box.bounds): (text, box) for text, box in drawn}
    figure.words = [(text.get_text(), box) for text, box in once.values()]
    figure.texts_drawn = [text for text, _ in once.values()]
    return figure


def middle(band):
    """Where the middle of a horizontal band stands; matplotlib 3.8 draws it as a polygon."""
    y = band.get_patch_transform().transform(band.get_path().vertices)[:, 1]
    return round((y.min() + y.max()) / 2)
