"""The network against independent authorities: calculus, scikit-learn, its own contract."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.neural_network import MLPClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

import machine_unlearning as mu


@pytest.fixture
def rows():
    """A small two-class data set that is not separable."""
    rng = np.random.RandomState(0)
    X = rng.randn(60, 2)
    return X, (X.sum(axis=1) + rng.randn(60) > 0).astype(int)


def slopes(model, function, h):
    """Central differences of a function of a model, by weight."""
    here, differences = model.weights_, []
    for move in h * np.eye(len(here)):
        model.weights_ = here + move
        above = function()
        model.weights_ = here - move
        differences.append((above - function()) / (2 * h))
    model.weights_ = here
    return np.array(differences)


@pytest.mark.parametrize(("scale", "l2", "block"), [(0.01, 0.0, 2048), (1.0, 0.1, 7), (1, 0.1, 60)])
def test_the_gradient_is_the_slope_of_the_loss(rows, scale, l2, block, monkeypatch):
    monkeypatch.setattr(mu.TwoLayerMLP, "BLOCK", block)
    model = mu.TwoLayerMLP(init_scale=scale, l2=l2, epochs=5, random_state=1).fit(*rows)
    gradient, expected = model.gradient(*rows), slopes(model, lambda: model.loss(*rows), 1e-6)
    assert_allclose(gradient, expected, rtol=1e-5, atol=1e-8)
    for part in (slice(40), slice(40, 60), slice(60, 80), slice(80, 81)):  # W1, b1, W2, b2
        broken = gradient.copy()
        broken[part] *= 1.01
        assert not np.allclose(broken, expected, rtol=1e-3, atol=1e-6)  # the check itself can fail


def test_200_epochs_agree_with_scikit_learn(patients):
    X, y = patients.data.train
    theirs = MLPClassifier(
        (20,), activation="tanh", solver="sgd", alpha=0, batch_size=len(X), learning_rate_init=0.1,
        momentum=0, nesterovs_momentum=False, shuffle=False,
    ).partial_fit(X, y, classes=[0, 1])  # fmt: skip
    W1, b1, W2, b2 = mu.TwoLayerMLP(epochs=0, random_state=3).fit(X, y).unpack()
    theirs.coefs_, theirs.intercepts_ = [W1, W2[:, None]], [b1, b2]
    ours = mu.TwoLayerMLP(random_state=3).fit(X, y)
    for _ in range(200):
        theirs.partial_fit(X, y)
    layers = zip(theirs.coefs_, theirs.intercepts_)
    weights = np.concatenate([part.ravel() for layer in layers for part in layer])
    assert_allclose(ours.weights_, weights, rtol=0, atol=1e-12)
    assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=0, atol=1e-12)


@parametrize_with_checks([mu.TwoLayerMLP(), mu.TwoLayerMLP(hidden_size=3, l2=0.01, epochs=300)])
def test_scikit_learns_own_checks(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks warn on purpose, of themselves
        check(estimator)


@pytest.mark.parametrize("logit", [1e6, -1e6])
def test_a_million_is_not_too_large_a_logit(rows, logit):
    X, y = rows
    model = mu.TwoLayerMLP(epochs=0, random_state=0).fit(X, y)
    model.weights_[-1] = logit
    assert set(model.predict_proba(X).ravel()) == {0, 1}
    losses = np.where(y == (logit < 0), 1e6, 0)
    assert_allclose(model.losses(X, y), losses, rtol=1e-6, atol=1e-12)
    assert np.isfinite(model.gradient(X, y)).all()
    model.unlearn(X, y, epochs=10**4, multiplier=1e4)  # each as long as 10^4 of the demo's
    assert np.isfinite([*model.predict_proba(X).ravel(), model.loss(X, y)]).all()


@pytest.mark.parametrize("use", ["unlearn", "loss"])
def test_bad_rows_and_numbers_are_refused_and_nothing_is_changed(rows, use):
    (X, y), model = rows, mu.TwoLayerMLP(hidden_size=1, epochs=0)  # the least that is possible
    with pytest.raises(NotFittedError):
        getattr(model, use)(X, y)
    before = model.fit(X, y).weights_.copy()
    for bad, message in [
        ((X * np.nan, y), "NaN"), ((X + np.inf, y), "infinity"), ((X, y[:-1]), "inconsistent"),
        ((X[:0], y[:0]), "0 sample"), ((X, y + 1), r"hold \[0 1\] only, it holds \[1 2\]"),
        ((X[:, :1], y), "1 features, but TwoLayerMLP is expecting 2"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            getattr(model, use)(*bad)
    for wrong, error in [(-1, ValueError), (1.5, TypeError)]:
        with pytest.raises(error, match=r"^epochs "):
            model.unlearn(X, y, wrong)
        for name in ("hidden_size", "epochs"):
            with pytest.raises(error, match=f"^{name} "):
                mu.TwoLayerMLP(**{name: wrong + (wrong < 0 and name == "hidden_size")}).fit(X, y)
    assert_array_equal(model.weights_, before)
