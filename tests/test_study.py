"""The study and the sequential requests."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from test_figures import rendered

import machine_unlearning as mu

SCRIPT = str(ROOT / "machine_unlearning.py")
SMALL = ["--trials", "4", "--patients", "100", "--forget", "16", "--epochs", "40", "--dpi", "30"]
METRICS = [
    "seconds", "test_accuracy", "retain_accuracy", "forget_accuracy", "gap_to_retrained",
    "attack_accuracy",
]  # fmt: skip


def test_the_attack_cannot_tell_two_of_a_kind():
    rng = np.random.RandomState(0)
    one, other = rng.randn(2, 32, 80) + rng.randn(80)
    assert mu.lira_attack(one, other).mean() == pytest.approx(0.5, abs=0.02)
    assert mu.lira_attack(one, one).mean() == 0.5  # all ties


def test_the_attack_sees_a_shift_and_a_spread():
    rng = np.random.RandomState(0)
    one, other = rng.randn(2, 32, 80)
    assert mu.lira_attack(one + 3, other).mean() > 0.9
    assert mu.lira_attack(10 * one, other).mean() > 0.8
    constant = np.ones((32, 80))  # a deterministic method has no spread
    assert mu.lira_attack(constant, other).mean() > 0.95


def test_the_attack_finds_an_overfitted_model():
    """Models that have memorised 10 rows with random labels, against models that have not."""
    rng = np.random.RandomState(0)
    forget = mu.Rows(rng.randn(10, 2), rng.randint(0, 2, 10))
    scores = {"kept": [], "retrained": []}
    for seed in range(16):
        retain = mu.Rows(X := rng.randn(30, 2), (X[:, 0] > 0).astype(int))
        model = mu.TwoLayerMLP(learning_rate=1.0, epochs=500, init_scale=0.5, random_state=seed)
        for kind, rows in [("kept", mu.together(forget, retain)), ("retrained", retain)]:
            z = model.fit(*rows).decision_function(forget.X)
            scores[kind].append(np.where(forget.y == 1, z, -z))
    accuracy = mu.lira_attack(*map(np.array, scores.values()))
    assert accuracy.shape == (16,)
    assert accuracy.mean() > 0.7


def test_the_attack_by_hand():
    """One patient, clearly apart: every score is classified rightly, whichever half was fitted."""
    unlearned = np.array([[5.0], [5.1], [4.9], [5.2], [5.05], [4.95]])
    np.testing.assert_array_equal(mu.lira_attack(unlearned, -unlearned), np.ones(6))


@pytest.mark.parametrize("request_name", mu.REQUESTS)
def test_requests(request_name):
    one, other = (mu.make_request(request_name, 80, np.random.RandomState(k)) for k in (0, 0))
    np.testing.assert_array_equal(one.X, other.X)
    assert one.X.shape == ((20 if request_name == "atypical" else 80), 2)
    age, glucose = (one.X * mu.POPULATION[1] + mu.POPULATION[0]).T
    if request_name == "clinic":
        assert one.y.all()
        assert abs(age.mean() - 22) < 2
        assert abs(glucose.mean() - 85) < 4
    else:
        assert set(one.y) == {0, 1}
    everybody = mu.standardised(mu.make_patients(1000, 0))
    usual = mu.TwoLayerMLP(learning_rate=1.0, random_state=0).fit(*everybody)
    right = usual.score(*one)
    low, high = {"random": (0.85, 1), "clinic": (0, 0.05), "atypical": (0.3, 0.8)}[request_name]
    assert low <= right <= high


def test_estimates_are_student_intervals():
    values = pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0]})
    row = mu.estimates(values.groupby([0, 0, 0, 0])).loc[0]
    assert row["x"] == 2.5
    assert row["x_high"] - 2.5 == pytest.approx(3.1824 * np.std([1, 2, 3, 4], ddof=1) / 2, abs=1e-3)
    assert row["x_low"] + row["x_high"] == pytest.approx(5)


def test_trials_differ_in_the_retained_and_share_the_forget_set():
    settings = mu.Settings(patients=100, forget=16, epochs=2)
    first, again, second = (mu.prepare(settings, "random", trial) for trial in (0, 0, 1))
    np.testing.assert_array_equal(first[0].X, second[0].X)
    np.testing.assert_array_equal(first[2].X, second[2].X)
    np.testing.assert_array_equal(first[1].X, again[1].X)
    np.testing.assert_array_equal(first[3].weights, again[3].weights)
    assert not np.array_equal(first[1].X, second[1].X)
    assert len(first[1].y) == 64


def test_the_result_does_not_depend_on_the_workers():
    settings = mu.Settings(patients=100, forget=16, epochs=30, learning_rate=1.0)
    job, cases = mu.partial(mu.study_trial, settings), [(r, k) for r in mu.REQUESTS for k in (0, 1)]
    for found, other in zip(mu.in_parallel(job, cases, quiet=True), map(job, cases)):
        for name in mu.METHODS:
            (metrics, scores), (other_metrics, other_scores) = found[name], other[name]
            np.testing.assert_allclose(scores, other_scores, rtol=1e-9, atol=1e-12)
            for metric in ("test_accuracy", "retain_accuracy", "forget_accuracy"):
                assert metrics[metric] == other_metrics[metric]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small study: (table, process, folder)."""
    folder = tmp_path_factory.mktemp("study")
    command = [sys.executable, "-B", SCRIPT, "study", *SMALL, "--csv", "table.csv"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return pd.read_csv(folder / "table.csv"), done, folder


def test_the_csv_of_the_study(small):
    table = small[0]
    expected = [metric + end for metric in METRICS for end in ("", "_low", "_high")]
    assert list(table.columns) == ["request", "method", *expected]
    assert list(table.method[:8]) == list(mu.METHODS)
    assert len(table) == 3 * 8
    for metric in METRICS:
        assert (table[metric + "_low"] <= table[metric]).all()
        assert (table[metric] <= table[metric + "_high"]).all()


def test_the_output_of_the_study(small):
    _, done, folder = small
    assert [path.name for path in (folder / "output").iterdir()] == ["method_study.png"]
    assert done.stdout.isascii()
    assert "_low" not in done.stdout
    assert f"{small[0].gap_to_retrained[1]:.4f}" in done.stdout
    assert "12 of 12 done, 0 s left" in done.stderr
    assert "Traceback" not in done.stderr


def test_worst_case():
    """Two requests; of each metric the worse one counts, whichever request it comes from."""
    index = pd.MultiIndex.from_product(
        [["one", "two"], [mu.RETRAIN, mu.NEWTON]], names=["request", "method"]
    )
    columns = ["attack_accuracy", "seconds", "test_accuracy"]
    values = [[0.5, 2.0, 0.90], [0.7, 1.0, 0.80], [0.5, 4.0, 0.95], [0.6, 3.0, 0.94]]
    worst = mu.worst_case(pd.DataFrame(values, index, columns))
    np.testing.assert_allclose(worst.loc[mu.NEWTON], [0.7, 0.75, 0.10])
    np.testing.assert_allclose(worst.loc[mu.RETRAIN], [0.5, 1, 0])


def test_the_figure_shows_the_table(small):
    table = small[0].set_index(["request", "method"])
    figure = rendered(mu.study_figure(table))
    panels = np.array(figure.axes).reshape(3, 5)
    for row, request in zip(panels, mu.REQUESTS):
        for ax, (column, (_, factor)) in zip(row, mu.PANELS.items()):
            points = [line for line in ax.lines if line.get_marker() in ("o", "X")]
            shown = np.concatenate([line.get_xdata(orig=False) for line in points])
            expected = factor * table.loc[request, column].to_numpy()
            np.testing.assert_allclose(np.sort(shown), np.sort(expected))
            told = [line.get_xdata() for line in points if line.get_marker() == "X"]
            count = (table.loc[request, "attack_accuracy"] > mu.NOTICED).sum()
            assert sum(map(len, told)) == count
    texts = "\n".join(text for text, _ in figure.words)
    for word in [*mu.METHODS, *(title for title, _ in mu.PANELS.values()), "right forget accuracy"]:
        assert word in texts


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("experiment", ["study", "sequential"])
def test_ctrl_c_ends_it_at_once(tmp_path, experiment):
    process = subprocess.Popen(
        [sys.executable, "-B", SCRIPT, experiment], cwd=tmp_path, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    while not (tmp_path / "output").exists():  # it has begun
        time.sleep(0.01)
    time.sleep(3)  # the workers are at work
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    start = time.monotonic()
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - start < 10
    assert process.returncode == 130
    assert out == ""
    assert err.endswith("machine_unlearning.py: error: interrupted\n")
    assert "Traceback" not in err
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize("experiment", ["study", "sequential"])
@pytest.mark.parametrize(
    ("flag", "value", "limits"),
    [("--forget", "7", "8 to 380"), ("--forget", "381", "8 to 380"), ("--patients", "20", "40 to")],
)
def test_impossible_sizes(experiment, flag, value, limits, tmp_path, capsys):
    assert mu.main([experiment, flag, value, "--output", str(tmp_path)]) == 2
    assert f"{flag} {value}: the allowed range is {limits}" in (err := capsys.readouterr().err)
    assert err.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="POSIX pipes")
def test_nobody_has_to_listen_to_the_progress(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-B", SCRIPT, "study", *SMALL], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    process.stderr.close()
    out = process.stdout.read()
    process.stdout.close()
    process.wait(timeout=100)
    assert "wrote output" in out
    assert (tmp_path / "output" / "method_study.png").exists()


def test_odd_settings_do_not_break_the_study():
    for odd in ({"epochs": 0}, {"epochs": 1}, {"learning_rate": 0}, {"multiplier": 0}):
        settings = mu.Settings(**{"patients": 60, "forget": 8, "epochs": 5, **odd})
        found = mu.study_trial(settings, ("random", 0))
        assert np.isfinite([scores for _, scores in found.values()]).all()
        assert set(found) == {*mu.METHODS, mu.AGAIN}


@pytest.fixture(scope="module")
def few():
    """16 patients ask one by one, of a small hospital: {request: (table, batch)}."""
    settings = mu.Settings(patients=200, forget=16, epochs=60, learning_rate=1.0)
    return {request: mu.one_by_one(settings, request) for request in ("random", "clinic")}


@pytest.mark.parametrize("request_name", ["random", "clinic"])
def test_one_by_one(few, request_name):
    table, batch = few[request_name]
    strategies = [mu.RETRAIN, mu.SISA, mu.REWIND, mu.NEWTON, mu.HEAD]
    assert list(table.index.unique("method")) == strategies
    for method in strategies:
        part = table.xs(method)
        assert list(part.index) == list(range(1, 17))
        assert (part.seconds.diff().dropna() > 0).all()
    head = table.xs(mu.HEAD)
    assert (head.residual <= head.spent).all()
    assert (head.spent <= head.allowed).all()
    assert (table.xs(mu.RETRAIN).gap_to_retrained == 0).all()
    assert batch[mu.SISA] == batch[mu.REWIND] == 0  # exact: the order cannot matter
    assert batch[mu.NEWTON] < 0.05


def test_sequential_figure_shows_the_table(few):
    table = pd.concat({name: part for name, (part, _) in few.items()}, names=["request"])
    figure = rendered(mu.sequential_figure(table))
    for row, request in zip(np.array(figure.axes).reshape(2, 3), few):
        for line in row[0].lines:
            part = table.loc[request].loc[line.get_label()]
            np.testing.assert_allclose(line.get_ydata(), part.seconds)
        gaps = {line.get_label(): line.get_ydata() for line in row[1].lines}
        assert set(gaps) == {mu.SISA, mu.REWIND, mu.NEWTON, mu.HEAD}
        head = table.loc[request].loc[mu.HEAD]
        np.testing.assert_allclose(row[2].lines[1].get_ydata(), head.spent)
        np.testing.assert_allclose(row[2].lines[2].get_ydata(), head.residual)


def test_certified_is_said_of_the_head_only():
    code = (ROOT / "machine_unlearning.py").read_text(encoding="utf-8").lower()
    for line in code.splitlines():
        for name in ("certifiedhead", "certified head", "certified_removal"):
            line = line.replace(name, "")
        if "certified" in line:
            words = ("budget", "delta", "icml", "head.certificates", "convex")
            assert any(word in line for word in words), line
