"""The methods: what each may read, what it leaves alone, what it reaches."""

import copy

import numpy as np
import pytest
from scipy.optimize import brentq, minimize

import machine_unlearning as mu

STUDY = mu.Settings(**mu.EXPERIMENTS["study"].defaults)


@pytest.fixture(scope="module")
def requests():
    """{method: (original of its family, retain, forget, settings)} of a small random request."""
    settings = mu.Settings(patients=150, forget=20, epochs=60, learning_rate=1.0, multiplier=0.07)
    forget, retain, _ = mu.make_request(mu.RANDOM, settings)
    given = {}
    for train, methods in mu.FAMILIES.values():
        original = train(mu.together(forget, retain), settings, np.random.RandomState(3))
        for name in methods:
            given[name] = original, retain, forget, settings
    return given


@pytest.mark.parametrize("name", mu.METHODS)
def test_a_method_leaves_its_inputs_unchanged(requests, name):
    original, retain, forget, settings = requests[name]
    before = copy.deepcopy((original, retain, forget))
    model = mu.METHODS[name](original, retain, forget, settings, np.random.RandomState(0))
    assert model is not original
    for weights in model.parameters:  # no array is shared with the original
        weights += 99
    np.testing.assert_array_equal(mu.get_weights(original), mu.get_weights(before[0]))
    if hasattr(original, "checkpoint_"):
        kept = before[0].checkpoint_
        np.testing.assert_array_equal(mu.get_weights(original.checkpoint_), mu.get_weights(kept))
    for rows, same in zip((retain, forget), before[1:]):
        np.testing.assert_array_equal(rows.X, same.X)
        np.testing.assert_array_equal(rows.y, same.y)


@pytest.mark.parametrize("name", mu.METHODS)
def test_a_method_gives_the_same_again(requests, name):
    one = mu.METHODS[name](*requests[name], np.random.RandomState(5))
    np.random.seed(1)  # noqa: NPY002  somebody else uses the global generator in between
    other = mu.METHODS[name](*requests[name], np.random.RandomState(5))
    np.testing.assert_array_equal(mu.get_weights(one), mu.get_weights(other))


UNREAD = {
    mu.RETRAIN: ["forget"],
    mu.NAIVE: ["forget", "retain"],
    mu.ASCENT: ["retain"],
    mu.PLUS: [],
    mu.TUNE: ["forget"],
    mu.REWIND: ["forget"],
    mu.NEWTON_RETRAIN: ["forget"],
    mu.NEWTON: ["forget"],
    mu.INFLUENCE: ["forget"],
}


@pytest.mark.parametrize("name", mu.METHODS)
def test_a_method_never_peeks(requests, name):
    original, retain, forget, settings = requests[name]
    sets = {"retain": retain, "forget": forget}
    clean = mu.METHODS[name](original, **sets, settings=settings, rng=np.random.RandomState(5))
    for poisoned in UNREAD[name]:
        sets[poisoned] = mu.Rows(sets[poisoned].X * np.nan, sets[poisoned].y)
    model = mu.METHODS[name](original, **sets, settings=settings, rng=np.random.RandomState(5))
    assert np.isfinite(mu.get_weights(model)).all()
    np.testing.assert_array_equal(mu.get_weights(clean), mu.get_weights(model))


@pytest.mark.parametrize("name", [name for name in mu.METHODS if name != mu.NAIVE])
def test_a_method_does_something(requests, name):
    model = mu.METHODS[name](*requests[name], np.random.RandomState(5))
    assert np.abs(mu.get_weights(model) - mu.get_weights(requests[name][0])).max() > 1e-4


def test_retrained_is_a_network_trained_on_the_retain_set(patients, settings):
    data = patients.data
    request = patients.models[mu.ORIGINAL], data.retain, data.forget, settings
    runner = mu.full_retrain(*request, np.random.RandomState(8))
    plain = mu.TwoLayerMLP(random_state=8).fit(*data.retain)
    np.testing.assert_array_equal(mu.get_weights(runner), mu.get_weights(plain))


def test_naive_deletion_changes_nothing(patients):
    naive, original = patients.models[mu.NAIVE], patients.models[mu.ORIGINAL]
    np.testing.assert_array_equal(mu.get_weights(naive), mu.get_weights(original))


def test_ascent_raises_the_loss_of_the_forget_set_with_its_two_settings(patients):
    data, original = patients.data, patients.models[mu.ORIGINAL]

    def loss(**choice):
        request = original, data.retain, data.forget, mu.Settings(**choice)
        return mu.gradient_ascent(*request, None).loss(*data.forget)

    nothing = original.loss(*data.forget)
    assert loss(multiplier=0) == loss(unlearn_epochs=0) == nothing
    assert nothing < loss(unlearn_epochs=10) < loss(unlearn_epochs=20)
    assert loss(unlearn_epochs=20, multiplier=0.7) == pytest.approx(
        loss(unlearn_epochs=10, multiplier=1.4), rel=1e-3
    )
    assert loss() > 2 * nothing


def test_the_study_takes_the_demos_steps():
    demo = mu.Settings()
    assert STUDY.learning_rate * STUDY.multiplier == pytest.approx(
        demo.learning_rate * demo.multiplier
    )
    assert STUDY.unlearn_epochs == demo.unlearn_epochs


def test_neg_grad_plus_written_out(requests):
    original, retain, forget, _ = requests[mu.PLUS]
    model = copy.deepcopy(original)
    for _ in range(40):
        down, up = model.gradient(*retain), model.gradient(*forget)
        for weights, d, u in zip(model.parameters, down, up):
            weights -= original.learning_rate * (0.95 * d - 0.05 * u)
    plus = mu.neg_grad_plus(*requests[mu.PLUS], None)
    np.testing.assert_allclose(mu.get_weights(plus), mu.get_weights(model), rtol=1e-12)


def test_rewind_replays_the_second_half(requests):
    original, retain, forget, settings = requests[mu.REWIND]
    everybody = mu.together(forget, retain)
    assert original.checkpoint_.epochs == 30
    replayed = mu.rewind(original, everybody, forget, settings, None)  # nobody left: the original
    np.testing.assert_array_equal(mu.get_weights(replayed), mu.get_weights(original))
    model = mu.TwoLayerMLP(20, 1.0, 60, **mu.OBJECTIVE, random_state=np.random.RandomState(3))
    np.testing.assert_array_equal(
        mu.get_weights(model.fit(*everybody)), mu.get_weights(original)
    )  # two halves are one whole


# ---- Newton -----------------------------------------------------------------------------------


def hessian_error(model, X, y, H, step=1e-5):
    """Largest error of H against central differences of the network's own gradient."""
    here, rows = mu.get_weights(model), []
    for k in range(len(here)):
        sides = []
        for sign in (1, -1):
            mu.set_weights(model, here + sign * step * (np.arange(len(here)) == k))
            sides.append(np.concatenate([part.ravel() for part in model.gradient(X, y)]))
        rows.append((sides[0] - sides[1]) / (2 * step))
    mu.set_weights(model, here)
    return np.abs(np.array(rows) - H).max()


@pytest.mark.parametrize(("d", "h", "scale"), [(2, 20, 0.5), (2, 7, 1.0), (3, 4, 1.0)])
def test_the_hessian_is_the_slope_of_the_gradient(d, h, scale):
    rng = np.random.RandomState(0)
    X = rng.randn(50, d)
    y = (X.sum(axis=1) + rng.randn(50) > 0).astype(int)
    recipe = {"init_scale": scale, "l2": 0.01, "random_state": 1}
    model = mu.TwoLayerMLP(h, epochs=0, **recipe).fit(X, y)
    model.b1_ += 0.3
    for _ in range(2):  # at random weights, and at the optimum
        g, H = mu.slope_and_curvature(model, X, y)
        gradient = np.concatenate([part.ravel() for part in model.gradient(X, y)])
        np.testing.assert_allclose(g, gradient, atol=1e-14)
        assert hessian_error(model, X, y, H) < 1e-8
        for block in (np.s_[:h, :h], np.s_[0, (d + 1) * h], np.s_[-1, -1]):  # it can fail
            broken = H.copy()
            broken[block] = 1.01 * H[block] + 1e-5
            assert hessian_error(model, X, y, broken) > 1e-6
        mu.go_to_optimum(model, (X, y))
    assert np.linalg.norm(mu.slope_and_curvature(model, X, y)[0]) <= 1e-10


def test_the_weights_in_one_row(requests):
    model = copy.deepcopy(requests[mu.NEWTON][0])
    W1, values = model.W1_, np.arange(81.0)
    mu.set_weights(model, values)
    assert model.W1_ is W1  # in place
    np.testing.assert_array_equal(model.W1_, values[:40].reshape(2, 20))
    np.testing.assert_array_equal(model.b1_, values[40:60])
    np.testing.assert_array_equal(model.W2_[:, 0], values[60:80])
    np.testing.assert_array_equal(mu.get_weights(model), values)


def test_newtons_optimum_is_the_one_of_another_optimiser(requests):
    original, retain, forget, settings = requests[mu.NEWTON]
    model = mu.newton(original, retain, forget, settings, None)
    other = mu.TwoLayerMLP(20, epochs=0, **mu.OBJECTIVE, random_state=77).fit(*retain)

    def objective(values):
        mu.set_weights(other, values)
        slopes = np.concatenate([part.ravel() for part in other.gradient(*retain)])
        return other.loss(*retain), slopes

    start = mu.get_weights(other)
    found = minimize(objective, start, jac=True, method="BFGS", options={"gtol": 1e-9})
    mu.set_weights(other, found.x)
    assert model.loss(*retain) == pytest.approx(other.loss(*retain), abs=1e-11)
    here, there = (each.decision_function(forget.X) for each in (model, other))
    np.testing.assert_allclose(here, there, atol=1e-5)


@pytest.mark.parametrize("kind", mu.REQUESTS)
def test_newton_from_the_old_weights_is_newton_from_new_ones(kind):
    forget, retain, test = mu.make_request(kind, STUDY)
    original = mu.train_by_newton(mu.together(forget, retain), STUDY, np.random.RandomState(1))
    old = mu.newton(original, retain, forget, STUDY, None)
    new = mu.newton_retrain(original, retain, forget, STUDY, np.random.RandomState(2))
    for X in (forget.X, test.X):
        np.testing.assert_allclose(old.decision_function(X), new.decision_function(X), atol=1e-6)


def test_the_influence_function_is_one_newton_step(requests):
    original, retain, forget, settings = requests[mu.INFLUENCE]
    g, H = mu.slope_and_curvature(original, *retain)
    expected = mu.get_weights(original) - np.linalg.inv(H) @ g
    model = mu.influence_function(original, retain, forget, settings, None)
    np.testing.assert_allclose(mu.get_weights(model), expected, atol=1e-8)


def test_a_saddle_is_no_optimum(requests):
    """Where all weights but b2 are 0, only b2 has a slope; but H curves down."""
    original, retain, _, settings = requests[mu.NEWTON]
    model = copy.deepcopy(original)
    b2 = brentq(lambda b2: mu.expit(b2) - retain.y.mean() + model.l2 * b2, -9, 9, xtol=1e-14)
    mu.set_weights(model, np.append(np.zeros(80), b2))
    g, H = mu.slope_and_curvature(model, *retain)
    assert np.linalg.norm(g) < 1e-10
    assert np.linalg.eigvalsh(H)[0] < -0.01
    mu.go_to_optimum(model, retain)
    g, H = mu.slope_and_curvature(model, *retain)
    assert np.linalg.norm(g) <= 1e-10
    assert np.linalg.eigvalsh(H)[0] > 0
    fresh = mu.train_by_newton(retain, settings, np.random.RandomState(0))
    assert model.loss(*retain) == pytest.approx(fresh.loss(*retain), abs=1e-12)


def test_newton_stays_at_the_optimum_and_refuses_nan(requests):
    original, retain, *_ = requests[mu.NEWTON]
    there = mu.go_to_optimum(copy.deepcopy(original), retain)
    again = mu.go_to_optimum(copy.deepcopy(there), retain)
    np.testing.assert_array_equal(mu.get_weights(again), mu.get_weights(there))
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="NaN"):  # not for ever
        mu.go_to_optimum(copy.deepcopy(original), mu.Rows(retain.X * np.nan, retain.y))
