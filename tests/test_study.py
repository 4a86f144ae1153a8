"""Part 3: what each method reads and where it ends; the attacks on synthetic scores; the study."""

import copy

import numpy as np
import pandas as pd
import pytest
from conftest import assert_page, numbers, slopes
from joblib import parallel_config
from looks import assert_readable, explanation, title
from matplotlib.colors import to_hex
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import brentq, minimize
from sklearn.covariance import ledoit_wolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import ConvergenceWarning

import machine_unlearning as mu

STUDY = mu.Settings(**mu.STUDY)
SMALL = mu.replace(STUDY, patients=100, forget=16, trials=8, epochs=30, quiet=True)
KEYS = [(kind, name) for kind in mu.KINDS for name in mu.METHODS]
SHORTCUTS = [name for name in mu.METHODS if name not in mu.TRAINING]


# ---- The requests -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "n", "n_diabetics", "moments"),  # means and standard deviations of age and glucose
    [(mu.RANDOM, 80, 40, [-0.1723, -0.0895, 1.1302, 0.9016]),
     (mu.CLINIC, 80, 80, [-1.9297, -1.3223, 0.3155, 0.2392]),
     (mu.ATYPICAL, 20, 12, [0.0023, -0.1329, 0.7510, 0.4370])],
)  # fmt: skip
def test_a_request_is_as_described(kind, n, n_diabetics, moments):
    rows = mu.make_request(kind, mu.Settings())
    assert [len(part.y) for part in rows] == [n, 320, 1000]
    assert [part.y.sum() for part in rows] == [n_diabetics, 160, 500]
    X = rows.forget.X
    assert_allclose([*X.mean(axis=0), *X.std(axis=0)], moments, atol=6e-5)
    everybody = mu.stack(rows.forget, rows.retain, rows.test)
    assert len(np.unique(everybody.X, axis=0)) == len(everybody.y)  # nobody is there twice


def test_the_most_atypical_are_the_nearest_to_the_other_diagnosis():
    people = pd.DataFrame({"age": [40, 55, 47.5, 55], "glucose": [100, 150, 125, 149]})
    people["diagnosis"] = ["Healthy", "Healthy", "Healthy", "Diabetic"]
    found = mu.in_units(mu.most_atypical(mu.standardised(people), 2))
    assert_allclose(found, [[55, 150, 0], [47.5, 125, 0]])


# ---- The methods --------------------------------------------------------------------------------


def request_of(kind, settings, name, seed=3):
    """The Request that a method of this name gets."""
    rows = mu.make_request(kind, settings)
    everybody = mu.stack(rows.forget, rows.retain)
    train = mu.TRAINING[mu.retraining_of(name)]
    original = train(everybody, settings, np.random.RandomState(seed))
    return mu.Request(original, rows.retain, rows.forget, settings)


@pytest.fixture(scope="module")
def requests():
    """A small random request for each method, by name."""
    settings = mu.replace(STUDY, patients=150, forget=20, epochs=61)
    by_descent = request_of(mu.RANDOM, settings, mu.RETRAIN)
    by_newton = request_of(mu.RANDOM, settings, mu.NEWTON)
    return {name: by_descent if name in mu.BY_DESCENT else by_newton for name in mu.METHODS}


@pytest.mark.parametrize("name", mu.METHODS)
def test_a_method_reads_what_it_says_and_leaves_its_inputs_alone(requests, name):
    request = requests[name]
    before = copy.deepcopy(request)
    model = mu.METHODS[name](request, np.random.RandomState(5))
    assert np.isfinite(model.weights_).all()

    # Whatever it does not read may be no numbers at all, or may have been read by somebody else
    poisoned = copy.deepcopy(request)
    if mu.READS[name] in ("none", "retain"):
        poisoned.forget.X[:] = np.nan
    if mu.READS[name] in ("none", "forget"):
        poisoned.retain.X[:] = np.nan
    if name in mu.TRAINING:
        poisoned.original.weights_[:] = np.nan
    np.random.seed(1)  # noqa: NPY002  somebody else uses the global generator in between
    again = mu.METHODS[name](poisoned, np.random.RandomState(5))
    assert_array_equal(again.weights_, model.weights_)

    # Only doing nothing leaves the weights, and no array is shared with the original
    moved = np.abs(model.weights_ - request.original.weights_).max()
    assert moved == 0 if name == mu.NAIVE else moved > 1e-4
    model.weights_ += 99
    assert_array_equal(request.original.weights_, before.original.weights_)
    for part in ("retain", "forget"):
        assert_array_equal(getattr(request, part).X, getattr(before, part).X)
        assert_array_equal(getattr(request, part).y, getattr(before, part).y)
    if name in mu.BY_DESCENT:
        checkpoint = request.original.checkpoint_
        assert_array_equal(checkpoint.weights_, before.original.checkpoint_.weights_)


@pytest.mark.parametrize("name", mu.METHODS)
def test_a_method_that_says_that_it_reads_rows_does(requests, name):
    request = requests[name]
    model = mu.METHODS[name](request, np.random.RandomState(5))
    for part in ("forget", "retain"):
        rows = getattr(request, part)
        fewer = request._replace(**{part: rows.at(slice(1, None))})
        other = mu.METHODS[name](fewer, np.random.RandomState(5))
        has_changed = not np.array_equal(model.weights_, other.weights_)
        assert has_changed == (mu.READS[name] in (part, "both"))


@pytest.mark.parametrize(
    ("name", "n_steps", "of_retain", "of_forget"),
    [(mu.ASCENT, 145, 0, -0.07), (mu.PLUS, 40, 0.95, -0.05), (mu.TUNE, 50, 1, 0)],
)
def test_steps_of_descent_written_out(requests, name, n_steps, of_retain, of_forget):
    request = requests[name]
    expected = copy.deepcopy(request.original)
    for _ in range(n_steps):
        down = expected.gradient(request.retain.X, request.retain.y)
        up = expected.gradient(request.forget.X, request.forget.y)
        expected.weights_ = expected.weights_ - (of_retain * down + of_forget * up)
    model = mu.METHODS[name](request, None)
    assert_allclose(model.weights_, expected.weights_, atol=1e-9)


def test_rewind_replays_the_second_half(requests):
    request = requests[mu.REWIND]
    everybody = mu.stack(request.forget, request.retain)
    whole = mu.TwoLayerMLP(20, 1.0, 61, 0.5, 0.01, 3).fit(everybody.X, everybody.y)
    half = mu.TwoLayerMLP(20, 1.0, 30, 0.5, 0.01, 3).fit(everybody.X, everybody.y)
    assert_array_equal(request.original.weights_, whole.weights_)  # two halves are one whole
    assert_array_equal(request.original.checkpoint_.weights_, half.weights_)

    nobody_left = mu.rewind(request._replace(retain=everybody), None)
    assert_array_equal(nobody_left.weights_, whole.weights_)
    rewound = mu.rewind(request, None)
    half.descend(request.retain.X, request.retain.y, 31)
    assert_array_equal(rewound.weights_, half.weights_)


# ---- Newton's method, one step of it, and the influence function --------------------------------


@pytest.mark.parametrize(("d", "h", "scale"), [(2, 20, 0.5), (2, 7, 1.0), (3, 4, 1.0)])
def test_the_hessian_is_the_slope_of_the_gradient(d, h, scale):
    rng = np.random.RandomState(0)
    X = rng.randn(50, d)
    y = (X.sum(axis=1) + rng.randn(50) > 0).astype(int)
    model = mu.TwoLayerMLP(h, epochs=0, init_scale=scale, l2=0.01, random_state=1).fit(X, y)
    model.unpack().b1[:] += 0.3
    for _ in range(2):  # at random weights, and at the optimum
        g, H = mu.gradient_and_hessian(model, X, y)
        expected = slopes(model, lambda: model.gradient(X, y), 1e-5)
        assert_allclose(g, model.gradient(X, y), atol=1e-14)
        assert_allclose(H, expected, rtol=0, atol=1e-8)
        for block in (np.s_[:h, :h], np.s_[0, (d + 1) * h], np.s_[-1, -1]):  # it can fail
            broken = H.copy()
            broken[block] = 1.01 * H[block] + 1e-5
            assert np.abs(broken - expected).max() > 1e-6
        assert mu.go_to_optimum(model, mu.Rows(X, y)) is model


def assert_optimum(model, rows):
    g, H = mu.gradient_and_hessian(model, rows.X, rows.y)
    assert np.linalg.norm(g) <= 1e-9
    assert np.linalg.eigvalsh(H)[0] > 0
    assert_array_equal(model.weights_, np.round(model.weights_, 10))
    assert np.all(model.unpack().W2 >= 0)


@pytest.mark.parametrize("kind", mu.KINDS)
def test_newton_from_old_weights_and_from_new_ones_is_the_optimum_of_another_optimiser(kind):
    request = request_of(kind, STUDY, mu.NEWTON)
    forget = request.forget
    retain = request.retain
    old = mu.newton(request, None)
    new = mu.newton_retrain(request, np.random.RandomState(2))
    assert_array_equal(np.sort(old.weights_), np.sort(new.weights_))  # up to the order of units

    other = mu.new_network(STUDY, 77, epochs=0).fit(retain.X, retain.y)

    def objective(weights):
        other.weights_ = weights
        return other.loss(retain.X, retain.y), other.gradient(retain.X, retain.y)

    found = minimize(objective, other.weights_, jac=True, method="BFGS", options={"gtol": 1e-8})
    other.weights_ = found.x
    for model in (old, new, mu.go_to_optimum(copy.deepcopy(new), retain)):
        assert_optimum(model, retain)
        assert model.loss(retain.X, retain.y) == pytest.approx(found.fun, abs=1e-10)
        z = model.decision_function(forget.X)
        assert_allclose(z, other.decision_function(forget.X), atol=1e-4)
        assert_allclose(z, old.decision_function(forget.X), atol=1e-9)


def test_the_influence_function_is_how_fast_the_optimum_moves(requests):
    """Move a little from the objective of all rows towards that of the retain set."""
    request = requests[mu.INFLUENCE]
    forget = request.forget
    everybody = mu.stack(forget, request.retain)
    eps = 1e-5
    moved = copy.deepcopy(request.original)
    for _ in range(3):
        g, H = mu.gradient_and_hessian(moved, everybody.X, everybody.y)
        g_forget, H_forget = mu.gradient_and_hessian(moved, forget.X, forget.y)
        slope = g + eps * (g - g_forget)
        curvature = H + eps * (H - H_forget)
        moved.weights_ = moved.weights_ - np.linalg.solve(curvature, slope)
    rate = (moved.weights_ - request.original.weights_) / eps

    model = mu.influence_function(request, None)
    whole_way = len(forget.y) / len(request.retain.y)
    estimate = request.original.weights_ + whole_way * rate
    assert_allclose(model.weights_, estimate, atol=2e-4)
    assert np.abs(model.weights_ - request.original.weights_).max() > 0.01


def test_one_newton_step_is_exact_for_a_quadratic_objective(requests):
    """After it, the gradient is 0, as far as the slope and the Hessian at its start tell."""
    request = requests[mu.ONE_STEP]
    g, H = mu.gradient_and_hessian(request.original, request.retain.X, request.retain.y)
    step = mu.one_newton_step(request, None).weights_ - request.original.weights_
    assert_allclose(g + H @ step, 0, atol=1e-12)
    assert np.abs(step).max() > 0.01


@pytest.mark.parametrize(
    ("kind", "of_influence", "of_one_step", "of_nothing"),
    [(mu.RANDOM, 0.0070, 0.0009, 0.029), (mu.CLINIC, 0.50, 0.064, 0.75),
     (mu.ATYPICAL, 0.0037, 0.0007, 0.020)],
)  # fmt: skip
def test_an_estimate_one_step_and_all_steps_come_nearer_and_nearer(
    kind, of_influence, of_one_step, of_nothing
):
    request = request_of(kind, STUDY, mu.NEWTON)
    target = mu.newton_retrain(request, np.random.RandomState(9))
    methods = [mu.influence_function, mu.one_newton_step, mu.newton, mu.naive_deletion]
    models = [method(request, None) for method in methods]
    gaps = [mu.gap_to_retrained(model, target, request.forget.X) for model in models]
    expected = [of_influence, of_one_step, 0, of_nothing]
    assert_allclose(gaps, expected, rtol=0.1, atol=1e-9)


def test_a_saddle_is_left(requests):
    """Where all weights but b2 are 0, only b2 has a slope; but H curves down."""
    request = requests[mu.NEWTON]
    retain = request.retain
    model = copy.deepcopy(request.original)

    def slope(b2):
        return mu.sigmoid(b2) - retain.y.mean() + model.l2 * b2

    model.weights_ = np.append(np.zeros(80), brentq(slope, -9, 9, xtol=1e-14))
    g, H = mu.gradient_and_hessian(model, retain.X, retain.y)
    assert np.linalg.norm(g) < 1e-10
    assert np.linalg.eigvalsh(H)[0] < -0.01
    assert_optimum(mu.go_to_optimum(model, retain), retain)
    direct = mu.newton(request, None)
    expected = direct.loss(retain.X, retain.y)
    assert model.loss(retain.X, retain.y) == pytest.approx(expected, abs=1e-12)


def test_an_optimum_that_is_almost_flat_is_found(recwarn):
    """Where one of the clinic's patients is left, H has an eigenvalue of 3e-7 at the optimum.

    With these initial weights, and 10 of 59 others, steps that are damped by 1e-4 do not arrive.
    """
    settings = mu.replace(STUDY, seed=7)
    rows = mu.make_request(mu.CLINIC, settings)
    left = mu.stack(rows.forget.at(slice(79, None)), rows.retain)
    model = mu.new_network(settings, 7, epochs=0).fit(left.X, left.y)
    mu.go_to_optimum(model, left)
    assert_optimum(model, left)
    assert not recwarn


def test_if_no_damping_helps_the_last_accepted_weights_stay_and_it_says_so(requests, monkeypatch):
    """The first step is a good one; then no matrix is positive definite; then all steps lead up."""
    request = requests[mu.NEWTON]
    g = request.original.gradient(request.retain.X, request.retain.y)
    dampings = []

    def newton_step(g_now, H, damping=0.0):
        dampings.append(damping)
        if len(dampings) == 1:
            return 0.1 * g
        return None if len(dampings) == 2 else -1e3 * g

    monkeypatch.setattr(mu, "newton_step", newton_step)
    with pytest.warns(ConvergenceWarning, match="no optimum"):
        model = mu.newton(request, None)
    assert_allclose(model.weights_, request.original.weights_ - 0.1 * g, atol=1e-14)
    assert dampings[:2] == [0, 0]
    assert np.all(np.diff(dampings[1:]) > 0)
    assert 1e5 < dampings[-1] < 1e6


def test_a_search_without_end_is_ended_and_says_so(requests, monkeypatch):
    steps = []
    monkeypatch.setattr(mu, "move_downhill", lambda *arguments: steps.append(1) or True)
    with pytest.warns(ConvergenceWarning, match="no optimum"):
        mu.newton(requests[mu.NEWTON], None)
    assert len(steps) == 200


def with_weights(model, change):
    """A copy of a network, with its Weights changed in place."""
    copied = copy.deepcopy(model)
    change(copied.unpack())
    return copied


def flip_some(weights):
    """With tanh, a unit whose weights all change their signs computes the same."""
    for part in (weights.W1, weights.b1, weights.W2):
        part[..., 3:9] *= -1


def change_order(weights):
    for part in (weights.W1, weights.b1, weights.W2):
        part[:] = part[..., ::-1].copy()


def test_the_canonical_form_hides_signs_and_last_digits(requests):
    request = requests[mu.NEWTON]
    model = mu.newton_retrain(request, np.random.RandomState(2))
    rng = np.random.RandomState(0)
    other = with_weights(model, flip_some)
    other.weights_ += 1e-12 * rng.randn(81)
    assert not np.array_equal(other.weights_, model.weights_)
    X = request.retain.X
    assert_allclose(other.decision_function(X), model.decision_function(X), atol=1e-9)
    mu.to_canonical_form(other)
    assert_array_equal(other.weights_, model.weights_)


# ---- What an attacker sees ----------------------------------------------------------------------


def test_invariants_depend_on_neither_order_nor_signs_but_on_every_weight(requests):
    model = requests[mu.ASCENT].original
    X = requests[mu.ASCENT].retain.X
    expected = mu.weight_invariants(model)
    assert expected.shape == (15,)
    for change in (flip_some, change_order):
        same = with_weights(model, change)
        assert not np.allclose(same.weights_, model.weights_)
        assert_allclose(same.decision_function(X), model.decision_function(X), atol=1e-12)
        assert_allclose(mu.weight_invariants(same), expected, atol=1e-14)
    for k in range(81):
        other = copy.deepcopy(model)
        other.weights_[k] += 0.01
        assert np.abs(mu.weight_invariants(other) - expected).max() > 1e-5, k


def test_invariants_written_out():
    model = mu.TwoLayerMLP(2, epochs=0).fit([[0.0], [1.0]], [0, 1])  # one feature, two units
    model.weights_ = np.array([1.0, 2.0, 3.0, 4.0, 5.0, -6.0, 7.0])  # W1, b1, W2, b2
    means = [(1 - 2) / 2, (3 - 4) / 2, (5 + 6) / 2]  # the second unit is turned
    squares_and_products = [
        (1 + 4) / 2, (3 + 8) / 2, (5 - 12) / 2,
        (9 + 16) / 2, (15 - 24) / 2,
        (25 + 36) / 2,
    ]  # fmt: skip
    assert_allclose(mu.weight_invariants(model), [7, *means, *squares_and_products])


def test_scores_are_positive_where_the_network_is_right(requests):
    request = requests[mu.ASCENT]
    rows = request.retain
    seen = mu.look_at(request.original, rows)
    is_right = request.original.predict(rows.X) == rows.y
    assert_array_equal(seen.scores > 0, is_right)
    assert_allclose(np.abs(seen.scores), np.abs(request.original.decision_function(rows.X)))
    assert_array_equal(seen.invariants, mu.weight_invariants(request.original))


# ---- The attacks, on synthetic scores -----------------------------------------------------------


def synthetic(what, n_trials=64, m=6, seed=0):
    """Scores (2, T, m) of two kinds of models that differ in one way."""
    rng = np.random.RandomState(seed)
    if what == "the sum":  # what all share, in turns + and -, hides in each what differs
        signs = np.where(np.arange(m) % 2, 1, -1)
        shared = 10 * rng.randn(2, n_trials, 1) * signs
        difference = np.array([0.5, -0.5])[:, None, None]
        return shared + 0.5 * rng.randn(2, n_trials, m) + difference
    scores = 10 * rng.randn(2, n_trials, m)
    if what == "one logit":
        scores[0, :, 2] += 25
    if what == "the spread":
        scores[0] *= 6
    return scores


def seen(scores, invariants=None):
    """What is seen of models with these scores (T, m), by default with weights that are alike."""
    if invariants is None:
        invariants = np.zeros((len(scores), 2))
    return mu.Seen(scores, invariants)


def caught(unlearned, retrained):
    """By U-LiRA, and by the attack on the whole vector."""
    verdicts = mu.attack_both(unlearned, retrained)
    assert list(verdicts) == ["attack", "vector"]
    return [verdict.p <= mu.LEVEL for verdict in verdicts.values()]


@pytest.mark.parametrize(
    ("what", "expected"),
    [("one logit", [True, True]), ("the sum", [False, True]), ("the spread", [True, False]),
     ("nothing", [False, False])],
)  # fmt: skip
def test_each_attack_sees_what_it_can(what, expected):
    unlearned, retrained = synthetic(what)
    assert caught(seen(unlearned), seen(retrained)) == expected


def test_only_the_vector_attack_reads_weights():
    unlearned, retrained = synthetic("nothing")
    weights, other_weights = synthetic("one logit", seed=1)
    assert caught(seen(unlearned, weights), seen(retrained, other_weights)) == [False, True]


@pytest.mark.slow
def test_without_a_difference_all_p_values_are_as_likely_and_one_in_a_hundred_alarms():
    p = []
    for seed in range(100):
        unlearned, retrained = synthetic("nothing", 16, 3, seed)
        verdicts = mu.attack_both(seen(unlearned), seen(retrained)).values()
        p.append([verdict.p for verdict in verdicts])
        for verdict in verdicts:
            is_beyond = verdict.accuracies.mean() > verdict.limit + 1e-9
            assert is_beyond == (verdict.p <= 0.01)
    p = np.array(p)
    assert np.all((p <= 0.01).mean(axis=0) <= 0.03)
    for quantile in (0.25, 0.5, 0.75):  # ties make p a little too large
        assert_allclose((p <= quantile).mean(axis=0), quantile - 0.02, atol=0.1)


@pytest.mark.parametrize(("n_better", "p"), [(0, 0.005), (1, 0.01), (2, 0.015), (199, 1.0)])
def test_p_is_the_share_of_labellings_that_do_as_well_as_the_truth(n_better, p):
    lies = np.linspace(0.3, 0.6, 199)
    lies[:n_better] = np.linspace(0.7, 0.9, n_better)
    if n_better == 1:
        lies[0] = 0.7  # as good as the truth is as bad as better
    means = np.append(0.7, lies)
    verdict = mu.judge(np.column_stack([means - 0.1, means + 0.1]))
    assert verdict.p == pytest.approx(p)
    assert_allclose(verdict.accuracies, [0.6, 0.8])
    assert verdict.limit == pytest.approx(np.sort(lies)[-2])
    assert (verdict.limit < 0.7) == (p <= 0.01)


def test_equal_models_are_a_coin_toss():
    one = synthetic("nothing")[0].round(4)
    for first, second in [(one, one), (one, one + 3e-5), (one * 0, one * 0)]:
        for verdict in mu.attack_both(seen(first), seen(second)).values():
            assert_array_equal(verdict.accuracies, np.full(64, 0.5))
            assert (verdict.limit, verdict.p) == (0.5, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e200])
@pytest.mark.parametrize("where", ["scores", "invariants"])
def test_it_takes_no_attack_to_recognise_models_that_have_diverged(value, where):
    unlearned, retrained = synthetic("nothing")
    diverged = seen(unlearned.copy())
    getattr(diverged, where)[5, 1] = value
    for verdict in mu.attack_both(diverged, seen(retrained)).values():
        assert_array_equal(verdict.accuracies, np.ones(64))
        assert (verdict.limit, verdict.p) == (0.5, 1 / 200)


@pytest.mark.parametrize("attack", [mu.lira_attack, mu.vector_attack])
@pytest.mark.parametrize("n_trials", [8, 16, 227])
def test_every_trial_is_classified_and_a_swap_is_an_attack_on_swapped_models(attack, n_trials):
    """With halves that do not change places, chance leaves one of 227 trials out: 0 / 0."""
    one, other = synthetic("nothing", n_trials, 3)
    truth = np.ones((1, n_trials))
    assert_array_equal(attack(one + 1e6, other, truth), truth)
    assert_array_equal(attack(one, other + 1e6, truth), truth)

    labels = np.random.RandomState(3).choice([-1.0, 1.0], (5, n_trials))
    accuracies = attack(one, other, labels)
    for k in range(5):
        is_swapped = labels[k][:, None] < 0
        first = np.where(is_swapped, other, one)
        second = np.where(is_swapped, one, other)
        assert_allclose(accuracies[k], attack(first, second, truth)[0], atol=1e-9)


@pytest.mark.parametrize("what", ["nothing", "one logit", "the spread"])
def test_u_lira_written_out(what):
    scores = np.rint(1e4 * synthetic(what, 21, 4))
    rng = np.random.RandomState(0)
    right = np.zeros(21)
    for _ in range(8):
        half = rng.permutation(21) < 10
        for known in (half, ~half):
            mean = scores[:, known].mean(axis=1)  # (2, m)
            variance = scores[:, known].var(axis=1, ddof=1) + 1e-4
            for trial in np.flatnonzero(~known):
                for truth in (0, 1):
                    x = scores[truth, trial]
                    log_density = -((x - mean) ** 2) / variance - np.log(variance)  # (2, m)
                    is_right = log_density[truth] > log_density[1 - truth]
                    right[trial] += is_right.mean() / 16
    found = mu.lira_attack(scores[0] / 1e4, scores[1] / 1e4, np.ones((1, 21)))
    assert_allclose(found[0], right, atol=1e-9)


@pytest.mark.parametrize("what", ["nothing", "the sum", "one logit"])
def test_the_vector_attack_is_scikit_learns_discriminant_analysis(what):
    scores = np.rint(1e4 * synthetic(what, 27, 5))
    right = np.empty(27)
    for fold in range(8):
        held_out = np.arange(27) % 8 == fold
        known = np.concatenate(scores[:, ~held_out])
        kind = np.repeat([0, 1], (~held_out).sum())
        mean = known.mean(axis=0)
        deviation = known.std(axis=0)
        X = (known - mean) / deviation

        # The amount of shrinkage is chosen by the covariance of all, here that within the kinds
        _, shrinkage = ledoit_wolf(X)
        within = np.mean([X[kind == k].var(axis=0).mean() for k in (0, 1)])  # of all: 1
        shrinkage /= shrinkage + (1 - shrinkage) * within
        lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(X, kind)

        of_unlearned = lda.predict((scores[0, held_out] - mean) / deviation)
        of_retrained = lda.predict((scores[1, held_out] - mean) / deviation)
        right[held_out] = ((of_unlearned == 0) * 1.0 + (of_retrained == 1)) / 2
    found = mu.vector_attack(scores[0] / 1e4, scores[1] / 1e4, np.ones((1, 27)))
    assert_allclose(found[0], right, atol=1e-9)


def test_8_trials_can_catch_and_fewer_are_refused_with_the_reason():
    assert 2 / 2**8 < mu.LEVEL < 2 / 2**7  # the truth and its mirror image, of all labellings
    unlearned, retrained = synthetic("nothing", 8)
    assert caught(seen(unlearned + 1e3), seen(retrained)) == [True, True]
    assert mu.replace(STUDY, trials=8).trials == 8
    for too_few in (4, 7):
        with pytest.raises(mu.SettingsError, match=f"--trials {too_few}.*8.*chance"):
            mu.replace(STUDY, trials=too_few)


# ---- The study ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trials():
    return mu.run_trials(SMALL)


def test_a_trial_has_each_method_beside_its_own_retraining(trials):
    assert sorted(zip(trials.request, trials.method)) == sorted(8 * KEYS)
    records = trials[trials.request == mu.CLINIC][-10:].set_index("method")  # of the last trial

    # The same in plain words; random numbers are drawn by trainings and retrainings only
    rows = mu.make_request(mu.CLINIC, SMALL)
    everybody = mu.stack(rows.forget, rows.retain)
    rng = np.random.RandomState([42, 1, 7])
    original = mu.train_by_descent(everybody, SMALL, rng)
    request = mu.Request(original, rows.retain, rows.forget, SMALL)
    target = mu.full_retrain(request, rng)
    second = mu.full_retrain(request, rng)
    optimum = mu.train_by_newton(everybody, SMALL, rng)
    newton_request = request._replace(original=optimum)
    newton_target = mu.train_by_newton(rows.retain, SMALL, rng)
    expected = {
        mu.RETRAIN: (second, target),
        mu.NAIVE: (original, target),
        mu.ASCENT: (mu.gradient_ascent(request, None), target),
        mu.REWIND: (mu.rewind(request, None), target),
        mu.NEWTON_RETRAIN: (newton_target, newton_target),
        mu.INFLUENCE: (mu.influence_function(newton_request, None), newton_target),
        mu.ONE_STEP: (mu.one_newton_step(newton_request, None), newton_target),
    }
    for name, (model, own_target) in expected.items():
        record = records.loc[name]
        for found, network in [(record.seen, model), (record.target_seen, own_target)]:
            seen_of_it = mu.look_at(network, rows.forget)
            assert_allclose(found.scores, seen_of_it.scores, atol=1e-6)
            assert_allclose(found.invariants, seen_of_it.invariants, atol=1e-6)
        assert record.test_accuracy == pytest.approx(model.score(rows.test.X, rows.test.y))
        assert record.retain_accuracy == model.score(rows.retain.X, rows.retain.y)
        assert record.forget_accuracy == model.score(rows.forget.X, rows.forget.y)
        gap = mu.gap_to_retrained(model, own_target, rows.forget.X)
        assert record.gap_to_retrained == pytest.approx(gap, abs=1e-9)


def test_nothing_that_is_seen_of_newtons_models_varies(trials):
    for key in [(kind, name) for kind in mu.KINDS for name in (mu.NEWTON_RETRAIN, mu.NEWTON)]:
        group = trials[(trials.request == key[0]) & (trials.method == key[1])]
        for column in (group.seen, group.target_seen):
            together = mu.stack_seen(column)
            assert np.ptp(together.scores, axis=0).max() < 1e-13, key
            assert np.ptp(together.invariants, axis=0).max() < 1e-13, key


def test_one_process_gives_what_all_cores_give(trials):
    with parallel_config("sequential"):
        found = mu.run_trials(mu.replace(SMALL))
    metrics = [*mu.METRICS, "request", "method"]
    pd.testing.assert_frame_equal(found[metrics], trials[metrics])
    for k in (0, 123, len(trials) - 1):
        assert_array_equal(found.seen[k].scores, trials.seen[k].scores)


def test_the_table_of_the_study(trials):
    table = mu.attack_all(trials)
    assert list(table.index) == KEYS
    for kind, name in KEYS[::4]:
        row = table.loc[kind, name]
        group = trials[(trials.request == kind) & (trials.method == name)]
        values = {metric: group[metric] for metric in ["seconds", *mu.METRICS]}
        verdicts = mu.attack_both(mu.stack_seen(group.seen), mu.stack_seen(group.target_seen))
        for attack, verdict in verdicts.items():
            assert (row[f"{attack}_limit"], row[f"{attack}_p"]) == (verdict.limit, verdict.p)
            values[f"{attack}_accuracy"] = verdict.accuracies
        for metric, of_trials in values.items():
            mean = np.mean(of_trials)
            margin = 2.364624 * np.std(of_trials, ddof=1) / np.sqrt(8)  # Student's t
            assert row[metric] == pytest.approx(mean)
            assert row[f"{metric}_low"] == pytest.approx(mean - margin, abs=1e-6)
            assert row[f"{metric}_high"] == pytest.approx(mean + margin, abs=1e-6)


@pytest.mark.parametrize(
    ("p_of_lira", "p_of_vector", "expected"),
    [(0.01, 1, True), (1, 0.01, True), (0.015, 0.015, False)],
)
def test_it_takes_one_of_the_attacks(trials, monkeypatch, p_of_lira, p_of_vector, expected):
    verdicts = {
        "attack": mu.Verdict(np.full(8, 0.5), 0.5, p_of_lira),
        "vector": mu.Verdict(np.full(8, 0.5), 0.5, p_of_vector),
    }
    monkeypatch.setattr(mu, "attack_both", lambda unlearned, retrained: verdicts)
    assert (mu.attack_all(trials).caught == expected).all()


@pytest.mark.slow
def test_rewind_on_atypical_is_caught_by_its_weights():
    """64 trials as in the study. The logits of those who left do not show it."""
    rows = mu.make_request(mu.ATYPICAL, STUDY)
    everybody = mu.stack(rows.forget, rows.retain)
    rewound = []
    targets = []
    for trial in range(64):
        rng = np.random.RandomState([42, 2, trial])
        original = mu.train_by_descent(everybody, STUDY, rng)
        request = mu.Request(original, rows.retain, rows.forget, STUDY)
        target = mu.full_retrain(request, rng)
        targets.append(mu.look_at(target, rows.forget))
        rewound.append(mu.look_at(mu.rewind(request, rng), rows.forget))
    rewound = mu.stack_seen(rewound)
    targets = mu.stack_seen(targets)

    assert caught(rewound, targets) == [False, True]
    accuracies = mu.attack_both(rewound, targets)["vector"].accuracies
    assert accuracies.mean() == pytest.approx(0.80, abs=0.03)
    assert caught(seen(rewound.scores), seen(targets.scores)) == [False, False]


def test_a_diverged_answer_is_caught_and_has_no_accuracy():
    settings = mu.replace(SMALL, multiplier=1e6)
    with np.errstate(all="raise"), parallel_config("sequential"):
        page, table, figures = mu.study(settings)
    ascent = table.xs(mu.ASCENT, level="method")
    assert ascent.caught.all()
    assert ascent.test_accuracy.isna().all()
    assert "Gradient Ascent diverged" in page
    assert page.count("diverged") == 1
    assert_page(page)
    assert_readable(figures["method_study.png"])


def test_no_verdict_where_retraining_itself_diverges():
    settings = mu.replace(SMALL, learning_rate=1000.0, epochs=400)
    refused = pytest.raises(mu.SettingsError, match="--learning-rate")
    with parallel_config("sequential"), pytest.warns(ConvergenceWarning), refused:
        mu.study(settings)


def test_how_far_the_optima_of_newton_are_apart():
    z = np.arange(5.0)
    records = []
    for kind in mu.KINDS:
        for name in 8 * [mu.NEWTON, mu.NEWTON_RETRAIN, mu.RETRAIN]:
            off = {mu.NEWTON: 1e-8, mu.NEWTON_RETRAIN: 0, mu.RETRAIN: 5}[name]
            record = {
                "request": kind,
                "method": name,
                "seen": seen(z + off),
                "target_seen": seen(z),
            }
            records.append(record)
    trials = pd.DataFrame(records)
    trials.seen = trials.seen.map(lambda one: mu.Seen(one.scores, z))
    trials.target_seen = trials.target_seen.map(lambda one: mu.Seen(one.scores, z))
    of_clinic = (trials.request == mu.CLINIC) & (trials.method == mu.NEWTON_RETRAIN)
    row = trials.index[of_clinic][3]
    trials.at[row, "target_seen"] = mu.Seen(z - [0, 0, 0.5, 0, 0], z)
    expected = {mu.RANDOM: 1e-8, mu.CLINIC: 0.5 + 1e-8, mu.ATYPICAL: 1e-8}
    assert mu.optima_apart(trials) == pytest.approx(expected, abs=1e-15)


# ---- How it is shown ----------------------------------------------------------------------------


def made_up_table():
    """A table in which every cell is another number."""
    rng = np.random.RandomState(0)
    index = pd.MultiIndex.from_tuples(KEYS, names=["request", "method"])
    names = ["attack_accuracy", "vector_accuracy", "forget_accuracy", "test_accuracy", "seconds"]
    table = pd.DataFrame(rng.uniform(0.1, 0.995, (30, 5)), index, names)
    table["attack_p"] = rng.choice([0.005, 0.01, 0.015], 30)
    table["vector_p"] = rng.choice([0.005, 0.01, 0.015], 30)
    table["caught"] = table[["attack_p", "vector_p"]].min(axis=1) <= 0.01
    table["gap_to_retrained"] = 0.1
    table["attack_limit"] = 0.58
    table["vector_limit"] = 0.64
    table["test_accuracy_low"] = 0.51
    return table


def test_each_row_beside_its_retraining():
    table = made_up_table()
    table["seconds"] = np.arange(1, 31) / 100
    table["test_accuracy"] = 0.9
    table["forget_accuracy"] = 0.6
    table.loc[(mu.RANDOM, mu.RETRAIN), "test_accuracy"] = 0.89
    table.loc[(mu.CLINIC, mu.NAIVE), "test_accuracy"] = 0.895
    table.loc[(mu.CLINIC, mu.NAIVE), "forget_accuracy"] = 0.65  # one of 20 more: on target
    table.loc[(mu.CLINIC, mu.REWIND), "forget_accuracy"] = 0.651
    table.loc[(mu.ATYPICAL, mu.ONE_STEP), "forget_accuracy"] = 0.549
    table.loc[(mu.RANDOM, mu.NEWTON), "gap_to_retrained"] = np.nan
    beside = mu.beside_retraining(table)
    assert list(beside.index) == KEYS
    assert_array_equal(beside.target_accuracy, 0.6)
    off = [(mu.CLINIC, mu.REWIND), (mu.ATYPICAL, mu.ONE_STEP)]
    assert list(beside.index[~beside.on_target]) == off
    assert list(beside.index[beside.diverged]) == [(mu.RANDOM, mu.NEWTON)]
    lost = beside.points_lost[beside.points_lost.abs() > 1e-9]  # what is gained does not count
    assert lost.to_dict() == pytest.approx({(mu.CLINIC, mu.NAIVE): 0.5})
    of_random = beside.time[mu.RANDOM]
    assert_allclose(of_random, [1, 2, 3, 4, 5, 6, 1, 8 / 7, 9 / 7, 10 / 7])


def of_method(table, *names):
    """Which rows of the table are of these methods."""
    return table.index.isin(names, level="method")


@pytest.mark.parametrize("never", [[], [mu.NEWTON], [mu.TUNE, mu.NEWTON], SHORTCUTS])
def test_the_headline_counts_the_shortcuts_that_are_never_caught(never):
    table = made_up_table()
    table["caught"] = ~of_method(table, *never)  # the retrainings, too: they are no shortcuts
    table.loc[[mu.RANDOM, mu.CLINIC], "caught"] = False  # to be caught once is enough
    headline = mu.study_headline(table)
    if never == [mu.NEWTON]:
        times = 100 * mu.beside_retraining(table).time.xs(mu.NEWTON, level="method")
        assert headline.startswith("Of 8 shortcuts only Newton is never caught")
        assert np.allclose(numbers(headline)[1:], [times.min(), times.max()], atol=0.51)
    else:
        assert numbers(headline) == ([len(never), 8] if never else [8])
    assert ("are caught" in headline) == (never == [])


@pytest.mark.parametrize("low", [0.501, 0.5])
def test_no_verdict_where_the_originals_are_no_better_than_guessing(low):
    """Half of the test set is diabetic. One request is enough, and Newton's models do not count."""
    table = made_up_table()
    table.loc[of_method(table, mu.NEWTON), "test_accuracy_low"] = 0.4
    table.loc[(mu.ATYPICAL, mu.NAIVE), "test_accuracy_low"] = low
    table.loc[of_method(table, mu.NAIVE), "test_accuracy"] = [0.65, 0.6, 0.523]
    table["caught"] = ~of_method(table, mu.NEWTON)
    figure = mu.study_figure(table, STUDY)
    words = " ".join(assert_readable(figure))
    assert bool(figure.axes[0].patches) == (low > 0.5)  # the frame around Newton
    page = mu.study_page(table, dict.fromkeys(mu.KINDS, 0))
    assert_page(page)
    for each in (title(figure), page):
        assert ("No verdict" in each) == (low == 0.5)
        assert ("52 to 65% right" in each) == (low == 0.5)
        assert ("never caught" in each) == (low > 0.5)
    for each in (words, page):
        assert ("--epochs" in each) == ("--learning-rate" in each) == (low == 0.5)


def cells_of(ax, row):
    """Words and tints of a row of a grid, from left to right."""
    texts = [text for text in ax.texts if text.get_position()[1] == row + 0.5]
    texts.sort(key=lambda text: text.get_position()[0])
    words = [text.get_text() for text in texts]

    n_rows = len(ax.get_yticks())
    tints = ax.collections[0].get_facecolors().reshape(n_rows, -1, 4)[row]
    return words, [to_hex(tint) for tint in tints]


def row_of(figure, name):
    """The row of a method, by its label."""
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    shown = {mu.NEWTON: "Newton (all steps)"}
    for target in mu.TRAINING:
        shown[target] = f"Target: {target}"
    return labels.index(shown.get(name, name))


def test_the_figure_of_the_study_shows_its_table():
    table = made_up_table()
    beside = mu.beside_retraining(table)
    settings = mu.replace(STUDY, seed=7)
    figure = mu.study_figure(table, settings)
    words = assert_readable(figure)
    assert any("seed 7" in each for each in words)
    attack, accuracy, time = figure.axes
    rows = [row_of(figure, name) for name in mu.METHODS]
    assert rows == sorted(rows)

    for row, name in zip(rows, mu.METHODS):
        # Forget accuracy: green where it is on target; elsewhere, the target stands beside it
        words, tints = cells_of(accuracy, row)
        for kind, word, tint in zip(mu.KINDS, words, tints):
            on_target = beside.on_target[kind, name]
            target = table.forget_accuracy[kind, mu.retraining_of(name)]
            expected = [100 * table.forget_accuracy[kind, name]]
            if not on_target:
                expected.append(100 * target)
            assert_allclose(numbers(word), expected, atol=0.51)
            assert tint == (mu.GREEN_TINT if on_target else mu.RED_TINT)

        # The verdict of the attacks: on which requests the method is caught
        words, tints = cells_of(attack, row)
        kinds = [kind for kind in mu.KINDS if table.caught[kind, name]]
        expected = {0: "never", 3: "in all three"}.get(len(kinds), " and ".join(kinds))
        assert words == [expected]
        assert tints == [mu.RED_TINT if kinds else mu.GREEN_TINT]

        # The time
        words, tints = cells_of(time, row)
        times = 100 * beside.time.xs(name, level="method")
        found = numbers(words[0])
        assert_allclose([found[0], found[-1]], [times.min(), times.max()], atol=0.51)
        assert tints == [mu.PALEST]

    # How many of how many leave, how near green is, and the level of the test
    headings = " ".join(label.get_text() for label in accuracy.get_xticklabels())
    assert numbers(headings) == [80, 400, 80, 400, 20, 340]  # a quarter of 80, 320 stay
    assert "within 5 points" in title(accuracy)
    of_clinic = round(100 * table.forget_accuracy[mu.CLINIC, mu.RETRAIN])
    assert numbers(explanation(figure)) == [7, STUDY.trials, 100 * mu.LEVEL, of_clinic]


def test_the_limits_of_chance_where_it_has_something_to_guess_from():
    table = made_up_table()
    nothing_to_tell = of_method(table, mu.NEWTON, mu.NEWTON_RETRAIN)
    table.loc[nothing_to_tell, ["attack_limit", "vector_limit"]] = 0.5
    table.loc[(mu.CLINIC, mu.ONE_STEP), "vector_limit"] = 0.69
    assert numbers(mu.limits_of_chance(table)) == [58, 69]


@pytest.mark.parametrize("never", [[], [mu.NEWTON], [mu.TUNE, mu.NEWTON]])
def test_what_is_never_caught_is_bold_and_framed(never):
    table = made_up_table()
    table["caught"] = ~table.index.isin([*never, *mu.TRAINING], level="method")
    figure = mu.study_figure(table, STUDY)
    labels = figure.axes[0].get_yticklabels()
    bold = [row for row, label in enumerate(labels) if label.get_weight() == "bold"]
    assert bold == [row_of(figure, name) for name in never]
    for ax in figure.axes:
        framed = [int(frame.get_y()) for frame in ax.patches]
        assert framed == bold


def test_the_longest_words_fit_into_the_figure():
    table = made_up_table()
    table["caught"] = ~of_method(table, mu.NEWTON)
    table["seconds"] = np.arange(1.0, 31)  # times of more than 100%
    table["forget_accuracy"] = 1.0
    table.loc[of_method(table, *mu.TRAINING), "forget_accuracy"] = 0.55
    many = mu.replace(STUDY, patients=10**6, forget=10**5, trials=10**4, seed=2**32 - 1)
    assert_readable(mu.study_figure(table, many))


def test_the_page_of_the_study_shows_its_table():
    table = made_up_table()
    apart = {mu.RANDOM: 9e-7, mu.CLINIC: 1e-6, mu.ATYPICAL: 0.5}  # below 1e-6, one optimum
    beside = mu.beside_retraining(table)
    page = mu.study_page(table, apart)
    assert_page(page)
    lines = page.splitlines()

    # The finding first: on target, and caught nevertheless
    counts = [table.caught.sum(), (table.caught & beside.on_target).sum()]
    times = 100 * beside.time.xs(mu.NEWTON, level="method")
    finding = " ".join(lines[: lines.index("")])
    found = numbers(finding.partition(" caught. ")[2])
    assert_allclose(found, [*counts, times.min(), times.max()], atol=0.51)

    for name in mu.METHODS:
        (line,) = [line for line in lines if line[:18].rstrip() == name]
        assert line.removeprefix(name).split()[0] == mu.READS[name]
        part = table.xs(name, level="method").loc[mu.KINDS]
        attacks = 100 * part[["attack_accuracy", "vector_accuracy"]].to_numpy().ravel()
        stars = (part[["attack_p", "vector_p"]] <= 0.01).to_numpy().ravel()
        words = line.removeprefix(name).split()[1:]
        assert_allclose([float(word.rstrip("*")) for word in words[:6]], attacks, atol=0.51)
        assert ["*" in word for word in words[:6]] == list(stars)
        of_method = beside.xs(name, level="method")
        worst = [of_method.points_lost.max(), of_method.time.max()]
        assert_allclose([float(word) for word in words[6:]], worst, atol=0.051)

    def row(start):
        (line,) = [line for line in lines if line.startswith(start)]
        return line.removeprefix(start).split()

    forget = 100 * table.forget_accuracy.unstack(0)[mu.KINDS]
    seconds = table.seconds.unstack(0)[mu.KINDS]
    for start, name in [
        ("forget accuracy before the request", mu.NAIVE),
        ("  after Full Retrain", mu.RETRAIN),
        ("  after Gradient Ascent", mu.ASCENT),
    ]:
        found = [float(word.rstrip("%")) for word in row(start)]
        assert_allclose(found, forget.loc[name], atol=0.51)
    for start, of, relative_to in [
        ("time, Newton / Newton Retrain", mu.NEWTON, mu.NEWTON_RETRAIN),
        ("time, Newton Retrain / Full Retrain", mu.NEWTON_RETRAIN, mu.RETRAIN),
    ]:
        found = [float(word) for word in row(start)]
        assert_allclose(found, seconds.loc[of] / seconds.loc[relative_to], atol=0.0051)
    assert row("optima that all Newton runs found") == ["one", "several", "several"]
    assert [float(word) for word in row("largest difference of their logits")] == [9e-7, 1e-6, 0.5]
