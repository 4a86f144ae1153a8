"""The patients, the split and the request."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import machine_unlearning as mu


def divided(settings, seed):
    rng = np.random.RandomState(seed)
    return mu.split(mu.hospital(settings, rng), settings, rng)


def test_patients_are_the_published_ones():
    patients = mu.make_patients()
    assert list(patients.columns) == ["patient_id", "age", "glucose", "diagnosis"]
    assert list(patients.patient_id) == list(range(1000, 1500))
    assert (patients.diagnosis == ["Healthy"] * 250 + ["Diabetic"] * 250).all()
    rng = np.random.RandomState(42)
    for diagnosis, age, glucose in [
        ("Healthy", (40, 10), (100, 15)),
        ("Diabetic", (55, 12), (150, 20)),
    ]:
        group = patients[patients.diagnosis == diagnosis]
        np.testing.assert_array_equal(group.age, rng.normal(*age, 250))
        np.testing.assert_array_equal(group.glucose, rng.normal(*glucose, 250))


def test_a_generator_is_advanced_and_an_int_is_not():
    rng = np.random.RandomState(1)
    first, second = mu.make_patients(20, rng), mu.make_patients(20, rng)
    assert not np.array_equal(first.age, second.age)
    assert first.equals(mu.make_patients(20, 1))
    assert mu.make_patients(20, 1).equals(mu.make_patients(20, 1))


@pytest.mark.parametrize(("wrong", "error"), [(1, ValueError), (2.5, TypeError), ("x", TypeError)])
def test_impossible_numbers_of_patients(wrong, error):
    with pytest.raises(error, match="n_patients"):
        mu.make_patients(wrong)


@hypothesis_settings(deadline=None, max_examples=40)
@given(patients=st.integers(20, 400), share=st.floats(0.02, 0.6), seed=st.integers(0, 2**32 - 1))
def test_forget_retain_and_test_are_disjoint_and_complete(patients, share, seed):
    settings = mu.Settings(patients=patients, forget=max(1, int(share * 0.8 * patients)), seed=seed)
    try:
        data = divided(settings, seed)
    except mu.SettingsError:
        return
    assert len(data.forget.y) == settings.forget
    assert len(data.retain.y) + len(data.forget.y) == len(data.train.y)
    assert len(data.test.y) == int(np.ceil(0.2 * patients))
    everybody = np.concatenate([data.retain.X, data.forget.X, data.test.X])
    assert len(np.unique(everybody, axis=0)) == patients
    assert set(data.retain.y) == {0, 1}
    np.testing.assert_array_equal(data.train.X[data.asked], data.forget.X)
    np.testing.assert_array_equal(data.train.y[data.asked], data.forget.y)


def test_features_are_standardised_over_everybody(patients):
    everybody = np.concatenate([patients.data.train.X, patients.data.test.X])
    np.testing.assert_allclose(everybody.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(everybody.std(axis=0), 1, atol=1e-12)
    real = patients.data.cohort.scaler.transform(patients.data.features)
    np.testing.assert_array_equal(real, patients.data.train.X)


def test_labels_belong_to_their_patients(patients):
    diabetic = patients.data.features.index >= 1250
    np.testing.assert_array_equal(patients.data.train.y, diabetic)


def test_the_request_is_nested():
    """The first 10 of a request for 80 are the request for 10: they ask in the same order."""
    many = divided(mu.Settings(), 42)
    few = divided(mu.Settings(forget=10), 42)
    np.testing.assert_array_equal(few.asked, many.asked[:10])


def test_no_class_may_vanish_and_the_bound_is_exact():
    with pytest.raises(mu.SettingsError, match="1 to ") as caught:
        divided(mu.Settings(patients=20, forget=16), 0)
    most = int(str(caught.value).split("1 to ")[1].split(",")[0])
    data = divided(mu.Settings(patients=20, forget=most), 0)
    assert set(data.retain.y) == {0, 1}
    with pytest.raises(mu.SettingsError):
        divided(mu.Settings(patients=20, forget=most + 1), 0)


@pytest.mark.parametrize(("n_ill", "expected"), [(0, {False}), (2, {False, True})])
def test_rows_of_which_nobody_may_leave_are_too_few(n_ill, expected):
    """A single row may ask where both classes remain, and nobody where they never do."""
    settings = mu.Settings(patients=10, forget=1)
    outcomes = set()
    for seed in range(60):
        seeded = mu.replace(settings, seed=seed)
        y = np.repeat([1, 0], [n_ill, 10 - n_ill])
        cohort = mu.hospital(seeded, np.random.RandomState(0))._replace(y=y)
        train, _ = mu.train_test_split(np.arange(10), test_size=0.2, random_state=seed)
        order = np.random.RandomState(seed).permutation(8)
        remain = set(y[train[order[1:]]]) == {0, 1}
        outcomes.add(remain)
        if remain:
            data = mu.split(cohort, seeded, np.random.RandomState(seed))
            np.testing.assert_array_equal(data.asked, order[:1])
        else:
            with pytest.raises(
                mu.SettingsError, match=r"^--patients 10: too few to keep both classes$"
            ):
                mu.split(cohort, seeded, np.random.RandomState(seed))
    assert outcomes == expected
