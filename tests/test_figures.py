"""The figures: what stands in them comes from the results, nothing overlaps, nothing stays open."""

import re

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import assert_page
from joblib import parallel_config
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.contour import ContourSet
from matplotlib.text import Text

import machine_unlearning as mu

FIGURES = {
    "performance": mu.performance_figure, "boundaries": mu.boundaries_figure,
    "concrete": mu.concrete_figure, "patients": mu.patients_figure,
}  # fmt: skip


def texts_of(figure):
    """The texts that are really drawn, and their boxes."""
    drawn, draw, canvas = {}, Text.draw, FigureCanvasAgg(figure)

    def note(text, renderer):
        if text.get_visible() and text.get_text().strip():
            box = text.get_window_extent(renderer)
            drawn[text.get_text(), box.bounds] = text, box
        draw(text, renderer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", note)
        canvas.draw()
    return list(drawn.values())


def assert_readable(figure):
    """No text is cut off, smaller than 10.9 points, or on top of another; 95%, not 95 %."""
    words, page = texts_of(figure), figure.bbox
    assert len(words) > 10
    assert min(text.get_size() for text, _ in words) > 10.9
    words = [(text.get_text(), box) for text, box in words]
    for k, (text, box) in enumerate(words):
        assert not re.search(r"\d %|\bnan\b|\binf\b", text), text
        inside = page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
        assert inside, f"{text!r} is cut off"
        for other, other_box in words[k + 1 :]:
            apart = box.x1 <= other_box.x0 + 1 or other_box.x1 <= box.x0 + 1
            apart = apart or box.y1 <= other_box.y0 + 1 or other_box.y1 <= box.y0 + 1
            assert apart, f"{text!r} overlaps {other!r}"


def numbers(text):
    return [float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*(?:\.\d+)?", text)]


def title(figure):
    return figure.texts[0].get_text()


def bars(ax):
    return [bar for bar in ax.patches if bar.get_alpha() != 0]  # without those that carry numbers


def offsets(collection):
    return np.ma.getdata(collection.get_offsets())


def same_points(found, expected):
    found, expected = (np.array(sorted(map(tuple, each))) for each in (found, expected))
    return found.shape == expected.shape and np.allclose(found, expected)


def dashed_green(ax):
    """Where the lines of the target stand: x of vertical ones, y of horizontal ones."""
    lines = [x for x in ax.lines if (x.get_color(), x.get_linestyle()) == (mu.GREEN, "--")]
    return [x.get_xdata()[0] if x.get_xdata()[0] == x.get_xdata()[1] else x.get_ydata()[0]
            for x in lines]  # fmt: skip


def assert_bars(ax, values):
    """Bars, numbers beside them, names and the dashed line: all of a Series by method."""
    FigureCanvasAgg(ax.figure).draw()  # or the ticks have no names yet
    np.testing.assert_allclose([bar.get_width() for bar in bars(ax)], values)
    shown = [numbers(text.get_text())[0] for text in ax.texts]
    np.testing.assert_allclose(shown, values, atol=0.051)
    assert dashed_green(ax) == [values[mu.RETRAIN]]
    assert ax.get_xlim()[1] > values.max()
    names = [label.get_text() for label in ax.get_yticklabels() if label.get_text()]
    assert names == list(values.index if ax is ax.figure.axes[0] else [])  # left of all
    for name, bar in zip(values.index, bars(ax)):
        assert to_hex(bar.get_facecolor()) == mu.COLORS.get(name, mu.PALE)


# ---- Everything can be read ---------------------------------------------------------------------

ODD = [
    {"seed": 7}, {"seed": 3, "forget": 1}, {"patients": 10_000, "forget": 1600, "epochs": 3},
    {"seed": 5, "epochs": 0}, {"multiplier": 1.0}, {"unlearn_epochs": 200, "multiplier": 1.0},
    {"unlearn_epochs": 0},
]  # fmt: skip
MADE = [(name, "patients") for name in FIGURES]
MADE += [
    (name, each) for name in ("performance", "boundaries") for each in ("abstract", "clinical")
]


@pytest.mark.parametrize(("name", "fixture"), MADE)
def test_the_figures_are_readable(request, name, fixture):
    assert_readable(FIGURES[name](request.getfixturevalue(fixture)))


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_odd_cases_are_readable(odd):
    comparison = mu.compare(mu.hospital, mu.Settings(**odd), repeats=1)
    for draw in FIGURES.values():
        assert_readable(draw(comparison))


# ---- The demo -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fixture", ["patients", "abstract"])
def test_bars_and_gaps_are_the_results(request, fixture):
    comparison = request.getfixturevalue(fixture)
    results, models = comparison.results, comparison.models
    figure = mu.performance_figure(comparison)
    time, test, forget, gap = figure.axes
    assert_bars(time, 1000 * results.seconds)
    assert_bars(test, 100 * results.test_accuracy)
    assert_bars(forget, 100 * results.forget_accuracy)
    half = [line.get_xdata()[0] for line in forget.lines if line.get_linestyle() == ":"]
    assert half == [50]
    (band,) = gap.patches  # matplotlib 3.8 draws it as a polygon
    x = band.get_patch_transform().transform(band.get_path().vertices)[:, 0]
    others = mu.gaps_to_others(models[mu.RETRAIN], comparison)
    np.testing.assert_allclose([x.min(), x.max()], [others.min(), others.max()])
    dots = np.concatenate([offsets(each) for each in gap.collections])
    gaps = results.gap_to_retrained.drop(mu.RETRAIN)
    rows = list(results.index)
    assert same_points(dots, [(value, rows.index(name)) for name, value in gaps.items()])
    shown = [number for text in gap.texts for number in numbers(text.get_text())]
    assert shown == [round(value, 4) for value in gaps]
    assert gap.get_xlim()[0] < others.min()
    assert gap.get_xlim()[1] > gaps.max()
    assert round(gaps[mu.ASCENT] / gaps[mu.NAIVE]) in numbers(title(figure))
    assert round(gaps[mu.ASCENT], 4) in numbers(title(mu.boundaries_figure(comparison)))


def test_seconds_where_they_are_many(patients):
    slow = patients._replace(results=patients.results.assign(seconds=[1.5, 0.5, 0.25, 0.1]))
    assert_bars(mu.performance_figure(slow).axes[0], slow.results.seconds)


def assert_map(ax, comparison, name):
    """Lines p = 0.5 of this model and of the retrained one; p is shaded; all rows are inside."""
    data = comparison.data
    sets = [each for each in ax.collections if isinstance(each, ContourSet)]
    (shading,) = (each for each in sets if each.filled)
    for line in (each for each in sets if not each.filled):
        target = to_hex(line.get_edgecolor()[0]) == mu.GREEN
        whose = comparison.models[mu.RETRAIN if target else name]
        points = np.concatenate([path.vertices for path in line.get_paths()])
        X = data.scaler.transform(pd.DataFrame(points, columns=data.features.columns))
        np.testing.assert_allclose(whose.predict_proba(X)[:, 1], 0.5, atol=0.02)
        assert (line.get_linestyle()[0][1] is not None) == target  # dashed
    assert len(sets) == 3
    (left, right), (bottom, top) = limits = ax.get_xlim(), ax.get_ylim()
    grid = np.stack(np.meshgrid(*(np.linspace(*each, 60) for each in limits)), -1).reshape(-1, 2)
    X = data.scaler.transform(pd.DataFrame(grid, columns=data.features.columns))
    p = comparison.models[name].predict_proba(X)[:, 1]
    np.testing.assert_allclose([shading.zmin, shading.zmax], [p.min(), p.max()], atol=0.01)
    assert ([left, bottom] < data.features.min()).all()
    assert ([right, top] > data.features.max()).all()
    assert [ax.get_xlabel() or "Age (years)", ax.get_ylabel() or "Glucose (mg/dL)"] == list(
        data.features
    )


def assert_marks(ax, data, *positions):
    """Each class in its colour: the rows at each of the positions."""
    scatters = [each for each in ax.collections if not isinstance(each, ContourSet)]
    for label, look in enumerate(mu.CLASS_LOOKS):
        mine = [each for each in scatters if to_hex(each.get_facecolor()[0]) == look["color"]]
        found = np.concatenate([offsets(each) for each in mine])
        expected = [each[data.train.y[each] == label] for each in positions]
        assert same_points(found, data.features.to_numpy()[np.concatenate(expected)])


def test_the_maps(patients):
    data, figure = patients.data, mu.boundaries_figure(patients)
    for ax, (name, model) in zip(figure.axes, patients.models.items()):
        assert_map(ax, patients, name)
        assert_marks(ax, data, np.arange(400), data.asked)
        assert ax.get_title(loc="left") == name
        gap = np.abs(
            (
                model.predict_proba(data.forget.X)
                - patients.models[mu.RETRAIN].predict_proba(data.forget.X)
            )[:, 1]
        ).mean()
        assert numbers(ax.get_title(loc="right")) == [round(gap, 4)]  # fmt: skip


@pytest.mark.parametrize("draw", [mu.boundaries_figure, mu.concrete_figure])
def test_the_key_of_the_maps(patients, draw):
    (key,) = draw(patients).legends
    looks = [(each.get_color(), each.get_marker(), each.get_linestyle())
             for each in key.legend_handles]  # fmt: skip
    assert [text.get_text() for text in key.get_texts()][:2] == list(patients.data.classes)
    assert looks == [
        ("#1f83c4", "o", "None"), ("#e69f00", "^", "None"), (mu.INK, "o", "None"),
        (mu.INK, "None", "-"), (mu.GREEN, "None", "--"),
    ]  # fmt: skip


def test_the_concrete_figure_tells_76_and_56(patients):
    data, accuracy = patients.data, 100 * patients.results.forget_accuracy
    figure = mu.concrete_figure(patients)
    who, before, after, fall = figure.axes
    assert numbers(title(figure))[1:] == [95, 70]
    assert numbers(who.get_title(loc="left")) == [80, 400]
    assert_marks(who, data, np.arange(400), data.asked)
    for ax, name, counts in ((before, mu.ORIGINAL, [76, 4]), (after, mu.ASCENT, [56, 24])):
        assert_map(ax, patients, name)
        assert_marks(ax, data, data.asked)
        assert numbers(ax.get_title(loc="left")) == counts
        wrong = data.asked[patients.models[name].predict(data.forget.X) != data.forget.y]
        (crosses,) = (each for each in ax.collections if len(offsets(each)) == counts[1])
        assert same_points(offsets(crosses), data.features.to_numpy()[wrong])
        rings = [each.get_sizes()[0] for each in ax.collections
                 if not isinstance(each, ContourSet) and each is not crosses]  # fmt: skip
        assert crosses.get_sizes()[0] > max(rings)
    assert who.get_xlim() == before.get_xlim()
    assert (who.get_xlabel(), who.get_ylabel()) == tuple(data.features)
    np.testing.assert_allclose(fall.lines[0].get_ydata(), [95, 70])
    assert dashed_green(fall) == [accuracy[mu.RETRAIN]]
    assert [x.get_ydata()[0] for x in fall.lines if x.get_linestyle() == ":"] == [50]
    assert [numbers(text.get_text()) for text in fall.texts] == [[95], [70]]
    assert 95 in numbers(fall.get_legend().get_texts()[0].get_text())


def test_marks_shrink_where_there_are_many(patients):
    few, many = (mu.compare(mu.hospital, mu.Settings(patients=n, forget=n // 5, epochs=2), 1, 1)
                 for n in (100, 4000))  # fmt: skip
    sizes = [[each.get_sizes()[0] for each in mu.concrete_figure(comparison).axes[0].collections]
             for comparison in (few, patients, many)]  # fmt: skip
    for small, large in ((sizes[1], sizes[0]), (sizes[2], sizes[1])):
        assert (np.array(small) < large).all()
    assert min(sizes[2]) >= 4


@pytest.mark.parametrize("fixture", ["patients", "abstract", "clinical"])
def test_the_patient_table(request, fixture):
    comparison = request.getfixturevalue(fixture)
    data, models, results = comparison.data, comparison.models, comparison.results
    figure = mu.patients_figure(comparison)
    row = results.loc[mu.ASCENT]
    expected = [row.predictions_changed, len(data.asked), results.predictions_changed[mu.RETRAIN]]
    assert numbers(title(figure)) == expected
    grey = [row.newly_wrong, row.predictions_changed - row.newly_wrong, 15, len(data.asked)]
    assert numbers(figure.texts[1].get_text())[:4] == grey
    cells = figure.axes[0].tables[0].get_celld()
    X, y = data.forget.X, data.forget.y
    before, after = (models[name].predict(X) for name in (mu.ORIGINAL, mu.ASCENT))
    for k in range(15):
        patient, age, glucose, actual, *said, answer = (
            cells[k + 1, column].get_text().get_text() for column in range(8)
        )
        assert patient == str(data.features.index[data.asked[k]])
        units = data.features.to_numpy()[data.asked[k]]
        np.testing.assert_allclose([float(age), float(glucose)], units, rtol=0.02, atol=0.051)
        assert actual.endswith(data.classes[y[k]])
        for words, name in zip(said, (mu.ORIGINAL, mu.RETRAIN, mu.ASCENT)):
            p = models[name].predict_proba(X[k : k + 1])[0, 1]
            assert data.classes[int(p > 0.5)] in words
            assert words.endswith(f"p {p:.2f}")
        if before[k] == after[k]:
            assert answer == "no"
        else:
            assert answer.endswith("right" if after[k] == y[k] else "wrong")
        tinted = {to_hex(cells[k + 1, column].get_facecolor()) for column in range(8)}
        assert tinted == {mu.RED_TINT if before[k] != after[k] else "#ffffff"}
    assert max(key[0] for key in cells) == 15


# ---- The sweep ----------------------------------------------------------------------------------


def test_the_sweep(patients):
    settings = mu.Settings(unlearn_epochs=75, multiplier=0.2, seed=7)
    doses = mu.try_doses(patients, settings)
    rng = np.random.RandomState(0)
    names = [mu.ORIGINAL, mu.RETRAIN, mu.ASCENT]
    accuracies = pd.DataFrame(rng.uniform(0.4, 0.6, (12, 3)), columns=names)
    figure = mu.sweep_figure(doses, accuracies, patients.results, settings)
    assert_readable(figure)
    left, right = figure.axes
    test, forget = left.collections
    for found, column in ((test, doses.test_accuracy), (forget, doses.forget_accuracy)):
        assert same_points(offsets(found), np.column_stack([doses.dose, 100 * column]))
    assert to_hex(test.get_edgecolor()[0]) != to_hex(forget.get_facecolor()[0])
    assert dashed_green(left) == pytest.approx([94, 95])
    at = {text.get_text(): text.xy[0] for text in left.texts}
    assert at == pytest.approx({"yours": 15, "mild": 50, "classic": 101.5, "harsh": 200})
    *swarms, mine = right.collections
    for swarm, name in zip(swarms, names):
        expected = np.sort(100 * accuracies[name])
        np.testing.assert_allclose(np.sort(offsets(swarm)[:, 1]), expected)
    assert offsets(mine)[0, 1] == pytest.approx(70)
    assert numbers(right.texts[0].get_text()) == [7, 70]
    apart = 100 * (doses.test_accuracy - doses.forget_accuracy).abs().max()
    assert round(apart) in numbers(title(figure))
    ends = [round(100 * end) for end in (accuracies[mu.ASCENT].min(), accuracies[mu.ASCENT].max())]
    assert {len(doses), 75, 0.2, *ends} <= set(numbers(figure.texts[1].get_text()))


@pytest.mark.parametrize("dose", [0, 1])
def test_a_sweep_in_which_nothing_happens(patients, settings, dose):
    """No place for a dose of 0 on a logarithmic axis, and seeds that all give the same."""
    doses = mu.try_doses(patients, settings).assign(test_accuracy=0.9, forget_accuracy=0.8)
    doses.loc[doses.index[0], "dose"] = dose
    accuracies = pd.DataFrame(0.9, range(30), [mu.ORIGINAL, mu.RETRAIN, mu.ASCENT])
    figure = mu.sweep_figure(doses, accuracies, patients.results, settings)
    assert_readable(figure)
    assert len(offsets(figure.axes[0].collections[0])) == len(doses) - (dose == 0)
    assert not numbers(title(figure))


# ---- The study ----------------------------------------------------------------------------------


def made_up_study(seed, told=0.5):
    """A table in which every cell is another number."""
    rng = np.random.RandomState(seed)
    index = pd.MultiIndex.from_product([mu.REQUESTS, mu.METHODS], names=["request", "method"])
    names = ["attack_accuracy", "vector_accuracy", "forget_accuracy", "test_accuracy", "seconds",
             "attack_p", "vector_p", "gap_to_retrained"]  # fmt: skip
    table = pd.DataFrame(rng.uniform(0.1, 0.995, (len(index), len(names))), index, names)
    return table.assign(attack_limit=0.6, vector_limit=0.7, told_apart=rng.rand(len(index)) < told)


def grid(figure):
    """{method: [(words, tint) of each cell]} of all heatmaps, from left to right."""
    cells = {}
    for ax in figure.axes:
        rows = [label.get_text() for label in ax.get_yticklabels()]
        (mesh,) = ax.collections
        colors = np.atleast_2d(mesh.get_facecolors())
        words = [text for text in ax.texts if text.get_text()]
        shown = [k for k, hidden in enumerate(np.ma.getmaskarray(mesh.get_array()).ravel())
                 if not hidden]  # fmt: skip
        width = np.shape(mesh.get_array())[-1]
        for text in words:
            column, row = (int(position) for position in text.get_position())
            assert row * width + column in shown
            tint = to_hex(colors[row * width + column])
            x = ax.transData.transform(text.get_position())[0]
            cells.setdefault(rows[row], []).append((x, text.get_text(), tint))
    return {name: [cell[1:] for cell in sorted(row)] for name, row in cells.items()}


@pytest.mark.parametrize("seed", range(3))
def test_the_study(seed):
    table = made_up_study(seed)
    figure = mu.study_figure(table)
    assert_readable(figure)
    worst, shown = mu.summarise(table), grid(figure)
    assert list(shown) == list(mu.METHODS)
    for name, cells in shown.items():
        rows = [table.loc[(kind, name)] for kind in mu.REQUESTS]
        attacks = [100 * max(row.attack_accuracy, row.vector_accuracy) for row in rows]
        expected = [*attacks, *(100 * row.forget_accuracy for row in rows)]
        found = [float(re.match(r"-?[\d.]+", words)[0]) for words, _ in cells]
        np.testing.assert_allclose(found[:6], expected, atol=0.51)
        np.testing.assert_allclose(found[6:], [worst.time[name], worst.points_lost[name]],
                                   atol=0.051)  # fmt: skip
        told = [row.told_apart for row in rows]
        assert ["×" in words for words, _ in cells] == [*told, *[False] * 5]
        tints = [mu.RED_TINT if each else mu.GREEN_TINT for each in told]
        assert [tint for _, tint in cells[:6]] == [*tints, *tints]
        assert not {tint for _, tint in cells[6:]} & {mu.RED_TINT, mu.GREEN_TINT}


@pytest.mark.parametrize("passing", [0, 1, 2, 7])
def test_the_studys_title_counts_the_methods_that_pass(passing):
    table = made_up_study(0, told=1).assign(test_accuracy=0.9)
    ways = [name for name in mu.METHODS if name not in mu.TRAINING]
    table.loc[(slice(None), ways[:passing]), "told_apart"] = False
    found = title(mu.study_figure(table))
    assert (ways[0] in found) == (passing == 1)
    assert numbers(found) == ([7] if passing < 2 else [passing, 7])


# ---- One by one ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sequence():
    settings = mu.Settings(patients=80, forget=15, hidden=8, learning_rate=1.0, epochs=20,
                           quiet=True)  # fmt: skip
    with parallel_config("sequential"):
        ledger, observed = mu.run_sequences(settings)
    return ledger, mu.summarise_ledger(ledger), observed


def test_the_sequence(sequence):
    ledger, summary, _ = sequence
    figure = mu.sequential_figure(ledger, summary)
    assert_readable(figure)
    times = 100 * summary.time.xs(mu.NEWTON, level="method")
    assert numbers(title(figure))[:2] == [round(times.min()), round(times.max())]
    for kind, (time, gaps, budget) in zip(mu.SEQUENCES, np.reshape(figure.axes, (3, 2)).T):
        assert_bars(time, summary.time[kind])
        assert kind in time.get_title(loc="left")
        mine = ledger[ledger.request == kind].set_index("asked")
        for line, name in zip(gaps.lines, (mu.RETRAIN, mu.NEWTON_RETRAIN, mu.NEWTON)):
            expected = mine.gap_to_retrained[mine.method == name].dropna()
            np.testing.assert_allclose(line.get_xdata(), expected.index)
            np.testing.assert_allclose(line.get_ydata(), expected.clip(lower=1e-17))
            assert name in line.get_label()
            if name != mu.RETRAIN:
                assert numbers(line.get_label()) == [summary.elsewhere[kind, name], 15]
        head = mine[mine.method == mu.HEAD]
        certified = head.retrained == 0
        for line, column in zip(budget.lines, ("spent", "residual")):
            expected = (100 * head[column] / head.allowed).where(certified)
            np.testing.assert_allclose(line.get_xdata(), head.index)
            np.testing.assert_allclose(line.get_ydata(), expected)
            assert column in line.get_label()
        assert 100 in [line.get_ydata()[0] for line in budget.lines[2:]]
        (forced,) = budget.collections
        assert list(offsets(forced)[:, 0]) == list(head.index[~certified])
        assert (~certified).sum() in numbers(budget.get_title(loc="left"))
    assert 0 < (~certified).sum() < 15  # the clinic's: else this test would show nothing


def test_the_recovered(sequence):
    observed = sequence[2]
    figure = mu.reveals_figure(observed)
    assert_readable(figure)
    panels = [(kind, column) for kind in mu.SEQUENCES for column in ("age", "glucose")]
    for ax, (kind, column) in zip(figure.axes, panels):
        people = observed[kind, 1]
        found = {each.get_label(): each for each in ax.collections}
        for label, prefix in (("guessed", "guess_"), ("recovered", "found_")):
            expected = people[[column, prefix + column]]
            assert same_points(offsets(found[label]), expected.to_numpy())
        errors = [round((people[prefix + column] - people[column]).abs().median(), 1)
                  for prefix in ("found_", "guess_")]  # fmt: skip
        assert numbers(ax.get_title(loc="left")) == pytest.approx(errors)
        assert kind in ax.get_title(loc="left")
        diagonal = ax.lines[0]
        np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
        searched = {"age": (0, 100), "glucose": (40, 220)}[column]
        assert (ax.get_xlim(), ax.get_ylim()) == (searched, searched)
    errors = [
        mu.median_error(observed[mu.RANDOM, 1], "found_", each) for each in ("age", "glucose")
    ]
    assert numbers(title(figure))[-2:] == pytest.approx(np.round(errors, 1))


def test_where_nobody_was_recovered(sequence):
    nobody = {key: people.iloc[:0] for key, people in sequence[2].items()}
    figure = mu.reveals_figure(nobody)
    assert_readable(figure)
    assert not numbers(title(figure))
    assert_page(mu.sequential_page(*sequence[:2], nobody))


@pytest.mark.slow
def test_the_full_study_and_sequence_are_readable(full_study, full_sequence):
    trials, table = full_study
    ledger, observed = full_sequence
    summary = mu.summarise_ledger(ledger)
    for figure in (mu.study_figure(table), mu.sequential_figure(ledger, summary),
                   mu.reveals_figure(observed)):  # fmt: skip
        assert_readable(figure)
    decimals = mu.decimals_that_tell(trials)
    assert_page(mu.study_page(table, mu.optima_apart(trials), decimals))
    assert_page(mu.sequential_page(ledger, summary, observed))


# ---- Where a figure is shown --------------------------------------------------------------------


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_a_notebook_shows_the_figure_once(patients, draw):
    """Without pyplot a notebook asks the object itself for its picture; nothing is left open."""
    open_before, parameters = plt.get_fignums(), dict(mpl.rcParams)
    figure = draw(patients)
    assert (plt.get_fignums(), dict(mpl.rcParams)) == (open_before, parameters)
    picture = figure._repr_png_()
    assert picture.startswith(b"\x89PNG")
    hostile = {"savefig.transparent": True, "savefig.facecolor": "red", "savefig.dpi": 30,
               "axes.grid": True, "font.size": 30, "lines.linewidth": 9}  # fmt: skip
    with mpl.rc_context(hostile):
        assert draw(patients)._repr_png_() == picture
    assert plt.get_fignums() == open_before


def test_a_map_needs_two_features(patients):
    def three(settings, rng):
        features, *rest = mu.hospital(settings, rng)
        return (features.assign(third=rng.rand(len(features))), *rest)

    comparison = mu.compare(three, mu.Settings(patients=60, forget=10, epochs=5), 1, 2)
    for draw in (mu.boundaries_figure, mu.concrete_figure):
        with pytest.raises(ValueError, match="3"):
            draw(comparison)
    assert_page(mu.demo_page(comparison))
    assert_readable(mu.performance_figure(comparison))
