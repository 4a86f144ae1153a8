"""What a figure shows, and whether it can be read: helpers of the tests of all figures."""

import re

import numpy as np
import pytest
from conftest import numbers
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.text import Text
from numpy.testing import assert_allclose as near

import machine_unlearning as mu


def assert_readable(figure):
    """No text is cut off, smaller than 10.9 points, or on top of another; 95%, not 95 %."""
    drawn, draw = {}, Text.draw

    def note(text, renderer):
        if text.get_visible() and text.get_text().strip():
            drawn[text.get_text(), text.get_window_extent(renderer).bounds] = text.get_size()
        draw(text, renderer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", note)
        FigureCanvasAgg(figure).draw()
    assert len(drawn) > 10
    assert min(drawn.values()) > 10.9
    for k, (text, (x, y, width, height)) in enumerate(drawn):
        assert not re.search(r"\d %|\bnan\b|\binf\b", text), text
        right, top = figure.bbox.size
        assert min(x, y, right - x - width, top - y - height) >= 0, f"{text!r} is cut off"
        for other, (left, bottom, across, up) in list(drawn)[k + 1 :]:
            gap = max(x - left - across, left - x - width, y - bottom - up, bottom - y - height)
            assert gap >= -1, f"{text!r} overlaps {other!r}"


def title(artist):
    """The words at the top of a figure or of one of its panels."""
    return artist.texts[0].get_text() if artist.figure is artist else artist.get_title(loc="left")


def assert_same_points(collections, expected):
    found = np.concatenate([np.ma.getdata(each.get_offsets()) for each in collections])
    found, expected = (sorted(map(tuple, np.asarray(each, float))) for each in (found, expected))
    near(found, expected)


def values_of(ax, linestyle, color):
    """Where straight lines stand: x of vertical ones, y of horizontal ones."""
    lines = [line for line in ax.lines if line.get_linestyle() == linestyle]
    ends = [line.get_xydata() for line in lines if line.get_color() == color]
    return [end[0, 0] if end[0, 0] == end[1, 0] else end[0, 1] for end in ends]


def assert_bars(ax, values):
    """Bars, the numbers beside them, their names, and the target's dashed line."""
    FigureCanvasAgg(ax.figure).draw()  # or the ticks have no names yet
    bars = [bar for bar in ax.patches if bar.get_alpha() != 0]  # some only carry numbers
    near([bar.get_width() for bar in bars], values)
    colors = dict(zip(values.index, (to_hex(bar.get_facecolor()) for bar in bars)))
    assert (colors[mu.RETRAIN], colors.get(mu.ASCENT, mu.RED)) == (mu.GREEN, mu.RED)
    shown = [numbers(text.get_text())[0] for text in ax.texts]
    near(shown, values, atol=0.051)
    assert values_of(ax, "--", mu.GREEN) == [values[mu.RETRAIN]]
    names = [label.get_text() for label in ax.get_yticklabels() if label.get_text()]
    assert names == list(values.index if ax is ax.figure.axes[0] else [])  # left of all
