"""One by one: exact ensembles, certificates, ledgers, and what an observer recovers."""

import copy
import re

import numpy as np
import pandas as pd
import pytest
from conftest import assert_page, errors, numbers
from joblib import parallel_config
from looks import assert_bars, assert_readable, title
from numpy.testing import assert_allclose, assert_array_equal
from numpy.testing import assert_allclose as near

import machine_unlearning as mu

SMALL = mu.Settings(patients=150, forget=16, epochs=30, learning_rate=1.0, quiet=True)
FORGET, RETAIN, _ = mu.make_request(mu.RANDOM, SMALL)
EVERYBODY = mu.together(FORGET, RETAIN)


def new_sisa(rows=EVERYBODY):
    return mu.Sisa(rows, SMALL, np.random.RandomState(0))


def all_weights(ensemble):
    """Of every stage of every shard, the initial weights first."""
    return np.array([[network.weights_ for network in stages] for stages in ensemble.stages])


def test_a_stage_goes_on_from_the_one_before():
    ensemble, rng = new_sisa(), np.random.RandomState(0)
    shards = np.array_split(rng.permutation(120), 5)
    for stages, slices, shard in zip(ensemble.stages, ensemble.slices, shards):
        assert_array_equal(slices, np.split(shard, 2))
        network = mu.TwoLayerMLP(20, 1.0, 0, 0.5, 0.01, rng).fit(*EVERYBODY)
        for stage, (positions, epochs) in zip(stages, [([0], 0), (shard[:12], 20), (shard, 20)]):
            network.descend(*EVERYBODY.at(positions), epochs)  # a row is seen 40 or 20 times: 30
            assert_array_equal(stage.weights_, network.weights_)
    assert all_weights(ensemble).shape == (5, 3, 81)
    mean = np.mean([s[-1].predict_proba(FORGET.X) for s in ensemble.stages], axis=0)
    assert_array_equal(ensemble.predict_proba(FORGET.X), mean)


@pytest.mark.parametrize("leavers", [[3], range(16), np.ravel(new_sisa().slices[1])], ids=len)
def test_sisa_is_exact_from_the_very_first_weights_on(leavers):
    X = EVERYBODY.X.copy()
    X[leavers] = 7.7  # strangers in the rows that must not matter
    ensemble, strangers, full = new_sisa(), new_sisa(mu.Rows(X, EVERYBODY.y)), new_sisa()
    for position in leavers:
        assert ensemble.remove(position, None) is ensemble
        strangers.remove(position, None)
    after, fresh = all_weights(ensemble), ensemble.retrained()
    assert_array_equal(after, all_weights(strangers))
    assert_array_equal(after, all_weights(fresh))
    assert not any(network in ensemble.stages[0] for network in fresh.stages[0][1:])
    for old, new, *slices in zip(all_weights(full), after, full.slices, ensemble.slices):
        before, left = map(np.concatenate, slices)
        assert_array_equal(left, before[~np.isin(before, leavers)])
        assert np.array_equal(old, new) == (len(left) == len(before))


@pytest.fixture(scope="module")
def head():
    return mu.CertifiedHead(EVERYBODY, SMALL, np.random.RandomState(0))


def test_the_head_is_trained_to_the_optimum_of_its_noisy_objective(head):
    rng = np.random.RandomState(0)
    x = np.tanh(EVERYBODY.X @ rng.randn(2, 20) + rng.randn(20)) / np.sqrt(20)
    V = np.where(EVERYBODY.y == 1, 1, -1)[:, None] * x
    assert_allclose(head.signed(EVERYBODY), V)
    assert_array_equal(head.b, 1.5 * rng.randn(20))
    assert head.spent == head.residual(EVERYBODY) <= 1e-10
    p = mu.sigmoid(x @ head.w)
    assert_allclose(head.predict_proba(EVERYBODY.X), np.column_stack([1 - p, p]))
    moved, up, down = (copy.copy(head) for _ in range(3))
    moved.w = head.w + 0.3
    gradient, hessian = moved.gradient(V), moved.hessian(V)
    assert moved.residual(EVERYBODY) == pytest.approx(np.linalg.norm(gradient + head.b))
    for k, step in enumerate(1e-5 * np.eye(20)):
        up.w, down.w = moved.w + step, moved.w - step
        above, below = (np.logaddexp(0, -V @ w).sum() + 0.6 * w @ w for w in (up.w, down.w))
        assert gradient[k] == pytest.approx((above - below) / 2e-5, abs=1e-6)
        assert_allclose(hessian[k], (up.gradient(V) - down.gradient(V)) / 2e-5, atol=1e-6)
    p = mu.sigmoid(np.linspace(-20, 20, 400_001))
    third = np.abs(p * (1 - p) * (1 - 2 * p)).max()  # derivative of log(1 + exp)
    assert_allclose(head.GAMMA, third, rtol=1e-8)
    assert head.allowed == pytest.approx(1.5 / np.sqrt(2 * np.log(1.5 / 1e-4)))


def test_residual_is_at_most_spent_is_at_most_allowed_at_every_removal(head):
    rng, norm, first, k = np.random.RandomState(1), np.linalg.norm, head, 0
    while not head.was_retrained:  # until the budget has run out
        k, was, before = k + 1, head, copy.deepcopy(head.__dict__)
        left, one = EVERYBODY.at(slice(k, None)), EVERYBODY.at(slice(k - 1, k))
        V = head.signed(left)
        step = np.linalg.inv(head.hessian(V)) @ head.gradient(head.signed(one))
        spent = was.spent + head.GAMMA * norm(V, 2) * norm(step) * norm(V @ step)
        head = head.remove(one, left, rng)
        for name, value in before.items():  # the head before is left alone
            assert_array_equal(getattr(was, name), value)
        assert head.residual(left) <= head.spent <= head.allowed
        assert head.was_retrained == (spent > head.allowed)
        if not head.was_retrained:
            assert_allclose(head.w, was.w + step)
            assert_allclose(head.spent, spent)
            exact = head.retrained(left)  # with the same noise
            assert_array_equal([exact.b, head.b], [first.b] * 2)
            assert exact.residual(left) <= 1e-10
    assert k > 4
    assert_array_equal(head.b, 1.5 * np.random.RandomState(1).randn(20))  # fresh noise
    assert head.spent <= 1e-10
    left = EVERYBODY.at(slice(k + 1, None))
    assert not head.remove(EVERYBODY.at(slice(k, k + 1)), left, rng).was_retrained


def test_each_request_removes_the_patient_who_asks(monkeypatch):
    """With three steps for Newton's method, all its models and all gaps are different ones."""
    monkeypatch.setattr(mu, "go_to_optimum", lambda model, rows: model.descend(*rows, 3))
    settings, expected = mu.replace(SMALL, forget=8), []
    X, _ = everybody = mu.together(*mu.make_request(mu.CLINIC, settings)[:2])
    rng = np.random.RandomState([42, 1, 0])
    sisa, network = mu.Sisa(everybody, settings, rng), mu.train_by_newton(everybody, settings, rng)
    heads = [mu.CertifiedHead(everybody, settings, rng)]
    for k in range(1, 9):
        leaver, left = everybody.at(slice(k - 1, k)), everybody.at(slice(k, None))
        retrained = mu.train_by_descent(left, settings, rng)
        sisa.remove(k - 1, None)
        fresh = mu.train_by_newton(left, settings, rng)
        network = copy.deepcopy(network).descend(*left, 3)
        head = heads[-1].remove(leaver, left, rng)
        heads.append(head)
        pairs = {
            mu.NEWTON_RETRAIN: (fresh, mu.train_by_newton(left, settings, rng)),
            mu.NEWTON: (network, fresh), mu.HEAD: (head, head.retrained(left)),
        }  # fmt: skip
        if k % 4 == 0:
            pairs[mu.RETRAIN] = retrained, mu.train_by_descent(left, settings, rng)
            pairs[mu.SISA] = sisa, sisa.retrained()
        gaps = {name: mu.gap_to_retrained(*pair, X[:k]) for name, pair in pairs.items()}
        rows = {name: [gaps.get(name, np.nan), *[np.nan] * 4] for name in mu.STRATEGIES}
        rows[mu.HEAD][1:] = head.spent, head.allowed, head.residual(left), head.was_retrained
        expected += [[mu.CLINIC, name, k, *row] for name, row in rows.items()]
    ledger, found = mu.one_by_one(mu.CLINIC, settings)
    assert (ledger.pop("seconds") > 0).all()
    expected = pd.DataFrame(expected, columns=ledger.columns)
    pd.testing.assert_frame_equal(ledger, expected, check_dtype=False)
    assert [head.spent for head in found] == [head.spent for head in heads]
    assert {0, 1} == {*expected.retrained.dropna()}


def test_the_summary_of_a_ledger():
    rows = [(kind, name, asked * seconds * (k + 1), 1e-7 * asked)
            for k, kind in enumerate(mu.SEQUENCES) for asked in range(1, 11)
            for name, seconds in zip(mu.STRATEGIES, [2, 1, 0.8, 0.2, 0.02])]  # fmt: skip
    ledger = pd.DataFrame(rows, columns=["request", "method", "seconds", "gap_to_retrained"])
    ledger.loc[(ledger.method == mu.SISA) & (ledger.index < 40), "gap_to_retrained"] = np.nan
    newton = (ledger.request == mu.CLINIC) & (ledger.method == mu.NEWTON)
    ledger.loc[newton, "gap_to_retrained"] = [0, 1e-6, 2e-6, 1, 1, 0.5, 0, 0, 0, 0]
    summary = mu.summarise_ledger(ledger)
    assert_allclose(summary.time, [1, 0.5, 0.4, 0.1, 0.01] * 2)
    assert_allclose(summary.mean_gap * 1e7, [5.5, 9.5, *[5.5] * 6, 2500003, 5.5])
    assert_allclose(summary.largest_gap, [*[1e-6] * 8, 1, 1e-6])
    assert_array_equal(summary.elsewhere, [0] * 8 + [4, 0])


def in_units(rows):
    """Age, glucose and label."""
    return np.column_stack([rows.X * [13.3, 30.7] + [47.5, 125], rows.y])


@pytest.mark.parametrize(
    ("people", "off"), [([[63, 181, 0]], 1e-9), ([[30, 90, 0], [70, 170, 1]], 12)]
)
def test_an_observer_who_knows_the_true_rows_finds_who_was_planted(head, people, off):
    everybody = [(a, g, y) for a in range(101) for g in range(40, 221) for y in (0, 1)]
    assert_allclose(in_units(mu.possible_patients()), everybody, atol=1e-9)
    rows = mu.possible_patients().at([everybody.index(tuple(one)) for one in people])
    before = copy.copy(head).fit(mu.together(rows, EVERYBODY), head.b)
    after = before.remove(rows, EVERYBODY, None)
    for public in (EVERYBODY, mu.together(EVERYBODY, EVERYBODY)):  # how many has no effect
        found = in_units(mu.recover(before, after, 120, public, len(people)))
        assert_allclose(found[np.argsort(found[:, 0])], people, rtol=0, atol=off)
        assert sorted(found[:, 2]) == [y for *_, y in people]


@pytest.mark.parametrize("n_leavers", [1, 5])
def test_what_the_observer_is_asked_and_what_is_noted(head, monkeypatch, n_leavers):
    heads, asked = [copy.copy(head) for _ in range(17)], []
    heads[7].was_retrained = True  # with fresh noise: left out
    starts = [s for s in range(0, 17 - n_leavers, n_leavers) if not s < 7 <= s + n_leavers]
    rng = np.random.RandomState([42, 99])
    known = mu.standardised(mu.make_patients(400, rng))
    pool = in_units(mu.draw_leavers(mu.RANDOM, 400, rng))

    def recover(before, after, n_left, public, n):
        assert_array_equal(public.X, known.X)
        start = starts[len(asked)]
        asked.append((before, after, n_left, n))
        rows = FORGET.at(np.arange(start, start + n)[::-1])
        return mu.Rows(rows.X + 0.01, rows.y)

    monkeypatch.setattr(mu, "recover", recover)
    seen = mu.observe(mu.RANDOM, SMALL, heads, n_leavers)
    ends = [start + n_leavers for start in starts]
    assert asked == [(heads[a], heads[b], 120 - b, n_leavers) for a, b in zip(starts, ends)]
    true, found, guess = np.split(seen.to_numpy(), 3, axis=1)
    assert_allclose(true, in_units(FORGET.at(np.add.outer(starts, range(n_leavers)).ravel())))
    assert_allclose(found - true, [[0.133, 0.307, 0]] * len(true))  # matched, although in reverse
    chosen = [rng.choice(400, n_leavers, replace=False) for _ in starts]
    if n_leavers == 1:
        pool[:, :2] = pool[:, :2].mean(axis=0)
    assert_allclose(np.sort(guess, axis=0), np.sort(pool[np.ravel(chosen)], axis=0))
    assert mu.observe(mu.RANDOM, SMALL, [heads[7]] * 17, n_leavers).empty


# ---- The figures ----


@pytest.fixture(scope="module")
def sequence():
    small = {"patients": 80, "forget": 15, "hidden": 8, "learning_rate": 1.0, "epochs": 20}
    with parallel_config("sequential"):
        ledger, observed = mu.run_sequences(mu.Settings(**small, quiet=True))
    return ledger, mu.summarise_ledger(ledger), observed


def test_the_sequence(sequence):
    ledger, summary, _ = sequence
    figure = mu.sequential_figure(ledger, summary)
    assert_readable(figure)
    times = 100 * summary.time.xs(mu.NEWTON, level="method")
    assert numbers(title(figure)) == [round(times.min()), round(times.max())]
    for kinds in ([], [mu.CLINIC], list(mu.SEQUENCES)):  # of which retraining is several models
        apart = summary.assign(elsewhere=0)
        apart.loc[[(kind, mu.NEWTON_RETRAIN) for kind in kinds], "elsewhere"] = 1
        said = mu.sequential_headline(apart)
        assert [kind for kind in mu.SEQUENCES if kind in said] == kinds
    for kind, (time, gaps, budget) in zip(mu.SEQUENCES, np.reshape(figure.axes, (3, 2)).T):
        assert_bars(time, summary.time[kind])
        assert kind in title(time)
        mine = ledger[ledger.request == kind].set_index("asked")
        for line, name in zip(gaps.lines, (mu.RETRAIN, mu.NEWTON_RETRAIN, mu.NEWTON)):
            expected = mine.gap_to_retrained[mine.method == name].dropna().clip(lower=1e-17)
            near(line.get_xydata(), [*expected.items()])
            elsewhere = [] if name == mu.RETRAIN else [summary.elsewhere[kind, name], 15]
            assert (name in line.get_label(), numbers(line.get_label())) == (True, elsewhere)
        head = mine[mine.method == mu.HEAD]
        forced = head.index[head.retrained == 1]
        for line, column in zip(budget.lines, ("spent", "residual")):
            expected = (100 * head[column] / head.allowed).drop(forced).reindex(head.index)
            near(line.get_xydata(), [*expected.items()])
            assert column in line.get_label()
        assert budget.lines[2].get_ydata()[0] == 100
        assert list(budget.collections[0].get_offsets()[:, 0]) == list(forced)
        assert len(forced) in numbers(title(budget))
    assert 0 < len(forced) < 15  # the clinic's: else this test would show nothing


def test_the_recovered(sequence):
    ledger, summary, observed = sequence
    figure = mu.reveals_figure(observed)
    assert_readable(figure)
    assert list(observed) == list(product(mu.SEQUENCES, (1, 5)))
    found = errors(observed[mu.RANDOM, 1], "found_")
    assert numbers(title(figure)) == pytest.approx(found, abs=0.051)
    for ax, (kind, k) in zip(figure.axes, product(mu.SEQUENCES, (0, 1))):
        people, column = observed[kind, 1], ["age", "glucose"][k]
        for marks, prefix in zip(ax.collections, ("guess_", "found_")):
            assert_same_points([marks], people[[column, prefix + column]])
        expected = [errors(people, prefix)[k] for prefix in ("found_", "guess_")]
        assert numbers(title(ax)) == pytest.approx(expected, abs=0.051)
        assert (kind in title(ax), column in title(ax)) == (True, True)
    page = mu.sequential_page(ledger, summary, observed)
    assert_page(page)
    lines = [line for line in page.splitlines() if re.match(r"(random|clinic), \d.* of ", line)]
    for line, ((kind, n), people) in zip(lines, observed.items()):
        head = ledger[(ledger.request == kind) & (ledger.retrained == 0)]
        right = (people.diagnosis == people.found_diagnosis).sum()
        expected = [n, len(head), round(100 * (head.residual / head.spent).max())]
        expected += [*errors(people, "found_"), right, len(people), *errors(people, "guess_")]
        assert line.startswith(kind)
        near(numbers(line), expected, atol=0.051)
    for n in (0, 15):  # nobody's removal was observed; the ages that are found are guesses
        lost = {key: each.assign(found_age=each.guess_age)[:n] for key, each in observed.items()}
        figure = mu.reveals_figure(lost)
        assert_readable(figure)
        assert not numbers(title(figure))
        assert_page(mu.sequential_page(ledger, summary, lost))
