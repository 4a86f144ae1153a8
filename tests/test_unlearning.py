"""The runners: what each may read, what it leaves alone, what it reaches."""

import copy

import numpy as np
import pytest

import machine_unlearning as mu

WEIGHTS = ["W1_", "b1_", "W2_", "b2_"]


def weights(model):
    return np.concatenate([getattr(model, name).ravel() for name in WEIGHTS])


def request_of(comparison, settings):
    data = comparison.data
    return comparison.models[mu.ORIGINAL], data.retain, data.forget, settings


@pytest.mark.parametrize("name", mu.METHODS)
def test_runner_leaves_its_inputs_unchanged(patients, settings, name):
    request = request_of(patients, settings)
    before = copy.deepcopy(request[:3])
    model = mu.METHODS[name](*request, np.random.RandomState(0))
    assert model is not request[0]
    np.testing.assert_array_equal(weights(request[0]), weights(before[0]))
    for rows, kept in zip(request[1:3], before[1:3]):
        np.testing.assert_array_equal(rows.X, kept.X)
        np.testing.assert_array_equal(rows.y, kept.y)
    original = weights(request[0])
    for parameter in WEIGHTS:  # no array is shared with the original
        getattr(model, parameter)[:] = 99
    np.testing.assert_array_equal(weights(request[0]), original)


@pytest.mark.parametrize("name", mu.METHODS)
def test_runner_gives_the_same_again(patients, settings, name):
    request = request_of(patients, settings)
    one = mu.METHODS[name](*request, np.random.RandomState(5))
    np.random.seed(1)  # noqa: NPY002  somebody else uses the global generator in between
    np.random.rand(3)  # noqa: NPY002
    other = mu.METHODS[name](*request, np.random.RandomState(5))
    np.testing.assert_array_equal(weights(one), weights(other))


UNREAD = {mu.RETRAIN: ["forget"], mu.NAIVE: ["forget", "retain"], mu.ASCENT: ["retain"]}


@pytest.mark.parametrize("name", mu.METHODS)
def test_runner_never_peeks(patients, settings, name):
    original, retain, forget, _ = request_of(patients, settings)
    sets = {"retain": retain, "forget": forget}
    clean = mu.METHODS[name](original, **sets, settings=settings, rng=np.random.RandomState(5))
    for unread in UNREAD[name]:
        sets[unread] = mu.Rows(*(np.full(np.shape(values), np.nan) for values in sets[unread]))
    poisoned = mu.METHODS[name](original, **sets, settings=settings, rng=np.random.RandomState(5))
    assert np.isfinite(weights(poisoned)).all()
    np.testing.assert_array_equal(weights(clean), weights(poisoned))


def test_retrained_is_a_network_trained_on_the_retain_set(patients, settings):
    original, retain, forget, _ = request_of(patients, settings)
    runner = mu.full_retrain(original, retain, forget, settings, np.random.RandomState(8))
    plain = mu.TwoLayerMLP(random_state=8).fit(*retain)
    np.testing.assert_array_equal(weights(runner), weights(plain))


def test_naive_deletion_changes_nothing(patients):
    naive, original = patients.models[mu.NAIVE], patients.models[mu.ORIGINAL]
    np.testing.assert_array_equal(weights(naive), weights(original))


def test_ascent_raises_the_loss_of_the_forgotten(patients, settings):
    original, retain, forget, _ = request_of(patients, settings)
    ascent = mu.gradient_ascent(original, retain, forget, settings, None)
    assert ascent.loss(*forget) > 2 * original.loss(*forget)
    descent = mu.TwoLayerMLP(random_state=0).fit(*forget)  # the same rows, the other direction
    assert descent.loss(*forget) < original.loss(*forget) * 1.1


def test_ascent_depends_on_its_two_settings(patients):
    original, retain, forget, settings = request_of(patients, mu.Settings(unlearn_epochs=10))
    few = mu.gradient_ascent(original, retain, forget, settings, None)
    stronger = mu.gradient_ascent(original, retain, forget, mu.Settings(unlearn_epochs=20), None)
    none = mu.gradient_ascent(original, retain, forget, mu.Settings(multiplier=0), None)
    assert original.loss(*forget) < few.loss(*forget) < stronger.loss(*forget)
    np.testing.assert_array_equal(weights(none), weights(original))
