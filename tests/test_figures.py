"""The figures: what stands in them comes from the results, nothing overlaps, nothing stays open."""

import re

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import assert_page, numbers
from joblib import parallel_config
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.contour import ContourSet
from matplotlib.text import Text

import machine_unlearning as mu

FIGURES = mu.performance_figure, mu.boundaries_figure, mu.concrete_figure, mu.patients_figure


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


def points(collections):
    return np.concatenate([np.ma.getdata(each.get_offsets()) for each in collections])


def assert_same_points(found, expected):
    found, expected = (sorted(map(tuple, np.asarray(each, float))) for each in (found, expected))
    np.testing.assert_allclose(found, expected)


def values_of(ax, linestyle, color):
    """Where straight lines stand: x of vertical ones, y of horizontal ones."""
    lines = [line for line in ax.lines if line.get_linestyle() == linestyle]
    ends = [line.get_xydata() for line in lines if line.get_color() == color]
    return [end[0, 0] if end[0, 0] == end[1, 0] else end[0, 1] for end in ends]


def assert_bars(ax, values):
    """Bars, the numbers beside them, their names, and the target's dashed line."""
    FigureCanvasAgg(ax.figure).draw()  # or the ticks have no names yet
    bars = [bar for bar in ax.patches if bar.get_alpha() != 0]  # some only carry numbers
    np.testing.assert_allclose([bar.get_width() for bar in bars], values)
    shown = [numbers(text.get_text())[0] for text in ax.texts]
    np.testing.assert_allclose(shown, values, atol=0.051)
    assert values_of(ax, "--", mu.GREEN) == [values[mu.RETRAIN]]
    names = [label.get_text() for label in ax.get_yticklabels() if label.get_text()]
    assert names == list(values.index if ax is ax.figure.axes[0] else [])  # left of all
    colors = [mu.COLORS.get(name, mu.PALE) for name in values.index]
    assert [to_hex(bar.get_facecolor()) for bar in bars] == colors


# ---- The demo -----------------------------------------------------------------------------------

ODD = [
    {"seed": 7}, {"seed": 3, "forget": 1}, {"patients": 10_000, "forget": 1600, "epochs": 3},
    {"seed": 5, "epochs": 0}, {"multiplier": 1.0},
]  # fmt: skip


@pytest.mark.parametrize("case", ["patients", "abstract", "clinical", *ODD], ids=str)
def test_no_text_is_cut_off_or_overlaps(request, case):
    if case in ODD:
        comparison = mu.compare(mu.hospital, mu.Settings(**case), repeats=1)
    else:
        comparison = request.getfixturevalue(case)
    for draw in FIGURES[: 2 if case in ("abstract", "clinical") else 4]:
        assert_readable(draw(comparison))


@pytest.mark.parametrize("fixture", ["patients", "abstract"])
def test_bars_and_gaps_are_the_results(request, fixture):
    comparison = request.getfixturevalue(fixture)
    results, figure = comparison.results, mu.performance_figure(comparison)
    time, test, forget, gap = figure.axes
    assert_bars(time, 1000 * results.seconds)
    assert_bars(test, 100 * results.test_accuracy)
    assert_bars(forget, 100 * results.forget_accuracy)
    assert (values_of(forget, ":", mu.GREY), values_of(test, ":", mu.GREY)) == ([50], [])
    (band,) = gap.patches  # matplotlib 3.8 draws it as a polygon
    x = band.get_patch_transform().transform(band.get_path().vertices)[:, 0]
    others = mu.gaps_to_others(comparison.models[mu.RETRAIN], comparison)
    np.testing.assert_allclose([x.min(), x.max()], [others.min(), others.max()])
    gaps, rows = results.gap_to_retrained.drop(mu.RETRAIN), list(results.index)
    dots = [(value, rows.index(name)) for name, value in gaps.items()]
    assert_same_points(points(gap.collections), dots)
    shown = [number for text in gap.texts for number in numbers(text.get_text())]
    assert shown == [round(value, 4) for value in gaps]
    low, high = gap.get_xlim()
    assert low < min(*gaps, *others) <= max(*gaps, *others) < high
    slow = comparison._replace(results=results.assign(seconds=[1.5, 0.5, 0.25, 0.1]))
    assert_bars(mu.performance_figure(slow).axes[0], slow.results.seconds)


@pytest.mark.parametrize("bits", range(8))
def test_what_is_said_follows_from_the_results(patients, monkeypatch, bits):
    checks, results = mu.check_answers(patients), patients.results.copy()
    useful, close, naive = passed = [bits & bit > 0 for bit in (1, 2, 4)]
    checks.loc[["useful", "close", "naive"], "passed"] = passed
    monkeypatch.setattr(mu, "check_answers", lambda comparison: checks)
    forget = [100 * results.forget_accuracy[name] for name in (mu.RETRAIN, mu.ASCENT, mu.NAIVE)]
    for times, shown in ((0.72, 0.72), (1, 1), (1.52, 1.5), (9.96, 10), (12.3, 12), (1234.4, 1234)):
        results.loc[mu.ASCENT, "gap_to_retrained"] = times * results.gap_to_retrained[mu.NAIVE]
        changed = patients._replace(results=results)
        said = mu.finding(changed)
        directions = [word in said for word in ("close", "towards", "away")]
        assert directions == [close, not close and times < 1, not close and times > 1]
        assert ("worse" in said, "attack" in said) == (not useful, naive)
        found = [number for number in numbers(said) if number != 50]
        assert found == pytest.approx([shown, *forget])
    figure = mu.performance_figure(changed)
    assert ("harm" in title(figure), numbers(title(figure))) == (not useful, [1234])
    assert ("inside" in figure.texts[1].get_text()) == naive
    assert numbers(title(mu.boundaries_figure(changed)))[-1] == 1234
    answers = [line.split()[-1] for line in mu.demo_page(changed).splitlines()[-4:]]
    assert answers == ["yes" if answer else "no" for answer in checks.passed]


def assert_map(ax, comparison, name, *positions):
    """The shading and both lines p = 0.5; rings and dots are the rows at positions, by class."""
    data = comparison.data
    sets = [each for each in ax.collections if isinstance(each, ContourSet)]
    marks = [each for each in ax.collections if not isinstance(each, ContourSet)]
    for label, look in enumerate(mu.CLASS_LOOKS):
        mine = [each for each in marks if to_hex(each.get_facecolor()[0]) == look["color"]]
        rows = np.concatenate([each[data.train.y[each] == label] for each in positions])
        assert_same_points(points(mine), data.features.to_numpy()[rows])
    ends = np.transpose([ax.get_xlim(), ax.get_ylim()])
    assert (ends[0] < data.features.min()).all()
    assert (ends[1] > data.features.max()).all()

    def p(model, at):
        X = data.scaler.transform(pd.DataFrame(at, columns=data.features.columns))
        return comparison.models[model].predict_proba(X)[:, 1]

    shading, *lines = sorted(sets, key=lambda each: not each.filled)
    assert len(lines) == 2
    for line in lines:
        target = to_hex(line.get_edgecolor()[0]) == mu.GREEN
        at = np.concatenate([path.vertices for path in line.get_paths()])
        np.testing.assert_allclose(p(mu.RETRAIN if target else name, at), 0.5, atol=0.02)
        assert (line.get_linestyle()[0][1] is not None) == target  # dashed
    grid = np.stack(np.meshgrid(*np.linspace(*ends, 60).T), -1).reshape(-1, 2)
    extremes = p(name, grid).min(), p(name, grid).max()
    np.testing.assert_allclose([shading.zmin, shading.zmax], extremes, atol=0.01)


def test_the_maps(patients):
    data, figure = patients.data, mu.boundaries_figure(patients)
    for ax, name in zip(figure.axes, patients.models):
        assert_map(ax, patients, name, np.arange(400), data.asked)
        assert title(ax) == name
        gap = [round(patients.results.gap_to_retrained[name], 4)]
        assert numbers(ax.get_title(loc="right")) == (gap if name != mu.RETRAIN else [])
    (key,) = figure.legends
    looks = [(each.get_color(), each.get_marker(), each.get_linestyle())
             for each in key.legend_handles]  # fmt: skip
    assert [text.get_text() for text in key.get_texts()][:2] == list(data.classes)
    assert looks == [("#1f83c4", "o", "None"), ("#e69f00", "^", "None"), (mu.INK, "o", "None"),
                     (mu.INK, "None", "-"), (mu.GREEN, "None", "--")]  # fmt: skip


def test_a_map_needs_two_features():
    def three(settings, rng):
        features, *rest = mu.hospital(settings, rng)
        return (features.assign(third=rng.rand(len(features))), *rest)

    comparison = mu.compare(three, mu.Settings(patients=60, forget=10, epochs=5), 1, 2)
    for draw in (mu.boundaries_figure, mu.concrete_figure):
        with pytest.raises(ValueError, match="3"):
            draw(comparison)
    assert_page(mu.demo_page(comparison))
    assert_readable(mu.performance_figure(comparison))


def test_the_concrete_figure_tells_76_and_56(patients):
    data, figure = patients.data, mu.concrete_figure(patients)
    who, before, after, fall = figure.axes
    assert numbers(title(figure)) == [80, 95, 70]
    assert numbers(title(who)) == [80, 400]
    assert (who.get_xlabel(), who.get_ylabel()) == tuple(data.features)
    assert who.get_xlim() == before.get_xlim()
    assert len(points(who.collections)) == 480
    for ax, name, counts in ((before, mu.ORIGINAL, [76, 4]), (after, mu.ASCENT, [56, 24])):
        assert_map(ax, patients, name, data.asked)
        assert numbers(title(ax)) == counts
        wrong = data.asked[patients.models[name].predict(data.forget.X) != data.forget.y]
        marks = [each for each in ax.collections if not isinstance(each, ContourSet)]
        *_, crosses = sorted(marks, key=lambda each: each.get_sizes()[0])  # larger than rings
        assert_same_points(points([crosses]), data.features.to_numpy()[wrong])
    np.testing.assert_allclose(fall.lines[0].get_ydata(), [95, 70])
    assert (values_of(fall, "--", mu.GREEN), values_of(fall, ":", mu.GREY)) == ([95], [50])
    assert [numbers(text.get_text()) for text in fall.texts] == [[95], [70]]


@pytest.mark.parametrize("fixture", ["patients", "abstract", "clinical"])
def test_the_patient_table(request, fixture):
    data, models, results, _ = comparison = request.getfixturevalue(fixture)
    figure, n, row = mu.patients_figure(comparison), len(data.asked), results.loc[mu.ASCENT]
    changed, harmed = row.predictions_changed, row.newly_wrong
    assert numbers(title(figure)) == [changed, n, results.predictions_changed[mu.RETRAIN]]
    assert numbers(figure.texts[1].get_text())[:4] == [harmed, changed - harmed, 15, n]
    cells, (X, y) = figure.axes[0].tables[0].get_celld(), data.forget
    before, after = (models[name].predict(X) for name in (mu.ORIGINAL, mu.ASCENT))
    assert max(key[0] for key in cells) == 15
    for k, position in enumerate(data.asked[:15]):
        row = [cells[k + 1, column] for column in range(8)]
        patient, age, glucose, actual, *said, answer = (cell.get_text().get_text() for cell in row)
        assert patient == str(data.features.index[position])
        units = data.features.iloc[position]
        np.testing.assert_allclose([float(age), float(glucose)], units, rtol=0.02, atol=0.051)
        assert actual == data.classes[y[k]]
        for words, name in zip(said, (mu.ORIGINAL, mu.RETRAIN, mu.ASCENT)):
            p = models[name].predict_proba(X[k : k + 1])[0, 1]
            assert re.search(rf"^{data.classes[int(p > 0.5)]}\b.* {p:.2f}$", words)
        same, now = before[k] == after[k], "right" if after[k] == y[k] else "wrong"
        assert answer.split()[-1] == ("no" if same else now)
        tints = {to_hex(cell.get_facecolor()) for cell in row}
        assert tints == {"#ffffff" if same else mu.RED_TINT}


# ---- The sweep and the study --------------------------------------------------------------------


@pytest.fixture(scope="module")
def doses(patients):
    return mu.try_doses(patients, mu.Settings(unlearn_epochs=75, multiplier=0.2))


def test_the_sweep(patients, doses):
    settings = mu.Settings(unlearn_epochs=75, multiplier=0.2, seed=7)
    drawn = np.random.RandomState(0).uniform(0.4, 0.6, (12, 3))
    accuracies = pd.DataFrame(drawn, columns=[mu.ORIGINAL, mu.RETRAIN, mu.ASCENT])
    figure = mu.sweep_figure(doses, accuracies, patients.results, settings)
    assert_readable(figure)
    left, right = figure.axes
    for found, column in zip(left.collections, (doses.test_accuracy, doses.forget_accuracy)):
        assert_same_points(points([found]), np.column_stack([doses.dose, 100 * column]))
    assert values_of(left, "--", mu.GREEN) == pytest.approx([94, 95])
    at = {text.get_text(): text.xy[0] for text in left.texts}
    assert at == pytest.approx({"yours": 15, "mild": 50, "classic": 101.5, "harsh": 200})
    *swarms, mine = right.collections
    found = np.sort([points([swarm])[:, 1] for swarm in swarms])
    np.testing.assert_allclose(found.T, np.sort(100 * drawn, axis=0))
    assert points([mine])[0, 1] == pytest.approx(70)
    assert numbers(right.texts[0].get_text()) == [7, 70]
    apart = 100 * (doses.test_accuracy - doses.forget_accuracy).abs().max()
    assert numbers(title(figure)) == [round(apart)]
    ends = [round(100 * end) for end in (drawn[:, 2].min(), drawn[:, 2].max())]
    assert numbers(figure.texts[1].get_text()) == [len(doses), 75, 0.2, *ends]


def test_a_sweep_in_which_nothing_happens(patients, doses):
    """No place for a dose of 0 on a logarithmic axis, and seeds that all give the same."""
    doses = doses.assign(test_accuracy=0.9, forget_accuracy=0.8)
    doses.loc[doses.index[0], "dose"] = 0
    accuracies = pd.DataFrame(0.9, range(30), [mu.ORIGINAL, mu.RETRAIN, mu.ASCENT])
    figure = mu.sweep_figure(doses, accuracies, patients.results, mu.Settings())
    assert_readable(figure)
    assert len(points(figure.axes[0].collections[:1])) == len(doses) - 1
    assert "does not lower" in title(figure)


def made_up_study(seed, told=0.5):
    """A table in which every cell is another number."""
    rng = np.random.RandomState(seed)
    index = pd.MultiIndex.from_product([mu.REQUESTS, mu.METHODS], names=["request", "method"])
    names = ["attack_accuracy", "vector_accuracy", "forget_accuracy", "test_accuracy", "seconds",
             "attack_p", "vector_p", "gap_to_retrained"]  # fmt: skip
    table = pd.DataFrame(rng.uniform(0.1, 0.995, (len(index), len(names))), index, names)
    return table.assign(attack_limit=0.6, vector_limit=0.7, told_apart=rng.rand(len(index)) < told)


def grid(figure):
    """{method: [(words, tint) of each cell]} of the heatmaps, from left to right."""
    cells = {}
    for ax in figure.axes:
        rows, (mesh,) = [label.get_text() for label in ax.get_yticklabels()], ax.collections
        colors = mesh.get_facecolors().reshape(*mesh.get_array().shape, 4)
        for text in (text for text in ax.texts if text.get_text()):
            column, row = (int(position) for position in text.get_position())
            x, tint = text.get_window_extent().x0, to_hex(colors[row, column])
            cells.setdefault(rows[row], []).append((x, text.get_text(), tint))
    return {name: [cell[1:] for cell in sorted(row)] for name, row in cells.items()}


def test_the_study():
    table = made_up_study(0)
    figure = mu.study_figure(table)
    assert_readable(figure)
    worst, shown = mu.summarise(table), grid(figure)
    assert list(shown) == list(mu.METHODS)
    for name, cells in shown.items():
        rows = table.xs(name, level="method").loc[list(mu.REQUESTS)]
        attacks = 100 * np.maximum(rows.attack_accuracy, rows.vector_accuracy)
        found = [numbers(words)[0] for words, _ in cells]
        np.testing.assert_allclose(found[:6], [*attacks, *100 * rows.forget_accuracy], atol=0.51)
        costs = worst.loc[name, ["time", "points_lost"]].astype(float)
        np.testing.assert_allclose(found[6:], costs, atol=0.051)
        assert ["×" in words for words, _ in cells] == [*rows.told_apart, *[False] * 5]
        tints = [mu.RED_TINT if told else mu.GREEN_TINT for told in rows.told_apart]
        assert [tint for _, tint in cells] == [*tints, *tints, "#f2f2f2", "#f2f2f2"]


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
    small = {"patients": 80, "forget": 15, "hidden": 8, "learning_rate": 1.0, "epochs": 20}
    with parallel_config("sequential"):
        ledger, observed = mu.run_sequences(mu.Settings(**small, quiet=True))
    return ledger, mu.summarise_ledger(ledger), observed


def test_the_sequence(sequence):
    ledger, summary, _ = sequence
    figure = mu.sequential_figure(ledger, summary)
    assert_readable(figure)
    times = 100 * summary.time.xs(mu.NEWTON, level="method")
    assert numbers(title(figure))[:2] == [round(times.min()), round(times.max())]
    for kinds in ([], [mu.CLINIC], list(mu.SEQUENCES)):  # of which retraining is several models
        apart = summary.assign(elsewhere=0)
        apart.loc[[(kind, mu.NEWTON_RETRAIN) for kind in kinds], "elsewhere"] = 1
        said = mu.sequential_headline(apart)
        assert [kind for kind in mu.SEQUENCES if kind in said] == kinds
    for kind, (time, gaps, budget) in zip(mu.SEQUENCES, np.reshape(figure.axes, (3, 2)).T):
        assert_bars(time, summary.time[kind])
        assert kind in title(time)
        mine = ledger[ledger.request == kind].set_index("asked")
        for line, name in zip(gaps.lines, (mu.RETRAIN, mu.NEWTON_RETRAIN, mu.NEWTON)):
            expected = mine.gap_to_retrained[mine.method == name].dropna().clip(lower=1e-17)
            np.testing.assert_allclose(line.get_xydata(), [*expected.items()])
            assert name in line.get_label()
            elsewhere = [] if name == mu.RETRAIN else [summary.elsewhere[kind, name], 15]
            assert numbers(line.get_label()) == elsewhere
        head = mine[mine.method == mu.HEAD]
        forced = head.index[head.retrained == 1]
        for line, column in zip(budget.lines, ("spent", "residual")):
            expected = (100 * head[column] / head.allowed).drop(forced).reindex(head.index)
            np.testing.assert_allclose(line.get_xydata(), [*expected.items()])
            assert column in line.get_label()
        assert budget.lines[2].get_ydata()[0] == 100
        assert list(points(budget.collections)[:, 0]) == list(forced)
        assert len(forced) in numbers(title(budget))
    assert 0 < len(forced) < 15  # the clinic's: else this test would show nothing


def errors(people, prefix):
    """Median errors in years and in mg/dL."""
    return [(people[prefix + name] - people[name]).abs().median() for name in ("age", "glucose")]


def test_the_recovered(sequence):
    observed = sequence[2]
    figure = mu.reveals_figure(observed)
    assert_readable(figure)
    panels = [(kind, k) for kind in mu.SEQUENCES for k in (0, 1)]
    for ax, (kind, k) in zip(figure.axes, panels):
        people, found = observed[kind, 1], {each.get_label(): each for each in ax.collections}
        column = ["age", "glucose"][k]
        for label, prefix in (("guessed", "guess_"), ("recovered", "found_")):
            assert_same_points(points([found[label]]), people[[column, prefix + column]])
        expected = [errors(people, prefix)[k] for prefix in ("found_", "guess_")]
        assert numbers(title(ax)) == pytest.approx(expected, abs=0.051)
        assert kind in title(ax)
        searched = [(0, 100), (40, 220)][k]
        assert (ax.get_xlim(), ax.get_ylim()) == (searched, searched)
        np.testing.assert_array_equal(ax.lines[0].get_xydata(), np.transpose([searched] * 2))
    expected = errors(observed[mu.RANDOM, 1], "found_")
    assert numbers(title(figure)) == pytest.approx(expected, abs=0.051)


def test_the_page_of_the_sequence(sequence):
    ledger, summary, observed = sequence
    page = mu.sequential_page(ledger, summary, observed)
    assert_page(page)
    lines = [line for line in page.splitlines() if re.match(r"(random|clinic), \d.* of ", line)]
    for line, ((kind, n), people) in zip(lines, observed.items()):
        head = ledger[(ledger.request == kind) & (ledger.retrained == 0)]
        expected = [n, len(head), 100 * (head.residual / head.spent).max()]
        right = (people.diagnosis == people.found_diagnosis).sum()
        expected += [*errors(people, "found_"), right, len(people), *errors(people, "guess_")]
        assert line.startswith(kind)
        np.testing.assert_allclose(numbers(line)[:3], expected[:3], atol=0.51)
        np.testing.assert_allclose(numbers(line)[3:], expected[3:], atol=0.051)


@pytest.mark.parametrize("leave", ["nobody", "no trace"])
def test_where_nothing_is_recovered(sequence, leave):
    people = {key: found.iloc[:0] if leave == "nobody" else found.assign(found_age=found.guess_age)
              for key, found in sequence[2].items()}  # fmt: skip
    figure = mu.reveals_figure(people)
    assert_readable(figure)
    assert not numbers(title(figure))
    assert_page(mu.sequential_page(*sequence[:2], people))


@pytest.mark.slow
def test_the_full_study_and_sequence_are_readable(full_study, full_sequence):
    (trials, table), (ledger, observed) = full_study, full_sequence
    summary = mu.summarise_ledger(ledger)
    for figure in (mu.study_figure(table), mu.sequential_figure(ledger, summary),
                   mu.reveals_figure(observed)):  # fmt: skip
        assert_readable(figure)
    apart, decimals = mu.optima_apart(trials), mu.decimals_that_tell(trials)
    assert_page(mu.study_page(table, apart, decimals))
    assert_page(mu.sequential_page(ledger, summary, observed))


# ---- Where a figure is shown --------------------------------------------------------------------


@pytest.mark.parametrize("draw", FIGURES)
def test_a_notebook_shows_the_figure_once(patients, draw):
    """Without pyplot a notebook asks the object itself for its picture; nothing is left open."""
    before = plt.get_fignums(), dict(mpl.rcParams)
    picture = draw(patients)._repr_png_()
    assert (plt.get_fignums(), dict(mpl.rcParams)) == before
    assert picture.startswith(b"\x89PNG")
    hostile = {"savefig.transparent": True, "savefig.facecolor": "red", "savefig.dpi": 30,
               "axes.grid": True, "font.size": 30, "lines.linewidth": 9}  # fmt: skip
    with mpl.rc_context(hostile):
        assert draw(patients)._repr_png_() == picture
