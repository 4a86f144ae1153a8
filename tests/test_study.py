"""Part 2: what each method reads and where it ends; the attacks on synthetic scores; the study."""

import copy
import re

import numpy as np
import pandas as pd
import pytest
from conftest import numbers, slopes
from looks import assert_readable
from matplotlib.colors import to_hex
from numpy.testing import assert_allclose, assert_array_equal, assert_equal
from numpy.testing import assert_allclose as near
from scipy.optimize import brentq, minimize
from sklearn.covariance import ledoit_wolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

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


def test_if_no_damping_helps_the_last_accepted_weights_stay(requests, monkeypatch):
    original, retain, *_ = requests[mu.NEWTON]
    g, dampings = original.gradient(*retain), []

    def newton_step(g, H, damping=0.0):
        dampings.append(damping)
        return 0.1 * g if len(dampings) == 1 else None if len(dampings) == 2 else -1e3 * g

    monkeypatch.setattr(mu, "newton_step", newton_step)
    model = mu.go_to_optimum(copy.deepcopy(original), retain)
    assert_allclose(model.weights_, original.weights_ - 0.1 * g, atol=1e-14)
    assert dampings[:2] == [0, 0]
    assert np.all(np.diff(dampings[1:]) > 0)
    assert 1e5 < dampings[-1] < 1e6


SMALL = mu.Settings(100, 16, trials=4, epochs=30, learning_rate=1.0, multiplier=0.07, quiet=True)
METRICS = ["seconds", "test_accuracy", "retain_accuracy", "forget_accuracy", "gap_to_retrained"]
KEYS = [(kind, name) for kind in mu.REQUESTS for name in mu.METHODS]


@pytest.mark.parametrize(
    ("kind", "n", "n_diabetics", "moments"),  # means and standard deviations of age and glucose
    [(mu.RANDOM, 80, 40, [-0.1723, -0.0895, 1.1302, 0.9016]),
     (mu.CLINIC, 80, 80, [-1.9297, -1.3223, 0.3155, 0.2392]),
     (mu.ATYPICAL, 20, 12, [0.0023, -0.1329, 0.7510, 0.4370])],
)  # fmt: skip
def test_a_request_is_as_described(kind, n, n_diabetics, moments):
    forget, *_ = request = mu.make_request(kind, mu.Settings())
    assert [len(rows.y) for rows in request] == [n, 320, 1000]
    assert [rows.y.sum() for rows in request] == [n_diabetics, 160, 500]
    assert_allclose([*forget.X.mean(axis=0), *forget.X.std(axis=0)], moments, atol=6e-5)
    X, _ = mu.together(*request)
    assert len(np.unique(X, axis=0)) == len(X)


def synthetic(what, n_trials=64, m=6, seed=0):
    """Scores (2, T, m) of two kinds of models that differ in one way."""
    rng = np.random.RandomState(seed)
    if what == "the sum":  # what all share, in turns + and -, hides in each what differs
        scores = 10 * rng.randn(2, n_trials, 1) * np.where(np.arange(m) % 2, 1, -1)
        return scores + 0.5 * rng.randn(2, n_trials, m) + np.array([0.5, -0.5])[:, None, None]
    scores = 10 * rng.randn(2, n_trials, m)
    scores[0, :, 2] += 25 * (what == "one logit")
    scores[0] *= 6 if what == "the spread" else 1
    return scores


def test_each_attack_sees_what_it_can():
    sees = {"one logit": [1, 1], "the sum": [0, 1], "the spread": [1, 0], "nothing": [0, 0]}
    for what, expected in sees.items():
        found = mu.attack_both(*synthetic(what)).values()
        assert [p <= 0.01 for *_, p in found] == expected, what


def test_without_a_difference_all_p_values_are_as_likely_and_one_in_a_hundred_alarms():
    found = [mu.attack_both(*synthetic("nothing", 16, 3, seed)).values() for seed in range(300)]
    p = np.array([[p for _, _, p in both] for both in found])
    beyond = [[a.mean() > limit + 1e-9 for a, limit, _ in both] for both in found]
    assert_array_equal(beyond, p <= 0.01)
    assert np.all((p <= 0.01).mean(axis=0) <= 0.03)
    for quantile in (0.25, 0.5, 0.75):  # ties make p a little too large
        assert_allclose((p <= quantile).mean(axis=0), quantile - 0.02, atol=0.1)


def test_equal_models_are_a_coin_toss_and_those_that_diverged_are_told_apart():
    one, _ = synthetic("nothing").round(4)
    for *pair, accuracy, p in [
        (one, one, 0.5, 1), (one, one + 3e-5, 0.5, 1), (one * 0, one * 0, 0.5, 1),
        (one, one + np.nan, 1, 1 / 200), (one + np.inf, one, 1, 1 / 200),
    ]:  # fmt: skip
        for found in mu.attack_both(*pair).values():
            assert_array_equal(found[0], np.full(64, accuracy))
            assert found[1:] == (0.5, p)


@pytest.mark.parametrize("attack", mu.ATTACKS.values())
@pytest.mark.parametrize("n_trials", [5, 16, 227])
def test_every_trial_is_classified_and_a_swap_is_an_attack_on_swapped_models(attack, n_trials):
    """With halves that do not change places, chance leaves one of 227 trials out: 0 / 0."""
    one, other = synthetic("nothing", n_trials, 3)
    true = np.ones((1, n_trials))
    for pair in [(one + 1e6, other), (one, other + 1e6)]:
        assert_array_equal(attack(*pair, true), true)
    labels = np.random.RandomState(3).choice([-1.0, 1.0], (5, n_trials))
    for row, found in zip(labels, attack(one, other, labels)):
        swap = row[:, None] < 0
        alone = attack(np.where(swap, other, one), np.where(swap, one, other), true)
        assert_allclose(found, alone[0], atol=1e-9)


@pytest.mark.parametrize("what", ["nothing", "one logit", "the spread"])
def test_u_lira_written_out(what):
    scores = np.rint(1e4 * synthetic(what, 21, 4))
    rng, right = np.random.RandomState(0), np.zeros(21)
    for _ in range(8):
        half = rng.permutation(21) < 10
        for fit in (half, ~half):
            mean, var = scores[:, fit].mean(axis=1), scores[:, fit].var(axis=1, ddof=1) + 1e-4
            for trial in np.flatnonzero(~fit):
                for truth in (0, 1):
                    density = -((scores[truth, trial] - mean) ** 2) / var - np.log(var)
                    right[trial] += (density[truth] > density[1 - truth]).mean() / 16
    assert_allclose(mu.lira_attack(*scores / 1e4, np.ones((1, 21)))[0], right, atol=1e-9)


@pytest.mark.parametrize("what", ["nothing", "the sum", "one logit"])
def test_the_vector_attack_is_scikit_learns_discriminant_analysis(what):
    scores, right = np.rint(1e4 * synthetic(what, 27, 5)), np.empty(27)
    for fold in range(8):
        test = np.arange(27) % 8 == fold
        known, kind = np.concatenate(scores[:, ~test]), np.repeat([0, 1], (~test).sum())
        X = (known - known.mean(axis=0)) / known.std(axis=0)
        _, shrinkage = ledoit_wolf(X)
        within = np.mean([X[kind == k].var(axis=0).mean() for k in (0, 1)])  # of all: 1
        shrinkage /= shrinkage + (1 - shrinkage) * within
        lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(X, kind)
        held_out = (scores[:, test] - known.mean(axis=0)) / known.std(axis=0)
        right[test] = np.mean([lda.predict(held_out[k]) == k for k in (0, 1)], axis=0)
    assert_allclose(mu.vector_attack(*scores / 1e4, np.ones((1, 27)))[0], right, atol=1e-9)


@pytest.fixture(scope="module")
def trials():
    return mu.run_trials(SMALL)


def test_scores_and_metrics_are_of_a_method_and_of_its_own_retraining(trials):
    assert sorted(zip(trials.request, trials.method)) == sorted(4 * KEYS)
    records = trials[trials.request == mu.CLINIC][-9:].set_index("method")  # of the last trial
    forget, retain, test = mu.make_request(mu.CLINIC, SMALL)
    rng, everybody = np.random.RandomState([42, 1, 3]), mu.together(forget, retain)
    original = mu.train_by_descent(everybody, SMALL, rng)
    request, sign = (original, retain, forget, SMALL, rng), np.where(forget.y == 1, 1, -1)
    target, second = mu.full_retrain(*request), mu.full_retrain(*request)
    optimum, newton_target = (mu.train_by_newton(r, SMALL, rng) for r in (everybody, retain))
    influenced = mu.influence_function(optimum, retain, forget, SMALL, rng)
    for name, model, own in [
        (mu.RETRAIN, second, target), (mu.NAIVE, original, target),
        (mu.ASCENT, mu.gradient_ascent(*request), target),
        (mu.NEWTON, newton_target, newton_target), (mu.INFLUENCE, influenced, newton_target),
    ]:  # fmt: skip
        for column, network in [("scores", model), ("target_scores", own)]:
            expected = sign * network.decision_function(forget.X)
            assert_allclose(records[column][name], expected, atol=1e-3)
        expected = [model.score(*rows) for rows in (test, retain, forget)]
        expected.append(mu.gap_to_retrained(model, own, forget.X))
        assert_allclose(records.loc[name, METRICS[1:]].tolist(), expected, atol=2e-3)


def test_the_table_of_the_study(trials, monkeypatch):
    table, ends = mu.attack_all(trials), ("", "_low", "_high")
    assert list(table.index) == KEYS
    for key, row in table.iterrows():
        of = trials[(trials.request == key[0]) & (trials.method == key[1])]
        found = mu.attack_both(np.stack(of.scores), np.stack(of.target_scores))
        of = of.assign(**{f"{name}_accuracy": found[name][0] for name in found})
        for name, (_, limit, p) in found.items():
            assert (row[f"{name}_limit"], row[f"{name}_p"]) == (limit, p)
        for metric in (*METRICS, "attack_accuracy", "vector_accuracy"):
            mean, half = of[metric].mean(), 3.182446 * of[metric].std(ddof=1) / 2  # Student's t
            found = [row[metric + end] for end in ends]
            assert_allclose(found, [mean, mean - half, mean + half], atol=1e-6)
    for both in [(0.01, 1), (1, 0.01), (0.015, 0.015)]:  # it takes one of the attacks
        found = {name: (np.full(4, 0.5), 0.5, p) for name, p in zip(mu.ATTACKS, both)}
        monkeypatch.setattr(mu, "attack_both", lambda *_, found=found: found)
        assert (mu.attack_all(trials).told_apart == (0.01 in both)).all()


def test_the_summary_is_the_worst_of_the_requests():
    columns = {"told_apart": False, "test_accuracy": 0.9, "gap_to_retrained": 0.1}
    index = pd.MultiIndex.from_tuples(KEYS, names=["request", "method"])
    table = pd.DataFrame({**columns, "seconds": np.arange(1, 28) / 100}, index)
    table.loc[(mu.ATYPICAL, mu.REWIND), "told_apart"] = True
    table.loc[(mu.RANDOM, mu.NEWTON), "gap_to_retrained"] = np.nan
    table.loc[(mu.RANDOM, mu.RETRAIN), "test_accuracy"] = 0.89
    table.loc[(mu.CLINIC, mu.NAIVE), "test_accuracy"] = 0.89501
    table.loc[(mu.CLINIC, mu.INFLUENCE), "test_accuracy"] = 0.89499
    worst = mu.summarise(table)
    assert list(worst.query("told_apart").index) == [mu.REWIND]
    assert list(worst.query("diverged").index) == [mu.NEWTON]
    assert_allclose(worst.points_lost, [0, 0.499, *[0] * 6, 0.501], atol=1e-9)
    assert_allclose(worst.time, [1, 2, 3, 4, 5, 6, 1, 8 / 7, 9 / 7])  # of the first request


@pytest.mark.parametrize("first", [None, 4, 6, 9, 15])
def test_how_far_newtons_optima_are_apart_and_how_many_decimals_tell(first):
    z = np.random.RandomState(0).randn(5).round(4)
    offset = 3 * 10.0**-first if first else 0
    shifts = {mu.NEWTON: offset, mu.NEWTON_RETRAIN: 0, mu.RETRAIN: 5}
    rows = [(kind, name, z + shifts[name], z) for kind in mu.REQUESTS for name in 8 * [*shifts]]
    trials = pd.DataFrame(rows, columns=["request", "method", "scores", "target_scores"])
    assert mu.decimals_that_tell(trials) == dict.fromkeys(mu.REQUESTS, first)
    row = trials.index[(trials.request == mu.CLINIC) & (trials.method == mu.NEWTON_RETRAIN)][3]
    trials.at[row, "target_scores"] = z - [0, 0, 0.5, 0, 0]
    expected = {mu.RANDOM: offset, mu.CLINIC: 0.5 + offset, mu.ATYPICAL: offset}
    assert mu.optima_apart(trials) == pytest.approx(expected, abs=1e-15)


# ---- The figures ----


def test_the_study():
    """In a table in which every cell is another number."""
    rng = np.random.RandomState(0)
    index = pd.MultiIndex.from_product([mu.REQUESTS, mu.METHODS], names=["request", "method"])
    names = ["attack_accuracy", "vector_accuracy", "forget_accuracy", "test_accuracy", "seconds"]
    table = pd.DataFrame(rng.uniform(0.1, 0.995, (27, 5)), index, names)
    table[["attack_p", "vector_p"]] = rng.choice([0.005, 0.01, 0.015], (27, 2))
    table = table.assign(told_apart=rng.rand(27) < 0.5, gap_to_retrained=0.1, attack_limit=0.6)
    figure, worst = mu.study_figure(table), mu.summarise(table)
    assert_readable(figure)
    apart = dict(zip(mu.REQUESTS, (9e-7, 1e-6, 0.5)))  # below 1e-6, there is one optimum
    page, (ax,) = mu.study_page(table.assign(vector_limit=0.6), apart, apart), figure.axes
    rows = [label.get_text() for label in ax.get_yticklabels()]
    colors = ax.collections[0].get_facecolors().reshape(len(rows), 8, 4)
    for name in mu.METHODS:
        row, part = rows.index(name), table.xs(name, level="method").loc[list(mu.REQUESTS)]
        cells = [text.get_text() for text in ax.texts if int(text.get_position()[1]) == row]
        attacks, costs = part[["attack_accuracy", "vector_accuracy"]], worst.loc[name]
        expected, found = [*attacks.max(axis=1), *part.forget_accuracy], list(map(numbers, cells))
        near(np.ravel(found)[:6], 100 * np.array(expected), atol=0.51)
        near(np.ravel(found)[6:], [costs.time, costs.points_lost], atol=0.051)
        assert ["×" in cell for cell in cells] == [*part.told_apart, *[False] * 5]
        tints = [mu.RED_TINT if told else mu.GREEN_TINT for told in part.told_apart]
        assert [to_hex(color) for color in colors[row]] == [*tints, *tints, "#f2f2f2", "#f2f2f2"]
        (line,) = re.findall(rf"^{re.escape(name)} +(\d.*)", page, re.M)
        near(numbers(line)[:6], 100 * np.ravel(attacks), atol=0.51)
        near(numbers(line)[6:], [costs.points_lost, costs.time], atol=0.051)
        stars = [star == "*" for star in re.findall(r"\d([* ])", line)]
        assert stars[:6] == [*np.ravel(part[["attack_p", "vector_p"]] <= 0.01)]
    for kind in mu.REQUESTS:
        (line,) = re.findall(rf"^{kind} +(\d.*)", page, re.M)
        assert (" one" in line) == (kind == mu.RANDOM)
        forget, seconds = 100 * table.forget_accuracy[kind], table.seconds[kind]
        near(numbers(line)[:3], forget[[mu.NAIVE, mu.RETRAIN, mu.ASCENT]], atol=0.51)
        newton, newton_retrain, descent = seconds[[mu.NEWTON, mu.NEWTON_RETRAIN, mu.RETRAIN]]
        near(numbers(line)[3:5], [newton / newton_retrain, newton_retrain / descent], atol=0.006)
    ways = [name for name in mu.METHODS if name not in mu.TRAINING]
    for passing, counts in ((0, [7]), (1, [7]), (2, [2, 7]), (7, [7, 7])):
        table["told_apart"] = ~table.index.isin(ways[:passing], level="method")
        found = mu.study_headline(table)
        assert (numbers(found), ways[0] in found) == (counts, passing == 1)
