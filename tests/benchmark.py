"""How fast is it? Run by hand: python tests/benchmark.py. Prints four tables, asserts nothing.

1. One epoch for 80 to a million rows, beside scikit-learn and, if it is installed, PyTorch: the
   same network, the same arithmetic (float64), as many threads as there are cores.
2. The demo's computations for 500, 5,000 and 50,000 patients.
3. The demo's answers, as it times them.
4. The demo as a whole process, beside one that only imports the packages and draws four figures.

The first and the last are medians of several runs, in turns, so that a busy machine slows all of
them alike. (PyTorch's threads wait for each other, and suffer most from other processes.)

A first look in a few seconds, with at most so many rows or patients: tests/benchmark.py 500
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path

# All cores for all of them, whatever the shell says
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.pop(variable, None)

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from sklearn.neural_network import MLPClassifier  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import machine_unlearning as mu  # noqa: E402

try:
    import torch

    torch.set_num_threads(os.cpu_count())
except ImportError:
    torch = None

LARGEST = int(sys.argv[1]) if len(sys.argv) > 1 else 10**6  # rows or patients

OURS = "ours"
SKLEARN = "scikit-learn"
TORCH = "PyTorch"


def seconds_of(function, *arguments):
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def medians(seconds):
    """{name: median} of {name: seconds}; the first of them was to warm up."""
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


# ---- One epoch ----------------------------------------------------------------------------------


def train_ours(X, y, epochs):
    mu.TwoLayerMLP(epochs=epochs).fit(X, y)


def train_sklearn(X, y, epochs):
    """Full-batch gradient descent, without momentum, penalty or early stopping."""
    model = MLPClassifier(
        hidden_layer_sizes=(20,),
        activation="tanh",
        solver="sgd",
        learning_rate_init=0.1,
        momentum=0,
        nesterovs_momentum=False,
        alpha=0,
        batch_size=len(X),
        shuffle=False,
        max_iter=epochs,
        n_iter_no_change=epochs + 1,
    )
    model.fit(X, y)


def train_torch(X, y, epochs):
    network = torch.nn.Sequential(torch.nn.Linear(2, 20), torch.nn.Tanh(), torch.nn.Linear(20, 1))
    network = network.double()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    loss_of = torch.nn.functional.binary_cross_entropy_with_logits
    inputs = torch.from_numpy(X)
    targets = torch.from_numpy(y[:, None].astype(float))
    for _ in range(epochs):
        optimiser.zero_grad()
        loss = loss_of(network(inputs), targets)
        loss.backward()
        optimiser.step()


def seconds_of_an_epoch(train, X, y, epochs):
    """Without what happens once, such as checks: a long training less a short one."""
    short = seconds_of(train, X, y, epochs)
    long = seconds_of(train, X, y, 3 * epochs)
    return (long - short) / (2 * epochs)


def epoch_table():
    """Microseconds of an epoch, and ours as a multiple of the others."""
    trainings = {OURS: train_ours, SKLEARN: train_sklearn}
    if torch is not None:
        trainings[TORCH] = train_torch

    rows = {}
    for n in (80, 400, 10**4, 10**5, 10**6):
        if n > LARGEST:
            break
        rng = np.random.RandomState(0)
        X = rng.randn(n, 2)
        y = (X.sum(axis=1) > 0).astype(int)
        epochs = max(6, min(200, 2 * 10**5 // n))  # 6: checks must not matter

        seconds = {name: [] for name in trainings}
        for _ in range(6):
            for name, train in trainings.items():
                seconds[name].append(seconds_of_an_epoch(train, X, y, epochs))
        epoch = medians(seconds)

        row = {f"{name}, us": 1e6 * value for name, value in epoch.items()}
        for name in list(trainings)[1:]:
            row[f"ours / {name}"] = epoch[OURS] / epoch[name]
        rows[n] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("rows")


# ---- The demo -----------------------------------------------------------------------------------


def demo_table():
    """Seconds to compute the demo, figures not included, with a fifth of the rows to forget."""
    seconds = {}
    for patients in (500, 5_000, 50_000):
        if patients > LARGEST:
            break
        settings = mu.Settings(patients=patients, forget=patients * 4 // 25, quiet=True)
        seconds[patients] = seconds_of(mu.compare, mu.hospital, settings)
    return pd.Series(seconds).rename_axis("patients").to_frame("seconds")


def unlearning_table():
    """Milliseconds of each answer, and how many times faster than retraining it is."""
    seconds = mu.compare(mu.hospital, mu.Settings()).results.seconds.drop(mu.ORIGINAL)
    columns = {"ms": 1000 * seconds, "times faster": seconds[mu.RETRAIN] / seconds}
    return pd.DataFrame(columns)


PLAIN = """
import numpy, matplotlib.pyplot as plt, sklearn, seaborn, pandas
for k, height in enumerate([4.3, 8.1, 8.5, 6.7]):
    fig, ax = plt.subplots(figsize=(10, height))
    ax.plot(numpy.random.randn(400), numpy.random.randn(400), "o")
    fig.savefig(f"{k}.png", dpi=150)
"""


def process_table():
    """Seconds of two whole processes."""
    script = str(ROOT / "machine_unlearning.py")
    commands = {
        "imports and four plain figures": [sys.executable, "-c", PLAIN],
        "the demo": [sys.executable, script, "--quiet"],
    }
    seconds = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(8):
            for name, command in commands.items():
                run = partial(subprocess.run, command, cwd=folder, check=True)
                seconds[name].append(seconds_of(run))
    return pd.Series(medians(seconds)).to_frame("seconds")


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # scikit-learn's, that it has not converged
    print(f"Python {sys.version.split()[0]}, NumPy {np.__version__}, {os.cpu_count()} cores")
    for title, make_table in [
        ("One epoch", epoch_table),
        ("Computing the demo", demo_table),
        ("The answers", unlearning_table),
        ("A whole process", process_table),
    ]:
        words = make_table().to_string(float_format="{:,.2f}".format)
        print(f"\n{title}\n{words}", flush=True)
