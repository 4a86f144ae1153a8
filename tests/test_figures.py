"""The figures: what stands in them comes from the results, nothing overlaps, nothing stays open."""

import subprocess
import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import ROOT, middle, rendered
from matplotlib.backends.backend_agg import FigureCanvasAgg

import machine_unlearning as mu

FIGURES = {
    "performance": mu.performance_figure,
    "boundaries": mu.boundaries_figure,
    "concrete": mu.concrete_figure,
    "patients": mu.patients_figure,
}


def all_text(figure):
    return "\n".join(text for text, _ in figure.words)


def assert_readable(figure):
    """No text is cut off, smaller than 10.9 points, or on top of another."""
    assert min(text.get_size() for text in figure.texts_drawn) > 10.9
    page = figure.bbox
    for text, box in figure.words:
        inside = page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
        assert inside, f"{text!r} is cut off"
    for k, (text, box) in enumerate(figure.words):
        for other, other_box in figure.words[k + 1 :]:
            apart = box.x1 <= other_box.x0 + 1 or other_box.x1 <= box.x0 + 1
            apart = apart or box.y1 <= other_box.y0 + 1 or other_box.y1 <= box.y0 + 1
            assert apart, f"{text!r} overlaps {other!r}"


@pytest.fixture(scope="module")
def drawn(patients):
    return {name: rendered(draw(patients)) for name, draw in FIGURES.items()}


@pytest.mark.parametrize("name", FIGURES)
def test_the_demos_figures_are_readable(drawn, name):
    assert_readable(drawn[name])
    assert len(drawn[name].words) > 15


@pytest.mark.parametrize("fixture", ["abstract", "clinical"])
@pytest.mark.parametrize("name", ["performance", "boundaries"])
def test_the_variations_figures_are_readable(request, fixture, name):
    assert_readable(rendered(FIGURES[name](request.getfixturevalue(fixture))))


def test_the_sweeps_figure_is_readable(sweep_result):
    assert_readable(rendered(sweep_result.figures["parameter_sweep.png"]))


ODD = [
    {"seed": 3, "forget": 1},
    {"seed": 8, "patients": 10, "forget": 2, "epochs": 5},
    {"seed": 30, "patients": 60, "forget": 5, "epochs": 50},
    {"seed": 1, "patients": 10_000, "forget": 1600, "epochs": 3},
    {"seed": 5, "epochs": 0},
    {"seed": 0, "unlearn_epochs": 2000, "multiplier": 50},
    {"seed": 17, "unlearn_epochs": 0},
]


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_odd_cases_are_readable(odd):
    comparison = mu.compare(mu.hospital, mu.Settings(**odd), repeats=1)
    for draw in FIGURES.values():
        assert_readable(rendered(draw(comparison)))


@pytest.mark.parametrize("seed", range(0, 31, 3))
def test_other_seeds_are_readable(seed):
    comparison = mu.compare(mu.hospital, mu.Settings(seed=seed), repeats=1)
    for name in ("performance", "concrete"):
        assert_readable(rendered(FIGURES[name](comparison)))


def test_one_who_asked_reads_right():
    comparison = mu.compare(mu.hospital, mu.Settings(forget=1, epochs=20), repeats=1)
    assert "never saw the 1 who asked" in all_text(rendered(mu.performance_figure(comparison)))
    assert "1 of 400 asked" in all_text(rendered(mu.concrete_figure(comparison)))


def assert_committed(figure, name, top=0.0, left=0.0, right=10.0):
    """The picture in output/ is what the script draws; top, left, right: where to look, in inches.

    Versions of matplotlib draw letters a little differently (0.09 between 3.8 and 3.11), so the
    mean colours of squares of a fifth of an inch are compared. A missing mark changes one by more.
    """
    figure.set_dpi(150)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    fresh = np.asarray(canvas.buffer_rgba())[..., :3] / 255
    committed = plt.imread(ROOT / "output" / name)[..., :3]
    assert fresh.shape == committed.shape
    difference = (fresh - committed)[int(150 * top) :, int(150 * left) : int(150 * right)]
    height, width = (size // 30 for size in difference.shape[:2])
    squares = difference[: 30 * height, : 30 * width].reshape(height, 30, width, 30, 3)
    worst = np.abs(squares.mean(axis=(1, 3))).max(axis=2)
    row, column = np.unravel_index(worst.argmax(), worst.shape)
    place = f"{left + 0.2 * column:.1f} inches from the left, {top + 0.2 * row:.1f} from the top"
    assert worst.max() < 0.12, f"{name} differs {place}"


@pytest.mark.parametrize("name", ["boundaries", "concrete", "patients"])
def test_the_committed_figures_of_the_demo(patients, name):
    file = {"boundaries": "decision_boundaries", "concrete": "concrete_demonstration"}.get(name)
    assert_committed(FIGURES[name](patients), f"{file or 'patient_level_view'}.png")


@pytest.mark.parametrize("fixture", ["patients", "abstract", "clinical"])
def test_the_committed_figures_of_accuracy(request, fixture):
    """Without the title and the first panel, which hold times."""
    prefix = {"patients": "", "abstract": "basic_", "clinical": "clinical_"}[fixture]
    figure = mu.performance_figure(request.getfixturevalue(fixture))
    for place in ({"right": 2.0}, {"left": 4.6}):
        assert_committed(figure, f"{prefix}performance_metrics.png", top=0.5, **place)


@pytest.mark.parametrize("fixture", ["abstract", "clinical"])
def test_the_committed_maps_of_the_variations(request, fixture):
    prefix = {"abstract": "basic_", "clinical": "clinical_"}[fixture]
    figure = mu.boundaries_figure(request.getfixturevalue(fixture))
    assert_committed(figure, f"{prefix}decision_boundaries.png")


def test_the_committed_figure_of_the_sweep(sweep_result):
    assert_committed(sweep_result.figures["parameter_sweep.png"], "parameter_sweep.png")


def lines_at(ax):
    """{colour and style of each straight line: where it stands}."""
    return {(line.get_color(), line.get_linestyle()): line.get_xdata()[0] for line in ax.lines}


def test_bars_are_the_results(patients, drawn):
    results = patients.results
    expected = {
        "Time": 1000 * results.seconds,
        "Test accuracy": 100 * results.test_accuracy,
        "Forget accuracy": 100 * results.forget_accuracy,
    }
    axes = {ax.get_title(loc="left"): ax for ax in drawn["performance"].axes}
    assert list(axes) == list(expected)
    for title, values in expected.items():
        ax = axes[title]
        np.testing.assert_allclose([bar.get_width() for bar in ax.patches], values)
        assert ax.get_xlim()[1] > values.max()  # bars stay inside
        lines = lines_at(ax)
        assert lines[mu.GREEN, "--"] == values[mu.RETRAIN]
        assert ((mu.GREY, ":") in lines) == (title == "Forget accuracy")
        unit = "ms" if title == "Time" else "%"
        shown = [text.get_text() for text in ax.texts if text.get_text().endswith(f" {unit}")]
        assert shown == [f"{value:.1f} {unit}" for value in values]
    names = [label.get_text() for label in axes["Time"].get_yticklabels()]
    assert names == list(results.index)
    assert lines_at(axes["Forget accuracy"])[mu.GREY, ":"] == 50


def test_titles_are_computed(patients, drawn, sweep_result):
    results = patients.results
    share = 100 * results.seconds[mu.ASCENT] / results.seconds[mu.RETRAIN]
    titles = {name: figure.texts[0].get_text() for name, figure in drawn.items()}
    assert titles["performance"] == (
        f"Approximate Unlearning: {share:.0f} % of a retrain's time, 25.0 points off the target"
    )
    assert titles["boundaries"] == (
        "Approximate Unlearning: 32 times as far from Full Retrain as doing nothing"
    )
    assert titles["concrete"] == "Wrong predictions for the 80 who asked: 4 before, 24 after"
    assert "changes 22 of 80 predictions, Full Retrain 0" in titles["patients"]
    table = sweep_result.table
    apart = 100 * (table.test_accuracy - table.forget_accuracy).abs().max()
    title = sweep_result.figures["parameter_sweep.png"].texts[0].get_text()
    within = f"test and forget accuracy stay within {apart:.0f} points of each other"
    assert title == f"Over 42 settings, {within}"


def test_the_grey_lines_below_the_titles(abstract, sweep_result):
    """On the abstract data, where every number is another one than in the demo."""
    expected = {
        "performance": [
            "The target is what Full Retrain achieves, which never saw the 160 who asked to be "
            "forgotten.",
            "The title's points are of forget accuracy: how often a model is right about them.",
        ],
        "boundaries": [
            "Gap: how far p, the probability of Class 1, is from Full Retrain's, on average over "
            "the 160 who asked."
        ],
        "concrete": [
            "Before: Original Model. After: Approximate Unlearning. Full Retrain, without them: 34."
        ],
        "patients": [
            "118 from right to wrong, 19 from wrong to right. Below, the first 15 of the 160 who "
            "asked:",
            "what each model predicts, and p, its probability of Class 1. Tinted: changed by "
            "ascent.",
        ],
    }
    for name, lines in expected.items():
        assert FIGURES[name](abstract).texts[1].get_text().splitlines() == lines
    first = sweep_result.figures["parameter_sweep.png"].texts[1].get_text().splitlines()[0]
    words = "rank correlation of forget accuracy with the dose: -0.99."
    assert first == f"Left: the dose is epochs × multiplier; {words}"


def contours(ax):
    """The lines p = 0.5 of a map: (dashed, solid)."""
    lines = [c for c in ax.collections if hasattr(c, "levels") and len(c.levels) == 1]
    return sorted(lines, key=lambda line: line.get_linestyle()[0][1] is None)


def test_the_retrained_boundary_stands_dashed_in_every_map(patients, drawn):
    scaler = patients.data.cohort.scaler
    for ax, (name, model) in zip(drawn["boundaries"].axes, patients.models.items()):
        assert ax.get_title(loc="left") == name
        gap = patients.results.gap_to_retrained[name]
        assert ax.get_title(loc="right") == f"gap {gap:.3f}"
        dashed, solid = contours(ax)
        for line, whose in ((dashed, patients.models[mu.RETRAIN]), (solid, model)):
            points = (line.get_paths()[0].vertices - scaler.mean_) / scaler.scale_
            np.testing.assert_allclose(whose.predict_proba(points)[:, 1], 0.5, atol=0.02)
    text = all_text(drawn["boundaries"])
    for words in (
        "Age (years)",
        "Glucose (mg/dL)",
        "Healthy",
        "Diabetic",
        "dashed: p = 0.5 of Full Retrain",
    ):
        assert words in text


@pytest.mark.parametrize("name", ["boundaries", "concrete"])
def test_the_key_of_the_maps(drawn, name):
    (key,) = drawn[name].legends
    looks = {
        text.get_text(): (entry.get_color(), entry.get_marker(), entry.get_linestyle())
        for text, entry in zip(key.get_texts(), key.legend_handles)
    }
    assert looks == {
        "Healthy": ("#1f83c4", "o", "None"),
        "Diabetic": ("#e69f00", "^", "None"),
        "asked to be forgotten": (mu.INK, "o", "None"),
        "solid: p = 0.5 of this model": (mu.INK, "None", "-"),
        "dashed: p = 0.5 of Full Retrain": (mu.GREEN, "None", "--"),
    }
    assert key.legend_handles[2].get_markerfacecolor() == "none"  # a ring


@pytest.mark.parametrize("name", ["boundaries", "concrete"])
def test_a_map_covers_all_rows(patients, drawn, name):
    rows = patients.data.features.to_numpy()
    for ax in drawn[name].axes:
        if ax.get_xlabel().startswith("Age"):
            (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
            assert left < rows[:, 0].min()
            assert right > rows[:, 0].max()
            assert bottom < rows[:, 1].min()
            assert top > rows[:, 1].max()


def spots(ax):
    """The number of marks of each scatter in a map."""
    return [len(c.get_offsets()) for c in ax.collections if not hasattr(c, "levels")]


def test_the_concrete_figure_tells_76_and_56(patients, drawn):
    who, before, after, fall = drawn["concrete"].axes
    assert who.get_title(loc="left") == "80 of 400 asked to be forgotten"
    assert before.get_title(loc="left") == "Before: 76 right, 4 wrong (×)"
    assert after.get_title(loc="left") == "After: 56 right, 24 wrong (×)"
    assert sum(spots(who)) == 400 + 80
    assert sorted(spots(before))[0] == 4
    assert sum(spots(before)) == 4 + 80
    assert sum(spots(after)) == 24 + 80
    fallen, before, after = fall.lines[:3]
    np.testing.assert_allclose(fallen.get_ydata(), [95, 70])
    for dot, value, color in ((before, 95, mu.INK), (after, 70, mu.RED)):
        np.testing.assert_allclose(dot.get_ydata(), value)
        assert dot.get_color() == color
    assert {50, 95} <= {round(line.get_ydata()[0]) for line in fall.lines}
    assert "the target: 95.0 %" in all_text(drawn["concrete"])


def test_many_rows_are_thinned_out_evenly():
    for ringed, most in ((True, 300), (False, 1000)):
        assert len(mu.thin_out(np.arange(most), ringed)) == most
        assert len(mu.thin_out(np.arange(most + 1), ringed)) == most // 2 + 1
        thinned = mu.thin_out(np.arange(90_000), ringed)
        assert len(thinned) == most
        assert set(np.diff(thinned)) == {90_000 // most}


@pytest.mark.parametrize("name", ["boundaries", "concrete"])
def test_a_figure_says_how_many_who_asked_it_shows(name):
    for forget, words in ((1500, " Drawn: 300."), (300, "")):
        settings = mu.Settings(patients=4000, forget=forget, epochs=2)
        figure = rendered(FIGURES[name](mu.compare(mu.hospital, settings, repeats=1)))
        assert_readable(figure)
        grey = figure.texts[1].get_text()
        assert grey.endswith(words) if words else "Drawn" not in grey
        rings = [c for c in figure.axes[0].collections if c.get_linewidths()[0] == 0.9]
        asked = [len(ring.get_offsets()) for ring in rings]
        assert sum(asked) == 300


def test_marks_shrink_where_there_are_many_and_crosses_with_them(drawn):
    comparison = mu.compare(
        mu.hospital, mu.Settings(patients=4000, forget=300, epochs=2), repeats=1
    )
    few, many = drawn["concrete"].axes[2], mu.concrete_figure(comparison).axes[2]
    for n, ax in ((80, few), (300, many)):
        crosses, *rings = [c.get_sizes()[0] for c in ax.collections if not hasattr(c, "levels")]
        assert rings[0] == rings[1] == pytest.approx(380 / n**0.5)
        assert crosses == pytest.approx(2.6 * rings[0])
    assert mu.mark_size(1, ringed=True) == 70
    assert mu.mark_size(10_000, ringed=False) == 4


def test_the_patient_table(patients, drawn):
    (ax,) = drawn["patients"].axes
    cells = {}
    for text in ax.texts:
        cells.setdefault(round(text.get_position()[1], 3), []).append(text.get_text())
    headings = cells.pop(-0.7)
    assert [heading.replace("\n", " ") for heading in headings] == [
        "Patient", "Age (years)", "Glucose (mg/dL)", "Actual", "Original Model", "Full Retrain",
        "Approximate Unlearning", "Changed?",
    ]  # fmt: skip
    rows = [cells[row] for row in range(15)]
    assert [row[0] for row in rows][:3] == ["1434", "1201", "1309"]
    changed = [k for k, row in enumerate(rows) if row[7] != "no"]
    assert [rows[k][0] for k in changed] == ["1201", "1113", "1239", "1179", "1213"]
    assert {rows[k][7] for k in changed} == {"now wrong"}
    tinted = [middle(band) for band in ax.patches]
    assert tinted == changed
    for k, row in enumerate(rows):
        rows_X = patients.data.forget.X[k : k + 1]
        for column, name in ((4, mu.ORIGINAL), (5, mu.RETRAIN), (6, mu.ASCENT)):
            p = patients.models[name].predict_proba(rows_X)[0, 1]
            assert row[column] == f"{'Diabetic' if p > 0.5 else 'Healthy'}, p {p:.2f}"
        assert row[3] == ("Diabetic" if int(row[0]) >= 1250 else "Healthy")
        assert (row[4].split(",")[0] != row[6].split(",")[0]) == (row[7] != "no")


def test_the_sweep_marks_the_readers_own_setting(patients, sweep_result):
    grid = sweep_result.table.assign(gap_to_retrained=0)
    accuracies = mu.pd.DataFrame(
        {name: [0.9, 0.8] for name in (mu.ORIGINAL, mu.RETRAIN, mu.ASCENT)}
    )
    settings = mu.Settings(unlearn_epochs=75, multiplier=0.3, seed=7)
    figure = mu.sweep_figure(grid, accuracies, patients.results, settings)
    named = {text.get_text(): text.get_position()[0] for text in figure.axes[0].texts}
    assert named["yours"] == 22.5
    last = figure.texts[1].get_text().splitlines()[-1]
    assert last.startswith("Right: after 75 × 0.3, forget accuracy is 70 % with seed 7; ")
    assert last.endswith("; with seeds 0 to 29, 80 to 90 %.")


def test_seeds_that_all_give_the_same_are_drawn(sweep_result, patients, settings):
    """They do not fit beside each other; no warning."""
    names = (mu.ORIGINAL, mu.RETRAIN, mu.ASCENT)
    accuracies = mu.pd.DataFrame({name: np.full(300, 0.9) for name in names})
    grid = sweep_result.table.assign(gap_to_retrained=0)
    rendered(mu.sweep_figure(grid, accuracies, patients.results, settings))


def test_the_sweeps_figure_shows_the_table(sweep_result):
    doses_panel, seeds_panel = sweep_result.figures["parameter_sweep.png"].axes
    table = sweep_result.table
    test, forget = (c.get_offsets() for c in doses_panel.collections)
    np.testing.assert_allclose(test[:, 0], mu.doses(table))
    np.testing.assert_allclose(test[:, 1], 100 * table.test_accuracy)
    np.testing.assert_allclose(forget[:, 1], 100 * table.forget_accuracy)
    named = {text.get_text(): text.get_position()[0] for text in doses_panel.texts}
    for name, dose in {"mild": 50, "classic": 101.5, "harsh": 200}.items():
        assert named[name] == pytest.approx(dose)
    assert "forget target 95 %" in named
    swarms = [len(c.get_offsets()) for c in seeds_panel.collections]
    assert swarms[:3] == [30, 30, 30]
    ascent = seeds_panel.collections[2].get_offsets()[:, 1]
    assert (round(ascent.min()), round(ascent.max())) == (30, 66)
    assert "seed 42: 70 %" in [text.get_text() for text in seeds_panel.texts]


def pixels(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def test_somebodys_own_style_changes_nothing(patients):
    plain = pixels(mu.boundaries_figure(patients))
    hostile = {
        "figure.constrained_layout.use": True, "axes.grid": True, "font.size": 30,
        "lines.linewidth": 9, "path.sketch": (1, 100, 2), "axes.spines.top": True,
    }  # fmt: skip
    with mpl.rc_context(hostile):
        figure = mu.boundaries_figure(patients)
    np.testing.assert_array_equal(pixels(figure), plain)


@pytest.mark.parametrize("name", FIGURES)
def test_a_notebook_shows_the_figure(drawn, name):
    """Without pyplot a notebook asks the object itself for its picture."""
    picture = drawn[name]._repr_png_()
    assert picture.startswith(b"\x89PNG")
    hostile = {"savefig.transparent": True, "savefig.facecolor": "red", "savefig.dpi": 30}
    with mpl.rc_context(hostile):
        assert drawn[name]._repr_png_() == picture


def test_nothing_is_left_open_or_changed(patients):
    before, parameters = plt.get_fignums(), dict(mpl.rcParams)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    for draw in FIGURES.values():
        draw(patients)
    assert plt.get_fignums() == before
    assert dict(mpl.rcParams) == parameters
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_an_import_has_no_effect(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import numpy as np, matplotlib as mpl, seaborn, matplotlib.pyplot as plt\n"
        "state, look = np.random.get_state()[1].copy(), dict(mpl.rcParams)\n"
        "import machine_unlearning\n"
        "assert (np.random.get_state()[1] == state).all() and dict(mpl.rcParams) == look\n"
        "assert not plt.get_fignums()"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, str(ROOT)], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
