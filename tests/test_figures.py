"""The figures: what stands in them comes from the results, nothing overlaps, nothing stays open."""

import subprocess
import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import ROOT
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

import machine_unlearning as mu

FIGURES = {
    "performance": mu.performance_figure,
    "boundaries": mu.boundaries_figure,
    "concrete": mu.concrete_figure,
    "patients": mu.patients_figure,
}


def rendered(figure):
    """Draw the figure; figure.words becomes the texts that were really drawn, with their boxes."""
    drawn, draw, canvas = [], Text.draw, FigureCanvasAgg(figure)

    def note(text, renderer):
        if text.get_visible() and text.get_text().strip():
            drawn.append((text.get_text(), text.get_window_extent(renderer)))
        draw(text, renderer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", note)
        canvas.draw()
    figure.words = list({(text, box.bounds): (text, box) for text, box in drawn}.values())
    return figure


def all_text(figure):
    return "\n".join(text for text, _ in figure.words)


@pytest.fixture(scope="module")
def drawn(patients):
    with mpl.rc_context():
        return {name: rendered(draw(patients)) for name, draw in FIGURES.items()}


def sweep_report():
    return mu.sweep(mu.Settings(), np.random.RandomState(42))


@pytest.mark.parametrize("name", [*FIGURES, "sweep"])
def test_no_text_is_cut_off_or_overlaps_another(drawn, name):
    if name == "sweep":
        drawn = {name: rendered(sweep_report()[2]["parameter_sweep.png"])}
    boxes, page = drawn[name].words, drawn[name].bbox
    assert len(boxes) > 20
    for text, box in boxes:
        inside = page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
        assert inside, f"{text!r} is cut off"
    for k, (text, box) in enumerate(boxes):
        for other, other_box in boxes[k + 1 :]:
            apart = box.x1 <= other_box.x0 + 1 or other_box.x1 <= box.x0 + 1
            apart = apart or box.y1 <= other_box.y0 + 1 or other_box.y1 <= box.y0 + 1
            assert apart, f"{text!r} overlaps {other!r}"


@pytest.mark.parametrize("name", ["performance", "concrete"])
def test_bars_are_the_results(patients, drawn, name):
    results = patients.results
    panels = {
        "Time in ms": 1000 * results.seconds,
        "Accuracy on the test set": 100 * results.test_accuracy,
        "Accuracy on the 80 to be forgotten": 100 * results.forget_accuracy,
        "Accuracy on the 80": 100 * results.forget_accuracy,
    }
    found = 0
    for ax in drawn[name].axes:
        if ax.get_title() not in panels:
            continue
        found += 1
        values = panels[ax.get_title()]
        labels = (
            ax.get_yticklabels() if name == "concrete" else drawn[name].axes[0].get_yticklabels()
        )
        methods = [label.get_text().replace("\n", " ") for label in labels]
        widths = [bar.get_width() for bar in ax.patches]
        np.testing.assert_allclose(widths, values[methods])
        lines = [line.get_xdata()[0] for line in ax.lines]
        assert values[mu.RETRAIN] in lines  # the target stands in every metric panel
        assert (50 in lines) == ("80" in ax.get_title())
        legend = "\n".join(text.get_text() for text in ax.get_legend().get_texts())
        assert "the target" in legend or ax.get_title() == "Time in ms"
        assert ("50 %" in legend) == ("80" in ax.get_title())
    assert found == {"performance": 3, "concrete": 1}[name]


def test_the_retrained_boundary_stands_dashed_in_every_map(drawn):
    maps = drawn["boundaries"].axes[:4]
    dashed = []
    for ax in maps:
        contours = [c for c in ax.collections if hasattr(c, "levels") and len(c.levels) == 1]
        assert len(contours) == 2  # the model's own, solid, and the retrained model's
        assert contours[1].get_linestyle()[0][1] is None
        assert contours[0].get_linestyle()[0][1] is not None
        dashed.append(contours[0].get_paths()[0].vertices)
        assert (ax.get_xlabel(), ax.get_ylabel())[ax is not maps[2]] in (
            "", "Age (years)", "Glucose (mg/dL)",
        )  # fmt: skip
    _, own = (c for c in maps[1].collections if hasattr(c, "levels") and len(c.levels) == 1)
    for vertices in dashed:  # maps[1] is Full Retrain's own
        np.testing.assert_array_equal(vertices, own.get_paths()[0].vertices)
    assert "gap to retrained: 0.266" in all_text(drawn["boundaries"])


def test_the_boundary_is_where_the_network_says(patients):
    figure = rendered(mu.boundaries_figure(patients))
    for ax, model in zip(figure.axes, patients.models.values()):
        _, contour = (c for c in ax.collections if hasattr(c, "levels") and len(c.levels) == 1)
        points = contour.get_paths()[0].vertices
        X = (points - patients.data.scaler.mean_) / patients.data.scaler.scale_
        np.testing.assert_allclose(model.predict_proba(X)[:, 1], 0.5, atol=0.02)


def test_the_concrete_figure_tells_76_and_56(drawn):
    text = all_text(drawn["concrete"])
    for part in [
        "80 of 400",
        "Before: 76 right, 4 wrong",
        "56 right, 24 wrong",
        "95.0 %",
        "70.0 %",
    ]:
        assert part in text


def test_the_patient_table(drawn):
    (table,) = drawn["patients"].axes[0].tables
    cells = {place: cell.get_text().get_text() for place, cell in table.get_celld().items()}
    ids = [int(cells[row, 0]) for row in range(1, 16)]
    assert ids[:3] == [1434, 1201, 1309]
    changed = [i for i, row in zip(ids, range(1, 16)) if cells[row, 7] != "no"]
    assert changed == [1201, 1113, 1239, 1179, 1213]
    for row in range(1, 16):
        assert (cells[row, 4] != cells[row, 6]) == (cells[row, 7] != "no")
        assert cells[row, 3] == ("Diabetic" if ids[row - 1] >= 1250 else "Healthy")


def test_the_heat_map_holds_the_sweep():
    table, _, figures = sweep_report()
    figure = rendered(figures["parameter_sweep.png"])
    for ax, column in zip(figure.axes, table):
        shown = np.array([int(text.get_text().split()[0]) for text in ax.texts])
        expected = (100 * table[column].unstack()).to_numpy().ravel()
        np.testing.assert_allclose(shown, expected, atol=0.5 + 1e-9)
        assert [frame.get_edgecolor() for frame in ax.patches] == [(0, 0, 0, 1)] * 3
        names = [text.get_text().split()[1] for text in ax.texts if "\n" in text.get_text()]
        assert names == ["mild", "classic", "harsh"]
        assert "target: 9" in ax.get_title()


def test_figures_also_draw_when_there_is_no_boundary(settings):
    """A network that was never trained, and one that says the same of everybody."""
    for odd in (mu.Settings(epochs=0), mu.Settings(unlearn_epochs=2000, multiplier=50)):
        rng = np.random.RandomState(0)
        comparison = mu.compare(mu.hospital_data(odd, rng), odd, rng)
        for draw in FIGURES.values():
            rendered(draw(comparison))


@pytest.mark.parametrize("name", FIGURES)
def test_a_notebook_shows_the_figure(drawn, name):
    """Without pyplot a notebook asks the object itself for its picture."""
    assert drawn[name]._repr_png_().startswith(b"\x89PNG")


def test_nothing_is_left_open_or_changed(tmp_path):
    before, parameters = plt.get_fignums(), dict(mpl.rcParams)
    assert mu.main(["--output", str(tmp_path), "--quiet", "--dpi", "20"]) == 0
    assert plt.get_fignums() == before
    assert dict(mpl.rcParams) == parameters


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
