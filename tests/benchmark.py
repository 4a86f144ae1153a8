"""How fast is it? Run by hand: python tests/benchmark.py. Prints three tables, asserts nothing.

(a) The default command as a whole process, beside a process that imports the five packages and
    draws and saves four plain figures of the same sizes.
(b) One epoch for 80 to a million patients, beside scikit-learn's MLPClassifier and PyTorch (if it
    is installed) on the same work, and numpy.tanh alone on an array of the hidden layer's shape.
(c) Full retrain against gradient ascent.

Every number is the median of several runs.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.neural_network import MLPClassifier

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import machine_unlearning as mu  # noqa: E402

PLAIN = """
import time; start = time.perf_counter()
import numpy, matplotlib.pyplot as plt, sklearn, seaborn, pandas
imported = time.perf_counter()
for k, size in enumerate([(10, 4.1), (10, 8.8), (10, 9), (10, 6.65)]):
    fig, ax = plt.subplots(figsize=size)
    ax.plot(numpy.random.randn(400), numpy.random.randn(400), "o")
    ax.set(title="title", xlabel="x", ylabel="y")
    fig.savefig(f"{k}.png", dpi=150)
    plt.close(fig)
print(imported - start, time.perf_counter() - imported)
"""
OURS = f"""
import time; start = time.perf_counter()
import sys; sys.path.insert(0, {str(ROOT)!r})
import machine_unlearning as mu, numpy as np
imported = time.perf_counter()
settings = mu.Settings(quiet=True)
mu.compare(mu.hospital, settings)
computed = time.perf_counter()
mu.run("demo", settings)
print(imported - start, time.perf_counter() - computed - (computed - imported), computed - imported)
"""


def whole_process(command):
    """(seconds of the process, seconds of the parts that it prints)."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - start
    return [seconds, *(float(part) for part in done.stdout.split())]


def process_table(repeats=9):
    """Turn and turn about, so that a busy machine slows all three alike."""
    commands = {
        "plain figures": ["-c", PLAIN],
        "parts of the demo": ["-c", OURS],
        "the demo": [str(ROOT / "machine_unlearning.py"), "--quiet"],
    }
    runs = {name: [] for name in commands}
    for _ in range(repeats):
        for name, command in commands.items():
            runs[name].append(whole_process([sys.executable, *command]))
    median = {name: np.median(rows, axis=0) for name, rows in runs.items()}
    whole, plain = (np.array(runs[name])[:, 0] for name in ("the demo", "plain figures"))
    columns = ["whole s", "imports s", "drawing s", "computing s"]
    table = pd.DataFrame(
        {name: pd.Series(row, columns[: len(row)]) for name, row in median.items()}
    )
    return table.T[columns].assign(ratio=[1, np.nan, np.median(whole / plain)])


def microseconds(train, n):
    """Median time of one epoch in microseconds, from calls of train(epochs)."""
    epochs = max(3, min(200, 10**6 // n))
    train(1)  # to warm up
    times = []
    for _ in range(3):
        start = time.perf_counter()
        train(epochs)
        times.append((time.perf_counter() - start) / epochs)
    return 1e6 * statistics.median(times)


def torch_training(X, y):
    """The same in PyTorch, float64; None if it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    net = torch.nn.Sequential(torch.nn.Linear(2, 20), torch.nn.Tanh(), torch.nn.Linear(20, 1))
    descent = torch.optim.SGD(net.double().parameters(), lr=0.1)
    X, y = torch.from_numpy(X), torch.from_numpy(y[:, None].astype(float))

    def train(epochs):
        for _ in range(epochs):
            descent.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(net(X), y).backward()
            descent.step()

    return train


def sklearn_training(X, y):
    """The same in scikit-learn."""

    def train(epochs):
        MLPClassifier(
            (20,), activation="tanh", solver="sgd", alpha=0, batch_size=len(X), momentum=0,
            learning_rate_init=0.1, nesterovs_momentum=False, shuffle=False, max_iter=epochs,
            tol=0, n_iter_no_change=epochs + 1,
        ).fit(X, y)  # fmt: skip

    return train


def epoch_table():
    rng, rows = np.random.RandomState(0), {}
    for n in (80, 400, 10**4, 10**5, 10**6):
        X, hidden = rng.randn(n, 2), rng.randn(n, 20)
        y = (X.sum(axis=1) > 0).astype(int)
        trainings = {
            "ours us": lambda epochs, X=X, y=y: mu.TwoLayerMLP(epochs=epochs).fit(X, y),
            "MLPClassifier us": sklearn_training(X, y),
            "PyTorch us": torch_training(X, y),
            "tanh alone us": lambda epochs, H=hidden: [np.tanh(H) is None for _ in range(epochs)],
        }
        row = {name: microseconds(train, n) for name, train in trainings.items() if train}
        model = mu.TwoLayerMLP(epochs=1, random_state=0).fit(X, y)
        tracemalloc.start()
        for _ in range(3):
            model.step(X, y, 0.1)
        row["beyond the data MiB"] = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
        row["ours / tanh"] = row["ours us"] / row["tanh alone us"]
        row["ours ns per patient"] = 1000 * row["ours us"] / n
        rows[n] = row
    return pd.DataFrame(rows).T.rename_axis("patients")


def unlearning_table():
    seconds = mu.compare(mu.hospital, mu.Settings()).results.seconds
    return 1000 * seconds.rename("ms"), seconds[mu.RETRAIN] / seconds[mu.ASCENT]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(f"Python {sys.version.split()[0]}, NumPy {np.__version__}, {os.cpu_count()} cores\n")
    print("(a) the default command\n", process_table().round(2).to_string(), "\n")
    print("(b) one epoch\n", epoch_table().round(1).to_string(), "\n")
    times, ratio = unlearning_table()
    print("(c) unlearning\n", times.round(2).to_string(), f"\nretrain / ascent: {ratio:.1f}")
