import os
import re
import sys
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.dont_write_bytecode = True  # a test run leaves the working tree as it was

import machine_unlearning as mu  # noqa: E402

SMALL = "--trials 8 --patients 100 --forget 16 --epochs 20 --hidden 5"  # a study of a second or two
COMMANDS = {  # experiment -> a command line that is quick; TABLE is a CSV file with own_table()
    "demo": "demo",
    "basic": "basic",
    "clinical": "clinical",
    "own": "own --data TABLE --label outcome --features age,clinic --forget 20",
    "sweep": "sweep --patients 100 --forget 16 --epochs 50",
    "film": "film --epochs 50 --unlearn-epochs 10",
    "study": f"study {SMALL}",
    "sequential": "sequential --patients 80 --forget 15 --epochs 20 --hidden 8",
}


def own_table(n=120):
    """A table such as users have; the columns with numbers are age, blood sugar and clinic."""
    rng = np.random.RandomState(0)
    outcome = rng.randint(0, 2, n)
    return pd.DataFrame({
        "age": rng.normal(40 + 15 * outcome, 10).round(1),
        "blood sugar": rng.normal(100 + 50 * outcome, 20).round(),
        "clinic": rng.randint(0, 4, n),
        "outcome": outcome,
    })  # fmt: skip


def assert_page(page):
    """ASCII, no wider than a console, and no word of Python's or of NumPy's."""
    assert page.isascii()
    assert max(map(len, page.splitlines())) <= 80
    assert not re.search(r"\b(nan|None(?!\s+of)|inf|NaT|True|False)\b|-0\.?0*%?(?![\d.])", page)


def numbers(text):
    found = re.findall(r"\d[\d,]*(?:\.\d+)?(?:e[-+]\d+)?", text)
    return [float(number.replace(",", "")) for number in found]


def errors(people, prefix):
    """Median errors in years and in mg/dL of what was found ("found_") or guessed ("guess_")."""
    return [(people[prefix + name] - people[name]).abs().median() for name in ("age", "glucose")]


def slopes(model, function, h):
    """Central differences of a function of a model, by weight."""
    here, differences = model.weights_, []
    for move in h * np.eye(len(here)):
        model.weights_ = here + move
        above = function()
        model.weights_ = here - move
        differences.append((above - function()) / (2 * h))
    model.weights_ = here
    return np.array(differences)


@pytest.fixture(scope="session")
def patients():
    """The comparison of the demo, made once; tests only read it."""
    return mu.compare(mu.hospital, mu.Settings())


@pytest.fixture(scope="session")
def abstract():
    return mu.compare(mu.abstract, mu.Settings(patients=1000, forget=160))


@pytest.fixture(scope="session")
def clinical():
    return mu.compare(mu.wisconsin, mu.Settings(patients=569, forget=91))


@pytest.fixture(scope="session")
def ran(tmp_path_factory):
    """A function: the page, the figures' names and the table of a command line, run once each."""

    @cache
    def run_once(name):
        folder = tmp_path_factory.mktemp(name)
        own_table().to_csv(folder / "mine.csv", index=False)
        words = COMMANDS[name].replace("TABLE", str(folder / "mine.csv")).split()
        command = [*words, "--dpi", "30", "--output", str(folder)]
        with redirect_stdout(StringIO()) as out:
            assert mu.main([*command, "--csv", str(folder / "table.csv")]) == 0
        files = {path.name for path in folder.iterdir()} - {"mine.csv", "table.csv"}
        return out.getvalue(), sorted(files), pd.read_csv(folder / "table.csv")

    return run_once
