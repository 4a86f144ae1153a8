"""The classic result, to the last patient, and what it means."""

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
}


@pytest.mark.parametrize("name", CLASSIC)
def test_classic_accuracies(name, request):
    comparison = request.getfixturevalue(name)
    n = len(comparison.data.asked)
    assert list(comparison.results.index) == list(CLASSIC[name])
    for method, (test, right) in CLASSIC[name].items():
        assert comparison.results.test_accuracy[method] == pytest.approx(test, abs=1e-12)
        assert comparison.results.forget_accuracy[method] * n == pytest.approx(right, abs=1e-9)


def test_the_first_fifteen_patients_in_order(patients):
    asked = patients.data.features.index[patients.data.asked]
    assert list(asked[:15]) == [
        1434, 1201, 1309, 1255, 1113, 1080, 1370, 1239, 1179, 1360, 1338, 1492, 1213, 1217, 1474,
    ]  # fmt: skip
    before, after = (
        patients.models[name].predict(patients.data.forget.X) for name in (mu.ORIGINAL, mu.ASCENT)
    )
    assert list(asked[before != after][:5]) == [1201, 1113, 1239, 1179, 1213]


def test_twenty_two_predictions_change(patients):
    ascent, retrained = patients.results.loc[mu.ASCENT], patients.results.loc[mu.RETRAIN]
    counts = ["predictions_changed", "harmed", "mended", "towards", "away", "disagree"]
    assert list(ascent[counts]) == [22, 21, 1, 0, 22, 22]
    assert list(retrained[counts]) == [0] * 6


@pytest.mark.parametrize(
    ("epochs", "multiplier", "test", "forget"),
    [(100, 0.5, 0.93, 0.90), (145, 0.7, 0.71, 0.70), (200, 1.0, 0.08, 0.05)],
)
def test_the_three_tuning_settings(patients, settings, epochs, multiplier, test, forget):
    tuned = mu.Settings(unlearn_epochs=epochs, multiplier=multiplier)
    data = patients.data
    model = mu.gradient_ascent(patients.models[mu.ORIGINAL], data.retain, data.forget, tuned, None)
    assert model.score(*data.test) == pytest.approx(test)
    assert model.score(*data.forget) == pytest.approx(forget)


def test_the_sweep_holds_the_same_numbers(settings):
    table, _, _ = mu.sweep(settings, np.random.RandomState(42))
    assert tuple(table.loc[(100, 0.5)]) == pytest.approx((0.93, 0.90))
    assert tuple(table.loc[(145, 0.7)]) == pytest.approx((0.71, 0.70))
    assert tuple(table.loc[(200, 1.0)]) == pytest.approx((0.08, 0.05))


def test_the_global_generator_has_no_part_in_it(patients, settings):
    np.random.seed(7)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    rng = np.random.RandomState(42)
    again = mu.compare(mu.hospital_data(settings, rng), settings, rng)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    columns = patients.results.columns.drop("seconds")
    assert again.results[columns].equals(patients.results[columns])


def test_repeating_a_measurement_does_not_change_the_result():
    one, other = np.random.RandomState(3), np.random.RandomState(3)
    few, seconds = mu.timed(lambda rng: rng.rand(), one, repeats=1)
    many, _ = mu.timed(lambda rng: rng.rand(), other, repeats=9)
    assert few == many
    assert seconds > 0
    assert one.rand() == other.rand()  # and the generator has advanced once


def test_gap_to_retrained(patients):
    X = patients.data.forget.X
    original, retrained = patients.models[mu.ORIGINAL], patients.models[mu.RETRAIN]
    by_hand = np.mean(
        [
            abs(a - b)
            for a, b in zip(original.predict_proba(X)[:, 1], retrained.predict_proba(X)[:, 1])
        ]
    )
    assert mu.gap_to_retrained(original, retrained, X) == pytest.approx(by_hand)
    assert mu.gap_to_retrained(retrained, retrained, X) == 0
    gaps = patients.results.gap_to_retrained
    assert 10 * patients.noise_floor < gaps[mu.NAIVE] < gaps[mu.ASCENT] / 20


def test_attack_auc_is_the_mann_whitney_statistic(patients):
    model, data = patients.models[mu.ASCENT], patients.data
    forget, test = model.losses(*data.forget), model.losses(*data.test)
    statistic = mannwhitneyu(-forget, -test).statistic
    expected = statistic / (len(forget) * len(test))
    assert mu.attack_auc(model, data.forget, data.test) == pytest.approx(expected)


def test_the_attack_finds_a_model_that_has_memorised():
    rng = np.random.RandomState(0)
    members, others = (mu.Rows(rng.randn(20, 10), rng.randint(0, 2, 20)) for _ in range(2))
    model = mu.TwoLayerMLP(epochs=3000, learning_rate=1.0, init_scale=0.5, random_state=0)
    assert mu.attack_auc(model.fit(*members), members, others) > 0.75
    assert mu.attack_auc(model, others, members) < 0.25


def changed_counts(comparison):
    ascent = comparison.results.loc[mu.ASCENT]
    return ascent.predictions_changed, ascent.harmed + ascent.mended, ascent.towards + ascent.away


@pytest.mark.parametrize("name", CLASSIC)
def test_every_change_is_counted_once(name, request):
    changed, by_label, by_target = changed_counts(request.getfixturevalue(name))
    assert changed == by_label == by_target > 0


def outcomes(comparison):
    return [low <= value <= high for value, low, high in mu.validate(comparison).values()]


def test_validation_fails_the_classic_setting_and_passes_a_retrain(patients):
    assert outcomes(patients) == [False, False, True, False]
    results = patients.results.copy()
    results.loc[mu.ASCENT] = results.loc[mu.RETRAIN]
    assert outcomes(patients._replace(results=results)) == [True, True, True, False]


def test_doing_nothing_does_not_pass_for_forgetting(patients):
    results = patients.results.copy()
    results.loc[mu.ASCENT] = results.loc[mu.NAIVE]
    assert outcomes(patients._replace(results=results)) == [True, False, True, False]


def test_the_reading_follows_the_numbers(patients):
    text = "\n".join(mu.conclusions(patients))
    assert len(mu.conclusions(patients)) <= 10
    for part in [
        "95.0%",
        "not nearer",
        "22 of 80",
        "21 from right",
        "everybody pays",
        "says little",
    ]:
        assert part in text
    results = patients.results.copy()
    results.loc[mu.ASCENT] = results.loc[mu.RETRAIN]
    results.loc[mu.ASCENT, "seconds"] = 10 * results.seconds[mu.RETRAIN]
    other = "\n".join(mu.conclusions(patients._replace(results=results)))
    for part in [": nearer", "0 of 80", "0 from right", "as useful", "0.1 times as fast"]:
        assert part in other
    results.loc[mu.ASCENT, "attack_auc"] = 0.99
    assert "finds a difference" in "\n".join(mu.conclusions(patients._replace(results=results)))


def test_a_gap_of_zero_can_be_read(patients):
    """Where doing nothing is already right, nothing is divided by its gap of 0."""
    results = patients.results.copy()
    results.loc[[mu.NAIVE, mu.ASCENT], "gap_to_retrained"] = 0.0
    equal = "\n".join(mu.conclusions(patients._replace(results=results)))
    assert ": not nearer" in equal
    mu.boundaries_figure(patients._replace(results=results))


def test_another_multiplier_gives_another_reading(settings):
    mild = mu.Settings(multiplier=0.05)
    rng = np.random.RandomState(42)
    comparison = mu.compare(mu.hospital_data(mild, rng), mild, rng)
    text = "\n".join(mu.conclusions(comparison))
    assert "as useful" in text
    assert "everybody pays" not in text
