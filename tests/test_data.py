"""Settings, patients, anybody's own data, the split and the request."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import machine_unlearning as mu

RANGES = {  # default, lowest, highest; written out here on purpose
    "patients": (500, 10, 10**6), "forget": (80, 1, 10**6), "trials": (64, 4, 10**4),
    "seed": (42, 0, 2**32 - 1), "hidden": (20, 1, 10**3), "learning_rate": (0.1, 0, 10**3),
    "epochs": (200, 0, 10**7), "unlearn_epochs": (145, 0, 10**7), "multiplier": (0.7, 0, 10**6),
    "dpi": (150, 10, 1200),
}  # fmt: skip


@pytest.mark.parametrize("name", RANGES)
def test_both_ends_of_a_range_are_accepted_and_one_beyond_is_not(name):
    default, low, high = RANGES[name]
    for value in (default, low, high):
        assert getattr(mu.Settings(**{name: value}), name) == value
    assert getattr(mu.Settings(), name) == default
    below, above = low - 1, high + 1
    if isinstance(default, float):
        below, above = np.nextafter(low, -1), np.nextafter(high, 1e9)
    for value in (below, above, float("nan"), float("inf"), -float("inf")):
        flag = "--" + name.replace("_", "-")
        with pytest.raises(mu.SettingsError, match=f"^{flag} .* {low:,} to {high:,}$"):
            mu.Settings(**{name: value})


def test_patients_are_drawn_as_published():
    patients, rng = mu.make_patients(7), np.random.RandomState(42)
    assert list(patients.patient_id) == list(range(1000, 1007))
    assert list(patients.diagnosis) == ["Healthy"] * 3 + ["Diabetic"] * 4
    healthy = rng.normal(40, 10, 3), rng.normal(100, 15, 3)
    diabetic = rng.normal(55, 12, 4), rng.normal(150, 20, 4)
    assert_array_equal(patients[["age", "glucose"]].T, np.hstack([healthy, diabetic]))
    rng = np.random.RandomState(42)  # is advanced
    assert mu.make_patients(7, rng).equals(patients)
    assert not mu.make_patients(7, rng).equals(patients)
    for wrong, error in [(1, ValueError), (2.5, TypeError), ("x", TypeError)]:
        with pytest.raises(error, match="n_patients"):
            mu.make_patients(wrong)


TWO = "well", "ill"  # not in the order of the alphabet
Y = np.random.RandomState(1).permutation(np.repeat([0, 1], 20))
WORDS, SHUFFLED = np.array(TWO)[Y], np.random.RandomState(2).permutation(40)
AGES = pd.DataFrame({"age": 50.0 + 7 * Y + np.arange(40) % 9, "sugar": 90.0 + np.arange(40)})
LABELS = [
    Y == 1, 2 * Y - 1, 3.0 + 4 * Y, Y.astype(object), pd.Series(Y, SHUFFLED), WORDS, WORDS.tolist(),
    pd.Categorical(WORDS), pd.Series(WORDS, SHUFFLED), pd.Series(Y, dtype="Int64"),
    pd.Series(WORDS, dtype="string"), pd.Series(Y == 1, dtype="boolean"),
]  # fmt: skip
FEATURES = [
    AGES.to_numpy(), AGES.to_numpy().tolist(), AGES.astype(int), AGES.astype("Float64"),
    AGES.set_axis([7, 3], axis=1), AGES.set_axis(["Patient", "method"], axis=1),
    AGES.set_axis([5] * 40), AGES.set_axis([f"p{i}" for i in SHUFFLED]),
]  # fmt: skip


def own(features=AGES, y=Y, scaler=None):
    """The comparison of a cohort of one's own."""
    cohort = features, y, TWO, scaler or StandardScaler()
    settings = mu.Settings(patients=40, forget=6, epochs=20, unlearn_epochs=20)
    return mu.compare(lambda *_: cohort, settings, repeats=1, n_others=1)


def test_a_map_needs_two_features_all_else_takes_one_or_three():
    for columns in ([0], [0, 1, 1]):
        comparison = own(AGES.to_numpy()[:, columns])
        assert comparison.results.notna().all(axis=None)
        assert mu.demo_page(comparison)
        for draw in (mu.boundaries_figure, mu.concrete_figure):
            with pytest.raises(ValueError, match=str(len(columns))):
                draw(comparison)


SCALERS = [StandardScaler().set_output(transform="pandas")]
KINDS = {"y": LABELS, "features": FEATURES, "scaler": SCALERS}.items()


@pytest.mark.parametrize(("what", "given"), [(what, each) for what, all_ in KINDS for each in all_])
def test_own_data_work_whatever_they_look_like_and_are_left_alone(what, given):
    before = mu.copy.deepcopy(given)
    (plain, _, *expected), (data, _, *results) = own(), own(**{what: given})
    table, expected = (each[0].drop(columns="seconds") for each in (results, expected))
    pd.testing.assert_frame_equal(table, expected)
    assert_array_equal(data.train.y, plain.train.y)
    assert_array_equal(data.features, plain.features)
    assert {data.train.y.dtype, *data.features.dtypes} == {np.dtype(int), np.dtype(float)}
    assert all(isinstance(name, str) for name in data.features.columns)
    if what != "scaler":
        pd.testing.assert_frame_equal(pd.DataFrame(given), pd.DataFrame(before))


def test_own_data_that_cannot_be_read_are_named():
    for bad, *words in [
        (AGES.assign(age=[np.nan] * 40), "in age"), (Y[:-1], "39 labels for 40"),
        (AGES.assign(sugar=[pd.NA, *Y[1:]]), "in sugar"), ([*Y, 1], "41 labels for 40"),
        (AGES.astype(object).assign(sugar=["high", *Y[1:]]), "in sugar"),
        (AGES.assign(age=Y * np.nan).set_axis(["a", "a"], axis=1), "in a,"),
        ([None, *WORDS[1:].tolist()], "in labels"), ([np.nan, *Y[1:]], "in labels"),
        (Y[:, None], "labels", "(40, 1)"), (Y * 0, "('well', 'ill')", "are [0]"),
        (np.arange(40) % 3, "are [0, 1, 2]"), (["ill", 1] * 20, "are [1, 'ill']"),
        (["ill"] * 40, "are ['ill']"), (["so", *WORDS[1:].tolist()], "'ill', 'so', 'well'"),
    ]:  # fmt: skip
        with pytest.raises(ValueError) as caught:
            own(**{"features" if np.ndim(bad) == 2 and np.shape(bad)[1] > 1 else "y": bad})
        assert all(part in str(caught.value) for part in words), caught.value


@examples(deadline=None, max_examples=60, database=None)
@given(patients=st.integers(10, 60), forget=st.integers(1, 60), seed=st.integers(0, 2**32 - 1))
@example(patients=500, forget=80, seed=42)
@example(patients=500, forget=10, seed=42)  # nested: they ask in the same order
@example(patients=20, forget=16, seed=0)
def test_the_sets_are_disjoint_complete_and_of_both_classes(patients, forget, seed):
    settings = mu.Settings(patients, forget, seed=seed)
    rng = np.random.RandomState(seed)
    features, y, *_ = cohort = mu.hospital(settings, rng)
    again = mu.copy.deepcopy(rng)
    X = ((features - features.mean()) / features.std(ddof=0)).to_numpy()
    train, test = train_test_split(np.arange(patients), test_size=0.2, random_state=seed)
    order = again.permutation(len(train))
    asked, retain = train[order[:forget]], train[np.sort(order[forget:])]
    if set(y[retain]) != {0, 1}:
        with pytest.raises(mu.SettingsError, match=f"^--forget {forget}: both classes"):
            mu.split(cohort, settings, rng)
        return
    data = mu.split(cohort, settings, rng)
    for rows, chosen in zip(data[-4:], (train, asked, retain, test)):
        assert_allclose(rows.X, X[chosen], atol=1e-12)
        assert_array_equal(rows.y, y[chosen])
    assert sorted([*asked, *retain, *test]) == list(range(patients))
    assert_array_equal(data.train.X[data.asked], data.forget.X)
    assert_array_equal(data.features, features.iloc[train])
