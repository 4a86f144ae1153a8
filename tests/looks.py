"""What a figure shows, and whether it can be read: helpers of the tests of all figures."""

import re

import numpy as np
import pytest
from conftest import numbers
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from numpy.testing import assert_allclose as near

import machine_unlearning as mu


def draw(figure):
    """Draw a figure; returns [(words, size, box in pixels)] of all texts that one sees."""
    seen = {}
    draw_text = Text.draw

    def note(text, renderer):
        words = text.get_text()
        if text.get_visible() and words.strip():
            box = text.get_window_extent(renderer)
            seen[words, box.bounds] = text.get_size()
            assert not text.get_parse_math(), f"a $ in {words!r} would be read as mathematics"
        draw_text(text, renderer)

    with mu.in_our_style(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", note)
        FigureCanvasAgg(figure).draw()
    return [(words, size, Bbox.from_bounds(*bounds)) for (words, bounds), size in seen.items()]


def marks_of(ax):
    """Where marks, lines and bars stand, in pixels (k, 2); only those that one sees."""
    places = [np.empty((0, 2))]
    for marks in ax.collections:
        if isinstance(marks, PathCollection):
            offsets = np.ma.getdata(marks.get_offsets())
            places.append(marks.get_offset_transform().transform(offsets))
    for line in ax.lines:
        ends = line.get_transform().transform(line.get_xydata())
        places.append(ends)
        if len(ends) == 2:  # a straight line: its points, too
            places.append(np.linspace(ends[0], ends[1], 200))
    for bars in ax.containers:
        for bar in bars:
            corners = bar.get_window_extent().corners()
            places.append(np.linspace(corners[0], corners[3], 20))
    places = np.concatenate(places)
    left, bottom, right, top = ax.bbox.extents
    x, y = places.T
    inside = (x >= left - 1) & (x <= right + 1) & (y >= bottom - 1) & (y <= top + 1)
    return places[inside]


def assert_readable(figure):
    """No text is cut off, too small, on another text or on data; returns all texts."""
    texts = draw(figure)
    assert len(texts) > 10
    marks = np.concatenate([marks_of(ax) for ax in figure.axes if ax.get_visible()])
    for k, (words, size, box) in enumerate(texts):
        assert size > 10.9, words
        assert not re.search(r"\d %|\bnan\b|\binf\b", words), words
        assert box.x0 >= 0 and box.y0 >= 0, f"{words!r} is cut off"
        assert box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, f"{words!r} is cut off"
        for other, _, other_box in texts[k + 1 :]:
            both = Bbox.intersection(box, other_box)
            overlap = both is not None and min(both.width, both.height) > 1
            assert not overlap, f"{words!r} overlaps {other!r}"
        covered = (marks > box.min).all(axis=1) & (marks < box.max).all(axis=1)
        assert not covered.any(), f"{words!r} covers data"
    return [words for words, _, _ in texts]


def title(artist):
    """The words at the top of a figure or of one of its panels."""
    if artist.figure is artist:
        return artist.texts[0].get_text().replace("\n", " ")
    return artist.get_title(loc="left")


def explanation(figure):
    """The grey lines below the title."""
    return figure.subfigs[0].texts[0].get_text().replace("\n", " ")


def marks_like(ax, look):
    """Where the marks stand (k, 2) that have an edge like this look of the script."""
    edge = look.get("edgecolor", look.get("color"))
    is_cross = look.get("marker") == "x"
    places = [np.empty((0, 2))]
    for marks in ax.collections:
        if not isinstance(marks, PathCollection) or marks.get_linewidth()[0] == 0:
            continue
        same_edge = to_hex(marks.get_edgecolor()[0]) == to_hex(edge)
        two_strokes = list(marks.get_paths()[0].codes).count(Path.MOVETO) == 2
        if same_edge and two_strokes == is_cross:
            places.append(np.ma.getdata(marks.get_offsets()))
    return np.concatenate(places)


def assert_same_points(found, expected):
    """The same places (k, 2), in any order."""
    found = sorted(map(tuple, np.asarray(found, float)))
    expected = sorted(map(tuple, np.asarray(expected, float)))
    near(found, expected)


def values_of(ax, linestyle, color):
    """Where straight lines stand: x of vertical ones, y of horizontal ones."""
    values = []
    for line in ax.lines:
        if line.get_linestyle() == linestyle and line.get_color() == color:
            start, end = line.get_xydata()
            values.append(start[0] if start[0] == end[0] else start[1])
    return values


def assert_bars(ax, values, n_more=0):
    """Bars and the numbers beside them are the values; retraining is green, ascent is red.

    Above and below them stand n_more texts.
    """
    near([bar.get_width() for bar in ax.patches], values)
    colors = [to_hex(bar.get_facecolor()) for bar in ax.patches]
    assert colors == [mu.COLORS.get(name, mu.PALE) for name in values.index]
    assert len(ax.texts) == len(values) + n_more
    shown = [numbers(text.get_text())[0] for text in ax.texts[: len(values)]]
    near(shown, 100 * values, atol=0.51)
