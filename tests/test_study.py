"""The study: its requests, its attack, what it concludes and prints."""

import re

import numpy as np
import pandas as pd
import pytest
from conftest import middle, rendered
from matplotlib.collections import PathCollection
from test_figures import assert_committed, assert_readable

import machine_unlearning as mu

SMALL = mu.Settings(
    patients=100, forget=16, epochs=30, learning_rate=1.0, multiplier=0.07, trials=4, quiet=True
)
METRICS = [
    "seconds", "test_accuracy", "retain_accuracy", "forget_accuracy", "gap_to_retrained",
    "attack_accuracy",
]  # fmt: skip


# ---- The requests -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", mu.REQUESTS)
def test_a_request_is_the_same_each_time(kind):
    settings = mu.Settings()
    one, other = mu.make_request(kind, settings), mu.make_request(kind, settings)
    for rows, same in zip(one, other):
        np.testing.assert_array_equal(rows.X, same.X)
    forget, retain, test = one
    assert (len(retain.y), len(test.y)) == (320, 1000)
    assert len(forget.y) == (20 if kind == mu.ATYPICAL else 80)
    everybody = np.concatenate([rows.X for rows in one])
    assert len(np.unique(everybody, axis=0)) == len(everybody)
    age, glucose = (forget.X * mu.POPULATION[1] + mu.POPULATION[0]).T
    if kind == mu.CLINIC:
        assert forget.y.all()
        assert abs(age.mean() - 22) < 2
        assert abs(glucose.mean() - 85) < 4
    else:
        assert set(forget.y) == {0, 1}
    usual = mu.TwoLayerMLP(learning_rate=1.0, random_state=0).fit(*test)
    low, high = {mu.RANDOM: (0.85, 1), mu.CLINIC: (0, 0.05), mu.ATYPICAL: (0.3, 0.8)}[kind]
    assert low <= usual.score(*forget) <= high


def test_only_the_initial_weights_differ_between_trials():
    first, again, second = (mu.study_trial(SMALL, mu.RANDOM, trial) for trial in (0, 0, 1))
    for name in mu.METHODS:
        np.testing.assert_array_equal(first[name].scores, again[name].scores)
        assert not np.array_equal(first[name].scores, second[name].scores)
    assert first[mu.RETRAIN].scores.shape == (16,)
    # Newton's optimum does not depend on them
    np.testing.assert_allclose(first[mu.NEWTON].scores, second[mu.NEWTON].scores, atol=1e-6)


def test_outcomes_are_of_the_method_and_its_own_retraining():
    outcomes = mu.study_trial(SMALL, mu.RANDOM, 0)
    for methods in (mu.BY_DESCENT, mu.BY_NEWTON):
        targets = [outcomes[name].target_scores for name in methods]
        assert all(np.array_equal(target, targets[0]) for target in targets)
    by_descent, by_newton = (outcomes[name].target_scores for name in mu.FAMILIES)
    assert np.abs(by_descent - by_newton).max() > 1e-3
    forget, *_ = mu.make_request(mu.RANDOM, SMALL)
    newton = outcomes[mu.NEWTON]
    p, target_p = (mu.expit(s * (2 * forget.y - 1)) for s in newton[1:])
    assert newton.metrics["gap_to_retrained"] == pytest.approx(np.abs(p - target_p).mean())
    assert newton.metrics["forget_accuracy"] == np.mean(newton.scores > 0)


def test_the_result_does_not_depend_on_the_workers():
    settings = mu.replace(SMALL, trials=4, epochs=10)
    for kind, outcomes in mu.run_trials(settings).items():
        for trial, outcome in enumerate(outcomes[:2]):
            here = mu.study_trial(settings, kind, trial)
            for name in mu.METHODS:
                np.testing.assert_allclose(outcome[name].scores, here[name].scores, atol=1e-9)


# ---- The attack -------------------------------------------------------------------------------


def test_the_attack_cannot_tell_two_of_a_kind():
    rng = np.random.RandomState(0)
    one, other = rng.randn(2, 64, 80) + rng.randn(80)
    assert mu.lira_attack(one, other).mean() == pytest.approx(0.5, abs=0.02)
    np.testing.assert_array_equal(mu.lira_attack(one, one), np.full(64, 0.5))


def test_the_attack_sees_a_shift_and_a_spread():
    rng = np.random.RandomState(0)
    one, other = rng.randn(2, 32, 80)
    assert mu.lira_attack(one + 3, other).mean() > 0.9
    assert mu.lira_attack(10 * one, other).mean() > 0.8
    constant = np.ones((32, 80))  # a deterministic method has no spread
    assert mu.lira_attack(constant, other).mean() > 0.95


def test_the_attack_sees_four_decimals():
    ones = np.ones((16, 5))
    np.testing.assert_array_equal(mu.lira_attack(ones, ones + 1e-5), np.full(16, 0.5))
    np.testing.assert_array_equal(mu.lira_attack(ones, ones + 1e-3), np.ones(16))


def test_the_attack_by_hand():
    """One patient, clearly apart: every score is classified rightly, whichever half was fitted."""
    unlearned = np.array([[5.0], [5.1], [4.9], [5.2], [5.05], [4.95]])
    np.testing.assert_array_equal(mu.lira_attack(unlearned, -unlearned), np.ones(6))


@pytest.mark.parametrize("n_trials", [4, 5, 227, 2000])
def test_the_attack_classifies_every_trial_equally_often(n_trials):
    """With halves that do not change places, chance leaves one of 227 trials out: 0 / 0."""
    rng = np.random.RandomState(1)
    one, other = rng.randn(2, n_trials, 1)
    right = mu.lira_attack(one, other, splits=3) * 3 * 2  # of 3 splits, 2 models each
    assert np.isfinite(right).all()
    np.testing.assert_allclose(right, np.round(right), atol=1e-9)
    np.testing.assert_array_equal(mu.lira_attack(one + 1000, other), np.ones(n_trials))


def test_the_limit_is_what_chance_exceeds_in_one_of_a_hundred():
    rng = np.random.RandomState(1)
    few, many = (
        np.mean([mu.chance_limit(*rng.randn(2, n, 3)) for _ in range(3)]) for n in (16, 64)
    )
    assert 0.5 < many < few < 0.8
    one, other = rng.randn(2, 64, 3)
    limit = mu.chance_limit(one, other)
    others = [mu.lira_attack(*rng.randn(2, 64, 3)).mean() for _ in range(100)]
    assert 0.93 <= np.mean(np.array(others) <= limit) <= 1
    equal = np.ones((16, 3))
    assert mu.chance_limit(equal, equal) == 0.5


# ---- The conclusions --------------------------------------------------------------------------


def made_up(told=(), lost=()):
    """A table like the study's; told: (request, method) pairs that are told apart."""
    rows = {}
    for k, kind in enumerate(mu.REQUESTS):
        for j, name in enumerate(mu.METHODS):
            row = {
                "seconds": (k + 1) * (j + 1) * 0.01, "test_accuracy": 0.9 - 0.02 * (name in lost),
                "retain_accuracy": 0.95, "forget_accuracy": (60 + 10 * k + j) / 100,
                "gap_to_retrained": 0.001 * j,
                "attack_accuracy": 0.7 + 0.01 * j if (kind, name) in told else 0.5 + 0.001 * j,
            }  # fmt: skip
            spread = {f"{key}_low": value - 0.01 for key, value in row.items()}
            spread.update({f"{key}_high": value + 0.01 for key, value in row.items()})
            limit = (0.55 if name in mu.BY_DESCENT else 0.52) + 0.01 * k
            rows[kind, name] = {**row, **spread, "attack_limit": limit}
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.rename_axis(["request", "method"])


EVERYBODY = [(kind, name) for kind in mu.REQUESTS for name in mu.METHODS]


def test_told_apart_means_beyond_the_limit():
    table = made_up()
    table.loc[(mu.CLINIC, mu.TUNE), "attack_accuracy"] = table.attack_limit[mu.CLINIC, mu.TUNE]
    assert not mu.told_apart(table).any()
    table.loc[(mu.CLINIC, mu.TUNE), "attack_accuracy"] += 1e-9
    assert mu.told_apart(table).sum() == 1


def test_the_summary_is_the_worst_of_the_requests():
    table = made_up(told=[(mu.ATYPICAL, mu.REWIND)], lost=[mu.PLUS])
    table.loc[(mu.RANDOM, mu.NEWTON), "seconds"] = 1.0
    worst = mu.summarise(table)
    assert list(worst.index) == list(mu.METHODS)
    assert worst.index[worst.told].tolist() == [mu.REWIND]
    assert worst.points_lost[mu.PLUS] == pytest.approx(2)
    assert worst.points_lost.drop(mu.PLUS).abs().max() < 1e-9
    assert worst.index[~worst.passes].tolist() == [mu.REWIND, mu.PLUS][::-1]
    assert worst[mu.RETRAIN][mu.NEWTON] == pytest.approx(1.0 / 0.01)
    assert worst[mu.NEWTON_RETRAIN][mu.NEWTON] == pytest.approx(1.0 / 0.07)
    assert worst[mu.RETRAIN][mu.RETRAIN] == 1


def test_half_a_point_may_be_lost_and_no_more():
    for lost, passes in ((0.00499, True), (0.00501, False)):
        table = made_up()
        table.loc[(mu.CLINIC, mu.TUNE), "test_accuracy"] -= lost
        assert mu.summarise(table).passes[mu.TUNE] == passes


def test_the_headline():
    others = [pair for pair in EVERYBODY if pair[1] not in mu.FAMILIES]
    passing = "for a retrained model on all 3 requests"
    assert mu.headline(made_up(told=others)) == f"None of 7 methods pass {passing}"
    newton = made_up(told=[pair for pair in others if pair[1] != mu.NEWTON])
    assert mu.headline(newton) == f"Only Newton passes {passing}"
    two = made_up(told=[pair for pair in others if pair[1] not in (mu.NEWTON, mu.TUNE)])
    assert mu.headline(two) == f"2 of 7 methods pass {passing}"
    assert mu.headline(made_up()) == f"7 of 7 methods pass {passing}"


def test_every_printed_number_of_the_study():
    told = [(mu.RANDOM, mu.ASCENT), (mu.CLINIC, mu.REWIND), (mu.ATYPICAL, mu.INFLUENCE)]
    table = made_up(told)
    apart = {mu.RANDOM: 3e-9, mu.CLINIC: 0.2, mu.ATYPICAL: 2e-7}
    page = mu.study_report(table, apart)
    assert page.isascii()
    assert max(map(len, page.splitlines())) <= 80
    assert page.startswith(mu.headline(table) + ".")
    worst = mu.summarise(table)
    lines = page.splitlines()
    for name in mu.METHODS:
        (line,) = [line for line in lines if re.match(rf"{re.escape(name)} +\d", line)]
        cells = line[len(name) :].split()
        for cell, kind in zip(cells, mu.REQUESTS):
            star = "*" if (kind, name) in told else ""
            assert cell == f"{100 * table.attack_accuracy[kind, name]:.0f}{star}"
        expected = [worst[mu.RETRAIN][name], worst[mu.NEWTON_RETRAIN][name]]
        assert cells[3:5] == [f"{value:.2f}" for value in expected]
        assert float(cells[5]) == pytest.approx(worst.points_lost[name], abs=0.051)
    text = " ".join(page.split())
    for k, kind in enumerate(mu.REQUESTS):
        forget = table.forget_accuracy[kind]
        assert (
            f"{kind}: limits {55 + k} % by descent, {52 + k} % by Newton. Forget accuracy "
            f"{100 * forget[mu.NAIVE]:.0f} % before, {100 * forget[mu.RETRAIN]:.0f} % retrained, "
            f"{100 * forget[mu.ASCENT]:.0f} % after ascent. The logits of all Newton runs, from "
            "old and new weights, lie within "
            f"{apart[kind]:.0e}: {'several optima' if kind == mu.CLINIC else 'one optimum'}."
        ) in text
    assert "diverged" not in text


def test_a_method_that_diverges_never_passes():
    settings = mu.replace(SMALL, multiplier=1e6)
    outcomes = [mu.study_trial(settings, mu.RANDOM, trial) for trial in range(4)]
    table = mu.attack_all(dict.fromkeys(mu.REQUESTS, outcomes))
    assert table.attack_accuracy[mu.RANDOM, mu.ASCENT] == 1
    assert mu.told_apart(table)[mu.RANDOM, mu.ASCENT]
    page = mu.study_report(table, dict.fromkeys(mu.REQUESTS, 1.0))
    assert "Approximate Unlearning diverged" in page
    assert page.count("diverged") == 1
    rendered(mu.study_figure(table))


def test_how_far_the_optima_are_apart():
    def outcome(scores, target, continued):
        fresh, old = (
            mu.Outcome({}, np.array(own), np.array(target)) for own in (scores, continued)
        )
        return {mu.NEWTON_RETRAIN: fresh, mu.NEWTON: old}

    trials = [
        outcome([0.0, 5.0], [0.1, 5.0], [0.0, 5.0]), outcome([0.0, 5.3], [0.0, 4.9], [0.0, 5.0])
    ]  # fmt: skip
    assert mu.optima_apart(trials) == pytest.approx(0.4)
    trials.append(outcome([0.0, 5.0], [0.0, 5.0], [0.7, 5.0]))
    assert mu.optima_apart(trials) == pytest.approx(0.7)  # from the old weights


def test_estimates_are_student_intervals():
    values = pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0]})
    row = mu.estimates(values.groupby([0, 0, 0, 0])).loc[0]
    assert row["x"] == 2.5
    assert row["x_high"] - 2.5 == pytest.approx(3.1824 * np.std([1, 2, 3, 4], ddof=1) / 2, abs=1e-3)
    assert row["x_low"] + row["x_high"] == pytest.approx(5)


def test_the_figure_shows_the_table():
    told = [pair for pair in EVERYBODY if pair[1] not in (*mu.FAMILIES, mu.NEWTON, mu.TUNE)]
    table = made_up(told)
    figure = rendered(mu.study_figure(table))
    axes = {}
    for ax in figure.axes:
        axes.setdefault(ax.get_title(loc="left"), ax)
    for k, kind in enumerate(mu.REQUESTS):
        part = table.loc[kind]
        above = axes[kind]
        right = f"target {100 * part.forget_accuracy[mu.RETRAIN]:.0f} %"
        for ax, column in ((above, "attack_accuracy"), (axes[right], "forget_accuracy")):
            marks = [c for c in ax.collections if isinstance(c, PathCollection)]
            assert len(marks) == len(mu.METHODS)
            for mark, (name, value) in zip(marks, part[column].items()):
                np.testing.assert_allclose(mark.get_offsets()[0], [100 * value, mu.PLACES[name]])
                crossed = len(mark.get_paths()[0].vertices) < 20  # a cross has few corners
                assert crossed == ((kind, name) in told)
            tinted = [middle(band) for band in ax.patches]
            assert sorted(tinted) == [mu.PLACES[mu.TUNE], mu.PLACES[mu.NEWTON]]
        assert list(above.get_xticks()) == [50, 75, 100]
        assert list(axes[right].get_xticks()) == [0, 50, 100]
        words = [text.get_text() for text in above.texts]
        assert f"limit {55 + k}" in words
        assert f"limit {52 + k}" in words
    assert figure.texts[1].get_text() == (
        "How often an attack tells a model from one retrained in the same way; 50 is a coin toss.\n"
        "✖: more often than chance allows (grey area). Bars: 95 % intervals. Right: worst request."
    )
    text = "\n".join(text for text, _ in figure.words)
    worst = mu.summarise(table)
    for name in mu.METHODS:
        assert text.count(f"\n{name}\n") >= 2
        assert f"{worst[mu.RETRAIN][name]:.2f}" in text


# ---- The whole study, as it is run by default ---------------------------------------------------


def test_the_csv_of_the_study(study_result):
    table = study_result.table
    expected = [metric + end for metric in METRICS for end in ("", "_low", "_high")]
    assert list(table.columns) == [*expected, "attack_limit"]
    assert list(table.index.names) == ["request", "method"]
    assert list(table.index) == EVERYBODY
    for metric in METRICS:
        assert (table[metric + "_low"] <= table[metric]).all()
        assert (table[metric] <= table[metric + "_high"]).all()


def test_what_holds_for_every_seed_tried(study_result):
    told = mu.told_apart(study_result.table)
    for kind in mu.REQUESTS:
        assert not told[kind][[mu.RETRAIN, mu.NEWTON_RETRAIN, mu.NEWTON]].any()
        assert told[kind][[mu.ASCENT, mu.NAIVE, mu.PLUS, mu.INFLUENCE]].all()
        assert study_result.table.attack_accuracy[kind, mu.NEWTON] == 0.5
    assert told[mu.CLINIC][[mu.TUNE, mu.REWIND]].all()
    assert study_result.text.count("one optimum") == 3


def test_the_full_studys_figure_is_readable(study_result):
    figure = study_result.figures["method_study.png"]
    assert_committed(figure, "method_study.png", top=0.5, right=8.3)  # times stand elsewhere
    assert_readable(rendered(figure))


def test_progress(capsys, monkeypatch):
    clock = iter([100.0, 110.0, 120.0])
    monkeypatch.setattr(mu.time, "perf_counter", lambda: next(clock))
    assert list(mu.with_progress("ab", 2, "clinic: ", quiet=False)) == ["a", "b"]
    err = capsys.readouterr().err
    assert err == "clinic: 1 of 2 done, 10 s left  \rclinic: 2 of 2 done, 0 s left  \n"
    monkeypatch.undo()
    assert list(mu.with_progress("ab", 2, "", quiet=True)) == ["a", "b"]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(mu.sys, "stderr", None)
    assert list(mu.with_progress("ab", 2, "", quiet=False)) == ["a", "b"]
