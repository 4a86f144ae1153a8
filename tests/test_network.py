"""The network against independent authorities: calculus, scikit-learn, its own contract."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.neural_network import MLPClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

import machine_unlearning as mu

NAMES = ["W1_", "b1_", "W2_", "b2_"]


def relative_errors(model, X, y, slopes, h=1e-6):
    """Largest error of the slopes against central differences of the loss, over every weight."""
    errors = []
    for name, slope in zip(NAMES, slopes):
        parameter = getattr(model, name)
        assert slope.shape == parameter.shape
        for index in np.ndindex(parameter.shape):
            kept = parameter[index]
            parameter[index] = kept + h
            above = model.loss(X, y)
            parameter[index] = kept - h
            below = model.loss(X, y)
            parameter[index] = kept
            difference = (above - below) / (2 * h)
            errors.append(abs(difference - slope[index]) / max(1e-3, abs(difference)))
    return max(errors)


@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("scale", [0.01, 1.0])
def test_gradient_is_the_slope_of_the_loss(rows, l2, scale):
    model = mu.TwoLayerMLP(init_scale=scale, l2=l2, epochs=5, random_state=1).fit(*rows)
    slopes = model.gradient(*rows)
    assert relative_errors(model, *rows, slopes) < 1e-5
    for wrong in range(4):  # the check itself is shown to fail, for each of the four arrays
        broken = [slope * 1.01 if k == wrong else slope for k, slope in enumerate(slopes)]
        assert relative_errors(model, *rows, broken) > 1e-3


def test_the_gradient_of_many_rows_is_the_mean_of_those_of_parts():
    rng = np.random.RandomState(0)
    X = rng.randn(5000, 2)
    y = (X[:, 0] > rng.randn(5000)).astype(int)
    model = mu.TwoLayerMLP(init_scale=1.0, random_state=1).fit(X[:60], y[:60])
    parts = [model.gradient(X[k : k + 100], y[k : k + 100]) for k in range(0, 5000, 100)]
    for name, whole, *some in zip(NAMES, model.gradient(X, y), *parts):
        np.testing.assert_allclose(
            whole, np.mean(some, axis=0), rtol=1e-9, atol=1e-12, err_msg=name
        )


def test_200_epochs_agree_with_scikit_learn(patients, settings):
    X, y = patients.data.train
    ours = mu.TwoLayerMLP(epochs=0, random_state=3).fit(X, y)
    theirs = MLPClassifier(
        (20,), activation="tanh", solver="sgd", alpha=0, batch_size=len(X), learning_rate_init=0.1,
        momentum=0, nesterovs_momentum=False, shuffle=False,
    )  # fmt: skip
    theirs.partial_fit(X, y, classes=[0, 1])
    theirs.coefs_[0][:], theirs.coefs_[1][:] = ours.W1_, ours.W2_
    theirs.intercepts_[0][:], theirs.intercepts_[1][:] = ours.b1_, ours.b2_
    ours = mu.TwoLayerMLP(epochs=200, random_state=3).fit(X, y)
    for _ in range(200):
        theirs.partial_fit(X, y)
    for mine, sklearns in [
        (ours.W1_, theirs.coefs_[0]),
        (ours.b1_, theirs.intercepts_[0]),
        (ours.W2_, theirs.coefs_[1]),
        (ours.b2_, theirs.intercepts_[1]),
        (ours.predict_proba(X), theirs.predict_proba(X)),
    ]:
        np.testing.assert_allclose(mine, sklearns, rtol=0, atol=1e-12)


@parametrize_with_checks([mu.TwoLayerMLP(), mu.TwoLayerMLP(hidden_size=3, l2=0.01, epochs=300)])
def test_scikit_learns_own_checks(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks warn on purpose, of themselves
        check(estimator)


def test_one_step_of_descent_written_out(rows):
    X, y = rows
    model = mu.TwoLayerMLP(epochs=0, init_scale=0.5, random_state=2).fit(X, y)
    W1, b1, W2, b2 = (getattr(model, name).copy() for name in NAMES)
    A = np.tanh(X @ W1 + b1)
    error = (1 / (1 + np.exp(-(A @ W2 + b2))) - y[:, None]) / len(y)
    back = error @ W2.T * (1 - A**2)
    model.step(X, y, 0.3)
    np.testing.assert_allclose(model.W1_, W1 - 0.3 * X.T @ back, atol=1e-14)
    np.testing.assert_allclose(model.b1_, b1 - 0.3 * back.sum(axis=0), atol=1e-14)
    np.testing.assert_allclose(model.W2_, W2 - 0.3 * A.T @ error, atol=1e-14)
    np.testing.assert_allclose(model.b2_, b2 - 0.3 * error.sum(axis=0), atol=1e-14)


def test_descent_lowers_the_loss_and_ascent_raises_it(rows):
    model = mu.TwoLayerMLP(init_scale=0.5, random_state=0)
    losses = [clone(model).set_params(epochs=n).fit(*rows).loss(*rows) for n in range(0, 100, 10)]
    assert np.all(np.diff(losses) < 0)
    model.fit(*rows)
    raised = [model.unlearn(*rows, epochs=1).loss(*rows) for _ in range(30)]
    assert np.all(np.diff(raised) > 0)


def test_a_step_of_ascent_takes_back_a_small_step_of_descent(rows):
    model = mu.TwoLayerMLP(epochs=100, learning_rate=1e-4, random_state=0).fit(*rows)
    there = model.decision_function(rows[0])
    model.step(*rows, 1e-4)
    model.unlearn(*rows, epochs=1, multiplier=1.0)
    np.testing.assert_allclose(model.decision_function(rows[0]), there, atol=1e-8)


def test_unlearn_works_in_place_and_returns_the_model(rows):
    model = mu.TwoLayerMLP(epochs=3, random_state=0).fit(*rows)
    W1 = model.W1_
    assert model.unlearn(*rows, epochs=2) is model
    assert model.W1_ is W1
    before = W1.copy()
    model.unlearn(*rows, epochs=0)
    model.unlearn(*rows, multiplier=0)
    np.testing.assert_array_equal(model.W1_, before)


@pytest.mark.parametrize("logit", [1e6, -1e6])
def test_a_million_is_not_too_large_a_logit(rows, logit):
    X, y = rows
    model = mu.TwoLayerMLP(epochs=0, random_state=0).fit(X, y)
    model.b2_[:] = logit
    assert np.all(np.isfinite(model.predict_proba(X)))
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)
    wrong = y == (logit < 0)
    np.testing.assert_allclose(model.losses(X, y)[wrong], 1e6, rtol=1e-6)
    np.testing.assert_allclose(model.losses(X, y)[~wrong], 0, atol=1e-12)
    assert all(np.isfinite(slope).all() for slope in model.gradient(X, y))


def test_ascent_as_far_as_a_million_steps_stays_finite():
    X, y = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.2]]), np.array([0, 1, 0])
    model = mu.TwoLayerMLP(hidden_size=2, random_state=0).fit(X, y)
    model.unlearn(X, y, epochs=10**4, multiplier=1e4)  # each as long as 10^4 of the demo's
    model.unlearn(X, y, epochs=10**4, multiplier=0.7)
    assert np.isfinite(model.predict_proba(X)).all()
    assert np.isfinite(model.loss(X, y))
    assert np.abs(model.decision_function(X)).max() > 1e6


@hypothesis_settings(deadline=None, max_examples=50)
@given(
    X=arrays(float, (7, 2), elements=st.floats(-1e6, 1e6)),
    seed=st.integers(0, 2**32 - 1),
    rate=st.floats(0, 100),
)
def test_probabilities_and_losses_are_what_they_should_be(X, seed, rate):
    y = np.array([0, 1, 0, 1, 1, 0, 1])
    model = mu.TwoLayerMLP(5, learning_rate=rate, epochs=3, random_state=seed).fit(X, y)
    p = model.predict_proba(X)
    assert np.isfinite(p).all()
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1)
    np.testing.assert_array_equal(model.predict(X), (model.decision_function(X) > 0).astype(int))
    assert (model.losses(X, y) >= 0).all()
    inner = (p > 1e-9).all(axis=1)
    of_label = p[np.arange(7), y]
    np.testing.assert_allclose(model.losses(X, y)[inner], -np.log(of_label[inner]), atol=1e-9)
    assert model.loss(X, y) == pytest.approx(model.losses(X, y).mean())


def test_labels_may_be_words(rows):
    X, y = rows
    numbers = mu.TwoLayerMLP(random_state=0).fit(X, y)
    words = mu.TwoLayerMLP(random_state=0).fit(X, np.array(["ill", "well"])[y])
    np.testing.assert_array_equal(words.predict(X), np.array(["ill", "well"])[numbers.predict(X)])
    assert list(words.classes_) == ["ill", "well"]


BAD_ROWS = {
    "NaN": (lambda X, y: (np.where(X[0, 0] == X, np.nan, X), y), "NaN"),
    "infinity": (lambda X, y: (np.where(X[0, 0] == X, np.inf, X), y), "infinity"),
    "lengths": (lambda X, y: (X, y[:-1]), "inconsistent numbers of samples"),
    "three classes": (lambda X, y: (X, np.arange(len(y)) % 3), "Only binary classification"),
    "one class": (lambda X, y: (X, np.zeros(len(y))), "one class"),
    "no rows": (lambda X, y: (X[:0], y[:0]), "0 sample"),
}


@pytest.mark.parametrize("bad", BAD_ROWS)
def test_fit_refuses_bad_rows(rows, bad):
    spoil, message = BAD_ROWS[bad]
    with pytest.raises(ValueError, match=message):
        mu.TwoLayerMLP().fit(*spoil(*rows))


BAD_REQUESTS = {
    "NaN": (lambda X, y: (X * np.nan, y), "NaN"),
    "lengths": (lambda X, y: (X, y[:-1]), "inconsistent numbers of samples"),
    "empty forget set": (lambda X, y: (X[:0], y[:0]), "0 sample"),
    "features": (lambda X, y: (X[:, :1], y), "1 features, but TwoLayerMLP is expecting 2"),
    "unknown label": (lambda X, y: (X, y + 1), "it holds"),
}


@pytest.mark.parametrize("bad", BAD_REQUESTS)
def test_unlearn_refuses_bad_rows(rows, bad):
    spoil, message = BAD_REQUESTS[bad]
    model = mu.TwoLayerMLP(random_state=0).fit(*rows)
    before = model.W1_.copy()
    with pytest.raises(ValueError, match=message):
        model.unlearn(*spoil(*rows))
    np.testing.assert_array_equal(model.W1_, before)


@pytest.mark.parametrize("setting", [{"hidden_size": 0}, {"epochs": -1}])
def test_fit_refuses_impossible_settings(rows, setting):
    with pytest.raises(ValueError, match=f"^{next(iter(setting))} == "):
        mu.TwoLayerMLP(**setting).fit(*rows)


def test_one_hidden_unit_and_no_epoch_are_possible(rows):
    X, y = rows
    model = mu.TwoLayerMLP(hidden_size=1, epochs=0, random_state=0).fit(X, y)
    assert model.W1_.shape == (2, 1)
    np.testing.assert_array_equal(model.b1_, [0])
    assert model.unlearn(X, y, epochs=0).predict(X).shape == y.shape


def test_unlearn_refuses_impossible_epochs(rows):
    model = mu.TwoLayerMLP().fit(*rows)
    with pytest.raises(ValueError, match=r"^epochs == -1"):
        model.unlearn(*rows, epochs=-1)
    with pytest.raises(TypeError, match=r"^epochs must be"):
        model.unlearn(*rows, epochs=1.5)


def test_nothing_works_before_fit(rows):
    X, y = rows
    for use in (
        lambda model: model.predict(X),
        lambda model: model.predict_proba(X),
        lambda model: model.decision_function(X),
        lambda model: model.loss(X, y),
        lambda model: model.unlearn(X, y),
    ):
        with pytest.raises(NotFittedError):
            use(mu.TwoLayerMLP())
