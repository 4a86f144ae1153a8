"""The runners: what each may read, what it leaves alone, what it reaches."""

import copy

import numpy as np
import pytest

import machine_unlearning as mu


def weights(model):
    """All numbers that predictions depend on."""
    if isinstance(model, mu.Sisa):
        model.predict(np.zeros((1, 2)))  # trains what is not trained yet
        return np.concatenate([chain[-1].weights for chain in model.chains_])
    return model.weights


@pytest.fixture(scope="module")
def ensemble(patients):
    return mu.Sisa(epochs=20, random_state=3).fit(*patients.data.train)


@pytest.fixture
def request_of(patients, ensemble, settings):
    """(original, retain, forget, settings) of a method; SISA has an original of its own kind."""

    def give(name):
        original = ensemble if name == mu.SISA else patients.models[mu.ORIGINAL]
        return original, patients.data.retain, patients.data.forget, settings

    return give


@pytest.mark.parametrize("name", mu.METHODS)
def test_runner_leaves_its_inputs_unchanged(request_of, name):
    request = request_of(name)
    before = copy.deepcopy(request[:3])
    model = mu.METHODS[name](*request, np.random.RandomState(0))
    assert model is not request[0]
    np.testing.assert_array_equal(weights(request[0]), weights(before[0]))
    for rows, kept in zip(request[1:3], before[1:3]):
        np.testing.assert_array_equal(rows.X, kept.X)
        np.testing.assert_array_equal(rows.y, kept.y)
    original = weights(request[0])
    networks = [chain[-1] for chain in model.chains_] if name == mu.SISA else [model]
    for network in networks:  # no array is shared with the original
        network.weights = np.full_like(network.weights, 99)
    np.testing.assert_array_equal(weights(request[0]), original)


@pytest.mark.parametrize("name", mu.METHODS)
def test_runner_gives_the_same_again(request_of, name):
    request = request_of(name)
    one = mu.METHODS[name](*request, np.random.RandomState(5))
    np.random.seed(1)  # noqa: NPY002  somebody else uses the global generator in between
    np.random.rand(3)  # noqa: NPY002
    other = mu.METHODS[name](*request, np.random.RandomState(5))
    np.testing.assert_array_equal(weights(one), weights(other))


UNREAD = {
    mu.RETRAIN: ["forget"],
    mu.NAIVE: ["forget", "retain"],
    mu.ASCENT: ["retain"],
    mu.PLUS: [],
    mu.TUNE: ["forget"],
    mu.REWIND: ["forget"],
    mu.NEWTON: ["forget"],
    mu.SISA: ["forget"],
}


@pytest.mark.parametrize("name", mu.METHODS)
def test_runner_never_peeks(request_of, name):
    original, retain, forget, settings = request_of(name)
    sets = {"retain": retain, "forget": forget}
    clean = mu.METHODS[name](original, **sets, settings=settings, rng=np.random.RandomState(5))
    for unread in UNREAD[name]:
        sets[unread] = mu.Rows(*(np.full(np.shape(values), np.nan) for values in sets[unread]))
    poisoned = mu.METHODS[name](original, **sets, settings=settings, rng=np.random.RandomState(5))
    assert np.isfinite(weights(poisoned)).all()
    np.testing.assert_array_equal(weights(clean), weights(poisoned))


@pytest.mark.parametrize("name", [name for name in mu.METHODS if name != mu.NAIVE])
def test_runner_does_something(request_of, name):
    request = request_of(name)
    model = mu.METHODS[name](*request, np.random.RandomState(5))
    assert np.abs(weights(model) - weights(request[0])).max() > 1e-4


def test_retrained_is_a_network_trained_on_the_retain_set(request_of, settings):
    original, retain, forget, _ = request_of(mu.RETRAIN)
    runner = mu.full_retrain(original, retain, forget, settings, np.random.RandomState(8))
    plain = mu.TwoLayerMLP(random_state=8).fit(*retain)
    np.testing.assert_array_equal(weights(runner), weights(plain))


def test_naive_deletion_changes_nothing(patients):
    naive, original = patients.models[mu.NAIVE], patients.models[mu.ORIGINAL]
    np.testing.assert_array_equal(weights(naive), weights(original))


def test_ascent_raises_the_loss_of_the_forgotten(request_of, settings):
    original, retain, forget, _ = request_of(mu.RETRAIN)
    ascent = mu.gradient_ascent(original, retain, forget, settings, None)
    assert ascent.loss(*forget) > 2 * original.loss(*forget)
    descent = mu.TwoLayerMLP(random_state=0).fit(*forget)  # the same rows, the other direction
    assert descent.loss(*forget) < original.loss(*forget) * 1.1


def test_ascent_depends_on_its_two_settings(request_of):
    original, retain, forget, _ = request_of(mu.ASCENT)
    few = mu.gradient_ascent(original, retain, forget, mu.Settings(unlearn_epochs=10), None)
    stronger = mu.gradient_ascent(original, retain, forget, mu.Settings(unlearn_epochs=20), None)
    none = mu.gradient_ascent(original, retain, forget, mu.Settings(multiplier=0), None)
    assert original.loss(*forget) < few.loss(*forget) < stronger.loss(*forget)
    np.testing.assert_array_equal(weights(none), weights(original))


def test_rewind_by_everything_is_retraining_and_by_nothing_is_naive(patients, settings):
    data = patients.data
    original = mu.TwoLayerMLP(epochs=101, random_state=4).fit(*data.train)
    retrained = mu.TwoLayerMLP(epochs=101, random_state=4).fit(*data.retain)
    request = original, data.retain, data.forget, settings, None
    np.testing.assert_array_equal(mu.rewind(*request, epoch=0).weights, retrained.weights)
    np.testing.assert_array_equal(mu.rewind(*request, epoch=101).weights, original.weights)
    half = mu.rewind(*request)
    np.testing.assert_array_equal(half.weights, mu.rewind(*request, epoch=50).weights)
    X = data.forget.X
    assert 0 < mu.gap_to_retrained(half, retrained, X) < mu.gap_to_retrained(original, retrained, X)


def test_neg_grad_plus_without_ascent_is_fine_tuning(request_of):
    request = (*request_of(mu.PLUS), None)
    plus = mu.neg_grad_plus(*request, beta=1, epochs=30)
    tuned = mu.fine_tune(*request, epochs=30)
    np.testing.assert_allclose(plus.weights, tuned.weights, rtol=0, atol=1e-13)
    ascent = mu.neg_grad_plus(*request, beta=0, epochs=145)
    plain = mu.gradient_ascent(*request[:3], mu.Settings(multiplier=1.0), None)
    np.testing.assert_allclose(ascent.weights, plain.weights, rtol=0, atol=1e-10)


@pytest.fixture
def bent(rows):
    """A network with large weights, so that nothing about it is nearly linear."""
    return mu.TwoLayerMLP(init_scale=1.0, l2=0.1, epochs=20, random_state=1).fit(*rows)


def test_jacobian_is_the_slope_of_the_logits(bent, rows):
    X, (J, p), here = rows[0], mu.jacobian(bent, rows[0]), bent.weights
    np.testing.assert_allclose(p, bent.predict_proba(X)[:, 1])
    assert J.shape == (len(X), 81)
    for k in range(81):
        step = 1e-6 * (np.arange(81) == k)
        bent.weights = here + step
        above = bent.decision_function(X)
        bent.weights = here - step
        np.testing.assert_allclose(J[:, k], (above - bent.decision_function(X)) / 2e-6, atol=1e-7)
        bent.weights = here


def test_gauss_newton_slope_and_curvature(bent, rows):
    slope, G = mu.gauss_newton_step(bent, *rows)
    expected = np.concatenate([part.ravel() for part in bent.gradient(*rows)])
    np.testing.assert_allclose(slope, expected, atol=1e-14)
    np.testing.assert_allclose(G, G.T, atol=1e-15)
    assert np.linalg.eigvalsh(G).min() > -1e-12
    assert np.linalg.eigvalsh(G + 1e-2 * np.eye(81)).min() > 0.0099
    assert mu.gauss_newton_step(mu.TwoLayerMLP(epochs=0).fit(*rows), *rows)[1].trace() > 0


def test_gauss_newton_lowers_its_objective(patients, settings):
    data = patients.data
    recipe = {"learning_rate": 1.0, "epochs": 400, "init_scale": 0.5, "l2": 1e-3}
    original = mu.TwoLayerMLP(**recipe, random_state=0).fit(*data.train)
    retrained = mu.TwoLayerMLP(**recipe, random_state=0).fit(*data.retain)
    model = mu.gauss_newton(original, data.retain, data.forget, settings, None)
    assert model.loss(*data.retain) < original.loss(*data.retain)
    gaps = [mu.gap_to_retrained(m, retrained, data.forget.X) for m in (model, original)]
    assert gaps[0] < gaps[1] / 2


def deleted_by_hand(ensemble, retain):
    """The ensemble trained from its first weights on slices without the deleted rows."""
    fresh = copy.copy(ensemble)
    kept = {tuple(row) for row in retain.X}
    fresh.slices_ = [
        [
            mu.Rows(X[m], y[m])
            for X, y in slices
            for m in [np.array([tuple(row) in kept for row in X])]
        ]
        for slices in ensemble.slices_
    ]
    fresh.chains_ = [chain[:1] for chain in ensemble.chains_]
    return fresh


@pytest.mark.parametrize("n_forget", [1, 3, 80])
def test_sisa_is_exact(patients, ensemble, settings, n_forget):
    X, y = patients.data.train
    asked = patients.data.asked[:n_forget]
    retain, forget = (
        mu.Rows(np.delete(X, asked, 0), np.delete(y, asked)),
        mu.Rows(X[asked], y[asked]),
    )
    model = mu.sisa(ensemble, retain, forget, settings, None)
    exact = deleted_by_hand(ensemble, retain)
    np.testing.assert_array_equal(weights(model), weights(exact))
    assert sum(len(rows.y) for slices in model.slices_ for rows in slices) == 400 - n_forget
    weights(ensemble)
    changed = [
        not np.array_equal(old[-1].weights, new[-1].weights)
        for old, new in zip(ensemble.chains_, model.chains_)
    ]
    assert sum(changed) == {1: 1, 80: 5}.get(n_forget, sum(changed)) <= n_forget


def test_sisa_predicts_the_mean_probability(ensemble, patients):
    X = patients.data.test.X
    weights(ensemble)  # trains what is not trained yet
    mean = np.mean([chain[-1].predict_proba(X) for chain in ensemble.chains_], axis=0)
    np.testing.assert_allclose(ensemble.predict_proba(X), mean, atol=1e-12)
    shards = [len(rows.y) for slices in ensemble.slices_ for rows in slices]
    assert shards == [40] * 10


@pytest.fixture
def head(patients):
    rng = np.random.RandomState(0)
    return mu.CertifiedHead(20, rng).fit(patients.data.train, rng)


def test_the_head_is_trained_to_the_bottom(head, patients):
    assert head.residual(patients.data.train) <= 1e-10
    assert np.linalg.norm(head.signed(patients.data.train), axis=1).max() <= 1
    accuracy = (head.predict_proba(patients.data.test.X)[:, 1] > 0.5) == patients.data.test.y
    assert accuracy.mean() > 0.85


def test_the_certificate_bounds_the_true_residual_at_every_step(head, patients):
    X, y = (np.concatenate(pair) for pair in zip(patients.data.forget, patients.data.retain))
    rng, spent = np.random.RandomState(1), []
    for k in range(1, 200):  # until the budget has run out
        now = mu.Rows(X[k:], y[k:])
        one = mu.Rows(X[k - 1 : k], y[k - 1 : k])
        head = mu.certified_removal(head, now, one, None, rng)
        assert head.residual(now) <= head.spent <= head.allowed
        spent.append(head.spent)
        if head.afresh:
            break
    assert head.afresh
    assert spent[-1] <= 1e-10
    assert np.all(np.diff(spent[:-1]) > 0)


def test_the_head_forgets_what_it_removed(head, patients):
    data = patients.data
    gone = data.forget.at(slice(10))
    kept = mu.together(data.retain, data.forget.at(slice(10, None)))
    exact = copy.copy(head).fit(kept, None, head.b)
    before = mu.gap_to_retrained(head, exact, gone.X)
    removed = mu.certified_removal(head, kept, gone, None, None)
    assert not removed.afresh
    assert mu.gap_to_retrained(removed, exact, gone.X) < before / 20
    assert mu.gap_to_retrained(head, exact, gone.X) == before  # the original is left alone


def test_the_budget_is_the_papers():
    expected = 3 * 1 / np.sqrt(2 * np.log(1.5 / 1e-4))
    assert mu.CertifiedHead.allowed == pytest.approx(expected)
