"""What a reader sees, to the letter: the printed pages, and the words and looks of the figures.

The expected texts are in tests/pages. Times and rounding errors differ from run to run, so the demo
gets fixed times here, and the study and the sequence get made-up results.
"""

import pytest
from conftest import ROOT
from matplotlib.colors import to_hex
from test_sequential import made_up as made_up_ledger
from test_study import EVERYBODY
from test_study import made_up as made_up_study

import machine_unlearning as mu

# Told apart: all but retraining, Newton, and fine-tuning on the random request
TOLD = [
    (kind, name)
    for kind, name in EVERYBODY
    if name not in (*mu.FAMILIES, mu.NEWTON) and (kind, name) != (mu.RANDOM, mu.TUNE)
]


def words(artists, placed=True):
    page = []
    for text in artists:
        if text.get_text().strip():
            look = f"{to_hex(text.get_color())} {text.get_size():g} {text.get_weight()}"
            side = f"{text.get_style()} {text.get_ha()} {text.get_va()}"
            x, y = text.get_position()
            place = f"at {x:.2f} {y:.2f} " * placed
            page.append(f"text {look} {side} {place}{text.get_text()!r}")
    return page


def place(artist):
    """Where it stands in its axes, the width and height of which are 1."""
    box = artist.axes.transAxes.inverted().transform(artist.get_window_extent())
    return " ".join(f"{value + 0:.2f}" for value in box.ravel())


def scale(axis):
    """The limits and the ticks between them."""
    low, high = sorted(axis.get_view_interval())
    ticks = [f"{tick:g}" for tick in axis.get_ticklocs() if low <= tick <= high]
    return f"{low:g} to {high:g}: {' '.join(ticks)}"


def first(colors):
    return to_hex(colors[0], keep_alpha=True) if len(colors) else "none"


def inventory(figure):
    """What stands in a figure, one artist a line: words with their colour, looks of all marks."""
    page = ["page", *words(figure.texts)]
    for ax in figure.axes:
        titles = ax._left_title, ax.title, ax._right_title
        bounds = " ".join(f"{value:.3f}" for value in ax.get_position().bounds)
        page += [
            f"axes at {bounds}",
            *words([*titles, ax.xaxis.label, ax.yaxis.label], placed=False),
        ]
        page += words(ax.texts)
        page += [f"x from {scale(ax.xaxis)}", f"y from {scale(ax.yaxis)}"]
        page.append(f"spines {[side for side, spine in ax.spines.items() if spine.get_visible()]}")
        for line in ax.lines:
            style = f"{line.get_linestyle()} {line.get_linewidth():g} {line.get_fillstyle()}"
            marker = f"{line.get_marker()} {line.get_markersize():g}"
            page.append(f"line {to_hex(line.get_color())} {style} {marker}")
        for marks in ax.collections:
            ((_, dashes), *_) = marks.get_linestyle()
            look = f"{first(marks.get_facecolor())} {first(marks.get_edgecolor())}"
            line = f"{'dashed' if dashes else 'solid'} {marks.get_linewidth()[0]:g}"
            sizes = [f"{size:.1f}" for size in getattr(marks, "get_sizes", list)()[:1]]
            page.append(f"marks {look} {line} {sizes}")
        for patch in ax.patches:
            page.append(f"patch {first([patch.get_facecolor()])} at {place(patch)}")
    return "\n".join(page)


@pytest.fixture(scope="module")
def timeless(patients):
    """The comparison of the demo, as though it had taken these times."""
    results = patients.results.assign(seconds=[0.0125, 0.0117, 0.0003, 0.0057])
    return patients._replace(results=results)


def page_of(name, timeless, sweep_result):
    if name == "demo":
        return mu.report(timeless)
    if name == "sweep":
        return sweep_result.text
    if name == "study":
        apart = {mu.RANDOM: 3e-9, mu.CLINIC: 0.2, mu.ATYPICAL: 2e-7}
        return mu.study_report(made_up_study(TOLD), apart)
    if name == "sequential":
        return mu.sequential_report(*made_up_ledger())
    if name == "parameter_sweep":
        return inventory(sweep_result.figures["parameter_sweep.png"])
    if name == "method_study":
        return inventory(mu.study_figure(made_up_study(TOLD)))
    if name == "sequential_requests":
        return inventory(mu.sequential_figure(*made_up_ledger()))
    return inventory(getattr(mu, f"{name}_figure")(timeless))


@pytest.mark.parametrize(
    "name",
    [
        "demo", "sweep", "study", "sequential", "performance", "boundaries", "concrete", "patients",
        "parameter_sweep", "method_study", "sequential_requests",
    ],
)  # fmt: skip
def test_a_page_is_as_before(timeless, sweep_result, name):
    """After a change that was meant: read the difference, then put the new text in the file."""
    expected = (ROOT / "tests" / "pages" / f"{name}.txt").read_text(encoding="utf-8")
    assert page_of(name, timeless, sweep_result) + "\n" == expected
