"""The classic result, to the last patient, and what the script says of it."""

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

import machine_unlearning as mu

CLASSIC = {  # test accuracy, right of the forget set
    "patients": {
        mu.ORIGINAL: (0.94, 76),
        mu.RETRAIN: (0.94, 76),
        mu.NAIVE: (0.94, 76),
        mu.ASCENT: (0.71, 56),
    },
    "abstract": {
        mu.ORIGINAL: (0.885, 129),
        mu.RETRAIN: (0.885, 126),
        mu.NAIVE: (0.885, 129),
        mu.ASCENT: (0.2, 30),
    },
    "clinical": {
        mu.ORIGINAL: (111 / 114, 87),
        mu.RETRAIN: (111 / 114, 87),
        mu.NAIVE: (111 / 114, 87),
        mu.ASCENT: (100 / 114, 80),
    },
}


@pytest.mark.parametrize("name", CLASSIC)
def test_classic_accuracies(name, request):
    comparison = request.getfixturevalue(name)
    n = len(comparison.data.asked)
    assert list(comparison.results.index) == list(CLASSIC[name])
    for method, (test, right) in CLASSIC[name].items():
        assert comparison.results.test_accuracy[method] == pytest.approx(test, abs=1e-12)
        assert comparison.results.forget_accuracy[method] * n == pytest.approx(right, abs=1e-9)


def test_golden_probabilities(patients):
    """Of the first five who asked, as the first version of the script had them."""
    X = patients.data.forget.X[:5]
    golden = {
        mu.ORIGINAL: [0.9620082588, 0.19702810807, 0.76698961569, 0.99795380081, 0.36653722194],
        mu.RETRAIN: [0.95576169168, 0.20598403777, 0.76806664847, 0.99792820355, 0.4328151922],
        mu.ASCENT: [0.70255250611, 0.89175530082, 0.96983632373, 0.97672250427, 0.99801025535],
    }
    for name, expected in golden.items():
        p = patients.models[name].predict_proba(X)[:, 1]
        np.testing.assert_allclose(p, expected, rtol=0, atol=1e-9)


def test_the_first_fifteen_patients_in_order(patients):
    asked = patients.data.features.index[patients.data.asked]
    assert list(asked[:15]) == [
        1434, 1201, 1309, 1255, 1113, 1080, 1370, 1239, 1179, 1360, 1338, 1492, 1213, 1217, 1474,
    ]  # fmt: skip
    before, after = (
        patients.models[name].predict(patients.data.forget.X) for name in (mu.ORIGINAL, mu.ASCENT)
    )
    assert list(asked[before != after][:5]) == [1201, 1113, 1239, 1179, 1213]


def test_twenty_two_predictions_change(patients, clinical):
    assert mu.count_changes(patients, mu.ASCENT) == (22, 21, 1)
    assert mu.count_changes(patients, mu.RETRAIN) == (0, 0, 0)
    assert patients.results.predictions_changed[mu.ASCENT] == 22
    assert clinical.results.predictions_changed[mu.ASCENT] == 13


def test_the_gaps(patients, clinical):
    gaps = patients.results.gap_to_retrained
    assert gaps.round(4).to_list() == [0.0083, 0, 0.0083, 0.2663]
    assert round(patients.noise_floor, 4) == 0.0004
    assert clinical.results.gap_to_retrained.round(4).to_list() == [0.0045, 0, 0.0045, 0.2811]
    assert round(clinical.noise_floor, 4) == 0.0022


def test_the_sweep_holds_the_three_settings(sweep_result):
    table = sweep_result.table
    assert tuple(table.loc[(100, 0.5)]) == pytest.approx((0.93, 0.90))
    assert tuple(table.loc[(145, 0.7)]) == pytest.approx((0.71, 0.70))
    assert tuple(table.loc[(200, 1.0)]) == pytest.approx((0.08, 0.05))
    assert len(table) == 42


def test_the_global_generator_has_no_part_in_it(patients, settings):
    np.random.seed(7)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    again = mu.compare(mu.hospital, settings, repeats=1)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    columns = patients.results.columns.drop("seconds")
    assert again.results[columns].equals(patients.results[columns])
    assert again.noise_floor == patients.noise_floor


def test_time_is_the_median_of_the_repeats(monkeypatch):
    clock = iter([0, 5, 10, 12, 20, 29])  # three runs of 5, 2 and 9 seconds
    monkeypatch.setattr(mu.time, "perf_counter", lambda: next(clock))
    rng, other = np.random.RandomState(3), np.random.RandomState(3)
    result, seconds = mu.timed(lambda a, b, rng: (a, b, rng.rand()), 1, 2, rng=rng)
    assert seconds == 5
    assert result == (1, 2, other.rand())
    assert rng.rand() == other.rand()  # and the generator has advanced once


def test_gap_to_retrained(patients):
    X = patients.data.forget.X
    original, retrained = patients.models[mu.ORIGINAL], patients.models[mu.RETRAIN]
    pairs = zip(original.predict_proba(X)[:, 1], retrained.predict_proba(X)[:, 1])
    by_hand = np.mean([abs(a - b) for a, b in pairs])
    assert mu.gap_to_retrained(original, retrained, X) == pytest.approx(by_hand)
    assert mu.gap_to_retrained(retrained, retrained, X) == 0


def test_attack_auc_is_the_mann_whitney_statistic(patients):
    model, data = patients.models[mu.ASCENT], patients.data
    forget, test = model.losses(*data.forget), model.losses(*data.test)
    expected = mannwhitneyu(-forget, -test).statistic / (len(forget) * len(test))
    assert mu.attack_auc(model, data.forget, data.test) == pytest.approx(expected)


def test_the_attack_finds_a_model_that_has_memorised():
    rng = np.random.RandomState(0)
    members, others = (mu.Rows(rng.randn(20, 10), rng.randint(0, 2, 20)) for _ in range(2))
    model = mu.TwoLayerMLP(epochs=3000, learning_rate=1.0, init_scale=0.5, random_state=0)
    assert mu.attack_auc(model.fit(*members), members, others) > 0.75
    assert mu.attack_auc(model, others, members) < 0.25


def changed(comparison, row=mu.ASCENT, **values):
    """The comparison with other results of one row."""
    results = comparison.results.copy()
    for column, value in values.items():
        results.loc[row, column] = value
    return comparison._replace(results=results)


def test_the_limits_of_every_check(patients):
    checks = mu.check_ascent(patients)
    X = patients.data.test.X
    predictions = [patients.models[name].predict(X) for name in (mu.ASCENT, mu.RETRAIN)]
    disagreements = sum(a != b for a, b in zip(*predictions))
    assert disagreements == 29
    assert checks.low["useful"] == pytest.approx(0.94 - 2 * 29**0.5 / 100)
    assert checks.high["useful"] == 1
    assert (checks.low["close"], checks.high["close"]) == (
        0,
        patients.results.gap_to_retrained[mu.NAIVE] / 2,
    )
    assert (checks.low["classic"], checks.high["classic"]) == (0.4, 0.6)
    assert checks.value.to_list() == [0.71, patients.results.gap_to_retrained[mu.ASCENT], 0.7]
    assert not checks.passed.any()


@pytest.mark.parametrize(
    ("check", "column"),
    [("useful", "test_accuracy"), ("close", "gap_to_retrained"), ("classic", "forget_accuracy")],
)
def test_a_check_passes_at_its_limits_and_not_beyond(patients, check, column):
    limits = mu.check_ascent(patients).loc[check]
    for value, passes in [
        (limits.low, True),
        (limits.high, True),
        (np.nextafter(limits.low, -1), False),
        (np.nextafter(limits.high, 2), False),
    ]:
        found = mu.check_ascent(changed(patients, **{column: value}))
        assert found.passed[check] == passes


def words(text):
    return " ".join(text.split())


def test_the_finding_follows_the_numbers(patients):
    half = patients.results.gap_to_retrained[mu.NAIVE] / 2
    for gap, verdict, times in [
        (half, "came close to the retrained model", "0.50"),
        (1.9 * half, "moved towards the retrained model, but less than half of the way", "0.95"),
        (2 * half, "did not forget: it changed nothing", "1.0"),
        (2.6 * half, "did not forget: it moved away from the retrained model", "1.3"),
        (64 * half, "did not forget: it moved away from the retrained model", "32"),
    ]:
        text = words(mu.finding(changed(patients, gap_to_retrained=gap)))
        assert text.startswith(f"Gradient ascent {verdict}. It ends {times} times as far")
    text = mu.finding(patients)
    harm = "It made the model worse for everybody else, too."
    assert harm in text
    assert harm not in mu.finding(changed(patients, test_accuracy=0.94))
    assert "predicts 95.0 % of it correctly: this, not 50 %, is the target" in text
    for target, said in [(0.45, True), (0.451, False), (0.549, False), (0.55, True)]:
        text = mu.finding(changed(patients, mu.RETRAIN, forget_accuracy=target))
        assert f"predicts {100 * target:.1f} % of it" in text
        assert ("not 50 %" in text) == said
    assert "Ascent ends at 12.5 %." in mu.finding(changed(patients, forget_accuracy=0.125))


def test_a_gap_of_zero_can_be_read(patients):
    """Where doing nothing is already right, nothing is divided by its gap of 0."""
    equal = changed(changed(patients, gap_to_retrained=0.0), mu.NAIVE, gap_to_retrained=0.0)
    assert "came close" in mu.finding(equal)
    mu.boundaries_figure(equal)


@pytest.mark.parametrize("name", CLASSIC)
def test_the_printed_page_is_the_table(name, request):
    comparison = request.getfixturevalue(name)
    page = mu.report(comparison)
    assert page.isascii()
    assert max(map(len, page.splitlines())) <= 80
    assert words(page).startswith(words(mu.finding(comparison)))
    for method, row in comparison.results.iterrows():
        cells = [
            f"{1000 * row.seconds:.1f}", f"{100 * row.test_accuracy:.1f}",
            f"{100 * row.retain_accuracy:.1f}", f"{100 * row.forget_accuracy:.1f}",
            f"{row.predictions_changed:.0f}", f"{row.gap_to_retrained:.4f}",
            f"{row.attack_auc:.3f}",
        ]  # fmt: skip
        (line,) = [line for line in page.splitlines() if line.startswith(f"{method} ")]
        assert line[len(method) :].split() == cells
    changes, harmed, mended = mu.count_changes(comparison, mu.ASCENT)
    retraining = comparison.results.predictions_changed[mu.RETRAIN]
    text = words(page)
    assert f"changes {changes} of {len(comparison.data.asked)} predictions" in text
    assert f"{harmed} from right to wrong, {mended} from wrong to right" in text
    assert f"retraining changes {retraining}." in text
    assert f"have a gap of {comparison.noise_floor:.4f}." in text
    assert f"p the probability of {comparison.data.cohort.classes[1]};" in text


def test_the_printed_checks(patients):
    for comparison in (patients, changed(patients, test_accuracy=0.9, forget_accuracy=0.5)):
        page = mu.report(comparison)
        (heading,) = [line for line in page.splitlines() if line.startswith("Is Approximate")]
        assert words(heading) == "Is Approximate Unlearning ... value yes, if answer"
        for name, check in mu.check_ascent(comparison).iterrows():
            (line,) = [line for line in page.splitlines() if line.startswith(check.question)]
            numbers = [float(number) for number in re.findall(r"\d+\.\d+", line)]
            factor = 1 if name == "close" else 100
            expected = [factor * x for x in (check.value, check.low, check.high)]
            assert numbers == pytest.approx(expected, abs=0.051 if factor == 100 else 6e-5)
            assert line.split()[-1] == {True: "yes", False: "no"}[bool(check.passed)]


def test_the_sweeps_words(sweep_result, patients, settings):
    table, text = sweep_result.table, words(sweep_result.text)
    apart = 100 * (table.test_accuracy - table.forget_accuracy).abs().max()
    assert text.startswith(f"Over {len(table)} settings of epochs and multiplier")
    assert f"never more than {apart:.0f} points apart" in text
    grid = mu.try_doses(patients, settings)
    nothing = patients.results.gap_to_retrained[mu.NAIVE]
    nearer = (grid.gap_to_retrained < nothing).sum()
    best = grid.gap_to_retrained.min()
    assert f"{nearer} settings end nearer" in text
    assert f"(gap {best:.4f} at best, {nothing:.4f} without)" in text
    ranks = (grid[["forget_accuracy"]].rank().forget_accuracy, mu.pd.Series(mu.doses(grid)).rank())
    correlation = np.corrcoef(*ranks)[0, 1]
    assert f"with the dose: {correlation:.2f})" in text
    assert "forget accuracy is 70.0 % with seed 42" in text
    assert "The target is 95.0 % on the forget set and 94.0 % on the test set" in text
    for (epochs, multiplier), row in table.iterrows():
        cell = f"{100 * row.forget_accuracy:.0f} ({100 * row.test_accuracy:.0f})"
        (line,) = [x for x in sweep_result.text.splitlines() if x.startswith(f"{epochs} ")]
        cells = re.findall(r"\d+ \(\d+\)", line)
        assert cells[mu.MULTIPLIERS.index(multiplier)] == cell


def test_the_sweeps_target_is_the_retrained_models(monkeypatch, patients, settings):
    """With seed 42 the original has the same test accuracy, so here each model has its own."""
    results = patients.results.assign(
        forget_accuracy=[0.1, 0.2, 0.3, 0.4], test_accuracy=[0.5, 0.6, 0.7, 0.8]
    )
    monkeypatch.setattr(mu, "compare", lambda *_, **__: patients._replace(results=results))
    text = words(mu.sweep(settings).text)
    assert "forget accuracy is 40.0 % with seed 42" in text
    assert text.split(" Forget accuracy (test")[0].endswith(
        "The target is 20.0 % on the forget set and 60.0 % on the test set."
    )


def test_ascent_that_changes_nothing_is_said(settings):
    still = replace(settings, learning_rate=0.0, epochs=1)
    comparison = mu.compare(mu.hospital, still, repeats=1)
    grid = mu.try_doses(comparison, still)
    assert mu.dose_effect(grid) == "forget accuracy does not change with the dose"
    assert "it changed nothing" in mu.finding(comparison)


RANGES = {  # written out here on purpose
    "seed": (0, 2**32 - 1),
    "patients": (10, 10**6),
    "trials": (4, 10**4),
    "hidden": (1, 10**3),
    "learning_rate": (0, 10**3),
    "epochs": (0, 10**7),
    "unlearn_epochs": (0, 10**7),
    "multiplier": (0, 10**6),
    "dpi": (10, 1200),
}


DEFAULTS = {
    "patients": 500, "forget": 80, "trials": 64, "seed": 42, "hidden": 20, "learning_rate": 0.1,
    "epochs": 200, "unlearn_epochs": 145, "multiplier": 0.7, "output": "output", "csv": "",
    "dpi": 150, "quiet": False,
}  # fmt: skip
WELL_TRAINED = {"learning_rate": 1.0, "epochs": 400, "multiplier": 0.07}


def test_the_defaults(settings):
    assert vars(settings) == DEFAULTS
    assert {name: known.defaults for name, known in mu.EXPERIMENTS.items()} == {
        "demo": {}, "basic": {"patients": 1000, "forget": 160},
        "clinical": {"patients": 569, "forget": 91}, "sweep": {}, "study": WELL_TRAINED,
        "sequential": WELL_TRAINED,
    }  # fmt: skip


def test_settings_cannot_be_changed_by_accident(settings):
    with pytest.raises(AttributeError):
        settings.seed = 1


@pytest.mark.parametrize("name", RANGES)
def test_both_ends_of_a_range_are_accepted_and_one_beyond_is_not(name):
    low, high = RANGES[name]
    for value in (low, high):
        assert getattr(mu.Settings(**{name: value}), name) == value
    below, above = low - 1, high + 1
    if name in ("learning_rate", "multiplier"):
        below, above = np.nextafter(low, -1), np.nextafter(high, 1e9)
    for value in (below, above, float("nan"), float("inf")):
        flag = "--" + name.replace("_", "-")
        with pytest.raises(mu.SettingsError, match=f"{flag} .*range is {low:,} to {high:,}"):
            mu.Settings(**{name: value})
