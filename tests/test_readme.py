"""What the README, the docstring and the requirements say is what the script does."""

import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

import machine_unlearning as mu

README = (ROOT / "README.md").read_text(encoding="utf-8")
SCRIPT = (ROOT / "machine_unlearning.py").read_text(encoding="utf-8")


def table_of(name):
    """The rows of the README's results table of this name, each a list of cells."""
    block = README.split(f"<!-- results: {name} -->")[1].split("<!-- end -->")[0]
    lines = [line for line in block.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def percent(fraction):
    return f"{100 * fraction:.1f} %"


@pytest.mark.parametrize(("name", "fixture"), [("demo", "patients"), ("basic", "abstract")])
def test_results_tables(name, fixture, request):
    results = request.getfixturevalue(fixture).results
    expected = [
        [
            method, percent(row.test_accuracy), percent(row.retain_accuracy),
            percent(row.forget_accuracy), f"{row.predictions_changed:.0f}",
            f"{row.gap_to_retrained:.4f}", f"{row.attack_auc:.3f}",
        ]
        for method, row in results.iterrows()
    ]  # fmt: skip
    assert table_of(name) == expected


def test_tuning_table(settings):
    table, _, _ = mu.sweep(settings, np.random.RandomState(42))
    chosen = [(100, 0.5), (145, 0.7), (200, 1.0)]
    expected = [
        [str(epochs), str(multiplier), *map(percent, table.loc[(epochs, multiplier)])]
        for epochs, multiplier in chosen
    ]
    assert table_of("tuning") == expected


@pytest.fixture(scope="module")
def study():
    return mu.study(mu.Settings(**mu.EXPERIMENTS["study"][1], quiet=True), None)[0]


@pytest.fixture(scope="module")
def sequential():
    settings = mu.Settings(**mu.EXPERIMENTS["sequential"][1], quiet=True)
    return mu.sequential(settings, None)[0]


def numbers(cells):
    return [float(number) for number in re.findall(r"[\d.]+", " ".join(cells))]


def test_study_tables(study):
    """Rounding differs between machines, and 400 epochs enlarge it: hence a tolerance."""
    for request, _, *cells in table_of("requests"):
        expected = [study.forget_accuracy[request, m] for m in (mu.NAIVE, mu.RETRAIN, mu.ASCENT)]
        assert numbers(cells) == pytest.approx([100 * value for value in expected], abs=2)
    assert [row[0] for row in table_of("requests")] == list(mu.REQUESTS)
    assert [row[0] for row in table_of("study")] == list(mu.METHODS)
    for method, _, *cells in table_of("study"):
        shown = numbers(cells)
        part = study.xs(method, level="method")
        assert shown[0:6:2] == pytest.approx(list(100 * part.attack_accuracy), abs=3)
        assert shown[1:6:2] == pytest.approx(list(part.gap_to_retrained), abs=0.002, rel=0.1)
        assert shown[6] == pytest.approx(100 * part.test_accuracy.min(), abs=1)


def test_the_study_says_what_the_readme_says(study):
    worst = study.attack_accuracy.groupby("method").max()
    assert worst.index[worst <= mu.NOTICED].drop(mu.RETRAIN).tolist() == [mu.NEWTON]
    assert (study.xs(mu.ASCENT, level="method").attack_accuracy > 0.95).all()
    assert (abs(study.xs(mu.RETRAIN, level="method").attack_accuracy - 0.5) <= 0.03).all()
    lost = study.test_accuracy.xs(mu.RETRAIN, level="method") - study.test_accuracy.xs(
        mu.NEWTON, level="method"
    )
    assert (lost < 0.005).all()


def test_sequential_table(sequential):
    for method, *cells in table_of("sequential"):
        _, random_gap, _, clinic_gap = numbers(cells)
        gaps = [sequential.gap_to_retrained[request, method] for request in ("random", "clinic")]
        assert [random_gap, clinic_gap] == pytest.approx(gaps, abs=2e-3, rel=0.1)
    heads = sequential.xs(mu.HEAD, level="method")
    assert list(heads.forced_retrains) == [0, 5]
    assert list(heads.certificates) == [80, 75]
    assert "All 80 random patients are certified" in README
    assert "forces 5 retrains" in " ".join(README.split())


def test_the_noise_floor_half_way():
    settings = mu.Settings(learning_rate=1.0, epochs=400)
    for request, words in [("random", "by 0.003 (random)"), ("clinic", "by 0.048 (clinic")]:
        forget, retain, _, original, _, rng = mu.prepare(settings, request, 0)
        now = mu.together(forget, retain).at(slice(40, None))
        models = [mu.full_retrain(original, now, forget, settings, rng) for _ in range(8)]
        pairs = [(a, b) for k, a in enumerate(models) for b in models[:k]]
        floor = np.mean([mu.gap_to_retrained(a, b, forget.X[:40]) for a, b in pairs])
        assert float(re.search(r"[\d.]+", words).group()) == pytest.approx(floor, rel=0.4)
        assert words in " ".join(README.split())


def test_the_accuracy_of_the_head():
    settings, found = mu.Settings(**mu.EXPERIMENTS["sequential"][1]), []
    for request in ("random", "clinic"):
        forget, retain, test, *_, rng = mu.prepare(settings, request, 0)
        head, everybody = mu.CertifiedHead(20, rng), mu.together(forget, retain)
        for noise in (None, np.zeros(20)):
            p = head.fit(everybody, rng, noise).predict_proba(test.X)[:, 1]
            found.append(100 * np.mean((p > 0.5) == test.y))
    sentence = (
        r"about (\d+) % before the random request and (\d+) % before the clinic's "
        r"\(without noise (\d+) and (\d+) %\)"
    )
    random, clinic, random_quiet, clinic_quiet = map(
        int, re.search(sentence, " ".join(README.split())).groups()
    )
    assert found == pytest.approx([random, random_quiet, clinic, clinic_quiet], abs=0.8)


def test_numbers_in_the_readme_text(patients, settings):
    text = " ".join(README.split())
    ascent, naive = patients.results.loc[mu.ASCENT], patients.results.loc[mu.NAIVE]
    n_forget, n_test = 80, 100
    error = np.sqrt((n_forget + n_test + 1) / (12 * n_forget * n_test))
    sweep = "\n".join(mu.sweep(settings, np.random.RandomState(42))[1])
    nearer, of_all, best = re.search(
        r"(\d+) of (\d+) settings .* gap (\S+) at best", sweep
    ).groups()
    for sentence in [
        f"Doing nothing leaves {naive.gap_to_retrained:.4f}",
        f"are {patients.noise_floor:.4f} apart",
        f"Ascent ends at {ascent.gap_to_retrained:.4f}: "
        f"{ascent.gap_to_retrained / naive.gap_to_retrained:.0f} times further",
        f"Ascent changes {ascent.predictions_changed:.0f} of 80: {ascent.harmed:.0f} from right to "
        f"wrong, {ascent.mended:.0f} from wrong to right; {ascent.towards:.0f} of the "
        f"{ascent.predictions_changed:.0f} go towards what the retrained model says, and "
        f"{ascent.away:.0f} away",
        f"here {patients.results.attack_auc[mu.RETRAIN]:.3f} (not",
        f"the standard error is {error:.3f})",
        f"{nearer} of the {of_all} settings of the sweep",
        f"a gap of {best}",
        "rank correlation with forget accuracy -"
        + re.search(r"multiplier: -([\d.]+)\.", sweep).group(1),
    ]:
        assert sentence in text, sentence


def test_what_other_seeds_give():
    accuracies = []
    for seed in range(30):
        settings, rng = mu.Settings(seed=seed), np.random.RandomState(seed)
        data = mu.hospital_data(settings, rng)
        original = mu.TwoLayerMLP(random_state=rng).fit(*data.train)
        ascent = mu.gradient_ascent(original, data.retain, data.forget, settings, rng)
        accuracies.append(100 * ascent.score(*data.forget))
    low, high, mean = min(accuracies), max(accuracies), np.mean(accuracies)
    sentence = f"between {low:.0f} and {high:.0f} %, on average at {mean:.0f} %"
    assert sentence in " ".join(README.split())


def test_the_docstring_holds_the_classic_result(patients):
    for method, row in patients.results.iterrows():
        assert re.search(
            rf"{method} +{percent(row.test_accuracy)} +{percent(row.forget_accuracy)}\n", mu.__doc__
        )


def test_readme_shows_the_files_that_exist():
    for path in re.findall(r"!\[[^\]]{40,}\]\(([^)]+)\)", README):  # each with a real description
        assert (ROOT / path).is_file()
    assert len(re.findall(r"!\[", README)) == len(re.findall(r"!\[[^\]]{40,}\]\(output/", README))
    for name in mu.EXPERIMENTS:
        assert name == "demo" or f"machine_unlearning.py {name} " in README
    assert f"version = {{{mu.__version__}}}" in README


def test_every_committed_figure_is_made_by_an_experiment():
    committed = {path.name for path in (ROOT / "output").glob("*.png")}
    made = set(re.findall(r'"(\w+\.png)"', SCRIPT))
    assert committed == made


def test_the_notebook_example_runs(tmp_path):
    code = re.search(r"## In a notebook\n\n```python\n(.*?)```", README, re.S).group(1)
    code = code.replace('"figures"]', '"figures", "--dpi", "20", "--quiet"]')
    done = subprocess.run(
        [sys.executable, "-B", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_requirements_and_script_header_agree():
    header = SCRIPT.split("# ///")[1]
    required = (ROOT / "requirements.txt").read_text().split()
    assert re.findall(r'"([a-z-]+>=[\d.]+)"', header) == required
    assert len(required) == 5
    assert 'requires-python = ">=3.9"' in header
    assert (ROOT / "tests" / "requirements.txt").read_text().startswith("-r ../requirements.txt\n")


def test_words_that_only_a_computed_result_may_use():
    for word in ["successfully", "perfect", "proves", "guarantees", "compliant"]:
        assert word not in SCRIPT.lower()


def test_only_what_belongs_there_is_visible():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True
    ).stdout.splitlines()
    visible = {name.split("/")[0] for name in listed if not name.startswith(".")}
    assert visible <= {
        "machine_unlearning.py", "requirements.txt", "output", "README.md", "LICENSE", "tests",
    }  # fmt: skip


def test_every_public_name_has_a_docstring():
    for name in ["make_patients", "TwoLayerMLP", "main"]:
        assert getattr(mu, name).__doc__
    for runner in mu.METHODS.values():
        assert runner.__doc__
