"""The figures: what stands in them comes from the results, nothing overlaps, nothing stays open."""

import re

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import numbers
from looks import assert_bars, assert_readable, assert_same_points, title, values_of
from matplotlib.colors import to_hex
from matplotlib.contour import ContourSet
from numpy.testing import assert_allclose as near

import machine_unlearning as mu

FIGURES = mu.performance_figure, mu.boundaries_figure, mu.concrete_figure, mu.patients_figure


ODD = [{"seed": 7}, {"seed": 3, "forget": 1}, {"seed": 5, "epochs": 0}, {"multiplier": 1.0},
       {"patients": 10_000, "forget": 1600, "epochs": 3}]  # fmt: skip


@pytest.mark.parametrize("case", ["patients", "abstract", "clinical", *ODD], ids=str)
def test_no_text_is_cut_off_or_overlaps(request, case):
    if case in ODD:
        comparison = mu.compare(mu.hospital, mu.Settings(**case), repeats=1)
    else:
        comparison = request.getfixturevalue(case)
    for draw in FIGURES[: 2 if case in ("abstract", "clinical") else 4]:
        assert_readable(figure := draw(comparison))
        picture = figure._repr_png_()  # without pyplot a notebook asks the object itself
        with mpl.rc_context({"savefig.dpi": 30, "axes.grid": True, "font.size": 30}):
            assert case in ODD or draw(comparison)._repr_png_() == picture
            assert (mpl.rcParams["font.size"], plt.get_fignums()) == (30, [])


def test_bars_and_gaps_are_the_results(patients):
    results, figure = patients.results, mu.performance_figure(patients)
    time, test, forget, gap = figure.axes
    assert_bars(time, 1000 * results.seconds)
    assert_bars(test, 100 * results.test_accuracy)
    assert_bars(forget, 100 * results.forget_accuracy)
    assert (values_of(forget, ":", mu.GREY), values_of(test, ":", mu.GREY)) == ([50], [])
    (band,) = gap.patches  # matplotlib 3.8 draws it as a polygon
    x = band.get_patch_transform().transform(band.get_path().vertices)[:, 0]
    others = mu.gaps_to_others(patients.models[mu.RETRAIN], patients)
    near([x.min(), x.max()], [others.min(), others.max()])
    worst = results.worst_patient[[mu.NAIVE, mu.ASCENT]]
    yardstick = [f"{x:.4f}" for x in (*worst, others.min(), others.max(), np.median(others))]
    assert re.search(r"{}\D+{}.*{}\D+{}\D+{}".format(*yardstick), mu.demo_page(patients), re.S)
    gaps = results.gap_to_retrained.drop(mu.RETRAIN)
    assert_same_points(gap.collections, list(zip(gaps, (0, 2, 3))))
    shown = [number for text in gap.texts for number in numbers(text.get_text())]
    assert shown == [round(value, 4) for value in gaps]
    low, high = gap.get_xlim()
    assert low < min(*gaps, *others) <= max(*gaps, *others) < high
    slow = patients._replace(results=results.assign(seconds=[1.5, 0.5, 0.25, 0.1]))
    assert_bars(mu.performance_figure(slow).axes[0], slow.results.seconds)


@pytest.mark.parametrize("bits", range(8))
def test_what_is_said_follows_from_the_results(patients, monkeypatch, bits):
    checks, results = mu.check_answers(patients), patients.results.copy()
    useful, close, naive = passed = [bits & bit > 0 for bit in (1, 2, 4)]
    checks.loc[["useful", "close", "naive"], "passed"] = passed
    monkeypatch.setattr(mu, "check_answers", lambda comparison: checks)
    forget = [100 * results.forget_accuracy[name] for name in (mu.RETRAIN, mu.ASCENT, mu.NAIVE)]
    for times, shown in ((0.72, 0.72), (1, 1), (1.52, 1.5), (9.96, 10), (1234.4, 1234)):
        results.loc[mu.ASCENT, "gap_to_retrained"] = times * results.gap_to_retrained[mu.NAIVE]
        changed = patients._replace(results=results)
        said = mu.finding(changed)
        directions = [word in said for word in ("close", "towards", "away")]
        assert directions == [close, not close and times < 1, not close and times > 1]
        assert ("worse" in said, "attack" in said) == (not useful, naive)
        assert [x for x in numbers(said) if x != 50] == pytest.approx([shown, *forget])
    figure = mu.performance_figure(changed)
    assert ("harm" in title(figure), numbers(title(figure))) == (not useful, [1234])
    explained = figure.texts[1].get_text()
    assert ("inside" in explained, set(numbers(explained))) == (naive, {50, 80})
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
        assert_same_points(mine, data.features.iloc[rows])
    ends = np.transpose([ax.get_xlim(), ax.get_ylim()])
    assert np.all((data.features > ends[0]) & (data.features < ends[1]))

    def p(model, at):
        X = data.scaler.transform(pd.DataFrame(at, columns=data.features.columns))
        return comparison.models[model].predict_proba(X)[:, 1]

    shading, *lines = sorted(sets, key=lambda each: not each.filled)
    assert {to_hex(line.get_edgecolor()[0]) for line in lines} == {mu.INK, mu.GREEN}
    for line in lines:
        model = mu.RETRAIN if to_hex(line.get_edgecolor()[0]) == mu.GREEN else name
        at = np.concatenate([path.vertices for path in line.get_paths()])
        near(p(model, at), 0.5, atol=0.02)
    grid = np.stack(np.meshgrid(*np.linspace(*ends, 60).T), -1).reshape(-1, 2)
    extremes = p(name, grid).min(), p(name, grid).max()
    near([shading.zmin, shading.zmax], extremes, atol=0.01)


def test_the_maps(patients):
    data, figure = patients.data, mu.boundaries_figure(patients)
    for ax, name in zip(figure.axes, patients.models):
        assert_map(ax, patients, name, np.arange(400), data.asked)
        assert title(ax) == name
        gap = [round(patients.results.gap_to_retrained[name], 4)]
        assert numbers(ax.get_title(loc="right")) == (gap if name != mu.RETRAIN else [])
    (key,) = figure.legends
    colors = [each.get_color() for each in key.legend_handles]
    assert colors == [*(look["color"] for look in mu.CLASS_LOOKS), mu.INK, mu.INK, mu.GREEN]
    assert [text.get_text() for text in key.get_texts()][:2] == list(data.classes)
    one = patients._replace(data=data._replace(features=data.features[["Age (years)"]]))
    with pytest.raises(ValueError, match="1"):  # a map needs two features
        mu.boundaries_figure(one)


def test_the_concrete_figure_tells_129_and_30(abstract):
    (data, models, _, _), figure = abstract, mu.concrete_figure(abstract)
    (X, y), (who, before, after, fall) = data.forget, figure.axes
    wrong = {name: model.predict(X) != y for name, model in models.items()}
    assert (numbers(title(figure)), numbers(title(who))) == ([160, 79, 19], [160, 800])
    assert numbers(figure.texts[1].get_text()) == [34, sum(wrong[mu.RETRAIN] & wrong[mu.ORIGINAL])]
    for ax, name, counts in ((before, mu.ORIGINAL, [129, 31]), (after, mu.ASCENT, [30, 130])):
        assert_map(ax, abstract, name, data.asked)
        assert numbers(title(ax)) == counts
        assert_same_points(ax.collections[-1:], data.features.iloc[data.asked[wrong[name]]])
    near(fall.lines[0].get_ydata(), [80.625, 18.75])
    assert (values_of(fall, "--", mu.GREEN), values_of(fall, ":", mu.GREY)) == ([78.75], [50])
    texts = [text.get_text() for text in (*fall.texts, *fall.get_legend().get_texts())]
    assert list(map(numbers, texts)) == [[80.6], [18.8], [78.8], [50]]
    assert mu.RETRAIN in texts[2]


@pytest.mark.parametrize("fixture", ["patients", "abstract", "clinical"])
def test_the_patient_table(request, fixture):
    data, models, results, _ = comparison = request.getfixturevalue(fixture)
    figure, n = mu.patients_figure(comparison), len(data.asked)
    changed, harmed = results.loc[mu.ASCENT, ["predictions_changed", "newly_wrong"]]
    assert numbers(title(figure)) == [changed, n, results.predictions_changed[mu.RETRAIN]]
    assert numbers(figure.texts[1].get_text())[:4] == [harmed, changed - harmed, 15, n]
    cells, (X, y) = figure.axes[0].tables[0].get_celld(), data.forget
    before, after = (models[name].predict(X) for name in (mu.ORIGINAL, mu.ASCENT))
    names = [cells[0, column].get_text().get_text().replace("\n", " ") for column in (4, 5, 6)]
    assert names == [mu.ORIGINAL, mu.RETRAIN, mu.ASCENT]
    for k, position in enumerate(data.asked[:15]):
        row = [cells[k + 1, column] for column in range(8)]
        patient, age, glucose, actual, *said, answer = (cell.get_text().get_text() for cell in row)
        assert (patient, actual) == (str(data.features.index[position]), data.classes[y[k]])
        units = data.features.iloc[position]
        near([float(age), float(glucose)], units, rtol=0.02, atol=0.051)
        for words, name in zip(said, names):
            p = models[name].predict_proba(X[k : k + 1])[0, 1]
            assert re.search(rf"^{data.classes[int(p > 0.5)]}\b.* {p:.2f}$", words)
        same, now = before[k] == after[k], "right" if after[k] == y[k] else "wrong"
        assert answer.split()[-1] == ("no" if same else now)
        assert to_hex(row[0].get_facecolor()) == ("#ffffff" if same else mu.RED_TINT)


def test_the_sweep(patients):
    settings = mu.Settings(unlearn_epochs=75, multiplier=0.2, seed=7)
    doses, drawn = mu.try_doses(patients, settings), np.random.RandomState(0).rand(12, 3)
    accuracies = pd.DataFrame(drawn / 5 + 0.4, columns=[mu.ORIGINAL, mu.RETRAIN, mu.ASCENT])
    figure = mu.sweep_figure(doses, accuracies, patients.results, settings)
    assert_readable(figure)
    left, right = figure.axes
    for found, column in zip(left.collections, (doses.test_accuracy, doses.forget_accuracy)):
        assert_same_points([found], np.column_stack([doses.dose, 100 * column]))
    assert values_of(left, "--", mu.GREEN) == pytest.approx([94, 95])
    at = {text.get_text(): text.xy[0] for text in left.texts}
    assert at == pytest.approx({"yours": 15, "mild": 50, "classic": 101.5, "harsh": 200})
    swarms = [np.sort(each.get_offsets()[:, 1]) for each in right.collections]
    near(swarms[:3], np.sort(100 * accuracies.T))
    near(swarms[3], 70)
    apart = 100 * (doses.test_accuracy - doses.forget_accuracy).abs().max()
    assert numbers(title(figure)) == [round(apart)]
    seeds = 100 * accuracies[mu.ASCENT].agg(["min", "max", "mean"])
    assert numbers(figure.texts[1].get_text()) == [len(doses), 75, 0.2, *seeds[:2].round()]
    words = mu.sweep_page(doses, accuracies, patients, settings).partition("\n\n")[0]
    rank = -doses.dose.rank().corr(doses.forget_accuracy.rank())
    nothing, gaps = mu.gaps_to_others(patients.models[mu.ORIGINAL], patients), doses.gap_to_others
    expected = [len(doses), nothing.mean(), (gaps < nothing.mean()).sum(), gaps.min(), 75, 0.2, 70]
    expected += [7, *seeds, 0, 29, 95, rank]
    assert numbers(words)[1:] == pytest.approx(expected, rel=0.006, abs=6e-5)
    # Nothing happens: no place for a dose of 0 on a logarithmic axis; all seeds give the same
    doses[["test_accuracy", "forget_accuracy"]] = accuracies[:] = 0.9
    doses.loc[doses.index[0], "dose"] = 0
    figure = mu.sweep_figure(doses, accuracies, patients.results, settings)
    assert_readable(figure)
    assert "does not lower" in title(figure)
