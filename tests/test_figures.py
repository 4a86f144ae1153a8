"""The figures and the film: what they show comes from the results, and can be read."""

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, assert_page, numbers
from looks import (
    assert_bars,
    assert_readable,
    assert_same_points,
    explanation,
    marks_like,
    title,
    values_of,
)
from matplotlib.contour import ContourSet
from numpy.testing import assert_allclose as near
from PIL import Image

import machine_unlearning as mu

FOUR = [mu.performance_figure, mu.boundaries_figure, mu.concrete_figure, mu.patients_figure]


def compared(make_cohort=mu.hospital, **given):
    return mu.compare(make_cohort, mu.Settings(**given), repeats=1)


def with_own_words(columns, classes=("Healthy", "Diabetic"), scale=1, ids="{}"):
    """The demo's patients with other names, units and ids; more than two columns are repeats."""

    def make_cohort(settings, rng):
        cohort = mu.hospital(settings, rng)
        two = cohort.features.to_numpy() * scale
        repeats = -(-len(columns) // 2)
        features = pd.DataFrame(np.tile(two, repeats)[:, : len(columns)], columns=columns)
        features.index = [ids.format(patient) for patient in cohort.features.index]
        return cohort._replace(features=features, classes=classes)

    return make_cohort


LONG = "number of times that the patient was seen in the outpatient department of the hospital"
OWN_WORDS = {
    "dollars, small numbers, long ids": with_own_words(
        ["gain ($) - loss ($)", "cost_$ per income_$"], ("$a_b$", "_under"), 1e-6, "MRN-2024-{:07}"
    ),
    "long names, large numbers": with_own_words(
        [LONG, LONG.replace(" ", "_")], ("tested_negative", LONG), 12_345
    ),
    "wide letters": with_own_words(["W" * 60, "M " * 30], ("W" * 40, "M" * 40)),
}


# ---- What one sees ------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["patients", "abstract", "clinical"])
def test_the_figures_can_be_read(request, which):
    comparison = request.getfixturevalue(which)
    for draw_figure in FOUR:
        figure = draw_figure(comparison)
        assert_readable(figure)
        assert len(title(figure)) <= 80
        n = len(comparison.data.train.y)
        n_asked = len(comparison.data.asked)
        source = comparison.data.source
        assert explanation(figure).startswith(f"{n_asked} of {n} {source} ask to be forgotten (")


@pytest.mark.parametrize(
    "given",
    [
        {"seed": 7, "unlearn_epochs": 0},
        {"seed": 3, "forget": 1},
        {"epochs": 0},
        {"patients": 10_000, "forget": 1600, "epochs": 3},
    ],
    ids=str,
)
def test_other_settings_can_be_read(given):
    comparison = compared(**given)
    assert_page(mu.demo_page(comparison))
    for draw_figure in FOUR:
        assert_readable(draw_figure(comparison))


@pytest.mark.parametrize("case", OWN_WORDS)
def test_own_words_are_drawn_as_they_are_and_cover_nothing(case):
    comparison = compared(OWN_WORDS[case], patients=100, forget=20)
    data = comparison.data
    on_maps = assert_readable(mu.concrete_figure(comparison))
    in_table = assert_readable(mu.patients_figure(comparison))
    if case.startswith("dollars"):  # short enough to be shown whole
        assert set(on_maps) > {"gain ($) - loss ($)", "cost_$ per income_$"}
        assert set(on_maps) > {"actually $a_b$", "actually _under"}
        assert set(in_table) > {f"Patient {who}" for who in data.features.index[data.asked[:15]]}


@pytest.mark.parametrize("n", [1, 8])
def test_other_numbers_of_columns(n):
    columns = [f"{k}. measurement of something" for k in range(n)]
    comparison = compared(with_own_words(columns), patients=100, forget=20)
    assert_readable(mu.performance_figure(comparison))
    table = mu.patients_figure(comparison)
    assert_readable(table)
    assert ("2 of 8 features" in explanation(table)) == (n == 8)
    with pytest.raises(ValueError, match=str(n)):  # a map needs two
        mu.boundaries_figure(comparison)


def test_the_look_is_ours_but_for_the_readers_font(patients):
    picture = mu.patients_figure(patients)._repr_png_()
    odd = {"savefig.facecolor": "black", "savefig.dpi": 30, "axes.grid": True, "font.size": 30}
    with mpl.rc_context(odd):
        assert mu.patients_figure(patients)._repr_png_() == picture
        assert mpl.rcParams["font.size"] == 30
    assert plt.get_fignums() == []

    with mpl.rc_context({"font.family": ["DejaVu Serif"]}):
        figure = mu.patients_figure(patients)
        assert figure.texts[0].get_fontfamily() == ["DejaVu Serif"]
        assert figure._repr_png_() != picture


def test_figures_that_are_drawn_in_threads_leave_the_readers_style_alone(patients):
    before = dict(mpl.rcParams)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(mu.performance_figure, [patients] * 8))
    assert dict(mpl.rcParams) == before


def test_words_are_measured():
    with mu.in_our_style():
        assert mu.shortened("Diabetic", 1) == "Diabetic"
        for words in ("W" * 50, "i" * 500, "MRN-2024-0000079"):
            short = mu.shortened(words, 1)
            assert short.endswith("...")
            assert 0.8 < mu.width_of(short) <= 1
            assert mu.width_of(mu.in_lines(words, 1.2, weight="bold"), weight="bold") <= 1.2
            alike = mu.Cohort(pd.DataFrame({"a": [1]}), None, (f"{words} 0", f"{words} 1"), None)
            assert len(set(mu.with_short_names(alike).classes)) == 2
        assert mu.in_lines("Glucose (mg/dL)", 0.9) == "Glucose\n(mg/dL)"
        assert mu.in_lines("Glucose (mg/dL)", 9) == "Glucose (mg/dL)"


# ---- The demo's figures -------------------------------------------------------------------------


def test_performance(patients):
    # Deletion below the model that it leaves as it is, the target above other retrains
    results = patients.results.loc[[mu.ORIGINAL, mu.NAIVE, mu.ASCENT, mu.RETRAIN]]
    figure = mu.performance_figure(patients)
    test, forget, gap = figure.axes
    assert_bars(test, results.test_accuracy, n_more=2)
    assert_bars(forget, results.forget_accuracy, n_more=2)
    names = [f"{name}, {1000 * seconds:,.1f} ms" for name, seconds in results.seconds.items()]
    names[0] = mu.ORIGINAL  # it answers nobody
    labels = [label.get_text() for label in test.get_yticklabels()]
    assert [label.split("\n")[0] for label in labels] == [*names, "10 other retrains"]
    assert values_of(forget, "--", mu.GREEN) == [0.95]
    assert values_of(forget, ":", mu.INK) == [0.5]
    assert "a model without them: 95%, not 50%" in forget.get_xlabel().replace("\n", " ")

    # Below the four models, ten other retrains: a dot each, in all panels
    others = patients.others
    for ax, part in ((test, patients.data.test), (forget, patients.data.forget)):
        (dots,) = ax.collections
        accuracies = [np.mean(other.predict(part.X) == part.y) for other in others]
        near(dots.get_offsets()[:, 0], np.sort(accuracies))
        near(dots.get_offsets()[:, 1], np.full(10, 4), atol=0.2)
    assert [ax.texts[-1].get_text() for ax in (test, forget)] == ["94%\neach", "95%\neach"]
    for ax, accuracy in ((test, 0.94), (forget, 0.95)):  # and above them, the goal at its line
        goal = ax.texts[-2]
        assert goal.get_text() == " goal"
        near(goal.get_position(), [accuracy, -0.85])

    # The gaps, in points; that of the target, 0, is drawn at the end of the axis
    gaps = 100 * results.gap_to_retrained
    gaps[mu.RETRAIN] = 0.01
    of_others = 100 * mu.gaps_to_others(patients.models[mu.RETRAIN], patients)
    dots = np.vstack([marks.get_offsets().data for marks in gap.collections])
    near(dots[:4], np.column_stack([gaps, range(4)]))
    near(dots[4:, 0], np.sort(of_others))
    near(dots[4:, 1], np.full(10, 4), atol=0.2)
    shown = [text.get_text().strip() for text in gap.texts]
    reach = f"{of_others.min():.2g} to\n{of_others.max():.2g}"
    places = ["could be\na retrain", "outside: still\nthe old model", "far outside"]
    assert shown == ["0.83", "0.83", "26.63", "0.00", *places, reach]
    assert [text.xy[1] for text in gap.texts[5:7]] == [0.5, 2]  # the first between two rows
    band = gap.patches[0].get_window_extent()
    ends = gap.transData.transform([[0.01, 0], [of_others.max(), 0]])[:, 0]
    near([band.x0, band.x1], ends)


@pytest.mark.parametrize(
    ("gap", "words"),
    [
        (0.28, "inside"),
        (0.29, "just outside"),
        (0.41, "just outside"),
        (0.43, "outside"),
        (2.7, "outside"),
        (2.9, "far outside"),
    ],
)
def test_where_a_gap_is(gap, words):
    assert mu.beside_the_band(gap, 0.28) == words


@pytest.mark.parametrize(
    ("gap", "accuracy", "where"),
    [
        (0.0027, 0.95, "inside, yet"),  # the farthest retrain: 0.28 points
        (0.0041, 0.95, "just outside:"),
        (0.0043, 0.951, "outside:"),
        (0.0043, 0.96, "outside:"),
        (0.09, 0.95, "far outside:"),
    ],
)
def test_how_deletion_looks(patients, gap, accuracy, where):
    results = patients.results.copy()
    columns = ["gap_to_retrained", "forget_accuracy"]
    results.loc[mu.NAIVE, columns] = [gap, accuracy]
    changed = patients._replace(results=results)
    figure = mu.performance_figure(changed)
    (words,) = [text for text in figure.axes[2].texts if "still" in text.get_text()]
    assert words.get_text() == f"{where} still\nthe old model"
    assert words.xy[0] >= 0.28  # not in the band, nor across its end
    looks_alike = "Accuracy cannot tell deletion from the target." in explanation(figure)
    assert looks_alike == (accuracy < 0.955)  # as drawn
    assert title(figure).startswith("Naive deletion forgets nothing; ascent")


@pytest.mark.parametrize("useful", [True, False])
@pytest.mark.parametrize("naive", [True, False])
@pytest.mark.parametrize("learned", [True, False])
def test_what_is_said_follows_from_the_checks(patients, monkeypatch, useful, naive, learned):
    checks = mu.check_answers(patients)
    checks.loc[["useful", "naive"], "holds"] = [useful, naive]
    monkeypatch.setattr(mu, "check_answers", lambda comparison: checks)
    monkeypatch.setattr(mu, "has_learned", lambda comparison: learned)
    figure = mu.performance_figure(patients)
    if not learned:
        assert title(figure).startswith("No verdict")
        assert title(mu.concrete_figure(patients)).startswith("No verdict")
    elif useful:
        assert numbers(title(figure)) == [32]
    else:
        assert "breaks" in title(figure)
        assert numbers(title(figure)) == [71, 94]
    if learned:
        words = mu.demo_finding(patients)
        assert ("no larger" in words, "larger" in words) == (naive, True)


@pytest.mark.parametrize(
    ("right", "target", "words"),
    [
        (0.71, 0.94, "breaks the model: 71% right, not 94%"),
        (0.74, 0.94, "breaks the model"),
        (0.75, 0.94, "harms the model: 75% right, not 94%"),
        (0.4, 0.55, "harms the model"),
    ],
)
def test_what_ascent_does_follows_the_accuracies(patients, right, target, words):
    results = patients.results.copy()
    results.loc[[mu.ASCENT, mu.RETRAIN], "test_accuracy"] = [right, target]
    changed = patients._replace(results=results)
    assert words in mu.what_ascent_does(changed)
    assert words in mu.demo_page(changed).replace("\n", " ")


@pytest.mark.parametrize(
    ("times", "shown"), [(0.724, "0.72"), (1, "1"), (9.94, "9.9"), (9.96, "10"), (1234.4, "1,234")]
)
def test_how_many_times_the_gap(patients, times, shown):
    results = patients.results.copy()
    results.loc[mu.ASCENT, "gap_to_retrained"] = times * results.gap_to_retrained[mu.NAIVE]
    assert mu.times_the_gap(results) == shown


def test_the_maps(patients):
    data = patients.data
    figure = mu.boundaries_figure(patients)
    assert numbers(title(figure)) == [123, 400]
    for ax, (name, model) in zip(figure.axes, patients.models.items()):
        # Large marks: whom it judges differently
        target = patients.models[mu.RETRAIN].predict(data.train.X)
        differs = np.flatnonzero(model.predict(data.train.X) != target)
        assert_same_points(marks_like(ax, mu.LARGE), data.features.iloc[differs])
        words = {mu.RETRAIN: "the target", mu.NAIVE: "unchanged: forgets nothing"}
        words = words.get(name, f"differs on {len(differs)}")
        assert (title(ax), ax.get_title(loc="right")) == (name, words)

        # Along both borders, p is 0.5
        borders = [each for each in ax.collections if isinstance(each, ContourSet)]
        for border, of_model in zip(borders[1:], (model, patients.models[mu.RETRAIN])):
            places = np.concatenate([path.vertices for path in border.get_paths()])
            X = data.scaler.transform(pd.DataFrame(places, columns=data.features.columns))
            near(of_model.predict_proba(X)[:, 1], 0.5, atol=0.02)


@pytest.mark.parametrize(
    ("given", "words"),
    [({"seed": 3, "forget": 1}, "one class"), ({"multiplier": 100}, "sides swapped")],
)
def test_a_map_says_how_ascent_has_failed(given, words):
    comparison = compared(**given)
    verdict = mu.boundaries_figure(comparison).axes[3].get_title(loc="right")
    n_classes = len(np.unique(comparison.models[mu.ASCENT].predict(comparison.data.train.X)))
    assert verdict.endswith(f": {words}")
    assert n_classes == (1 if words == "one class" else 2)


def test_the_concrete_figure(abstract):
    data = abstract.data
    figure = mu.concrete_figure(abstract)
    who, before, after, bars = figure.axes
    assert numbers(title(figure)) == [160, 79, 19]
    assert numbers(title(who)) == [160, 800]
    for ax, name, counts in ((before, mu.ORIGINAL, [129, 31]), (after, mu.ASCENT, [30, 130])):
        wrong = abstract.models[name].predict(data.forget.X) != data.forget.y
        assert numbers(title(ax))[-2:] == counts
        assert_same_points(marks_like(ax, mu.RINGED), data.features.iloc[data.asked])
        assert_same_points(marks_like(ax, mu.CROSS), data.features.iloc[data.asked[wrong]])
    assert title(after).startswith("After gradient ascent")
    accuracy = abstract.results.forget_accuracy
    assert_bars(bars, accuracy[[mu.ORIGINAL, mu.ASCENT, mu.RETRAIN]])


@pytest.mark.parametrize(
    ("right", "words"), [(0.95, "95%, not 50%"), (0.46, "46%"), (0.44, "44%, not 50%")]
)
def test_the_aim_is_not_50_percent_unless_it_is(patients, right, words):
    results = patients.results.copy()
    results.loc[mu.RETRAIN, "forget_accuracy"] = right
    comparison = patients._replace(results=results)
    assert mu.aim_of_forgetting(comparison) == words
    assert explanation(mu.concrete_figure(comparison)).endswith(f": {words}.")


def test_the_patient_table(patients):
    data = patients.data
    figure = mu.patients_figure(patients)
    (ax,) = figure.axes
    assert title(figure) == "Gradient ascent flips 22 of 80 predictions; retraining flips none"
    assert numbers(explanation(figure))[-4:] == [5, 15, 21, 22]

    # The second patient, whom ascent misdiagnoses
    position = data.asked[1]
    second = [text.get_text() for text in ax.texts if text.get_position()[1] == 1.5]
    assert second == ["46", "114", "Healthy", "20%", "21%", "89% ×"]
    assert ax.get_yticklabels()[1].get_text() == "Patient 1201"
    near(data.features.iloc[position], [46, 114], atol=0.5)

    # Every wrong prediction has a cross, every flip a frame
    rows = data.train.at(data.asked[:15])
    before = patients.models[mu.ORIGINAL].predict(rows.X)
    after = patients.models[mu.ASCENT].predict(rows.X)
    n_wrong = (before != rows.y).sum() + (after != rows.y).sum()
    n_wrong += (patients.models[mu.RETRAIN].predict(rows.X) != rows.y).sum()
    assert sum("×" in text.get_text() for text in ax.texts) == n_wrong
    framed = [int(frame.get_y()) for frame in ax.patches]
    assert framed == np.flatnonzero(before != after).tolist()


# ---- The sweep ----------------------------------------------------------------------------------


def test_doses_and_seeds_are_tried(patients, monkeypatch):
    monkeypatch.setattr(mu, "EPOCHS", [20, 10])
    monkeypatch.setattr(mu, "MULTIPLIERS", [0.3])
    doses = mu.try_doses(patients, mu.Settings(unlearn_epochs=15, multiplier=0.2))
    assert list(doses.index) == [(e, m) for e in (10, 15, 20) for m in (0.2, 0.3)]
    near(doses.dose, [2, 3, 3, 4.5, 4, 6])

    # One of them by hand
    data = patients.data
    model = copy.deepcopy(patients.models[mu.ORIGINAL])
    model.unlearn(data.forget.X, data.forget.y, epochs=15, multiplier=0.3)
    gap = mu.gap_to_retrained(model, patients.models[mu.RETRAIN], data.forget.X)
    assert doses.gap_to_retrained[15, 0.3] == gap
    assert doses.test_accuracy[15, 0.3] == model.score(data.test.X, data.test.y)

    monkeypatch.setattr(mu, "SEEDS", [3, 42])
    seeds = mu.try_seeds(mu.Settings(seed=7))
    assert seeds.loc[42].to_dict() == {mu.RETRAIN: 0.95, mu.ASCENT: 0.7}
    assert list(seeds.index) == [3, 42]
    assert not seeds.loc[3].equals(seeds.loc[42])


@pytest.fixture(scope="module")
def swept(patients):
    """Doses of the demo, and invented accuracies of three seeds."""
    doses = mu.try_doses(patients, patients.settings)
    accuracies = pd.DataFrame({mu.RETRAIN: [0.92, 0.95, 1], mu.ASCENT: [0.3, 0.45, 0.66]})
    return doses, accuracies, patients


def test_the_sweep_figure(swept):
    doses, accuracies, *_ = swept
    figure = mu.sweep_figure(*swept)
    assert_readable(figure)
    gap, accuracy, seeds = figure.axes
    in_points = doses[["dose", "gap_to_retrained"]].to_numpy() * [1, 100]
    assert_same_points(gap.collections[0].get_offsets(), in_points)
    near(gap.collections[1].get_offsets(), [[145 * 0.7, 26.627]], atol=1e-3)
    assert_same_points(accuracy.collections[0].get_offsets(), doses[["dose", "forget_accuracy"]])
    assert_same_points(accuracy.collections[1].get_offsets(), doses[["dose", "test_accuracy"]])
    near(accuracy.collections[2].get_offsets(), [[145 * 0.7, 0.7]])
    retrained, ascent, diamonds = seeds.collections
    near(np.sort(retrained.get_offsets()[:, 1]), accuracies[mu.RETRAIN])
    near(np.sort(ascent.get_offsets()[:, 1]), accuracies[mu.ASCENT])
    near(diamonds.get_offsets(), [[1, 0.7]])
    assert title(seeds) == "3 seeds, same dose:\nours is the mildest"
    assert values_of(accuracy, "--", mu.GREEN) == values_of(seeds, "--", mu.GREEN) == [0.95]

    # The best dose and ours, and how ours compares with other seeds
    for ax in (gap, accuracy):
        marked = {text.get_text(): text.get_position()[0] for text in ax.texts[:2]}
        assert marked == {"best: 10": 10, "our example": 145 * 0.7}
    for of_others, rank in ((0.9, "the harshest"), (0.7, "like them")):
        changed = accuracies.assign(**{mu.ASCENT: of_others})
        assert mu.seeds_headline(changed, swept[2]).endswith(f"\nours is {rank}")


def test_the_sweep_says_what_its_table_says(swept):
    doses, accuracies, comparison = swept
    words = mu.sweep_page(*swept).partition("\n\n")[0].replace("\n", " ")
    nearer = doses[doses.gap_to_retrained < comparison.results.gap_to_retrained[mu.NAIVE]]
    assert f"{len(nearer)} of 42 settings end nearer" in words
    assert f"doses of {nearer.dose.min():g} to {nearer.dose.max():g}" in words
    assert "30.0% to 66.0% (mean 47.0%)" in words

    # Its headline at its limits
    headline = mu.sweep_headline(doses, comparison)
    assert headline == "A little gradient ascent nears the target, a lot breaks the model"
    harmless = doses.assign(test_accuracy=0.5)
    assert mu.sweep_headline(harmless, comparison).endswith("a lot leads away again")
    nothing = comparison.results.gap_to_retrained[mu.NAIVE]
    nearer = doses.assign(gap_to_retrained=nothing / 2)
    assert mu.sweep_headline(nearer, comparison).startswith("Even the largest dose")
    farther = doses.assign(gap_to_retrained=nothing)
    assert mu.sweep_headline(farther, comparison).startswith("No dose")
    page = mu.sweep_page(farther, accuracies, comparison)
    assert "The nearest of 42 settings leaves a gap of 0.83 points" in page.replace("\n", " ")


@pytest.mark.parametrize(
    ("heights", "placed"),
    [
        ([0.2, 0.9, 0.5], [0.2, 0.9, 0.5]),
        ([0.5, 0.5, 0.55], [0.5, 0.6, 0.7]),
        ([0.95, 0.94, 0.95], [0.85, 0.75, 0.95]),
        ([0, 1], [0.05, 0.95]),
    ],
)
def test_names_of_lines_are_pushed_apart(heights, placed):
    near(mu.pushed_apart(heights, 0.1), placed)


def test_a_sweep_in_which_nothing_happens(swept):
    doses, accuracies, comparison = swept
    nothing = comparison.results.gap_to_retrained[mu.NAIVE]
    doses = doses.assign(test_accuracy=0.9, forget_accuracy=0.9, gap_to_retrained=0.0)
    # A dose of 0 has no place on a logarithmic axis; it is to do nothing
    doses.loc[doses.index[0], ["dose", "gap_to_retrained"]] = [0, nothing]
    accuracies = accuracies * 0 + 0.9
    assert_readable(mu.sweep_figure(doses, accuracies, comparison))


def test_a_sweep_of_other_settings_can_be_read(swept):
    for given in ({"forget": 1}, {"epochs": 0}, {"unlearn_epochs": 0}):
        comparison = compared(**given)
        doses = mu.try_doses(comparison, comparison.settings)
        assert_readable(mu.sweep_figure(doses, swept[1], comparison))


@pytest.mark.parametrize("epochs", [1, 1000])
def test_our_example_is_on_the_map_of_doses(swept, epochs):
    doses, accuracies, comparison = swept
    changed = comparison._replace(settings=replace(comparison.settings, unlearn_epochs=epochs))
    for ax in mu.sweep_figure(doses, accuracies, changed).axes[:2]:
        left, right = ax.get_xlim()
        assert left <= epochs * 0.7 <= right


# ---- The film -----------------------------------------------------------------------------------


SOME_EPOCHS = mu.epochs_shown(145, 15, 20)  # of the default's 90 or so


@pytest.fixture(scope="module")
def film(patients):
    """A short film of the demo: (the GIF, the path of ascent, what each text says in turn)."""
    path = mu.ascent_path(patients, mu.Settings())
    said = {}
    set_text = mpl.text.Text.set_text

    def note(text, words):
        if words and words.strip() and words != text.get_text():
            said.setdefault(text, []).append(words)
        set_text(text, words)

    file = BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mpl.text.Text, "set_text", note)
        patch.setattr(mu, "epochs_shown", lambda *epochs: SOME_EPOCHS)
        mu.film_of_ascent(patients, path).save(file)
    return file, path, list(said.values())


def test_the_film_is_a_small_gif_that_pauses_where_it_should(film):
    file, path, _ = film
    picture = Image.open(file)
    milliseconds = []
    for number in range(picture.n_frames):
        picture.seek(number)
        milliseconds.append(picture.info["duration"])
    assert (picture.format, picture.info["loop"]) == ("GIF", 0)
    assert picture.n_frames == len(SOME_EPOCHS)
    assert picture.width >= 800

    # The whole film is the one that the README shows
    committed = ROOT / "output" / "ascent.gif"
    assert committed.stat().st_size < 1_000_000
    with Image.open(committed) as whole_film:
        assert whole_film.n_frames == len(mu.epochs_shown(145, 15)) >= 60
        assert whole_film.size == picture.size

    # It stays longest at the end, and long at the start and where ascent is nearest
    assert path.gap_to_retrained.idxmin() == 15
    pauses = [epoch for epoch, duration in zip(SOME_EPOCHS, milliseconds) if duration > 1000]
    assert pauses == [0, 15, 145]
    assert max(milliseconds) == milliseconds[-1]


def test_the_numbers_in_the_film_are_those_of_the_path(film):
    _, path, said = film
    (clock,) = [words for words in said if words[0].startswith("Epoch")]
    assert [numbers(words)[0] for words in clock] == list(SOME_EPOCHS)
    for words in clock:
        epoch, last, n_wrong, n = numbers(words)
        near(1 - n_wrong / n, path.forget_accuracy[epoch])
        assert last == 145
    first_and_last = [(words[0], words[-1]) for words in said]
    assert ("Gap to the target: 0.83 points", "Gap to the target: 26.63 points") in first_and_last
    start = "Accuracy: test set 94%, who asked 95%"
    end = "Accuracy: test set 71%, who asked 70%"
    assert (start, end) in first_and_last


def test_the_film_moves(film):
    picture = Image.open(film[0])
    first = np.asarray(picture.convert("RGB"), float)
    picture.seek(picture.n_frames - 1)
    last = np.asarray(picture.convert("RGB"), float)
    changed = np.abs(first - last).max(axis=2) > 20
    height, width = changed.shape
    assert changed[height // 3 :, : width // 2].mean() > 0.2  # the map
    assert not changed[: height // 4].any()  # title and explanation stand still
    assert (first[0, 0] == 255).all()
    assert (last[-1, -1] == 255).all()


def test_a_picture_keeps_nothing_of_the_one_before(patients, film, monkeypatch):
    file, path, _ = film
    long_film = Image.open(file)
    long_film.seek(long_film.n_frames - 1)
    monkeypatch.setattr(mu, "epochs_shown", lambda *epochs: [0, 145])
    short_film = mu.film_of_ascent(patients, path)
    last = np.asarray(long_film.convert("RGB"), float)
    same = np.asarray(short_film.pictures[-1].convert("RGB"), float)
    assert (np.abs(last - same).max(axis=2) > 60).mean() < 1e-4


def test_the_curves_are_the_path(patients, film):
    path = film[1]
    _, axes = mu.film_frame(patients, path)
    curves = mu.draw_curves(axes, path, patients)
    for curve, values in zip(
        curves, (100 * path.gap_to_retrained, path.test_accuracy, path.forget_accuracy)
    ):
        curve.show(15)
        near(curve.line.get_xydata(), np.column_stack([range(16), values[:16]]))
        near(curve.dot.get_xydata(), [[15, values[15]]])
    for name in ("gap", "accuracy"):
        assert 15 in values_of(axes[name], "-", mu.GREEN)  # the nearest
    assert "closest" in [text.get_text() for text in axes["gap"].texts]


@pytest.mark.parametrize(
    ("last", "nearest"),
    [(145, 15), (145, 0), (145, 40), (500, 105), (500, 500), (30, 3), (1, 0), (0, 0)],
)
def test_the_epochs_of_a_film(last, nearest):
    epochs = mu.epochs_shown(last, nearest)
    assert {0, nearest, last} <= set(epochs)
    assert (np.diff(epochs) > 0).all()
    assert min(last, 50) < len(epochs) <= 91

    # Around the nearest it is not faster than on the whole
    around = min(2 * nearest, last)
    frames_around = (epochs <= around).sum()
    assert frames_around / (around + 1) > 0.95 * len(epochs) / (last + 1)


@pytest.mark.parametrize(
    "given",
    [{"forget": 1}, {"unlearn_epochs": 0}, {"seed": 7, "unlearn_epochs": 500, "multiplier": 0.1}],
    ids=str,
)
def test_other_films(monkeypatch, given):
    settings = mu.Settings(**given)
    comparison = compared(**given)
    path = mu.ascent_path(comparison, settings)
    last = path.index[-1]
    monkeypatch.setattr(mu, "epochs_shown", lambda *epochs: sorted({0, last}))
    film = mu.film_of_ascent(comparison, path)
    film.save(BytesIO())
    assert len(film.pictures) == len(film.milliseconds) == (2 if last else 1)
    assert_readable(mu.stills_figure(comparison, path))


def test_no_verdict_in_film_and_sweep_where_nothing_was_learned(swept, film, monkeypatch):
    doses, accuracies, comparison = swept
    path = film[1]
    monkeypatch.setattr(mu, "has_learned", lambda comparison: False)
    assert mu.film_headline(path, comparison).startswith("No verdict")
    assert mu.seeds_headline(accuracies, comparison) == "3 seeds, same dose"
    for page in (mu.film_page(path, comparison), mu.sweep_page(doses, accuracies, comparison)):
        assert page.startswith("No verdict")
        assert "where to stop" not in page
        assert "nearer" not in page
