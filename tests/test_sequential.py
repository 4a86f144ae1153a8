"""One by one: exact ensembles, certificates, ledgers, and what an observer recovers."""

import copy

import numpy as np
import pandas as pd
import pytest
from conftest import assert_page, numbers
from joblib import parallel_config
from looks import assert_readable, title
from numpy.testing import assert_allclose, assert_array_equal

import machine_unlearning as mu

SMALL = mu.Settings(patients=150, forget=16, epochs=30, learning_rate=1.0, quiet=True)
FORGET, RETAIN, _ = mu.make_request(mu.RANDOM, SMALL)
EVERYBODY = mu.stack(FORGET, RETAIN)  # 120

# ---- SISA ----


def new_sisa(rows=EVERYBODY):
    return mu.Sisa(rows, SMALL, np.random.RandomState(0))


def all_weights(ensemble):
    """(5, 3, 81): of every stage of every shard, the initial weights first."""
    stages = [shard.stages for shard in ensemble.shards]
    return np.array([[network.weights_ for network in networks] for networks in stages])


def positions_in(shard):
    return np.concatenate(shard.slices)


def test_the_shards_divide_the_rows():
    shards = new_sisa().shards
    assert len(shards) == 5
    for shard in shards:
        assert [len(positions) for positions in shard.slices] == [12, 12]
    everywhere = np.concatenate([positions_in(shard) for shard in shards])
    assert_array_equal(np.sort(everywhere), range(120))
    assert not np.array_equal(everywhere, range(120))


def test_a_stage_goes_on_from_the_one_before():
    ensemble = new_sisa()
    for shard in ensemble.shards:
        network = copy.deepcopy(shard.stages[0])
        assert network.epochs == 0
        first_slice = EVERYBODY.at(shard.slices[0])
        both_slices = EVERYBODY.at(positions_in(shard))
        network.descend(first_slice.X, first_slice.y, 20)  # a row is seen 40 or 20 times: 30
        assert_array_equal(shard.stages[1].weights_, network.weights_)
        network.descend(both_slices.X, both_slices.y, 20)
        assert_array_equal(shard.stages[2].weights_, network.weights_)
    assert len(np.unique(all_weights(ensemble)[:, 0], axis=0)) == 5  # initial weights


def test_an_ensemble_predicts_the_mean_of_its_last_stages():
    ensemble = new_sisa()
    probabilities = [shard.stages[2].predict_proba(FORGET.X) for shard in ensemble.shards]
    assert_array_equal(ensemble.predict_proba(FORGET.X), np.mean(probabilities, axis=0))


A_WHOLE_SHARD = positions_in(new_sisa().shards[1])


@pytest.mark.parametrize("leavers", [[3], range(16), A_WHOLE_SHARD], ids=len)
def test_sisa_is_exact_from_the_very_first_weights_on(leavers):
    X = EVERYBODY.X.copy()
    X[leavers] = 7.7  # strangers in the rows that must not matter
    full = new_sisa()
    ensemble = new_sisa()
    strangers = new_sisa(mu.Rows(X, EVERYBODY.y))

    for position in leavers:
        assert ensemble.remove(position, None) is ensemble
        strangers.remove(position, None)

    after = all_weights(ensemble)
    assert_array_equal(after, all_weights(strangers))
    assert_array_equal(after, all_weights(ensemble.target()))
    for k in range(5):  # a shard that nobody has left stays as it was
        before = positions_in(full.shards[k])
        left = positions_in(ensemble.shards[k])
        assert_array_equal(left, before[~np.isin(before, leavers)])
        assert np.array_equal(all_weights(full)[k], after[k]) == (len(left) == len(before))


def test_a_fresh_ensemble_is_trained_anew():
    ensemble = new_sisa()
    before = all_weights(ensemble)
    fresh = ensemble.target()
    for shard, fresh_shard in zip(ensemble.shards, fresh.shards):
        assert fresh_shard.stages[1] is not shard.stages[1]
    assert_array_equal(all_weights(ensemble), before)


# ---- The certified head ----


@pytest.fixture(scope="module")
def head():
    return mu.CertifiedHead(EVERYBODY, SMALL, np.random.RandomState(0))


def test_features_and_noise_of_the_head(head):
    rng = np.random.RandomState(0)
    hidden = np.tanh(EVERYBODY.X @ rng.randn(2, 20) + rng.randn(20))
    features = hidden / np.sqrt(20)
    signs = np.where(EVERYBODY.y == 1, 1, -1)
    assert_allclose(head.signed_features(EVERYBODY), signs[:, None] * features)
    assert np.linalg.norm(features, axis=1).max() <= 1
    assert_array_equal(head.b, 1.5 * rng.randn(20))
    p = 1 / (1 + np.exp(-features @ head.w))
    assert_allclose(head.predict_proba(EVERYBODY.X), np.column_stack([1 - p, p]))


def test_gradient_and_hessian_of_the_head_agree_with_differences(head):
    V = head.signed_features(EVERYBODY)
    moved = copy.copy(head)
    moved.w = head.w + 0.3

    def objective(w):  # 0.6: 0.01 / 2 times 120
        return np.logaddexp(0, -V @ w).sum() + 0.6 * w @ w

    gradient = moved.gradient(V)
    hessian = moved.hessian(V)
    above = copy.copy(moved)
    below = copy.copy(moved)
    for k, step in enumerate(1e-5 * np.eye(20)):
        above.w = moved.w + step
        below.w = moved.w - step
        slope = (objective(above.w) - objective(below.w)) / 2e-5
        bend = (above.gradient(V) - below.gradient(V)) / 2e-5
        assert gradient[k] == pytest.approx(slope, abs=1e-6)
        assert_allclose(hessian[k], bend, atol=1e-6)


def test_the_head_is_trained_to_the_optimum_of_its_noisy_objective(head):
    V = head.signed_features(EVERYBODY)
    assert np.linalg.norm(head.gradient(V) + head.b) <= 1e-10
    assert head.spent == head.residual(EVERYBODY) <= 1e-10
    moved = copy.copy(head)
    moved.w = head.w + 0.3
    residual = np.linalg.norm(moved.gradient(V) + head.b)
    assert moved.residual(EVERYBODY) == pytest.approx(residual)


def test_the_constants_of_the_certificate(head):
    p = mu.sigmoid(np.linspace(-20, 20, 400_001))
    third_derivative = p * (1 - p) * (1 - 2 * p)  # of log(1 + exp)
    assert_allclose(head.GAMMA, np.abs(third_derivative).max(), rtol=1e-8)
    assert head.allowed == pytest.approx(1.5 / np.sqrt(2 * np.log(1.5 / 1e-4)))


def test_residual_is_at_most_spent_is_at_most_allowed_at_every_removal(head):
    norm = np.linalg.norm
    rng = np.random.RandomState(1)
    n_removed = 0
    now = head
    while not now.was_retrained:  # until the limit is reached
        leaver = EVERYBODY.at(slice(n_removed, n_removed + 1))
        n_removed += 1
        left = EVERYBODY.at(slice(n_removed, None))
        V = now.signed_features(left)
        step = np.linalg.inv(now.hessian(V)) @ now.gradient(now.signed_features(leaver))
        spent = now.spent + head.GAMMA * norm(V, 2) * norm(step) * norm(V @ step)

        before = now
        attributes = copy.deepcopy(before.__dict__)
        now = before.remove(leaver, left, rng)

        for name, value in attributes.items():  # the head before is left alone
            assert_array_equal(getattr(before, name), value)
        assert now.residual(left) <= now.spent <= now.allowed
        assert now.was_retrained == (spent > now.allowed)
        if not now.was_retrained:
            assert_allclose(now.w, before.w + step)
            assert_allclose(now.spent, spent)
            exact = now.target(left)
            assert_array_equal(exact.b, head.b)  # the same noise
            assert_array_equal(now.b, head.b)
            assert exact.residual(left) <= 1e-10

    assert n_removed > 4
    assert_array_equal(now.b, 1.5 * np.random.RandomState(1).randn(20))  # fresh noise
    assert now.spent <= 1e-10
    leaver = EVERYBODY.at(slice(n_removed, n_removed + 1))
    left = EVERYBODY.at(slice(n_removed + 1, None))
    assert not now.remove(leaver, left, rng).was_retrained


# ---- The ledger ----

SECONDS = {  # what a stopwatch says in these tests
    "train_by_descent": 1.0, "Sisa.remove": 2.0, "train_by_newton": 3.0, "newton": 4.0,
    "CertifiedHead.remove": 5.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def audited():
    """A clinic's ledger and heads; and, by gap, which models were compared on which rows.

    Each gap is the number of its comparison, and each strategy takes the SECONDS of its name.
    """
    compared = {}

    def note(model, target, X):
        number = float(len(compared))
        compared[number] = copy.deepcopy((model, target, X))
        return number

    def stopwatch(function, *arguments, rng, repeats):
        return function(*arguments, rng), SECONDS[function.__qualname__]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mu, "gap_to_retrained", note)
        patch.setattr(mu, "timed", stopwatch)
        ledger, heads = mu.one_by_one(mu.CLINIC, SMALL)
    return ledger, heads, compared


def clinic_rows():
    forget, retain, _ = mu.make_request(mu.CLINIC, SMALL)
    return forget, mu.stack(forget, retain)


def entries_of(audited, name):
    """(entry, rows left, model, target) of a strategy, where its gap was measured."""
    ledger, _, compared = audited
    _, everybody = clinic_rows()
    for entry in ledger[ledger.method == name].dropna(subset="gap_to_retrained").itertuples():
        model, target, _ = compared[entry.gap_to_retrained]
        assert model is not target
        yield entry, everybody.at(slice(entry.asked, None)), model, target


def test_the_ledger_has_an_entry_per_request_and_strategy(audited):
    ledger = audited[0]
    keys = list(zip(ledger.request, ledger.asked, ledger.method))
    assert keys == [(mu.CLINIC, k, name) for k in range(1, 17) for name in mu.STRATEGIES]
    expected = dict(zip(mu.STRATEGIES, SECONDS.values()))
    assert_array_equal(ledger.seconds, ledger.method.map(expected))
    measured = ledger.dropna(subset="gap_to_retrained").groupby("method").asked.apply(list)
    for name in mu.STRATEGIES:
        every = 4 if name in (mu.RETRAIN, mu.SISA) else 1
        assert measured[name] == list(range(every, 17, every))


def test_a_gap_is_measured_on_all_who_have_asked(audited):
    ledger, _, compared = audited
    forget, _ = clinic_rows()
    measured = ledger.dropna(subset="gap_to_retrained")
    assert sorted(measured.gap_to_retrained) == sorted(compared)  # each in one entry
    for entry in measured.itertuples():
        assert_array_equal(compared[entry.gap_to_retrained][2], forget.X[: entry.asked])


def test_full_retrain_is_trained_on_those_who_are_left(audited):
    for _, left, model, target in entries_of(audited, mu.RETRAIN):
        assert not np.array_equal(model.weights_, target.weights_)
        for network in (model, target):
            again = network.checkpoint_.descend(left.X, left.y, 15)  # the second half of training
            assert_array_equal(again.weights_, network.weights_)


def test_sisa_removes_the_patients_who_ask(audited):
    for entry, _, model, target in entries_of(audited, mu.SISA):
        for ensemble in (model, target):
            positions = np.concatenate([positions_in(shard) for shard in ensemble.shards])
            assert_array_equal(np.sort(positions), range(entry.asked, 120))
        assert_array_equal(all_weights(model)[:, 0], all_weights(target)[:, 0])


def slope_at(model, rows):
    return np.linalg.norm(mu.gradient_and_hessian(model, rows.X, rows.y)[0])


def test_newton_ends_at_an_optimum_of_those_who_are_left(audited):
    retrained = {}
    for entry, left, model, target in entries_of(audited, mu.NEWTON_RETRAIN):
        assert max(slope_at(model, left), slope_at(target, left)) <= 1e-8
        retrained[entry.asked] = model
    for entry, left, model, target in entries_of(audited, mu.NEWTON):
        assert slope_at(model, left) <= 1e-8
        assert_array_equal(target.weights_, retrained[entry.asked].weights_)


def test_the_certificate_in_the_ledger_is_right(audited):
    heads = audited[1]
    assert heads[0].residual(clinic_rows()[1]) <= 1e-10
    for entry, left, model, target in entries_of(audited, mu.HEAD):
        head = heads[entry.asked]
        assert_array_equal(model.w, head.w)
        assert_array_equal(target.b, head.b)
        assert target.residual(left) <= 1e-10
        assert (entry.spent, entry.allowed) == (head.spent, head.allowed)
        assert entry.residual == head.residual(left) <= entry.spent <= entry.allowed
        assert entry.retrained == (not np.array_equal(head.b, heads[entry.asked - 1].b))
    assert len(heads) == 17


def test_only_the_head_has_a_certificate(audited):
    ledger = audited[0]
    audit = ledger[["spent", "allowed", "residual", "retrained"]]
    is_head = ledger.method == mu.HEAD
    assert audit[is_head].notna().all(axis=None)
    assert audit[~is_head].isna().all(axis=None)
    assert set(audit.retrained.dropna()) == {0, 1}


def test_the_same_seed_gives_the_same_ledger():
    settings = mu.replace(SMALL, forget=8)
    first, _ = mu.one_by_one(mu.RANDOM, settings)
    np.random.seed(1)  # noqa: NPY002 (the global generator is none of its business)
    second, _ = mu.one_by_one(mu.RANDOM, settings)
    assert (first.pop("seconds") > 0).all()
    assert (second.pop("seconds") > 0).all()
    pd.testing.assert_frame_equal(first, second)


def ledger_of(gaps, seconds):
    """A ledger of ten requests of either kind; gaps: {(kind, method): its ten gaps}."""
    rows = []
    for kind in mu.SEQUENCES:
        for asked in range(10):
            for name in mu.STRATEGIES:
                gap = gaps.get((kind, name), [0] * 10)[asked]
                rows.append((kind, name, asked + 1, seconds[kind, name], gap))
    return pd.DataFrame(rows, columns=["request", "method", "asked", "seconds", "gap_to_retrained"])


def test_the_summary_of_a_ledger():
    seconds = {}
    for name, factor in zip(mu.STRATEGIES, [1, 0.5, 0.4, 0.1, 0.01]):
        seconds[mu.RANDOM, name] = 2 * factor
        seconds[mu.CLINIC, name] = 3 * factor
    nothing = [np.nan] * 3
    gaps = {
        (mu.RANDOM, mu.SISA): [*nothing, 0.2, *nothing, 0.3, *nothing[:2]],
        (mu.CLINIC, mu.NEWTON): [0, 1e-6, 2e-6, 0.01, 0.011, 0.5, 0, 0, 0, 0],
    }
    summary = mu.summarise_ledger(ledger_of(gaps, seconds))
    assert_allclose(summary.time, [1, 0.5, 0.4, 0.1, 0.01] * 2)
    assert summary.largest_gap[mu.RANDOM, mu.SISA] == 0.3
    assert summary.largest_gap[mu.CLINIC, mu.NEWTON] == 0.5
    counts = summary[["measured", "elsewhere", "off_target"]]
    assert list(counts.loc[mu.RANDOM, mu.SISA]) == [2, 2, 2]
    assert list(counts.loc[mu.CLINIC, mu.NEWTON]) == [10, 4, 2]
    assert list(counts.loc[mu.CLINIC, mu.NEWTON_RETRAIN]) == [10, 0, 0]


def head_entries(random_forced, clinic_forced):
    """The head's entries in a ledger of four requests, with retrains forced at some of them."""
    rows = []
    for kind, forced in ((mu.RANDOM, random_forced), (mu.CLINIC, clinic_forced)):
        for asked in range(1, 5):
            row = {"request": kind, "method": mu.HEAD, "asked": asked, "allowed": 2.0}
            row["spent"] = 0.4 * asked
            row["residual"] = 0.01 * asked**2
            row["retrained"] = int(asked in forced)
            rows.append(row)
    return pd.DataFrame(rows)


def shares_of(n_random, n_clinic):
    """Shares of two other noises: one that hides all four requests, one that hides so many."""
    all_four = np.array([0, 0.1, 0.2, 0.3, 0.4])
    return {
        mu.RANDOM: [all_four, all_four[: n_random + 1]],
        mu.CLINIC: [all_four, all_four[: n_clinic + 1]],
    }


def test_the_certificate_lists_forced_retrains_and_the_largest_measured_share():
    ledger = head_entries([], [2, 4])
    random = mu.check_certificate(ledger, shares_of(4, 4), mu.RANDOM)
    assert random == ([], 4, pytest.approx(0.1), 4)
    clinic = mu.check_certificate(ledger, shares_of(4, 4), mu.CLINIC)
    assert clinic == ([2, 4], 2, pytest.approx(0.075), 1)


@pytest.mark.parametrize(("forced", "n_other", "expected"), [
    ([3], 3, 2), ([3], 2, 2), ([3], 1, 1), ([], 3, 3), ([1], 4, 0),
])  # fmt: skip
def test_a_removal_is_certified_until_some_noise_forces_a_retrain(forced, n_other, expected):
    ledger = head_entries([], forced)
    certificate = mu.check_certificate(ledger, shares_of(4, n_other), mu.CLINIC)
    assert certificate.n_certified == expected


def test_other_noise_is_tried_on_the_same_requests(head):
    forget, retain, _ = mu.make_request(mu.CLINIC, SMALL)
    everybody = mu.stack(forget, retain)
    other_shares = mu.try_other_noise(mu.CLINIC, SMALL, head, n_others=3)

    # What the first one spends, until a retrain is forced
    rng = np.random.RandomState([42, 98])
    other = copy.copy(head).fit(everybody, 1.5 * rng.randn(20))
    versions = answer_all(other, everybody, 16, rng)
    n_before = first_forced(versions)
    expected = [version.spent / version.allowed for version in versions[:n_before]]
    assert_allclose(other_shares[0], expected, atol=1e-9)

    # The others have noise of their own
    assert len({shares[1] for shares in other_shares}) == 3


@pytest.mark.parametrize(
    ("random_forced", "clinic_forced", "finding"),
    [
        ([], [], "all 4 random removals and all 4 of a clinic's"),
        ([], [3], "all 4 random removals, but at most 2 of a clinic's"),
        ([2, 3], [], "at most 1 random removals, but all 4 of a clinic's"),
        ([1], [1, 2, 3, 4], "at most 0 of 4 random removals, and 0 of a clinic's"),
    ],
)
def test_the_finding_on_the_certificate(random_forced, clinic_forced, finding):
    ledger = head_entries(random_forced, clinic_forced)
    other_shares = shares_of(4, 4)
    assert mu.certificate_finding(ledger, other_shares) == "Noise can hide " + finding
    assert len(finding) <= 65
    figure = mu.certificate_figure(ledger, other_shares, SMALL)
    assert_readable(figure)


# ---- What the noise tells ----


def answer_all(head, everybody, n_requests, rng):
    """The versions of a head, the one before all requests first."""
    versions = [head]
    for asked in range(1, n_requests + 1):
        leaver = everybody.at(slice(asked - 1, asked))
        left = everybody.at(slice(asked, None))
        versions.append(versions[-1].remove(leaver, left, rng))
    return versions


def first_forced(versions):
    return [head.was_retrained for head in versions].index(True)


@pytest.mark.slow
def test_when_to_retrain_depends_on_the_noise_and_so_one_version_tells_of_it():
    """The clinic's first retrain is forced at request 45 to 58: a linear function of the noise."""
    forget, retain, _ = mu.make_request(mu.CLINIC, mu.Settings())
    everybody = mu.stack(forget, retain)
    rng = np.random.RandomState(0)
    features = mu.CertifiedHead(everybody, mu.Settings(), rng)  # the same for all heads

    def new_head(rows):
        return copy.copy(features).fit(rows, features.draw_noise(rng))

    runs = [answer_all(new_head(everybody), everybody, 60, rng) for _ in range(2000)]
    firsts = np.array([first_forced(versions) for versions in runs])
    assert 43 <= firsts.min() <= 47
    assert 54 <= firsts.max() <= 59

    # Learn from some of them how the noise decides
    def with_constant(noises):
        return np.column_stack([noises, np.ones(len(noises))])

    noises = with_constant([versions[0].b for versions in runs])
    coefficients = np.linalg.lstsq(noises[:500], firsts[:500], rcond=None)[0]
    predicted = noises @ coefficients
    errors = predicted[500:] - firsts[500:]
    assert 1 - errors.var() / firsts[500:].var() > 0.95  # R2

    # Of the others, at request 48: whose noise, minus the gradient, would clearly have forced a
    # retrain by then? Of those that were not retrained, too few for the certificate
    left = everybody.at(slice(48, None))
    V = features.signed_features(left)
    clearly = np.quantile(predicted[:500], np.mean(firsts <= 48)) - 0.5
    removed = [versions[48] for versions in runs[500:]]
    retrained = [new_head(left) for _ in range(4000)]

    def looks_early(heads):
        noises = with_constant([-head.gradient(V) for head in heads])
        return np.mean(noises @ coefficients < clearly)

    excess = looks_early(retrained) - np.exp(features.EPSILON) * looks_early(removed)
    assert 100 * features.DELTA < excess < 0.09


# ---- What a removal gives away ----


def in_units(rows):
    """Age, glucose and label."""
    return np.column_stack([rows.X * [13.3, 30.7] + [47.5, 125], rows.y])


def test_the_observer_searches_all_ages_glucoses_and_diagnoses():
    expected = [(a, g, y) for a in range(101) for g in range(40, 221) for y in (0, 1)]
    assert_allclose(in_units(mu.possible_patients()), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("people", "off"), [([[63, 181, 0]], 1e-9), ([[30, 90, 0], [70, 170, 1]], 12)]
)
def test_an_observer_who_knows_the_true_rows_finds_who_was_planted(head, people, off):
    people = np.array(people, float)
    rows = mu.Rows((people[:, :2] - [47.5, 125]) / [13.3, 30.7], people[:, 2].astype(int))
    before = copy.copy(head).fit(mu.stack(rows, EVERYBODY), head.b)
    after = before.remove(rows, EVERYBODY, None)
    found = in_units(mu.recover(before, after, EVERYBODY, len(people)))
    found = found[np.argsort(found[:, 0])]  # the youngest first
    assert_allclose(found[:, :2], people[:, :2], rtol=0, atol=off)
    assert_array_equal(found[:, 2], people[:, 2])


def test_rows_are_matched_to_the_leavers_whom_they_fit():
    shuffled = np.random.RandomState(0).permutation(16)
    near = mu.Rows(FORGET.X[shuffled] + 0.001, FORGET.y[shuffled])
    matched = mu.matched(near, FORGET)
    assert_allclose(matched.X, FORGET.X + 0.001)
    assert_array_equal(matched.y, FORGET.y)


@pytest.mark.parametrize("n_leavers", [1, 5])
@pytest.mark.parametrize("kind", list(mu.SEQUENCES))
def test_what_the_observer_sees_and_what_is_noted(head, monkeypatch, kind, n_leavers):
    forget, retain, _ = mu.make_request(kind, SMALL)
    heads = [copy.copy(head) for _ in range(17)]
    heads[7].was_retrained = True  # with fresh noise
    ends = [end for end in range(n_leavers, 17, n_leavers) if not 7 <= end < 7 + n_leavers]
    calls = []

    def recover(before, after, public, n):
        calls.append((heads.index(before), heads.index(after), public, n))
        end = calls[-1][1]
        rows = forget.at(np.arange(end - n, end)[::-1])
        return mu.Rows(rows.X + 0.01, rows.y)

    monkeypatch.setattr(mu, "recover", recover)
    seen = mu.observe(kind, SMALL, heads, n_leavers)

    # Two versions of the head, n_leavers apart, none with fresh noise between them
    assert [call[:2] for call in calls] == [(end - n_leavers, end) for end in ends]
    assert [call[3] for call in calls] == [n_leavers] * len(ends)

    # Public rows: nobody of the hospital's, but as many of each kind as are left
    hospital = set(map(tuple, mu.stack(forget, retain).X))
    like_forget = None
    for end, (_, _, public, _) in zip(ends, calls):
        assert len(public.y) == 120 - end
        assert not hospital & set(map(tuple, public.X))
        like_retain = in_units(public.at(slice(16 - end, None)))
        assert len(like_retain) == 104
        assert like_retain[:, 0].mean() == pytest.approx(47.5, abs=4)
        if kind == mu.CLINIC:
            like_forget = in_units(public.at(slice(0, 16 - end)))
            assert (like_forget[:, 0] < 45).all()
            assert (like_forget[:, 1] < 115).all()

    # Who left, whom the observer found, though in reverse, and the guess
    leavers = np.concatenate([np.arange(end - n_leavers, end) for end in ends])
    true = in_units(forget.at(leavers))
    assert list(seen.columns) == mu.OBSERVED
    assert_allclose(seen[["age", "glucose", "diagnosis"]], true)
    found = seen[["found_age", "found_glucose", "found_diagnosis"]]
    assert_allclose(found - true, [[0.133, 0.307, 0]] * len(true))
    if n_leavers == 1:  # always the mean of the public rows of their kind
        assert seen.guess_age.nunique() == seen.guess_glucose.nunique() == 1
        mean = in_units(forget)[:, :2].mean(axis=0)
        assert_allclose(seen.loc[0, ["guess_age", "guess_glucose"]].astype(float), mean, rtol=0.2)
    else:  # some of them
        assert seen.guess_age.nunique() > 5
        guesses = set(zip(seen.guess_age.round(9), seen.guess_glucose.round(9)))
        everybody = in_units(mu.stack(calls[0][2], forget)).round(9)
        public_people = set(zip(everybody[:, 0], everybody[:, 1]))
        assert len(guesses & public_people) > 0


def test_nobody_is_observed_where_the_noise_is_always_fresh(head):
    fresh = copy.copy(head)
    fresh.was_retrained = True
    seen = mu.observe(mu.RANDOM, SMALL, [fresh] * 17, 1)
    assert seen.empty
    assert list(seen.columns) == mu.OBSERVED


# ---- Figures and page ----


@pytest.fixture(scope="module")
def settings():
    return mu.Settings(patients=80, forget=15, hidden=8, learning_rate=1.0, epochs=20, quiet=True)


@pytest.fixture(scope="module")
def sequence(settings):
    with parallel_config("sequential"):
        return mu.run_sequences(settings)


def panels_of(figure):
    return {title(ax): ax for ax in figure.axes}


def marks_of(ax, label):
    """Where the marks of a label stand: (n, 2)."""
    marks = [each for each in ax.collections if each.get_label() == label]
    return np.ma.getdata(marks[0].get_offsets())


def with_a_far_gap(ledger, kind, name):
    """The ledger, with one gap of a strategy, the last that was measured, just above a point."""
    ledger = ledger.copy()
    of_strategy = (ledger.request == kind) & (ledger.method == name)
    last = ledger.index[of_strategy & ledger.gap_to_retrained.notna()][-1]
    ledger.loc[last, "gap_to_retrained"] = 0.0101
    return ledger


def test_the_figure_of_all_requests(sequence, settings):
    ledger = sequence[0]
    ledger = with_a_far_gap(ledger, mu.CLINIC, mu.NEWTON)
    ledger = with_a_far_gap(ledger, mu.CLINIC, mu.RETRAIN)
    summary = mu.summarise_ledger(ledger)
    figure = mu.sequential_figure(summary, settings)
    assert_readable(figure)
    times, targets, grid = figure.axes
    names = [label.get_text() for label in times.get_yticklabels()]
    assert sorted(names) == sorted(mu.STRATEGIES)

    # A bar per strategy, as long as the mean of its times
    for bar, text, name in zip(times.patches, times.texts, names):
        mean = summary.time.xs(name, level="method").mean()
        assert bar.get_width() == pytest.approx(mean)
        assert_allclose(numbers(text.get_text()), [100 * mean], atol=0.51)

    # Cells beside each bar: its target and, for either kind, how often it is off target
    assert_allclose(times.transData.transform([0, 0])[1], grid.transData.transform([0, 0.5])[1])
    tints = grid.collections[0].get_array().reshape(5, 2)
    words = {(text.get_position()[1], round(text.get_position()[0], 6)): text.get_text()
             for text in grid.texts}  # fmt: skip
    columns = sorted({x for _, x in words})
    for row, name in enumerate(names):
        assert targets.texts[row].get_text() == mu.ITS_TARGET[name]
        for column, kind in enumerate(mu.SEQUENCES):
            cell = words[row + 0.5, columns[column]]
            part = summary.loc[kind, name]
            if name in mu.TRAINING:
                assert numbers(cell) == []
                assert tints[row, column] == 0.5
                continue
            assert numbers(cell) == [part.off_target, part.measured]
            assert tints[row, column] == (part.off_target > 0)
    assert tints[names.index(mu.NEWTON), 1] == 1


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [
        ({}, "all stay on target"),
        ({(mu.CLINIC, mu.NEWTON): 0.01, (mu.CLINIC, mu.RETRAIN): 0.5}, "all stay on target"),
        ({(mu.CLINIC, mu.NEWTON): 0.0101}, "Newton fails 1 of 10 clinic checks"),
        ({(mu.RANDOM, mu.HEAD): 0.0101}, "a head fails 1 of 10 random checks"),
        ({(mu.RANDOM, mu.HEAD): 0.1, (mu.CLINIC, mu.HEAD): 0.1}, "a head fails 2 of 20 checks"),
        ({(mu.RANDOM, mu.SISA): 0.1, (mu.CLINIC, mu.NEWTON): 0.1}, "2 of 3 go off target"),
    ],
)
def test_the_finding_on_the_shortcuts(gaps, expected):
    seconds = {(kind, name): 1 for kind in mu.SEQUENCES for name in mu.STRATEGIES}
    for name, time in ((mu.SISA, 0.5), (mu.NEWTON, 0.13), (mu.HEAD, 0.01)):
        seconds[mu.RANDOM, name] = time
        seconds[mu.CLINIC, name] = time + 0.04
    gaps = {key: [0] * 9 + [gap] for key, gap in gaps.items()}
    finding = mu.sequential_finding(mu.summarise_ledger(ledger_of(gaps, seconds)))
    assert finding == f"Shortcuts take 3 to 52% of retraining's time; {expected}"
    assert len(finding) <= 80


def test_the_figure_of_the_certificate(sequence, settings):
    ledger, _, other_shares = sequence
    figure = mu.certificate_figure(ledger, other_shares, settings)
    assert_readable(figure)
    n_forced = {}
    for kind, ax in zip(mu.SEQUENCES, figure.axes):
        head = ledger[(ledger.request == kind) & (ledger.method == mu.HEAD)].set_index("asked")
        forced = head.index[head.retrained == 1]
        n_forced[kind] = len(forced)
        assert mu.how_many(len(forced), "forced retrain") in title(ax)

        # All requests until the first retrain, and nothing before the first
        in_data = [line for line in ax.lines if line.get_transform() == ax.transData]
        thin = [line for line in in_data if line.get_linewidth() < 1]
        thick = [line for line in in_data if line not in thin]
        for column, color in (("spent", mu.PURPLE), ("residual", mu.GREY)):
            shares = (head[column] / head.allowed).loc[: min([*(forced - 1), len(head)])]
            (curve,) = [line.get_xydata() for line in thick if line.get_color() == color]
            assert_allclose(curve, [(0, 0), *shares.items()], atol=1e-12)

        # With other noise, the same until a retrain is forced
        assert len(thin) == len(other_shares[kind]) == 20
        for line, shares in zip(thin, other_shares[kind]):
            assert_allclose(line.get_ydata(), shares)

        # Marks at the limit where retrains were forced
        (marks,) = ax.collections
        assert [tuple(mark) for mark in marks.get_offsets()] == [(k, 1) for k in forced]
        assert list(ax.get_yticks()) == [0, 0.5, 1]

        # What is not certified is red: from the first request at which some noise forces a retrain
        n_hidden = [len(shares) - 1 for shares in other_shares[kind]]
        n_certified = min([*n_hidden, *(forced - 1)])
        starts = [
            patch.get_extents().transformed(ax.transData.inverted()).x0 for patch in ax.patches
        ]
        assert_allclose(starts, [n_certified] if n_certified < 15 else [])
    assert 0 < n_forced[mu.CLINIC] < 15  # or this test would show nothing


def test_the_observer_of_batches_is_another_one(sequence):
    observed = sequence[1]
    assert list(observed) == [(kind, n) for kind in mu.SEQUENCES for n in (1, mu.BATCH)]
    for (_, n_leavers), people in observed.items():
        assert len(people) % n_leavers == 0
        assert (people.guess_age.nunique() == 1) == (n_leavers == 1)


def test_how_many():
    assert mu.how_many(0, "retrain") == "no retrain"
    assert mu.how_many(1, "retrain") == "1 retrain"
    assert mu.how_many(2, "retrain") == "2 retrains"


def test_the_figure_of_what_a_removal_reveals(sequence, settings):
    observed = sequence[1]
    figure = mu.reveals_figure(observed, settings)
    assert_readable(figure)
    panels = [(kind, column) for kind in mu.SEQUENCES for column in ("age", "glucose")]
    limits = {}

    for ax, (kind, column) in zip(figure.axes, panels):
        people = observed[kind, 1]
        assert len(people) > 0
        assert title(ax) == f"{mu.ALIKE[kind]}:\n{column}"
        truth = people[column]
        for label, prefix in ((mu.REVEALED, "found_"), (mu.GUESSED, "guess_")):
            expected = np.column_stack([truth, people[prefix + column]])
            assert_allclose(marks_of(ax, label), expected)

        # The diagonal is the truth, in panels alike for both kinds
        assert ax.get_xlim() == ax.get_ylim() == limits.setdefault(column, ax.get_xlim())
        (diagonal,) = ax.lines
        assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())

        # The median errors
        found = np.median(np.abs(people["found_" + column] - truth))
        guess = np.median(np.abs(people["guess_" + column] - truth))
        assert_allclose(numbers(ax.get_xlabel()), [found, guess], atol=0.051)


def observed_with_errors(random_error, clinic_error):
    """Observed of 15 leavers of either kind, found with these errors; the guess is 4 off."""
    observed = {}
    for kind, error in ((mu.RANDOM, random_error), (mu.CLINIC, clinic_error)):
        people = pd.DataFrame(0.0, index=range(15), columns=mu.OBSERVED)
        people[["age", "glucose"]] = 50.0
        people[["found_age", "found_glucose"]] = [50 - error, 50 + 2 * error]
        people[["guess_age", "guess_glucose"]] = 54.0
        observed[kind, 1] = people
        observed[kind, 5] = people
    return observed


def test_the_finding_on_what_a_removal_reveals():
    finding = mu.reveals_finding(observed_with_errors(0.1, 1.9))
    assert numbers(finding) == [1.9]  # the larger error
    assert len(finding) <= 80
    for errors in ((2, 0.1), (0.1, 2), (5, 5)):  # one of them no closer than the guess
        assert not numbers(mu.reveals_finding(observed_with_errors(*errors)))


def nobody(observed):
    return {key: people[:0] for key, people in observed.items()}


def test_figures_and_page_where_nobody_was_observed(sequence, settings):
    ledger, observed, other_shares = sequence
    ledger = ledger.copy()
    ledger.loc[ledger.method == mu.HEAD, "retrained"] = 1.0
    figure = mu.reveals_figure(nobody(observed), settings)
    assert_readable(figure)
    assert_readable(mu.certificate_figure(ledger, other_shares, settings))
    page = mu.sequential_page(ledger, mu.summarise_ledger(ledger), nobody(observed), other_shares)
    assert_page(page)
    assert page.count("nobody") == 4


def rows_of(page, name):
    return [line for line in page.splitlines() if line.startswith(name)]


def test_the_page(sequence):
    ledger, observed, other_shares = sequence
    summary = mu.summarise_ledger(ledger)
    page = mu.sequential_page(ledger, summary, observed, other_shares)
    assert_page(page)

    # The strategies: time, gap, other, off for either kind, and of how many
    for name in mu.STRATEGIES:
        random = summary.loc[mu.RANDOM, name]
        clinic = summary.loc[mu.CLINIC, name]
        assert random.measured == clinic.measured
        expected = [random.time, 100 * random.largest_gap, random.elsewhere, random.off_target]
        expected += [clinic.time, 100 * clinic.largest_gap, clinic.elsewhere, clinic.off_target]
        expected += [random.measured]
        line = rows_of(page, name + " ")[-1]  # the headline speaks of Newton, too
        assert_allclose(numbers(line), expected, rtol=0.06, atol=1e-4)

    # The certificate
    for kind in mu.SEQUENCES:
        certificate = mu.check_certificate(ledger, other_shares, kind)
        line = rows_of(page, kind + " ")[0]
        expected = [certificate.n_certified, 15, certificate.n_within]
        if certificate.forced:
            expected += [len(certificate.forced), certificate.forced[0]]
        expected.append(100 * certificate.largest_share)
        assert_allclose(numbers(line), expected, atol=0.501)

    # The observer
    for (kind, n_leavers), people in observed.items():
        line = rows_of(page, f"{kind}, {n_leavers} at a time")[0]
        right = (people.diagnosis == people.found_diagnosis).sum()
        expected = [n_leavers]
        expected += [mu.median_error(people, "found_", name) for name in ("age", "glucose")]
        expected += [right, len(people)]
        expected += [mu.median_error(people, "guess_", name) for name in ("age", "glucose")]
        assert_allclose(numbers(line), expected, atol=0.051)
