"""The methods: what each may read, what it leaves alone, what it reaches."""

import copy

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal, assert_equal
from scipy.optimize import brentq, minimize
from test_network import slopes

import machine_unlearning as mu

STUDY = mu.Settings(epochs=400, learning_rate=1.0, multiplier=0.07)
UNREAD = {  # what a method never reads
    mu.RETRAIN: ["original", "forget"], mu.NAIVE: ["forget", "retain"], mu.ASCENT: ["retain"],
    mu.PLUS: [], mu.TUNE: ["forget"], mu.REWIND: ["forget"], mu.INFLUENCE: ["forget"],
    mu.NEWTON_RETRAIN: ["original", "forget"], mu.NEWTON: ["forget"],
}  # fmt: skip


@pytest.fixture(scope="module")
def requests():
    """{method: (original of its kind, retain, forget, settings)} of a small random request."""
    settings = mu.replace(STUDY, patients=150, forget=20, epochs=61)
    forget, retain, _ = mu.make_request(mu.RANDOM, settings)
    everybody = mu.together(forget, retain)
    originals = [train(everybody, settings, np.random.RandomState(3))
                 for train in (mu.train_by_descent, mu.train_by_newton)]  # fmt: skip
    return {name: (originals[name in mu.BY_NEWTON], retain, forget, settings) for name in UNREAD}


@pytest.mark.parametrize("name", mu.METHODS)
def test_a_method_reads_what_it_may_and_leaves_its_inputs_alone(requests, name):
    original, retain, forget, settings = requests[name]
    before = copy.deepcopy((original, retain, forget))
    model = mu.METHODS[name](original, retain, forget, settings, np.random.RandomState(5))
    np.random.seed(1)  # noqa: NPY002  somebody else uses the global generator in between
    given = {"original": original, "retain": retain, "forget": forget}
    for unread in UNREAD[name]:
        given[unread] = copy.deepcopy(given[unread])
        getattr(given[unread], "weights_" if unread == "original" else "X")[:] = np.nan
    again = mu.METHODS[name](**given, settings=settings, rng=np.random.RandomState(5))
    assert np.isfinite(model.weights_).all()
    assert_array_equal(again.weights_, model.weights_)
    moved = np.abs(model.weights_ - original.weights_).max()
    assert moved == 0 if name == mu.NAIVE else moved > 1e-4
    model.weights_ += 99  # no array is shared with the original
    assert_array_equal(original.weights_, before[0].weights_)
    if name in mu.BY_DESCENT:
        assert_array_equal(original.checkpoint_.weights_, before[0].checkpoint_.weights_)
    assert_equal((retain, forget), before[1:])


def test_five_methods_written_out(requests):
    original, retain, forget, settings = requests[mu.PLUS]
    for method, n_steps, of_retain, of_forget in [
        (mu.gradient_ascent, 145, 0, -0.07), (mu.neg_grad_plus, 40, 0.95, -0.05),
        (mu.fine_tune, 50, 1, 0),
    ]:  # fmt: skip
        expected = copy.deepcopy(original)
        for _ in range(n_steps):
            down, up = expected.gradient(*retain), expected.gradient(*forget)
            expected.weights_ = expected.weights_ - (of_retain * down + of_forget * up)
        model = method(original, retain, forget, settings, None)
        assert_allclose(model.weights_, expected.weights_, atol=1e-9)
        assert model.loss(*forget) > original.loss(*forget)
    plain = mu.TwoLayerMLP(20, 1.0, 61, 0.5, 0.01, 8).fit(*retain)
    retrained = mu.full_retrain(original, retain, forget, settings, np.random.RandomState(8))
    assert_array_equal(retrained.weights_, plain.weights_)
    original, *_ = requests[mu.INFLUENCE]  # one Newton step
    g, H = mu.gradient_and_hessian(original, *retain)
    model = mu.influence_function(original, retain, forget, settings, None)
    assert_allclose(model.weights_, original.weights_ - np.linalg.inv(H) @ g, atol=1e-8)


def test_rewind_replays_the_second_half(requests):
    original, retain, forget, settings = requests[mu.REWIND]
    everybody = mu.together(forget, retain)
    whole, half = (mu.TwoLayerMLP(20, 1.0, n, 0.5, 0.01, 3).fit(*everybody) for n in (61, 30))
    assert_array_equal(whole.weights_, original.weights_)  # two halves are one whole
    assert_array_equal(original.checkpoint_.weights_, half.weights_)
    replayed = mu.rewind(original, everybody, forget, settings, None)
    assert_array_equal(replayed.weights_, original.weights_)  # nobody left: the original
    rewound = mu.rewind(original, retain, forget, settings, None)
    assert_array_equal(rewound.weights_, half.descend(*retain, 31).weights_)


@pytest.mark.parametrize(("d", "h", "scale"), [(2, 20, 0.5), (2, 7, 1.0), (3, 4, 1.0)])
def test_the_hessian_is_the_slope_of_the_gradient(d, h, scale):
    rng = np.random.RandomState(0)
    X = rng.randn(50, d)
    rows = mu.Rows(X, (X.sum(axis=1) + rng.randn(50) > 0).astype(int))
    model = mu.TwoLayerMLP(h, epochs=0, init_scale=scale, l2=0.01, random_state=1).fit(*rows)
    model.weights_[d * h : (d + 1) * h] += 0.3
    for _ in range(2):  # at random weights, and at the optimum
        g, H = mu.gradient_and_hessian(model, *rows)
        expected = slopes(model, lambda: model.gradient(*rows), 1e-5)
        assert_allclose(g, model.gradient(*rows), atol=1e-14)
        assert_allclose(H, expected, rtol=0, atol=1e-8)
        for block in (np.s_[:h, :h], np.s_[0, (d + 1) * h], np.s_[-1, -1]):  # it can fail
            broken = H.copy()
            broken[block] = 1.01 * H[block] + 1e-5
            assert np.abs(broken - expected).max() > 1e-6
        assert mu.go_to_optimum(model, rows) is model


def assert_optimum(model, rows):
    g, H = mu.gradient_and_hessian(model, *rows)
    assert np.linalg.norm(g) <= 1e-9
    assert np.linalg.eigvalsh(H)[0] > 0
    assert_array_equal(model.weights_, np.round(model.weights_, 10))
    assert np.all(model.unpack()[2] >= 0)  # W2: with tanh, the signs of a unit can be flipped


@pytest.mark.parametrize("kind", mu.REQUESTS)
def test_newton_from_old_weights_and_from_new_ones_is_the_optimum_of_another_optimiser(kind):
    forget, retain, _ = mu.make_request(kind, STUDY)
    original = mu.train_by_newton(mu.together(forget, retain), STUDY, np.random.RandomState(1))
    old = mu.newton(original, retain, forget, STUDY, None)
    new = mu.newton_retrain(original, retain, forget, STUDY, np.random.RandomState(2))
    other = mu.new_network(STUDY, 77, epochs=0).fit(*retain)

    def objective(weights):
        other.weights_ = weights
        return other.loss(*retain), other.gradient(*retain)

    start = other.weights_
    other.weights_ = minimize(objective, start, jac=True, method="BFGS", options={"gtol": 1e-8}).x
    for model in (old, new, mu.go_to_optimum(copy.deepcopy(new), retain)):
        assert_optimum(model, retain)
        assert model.loss(*retain) == pytest.approx(other.loss(*retain), abs=1e-10)
        z = model.decision_function(forget.X)
        assert_allclose(z, other.decision_function(forget.X), atol=1e-4)
        assert_allclose(z, old.decision_function(forget.X), atol=1e-9)


def test_a_saddle_is_left(requests):
    """Where all weights but b2 are 0, only b2 has a slope; but H curves down."""
    model, (original, retain, *_) = copy.deepcopy(requests[mu.NEWTON][0]), requests[mu.NEWTON]
    b2 = brentq(lambda b2: mu.sigmoid(b2) - retain.y.mean() + model.l2 * b2, -9, 9, xtol=1e-14)
    model.weights_ = np.append(np.zeros(80), b2)
    g, H = mu.gradient_and_hessian(model, *retain)
    assert np.linalg.norm(g) < 1e-10 < 0.01 < -np.linalg.eigvalsh(H)[0]
    assert_optimum(mu.go_to_optimum(model, retain), retain)
    direct = mu.go_to_optimum(copy.deepcopy(original), retain)
    assert model.loss(*retain) == pytest.approx(direct.loss(*retain), abs=1e-12)


@pytest.mark.parametrize("uphill", [None, -1e3])
def test_if_no_damping_helps_the_last_accepted_weights_stay(requests, monkeypatch, uphill):
    original, retain, *_ = requests[mu.NEWTON]
    g, dampings = original.gradient(*retain), []

    def newton_step(g, H, damping=0.0):
        dampings.append(damping)
        return 0.1 * g if len(dampings) == 1 else uphill and uphill * g

    monkeypatch.setattr(mu, "newton_step", newton_step)
    model = mu.go_to_optimum(copy.deepcopy(original), retain)
    assert_allclose(model.weights_, original.weights_ - 0.1 * g, atol=1e-14)
    assert dampings[:2] == [0, 0]
    assert np.all(np.diff(dampings[1:]) > 0)
    assert 1e5 < dampings[-1] < 1e6
