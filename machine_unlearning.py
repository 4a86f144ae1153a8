# /// script
# requires-python = ">=3.9"
# dependencies = [
#     "numpy>=1.26", "matplotlib>=3.8", "scikit-learn>=1.6", "seaborn>=0.13.2", "pandas>=2.1",
# ]
# ///
"""Machine unlearning: what does it take to make a trained model forget?

A hospital trains a diabetes classifier on 400 patients. 80 of them ask to be forgotten (GDPR,
article 17). Deleting their rows is easy, but the weights that were trained on them stay as they
are. This script answers such requests, measures what each answer costs and how close it comes to
a model that never saw the 80, and draws what it finds:

    python machine_unlearning.py             the demo: four figures and a table
    python machine_unlearning.py --help      the other experiments, and all settings

It is written as a lecture. Every part uses only what stands above it: to understand the demo,
read from here to the end of "The demo" and stop.

    Part 1  The demo              a network, three answers to a request, how close each one comes
    Part 2  What really forgets   better answers, and an attack that puts all of them to the test
    Part 3  One by one            patients who ask one after the other; what a removal gives away
    Part 4  The command line      flags and files; nothing about unlearning

    forget, retain, test   sets of rows: to be deleted (80), kept (320), never trained on (100)
    original        the network trained on the forget and the retain set
    retrained       the network trained on the retain set alone, from scratch. This is what
                    forgetting should lead to: ITS value is the target of every metric
    naive deletion  the rows are deleted, the weights stay as they are
    ascent          gradient ascent on the loss of the forget set; "Approximate Unlearning" in
                    the figures, NegGrad in papers
    gap             mean |p - p_retrained| over the forget set, p the probability of "Diabetic"

    n rows of d features, h hidden units, P weights; m rows to forget, T trials of a study
    X (n, d) features, y (n,) labels 0 and 1, A (n, h) hidden layer, z (n,) logits, p (n,) sigmoid

The demo finds           test accuracy    forget accuracy
    Original Model              94.0 %             95.0 %
    Full Retrain                94.0 %             95.0 %
    Naive Deletion              94.0 %             95.0 %
    Approximate Unlearning      71.0 %             70.0 %

Left out, to keep the idea visible: mini-batches, momentum, deep networks.
"""

import argparse
import copy
import gc
import os
import signal
import sys
import time
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from functools import partial
from io import BytesIO
from multiprocessing import active_children, get_context, parent_process
from numbers import Integral
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from textwrap import fill
from threading import Thread
from typing import Callable, NamedTuple
from unittest.mock import patch

# A notebook hands its backend down to programs that it starts, where it may not be installed
if __name__ == "__main__" and "IPython" not in sys.modules:
    os.environ.pop("MPLBACKEND", None)
import numpy as np
import pandas as pd
import seaborn as sns
from joblib import cpu_count
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.special import expit, stdtrit
from scipy.stats import spearmanr
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_breast_cancer, make_classification
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state, check_scalar
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

__version__ = "2.0.0"


class SettingsError(ValueError):
    """A setting is out of range, or several settings do not fit together."""


def flag(name):
    """The flag of a setting: "learning_rate" is --learning-rate on the command line."""
    return "--" + name.replace("_", "-")


def check_range(name, value, low, high, reason=""):
    """Raise SettingsError unless low <= value <= high; NaN is in no range."""
    if not low <= value <= high:
        allowed = f"the allowed range is {low:,} to {high:,}{reason}"
        raise SettingsError(f"{flag(name)} {value}: {allowed}")


def setting(default, group, meaning, *limits):
    """A field of Settings: default, group and meaning for --help and, for a number, its range."""
    return field(default=default, metadata={"group": group, "meaning": meaning, "limits": limits})


@dataclass(frozen=True)
class Settings:
    """All that can be chosen. Each field is also a flag; the defaults give the classic result."""

    patients: int = setting(500, "data", "patients; four fifths of them are trained on", 10, 10**6)
    forget: int = setting(80, "data", "patients who ask to be forgotten")
    trials: int = setting(64, "data", "trials of the study", 4, 10**4)
    seed: int = setting(42, "data", "seed of all data and models", 0, 2**32 - 1)
    hidden: int = setting(20, "network", "hidden units: room for a curved boundary", 1, 10**3)
    learning_rate: float = setting(0.1, "network", "step size of gradient descent", 0, 10**3)
    epochs: int = setting(200, "network", "epochs of training", 0, 10**7)  # by then it is accurate
    # The classic setting of ascent. Less changes little, more swaps the classes: see the sweep
    unlearn_epochs: int = setting(145, "ascent", "epochs of gradient ascent", 0, 10**7)
    multiplier: float = setting(
        0.7, "ascent", "step size of ascent, as a multiple of --learning-rate", 0, 10**6
    )
    output: str = setting("output", "output", "folder for the figures")
    csv: str = setting("", "output", "also write the table to this CSV file")
    dpi: int = setting(150, "output", "resolution of the figures in dots per inch", 10, 1200)
    quiet: bool = setting(False, "output", "print nothing but errors")

    def __post_init__(self):
        """Raise SettingsError for a number that is out of range."""
        for option in fields(self):
            if limits := option.metadata["limits"]:
                check_range(option.name, getattr(self, option.name), *limits)


# =================================================================================================
# Part 1: The demo
# =================================================================================================

# ---- The patients -------------------------------------------------------------------------------

GROUPS = {  # diagnosis -> mean and standard deviation of age (years) and of glucose (mg/dL)
    "Healthy": {"age": (40, 10), "glucose": (100, 15)},
    "Diabetic": {"age": (55, 12), "glucose": (150, 20)},  # older, higher glucose
}


def make_patients(n_patients=500, random_state=42):
    """Synthetic patients, one row each, the healthy half first.

    Columns: patient_id (int, from 1000), age (years), glucose (mg/dL), diagnosis ("Healthy" or
    "Diabetic"). random_state is an int or a RandomState, which is advanced. Raises TypeError or
    ValueError if n_patients is not an integer of at least 2.
    """
    check_scalar(n_patients, "n_patients", Integral, min_val=2)
    rng = check_random_state(random_state)
    n_healthy = n_patients // 2
    sizes = {"Healthy": n_healthy, "Diabetic": n_patients - n_healthy}
    groups = []
    for diagnosis, columns in GROUPS.items():
        drawn = {name: rng.normal(*column, sizes[diagnosis]) for name, column in columns.items()}
        groups.append(pd.DataFrame({**drawn, "diagnosis": diagnosis}))
    patients = pd.concat(groups, ignore_index=True)
    patients.insert(0, "patient_id", 1000 + np.arange(n_patients))
    return patients


def labels(patients):
    """1 for every diabetic, 0 for every healthy patient."""
    return (patients["diagnosis"] == "Diabetic").to_numpy(int)


class Cohort(NamedTuple):
    """Everybody, before the rows are divided."""

    features: pd.DataFrame  # (n, 2) in real units, columns named as on the axes
    y: np.ndarray  # (n,)
    classes: tuple  # what label 0 and label 1 mean
    scaler: StandardScaler  # features -> X


def hospital(settings, rng):
    """The demo's patients. The scaler is fitted on all of them, those who leave included."""
    patients = make_patients(settings.patients, rng).set_index("patient_id")
    features = patients[["age", "glucose"]].set_axis(["Age (years)", "Glucose (mg/dL)"], axis=1)
    return Cohort(features, labels(patients), tuple(GROUPS), StandardScaler().fit(features))


class Rows(NamedTuple):
    """Rows of a data set: features X (n, d) as the network sees them, labels y (n,)."""

    X: np.ndarray
    y: np.ndarray

    def at(self, which):
        """Some of them; which is an array of positions, a mask or a slice."""
        return Rows(self.X[which], self.y[which])


class Data(NamedTuple):
    """A training set, the request to forget some of its rows, and a test set."""

    cohort: Cohort
    features: pd.DataFrame  # the training rows in real units
    asked: np.ndarray  # positions of the forget set in the training set, in the order of asking
    train: Rows
    forget: Rows
    retain: Rows
    test: Rows


def split(cohort, settings, rng):
    """Divide a cohort into 80 % training and 20 % test rows, and draw who asks to be forgotten.

    Raises SettingsError if the retain set would not hold both classes.
    """
    everybody = Rows(cohort.scaler.transform(cohort.features), cohort.y)
    train, test = train_test_split(
        np.arange(len(cohort.y)), test_size=0.2, random_state=settings.seed
    )
    order = rng.permutation(len(train))  # who would ask first, second, ...
    in_order = cohort.y[train[order]]
    last_to_ask = [np.flatnonzero(in_order == label).max(initial=0) for label in (0, 1)]
    most = min(last_to_ask)
    if most == 0:
        raise SettingsError(f"--patients {settings.patients}: too few to keep both classes")
    reason = f", so that both classes remain of the {len(order)} training rows"
    check_range("forget", settings.forget, 1, most, reason)
    asked = order[: settings.forget]
    kept = np.sort(order[settings.forget :])
    return Data(
        cohort,
        cohort.features.iloc[train],
        asked,
        train=everybody.at(train),
        forget=everybody.at(train[asked]),
        retain=everybody.at(train[kept]),
        test=everybody.at(test),
    )


# ---- The network --------------------------------------------------------------------------------

BLOCK = 2048  # rows at a time: their hidden layer (2048 x 20 floats, 320 KB) fits a core's cache


class TwoLayerMLP(ClassifierMixin, BaseEstimator):
    """A binary classifier: d inputs -> h tanh units -> one sigmoid unit.

        A = tanh(X W1 + b1)     (n, h)  hidden layer
        z = A W2 + b2           (n,)    logit
        p = 1 / (1 + exp(-z))   (n,)    probability of classes_[1]
        loss = -mean(y log p + (1 - y) log(1 - p)) + l2 / 2 |all weights|^2

    Parameters: hidden_size h; learning_rate, the step size of descent; epochs, the number of
    steps; init_scale, the standard deviation of the initial weights (small, so that every unit
    starts in the linear part of tanh; not 0, or all units would stay alike); l2, the weight
    penalty (0 in the demo); random_state, an int, a RandomState (which fit advances) or None.
    Learned: W1_ (d, h), b1_ (h,), W2_ (h, 1), b2_ (1,) and classes_ (2,).
    """

    def __init__(
        self, hidden_size=20, learning_rate=0.1, epochs=200, init_scale=0.01, l2=0.0,
        random_state=None,
    ):  # fmt: skip
        self.hidden_size = hidden_size
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.init_scale = init_scale
        self.l2 = l2
        self.random_state = random_state

    @property
    def parameters(self):
        """The arrays themselves: W1 (d, h), b1 (h,), W2 (h, 1), b2 (1,)."""
        return self.W1_, self.b1_, self.W2_, self.b2_

    def forward(self, X):
        """Hidden layer A (n, h) and logits z (n,) of X (n, d)."""
        A = np.tanh(X @ self.W1_ + self.b1_)
        return A, A @ self.W2_[:, 0] + self.b2_

    def losses(self, X, y):
        """Cross-entropy (n,) of each row: log(1 + exp(-s z)), s = 2y - 1."""
        _, z = self.forward(X)
        return np.logaddexp(0, np.where(y == 1, -z, z))

    def objective(self, X, y):
        """Mean cross-entropy of X (n, d), y (n,), plus the penalty: what training lowers."""
        squares = sum(np.sum(weights**2) for weights in self.parameters)
        return self.losses(X, y).mean() + self.l2 / 2 * squares

    def backpropagate(self, X, y):
        """Slopes in W1, b1, W2 and b2 of the rows' summed losses, by the chain rule."""
        A, z = self.forward(X)
        dz = expit(z) - y  # (n,)  p - y, the slope of a row's loss in its logit
        slope = 1 - A * A  # (n, h)  tanh'
        w2 = self.W2_[:, 0]  # (h,)  the slope of z in A; the same for all rows, so it comes last
        dW1 = (X.T * dz) @ slope * w2  # (d, h)
        db1 = dz @ slope * w2  # (h,)
        dW2 = (dz @ A)[:, None]  # (h, 1)
        db2 = dz.sum(keepdims=True)  # (1,)
        return dW1, db1, dW2, db2

    def gradient(self, X, y):
        """Slopes of the loss in W1, b1, W2 and b2, shaped like them.

        A sum over rows can be taken block by block, and this is faster: a block's hidden layer
        stays in the cache, that of a million patients would not.
        """
        slopes = [self.l2 * weights for weights in self.parameters]  # of the penalty
        for start in range(0, len(X), BLOCK):
            block = slice(start, start + BLOCK)
            sums = self.backpropagate(X[block], y[block])
            slopes = [slope + part / len(X) for slope, part in zip(slopes, sums)]
        return slopes

    def step(self, X, y, rate):
        """One epoch: move all weights against the slope, downhill; uphill if rate is negative."""
        for weights, slope in zip(self.parameters, self.gradient(X, y)):
            weights -= rate * slope  # in place

    def fit(self, X, y):
        """Train from scratch on X (n, d), y (n,) by full-batch gradient descent; returns self.

        Raises ValueError for NaN, infinity, unequal lengths, or not exactly two classes, and
        TypeError or ValueError if hidden_size or epochs is not a whole number, or too small.
        """
        check_scalar(self.hidden_size, "hidden_size", Integral, min_val=1)
        check_scalar(self.epochs, "epochs", Integral, min_val=0)
        X, y = self._check_first(X, y)
        rng = check_random_state(self.random_state)
        self.W1_ = self.init_scale * rng.randn(X.shape[1], self.hidden_size)
        self.b1_ = np.zeros(self.hidden_size)
        self.W2_ = self.init_scale * rng.randn(self.hidden_size, 1)
        self.b2_ = np.zeros(1)
        for _ in range(self.epochs):
            self.step(X, y, self.learning_rate)
        return self

    def unlearn(self, X_forget, y_forget, epochs=145, multiplier=0.7):
        """Gradient ascent on the loss of X_forget (m, d), y_forget (m,); in place, returns self.

        Each step is multiplier times as long as one of descent, and climbs the penalty, too, if
        there is one. Nothing holds the predictions for other rows in place. Known as NegGrad:
        Golatkar et al., CVPR 2020, arXiv 1911.04933. Raises NotFittedError before fit, ValueError
        for NaN, infinity, unequal lengths, and labels that fit has not seen, and TypeError or
        ValueError if epochs is not a whole number, or negative.
        """
        check_scalar(epochs, "epochs", Integral, min_val=0)
        X, y = self._check(X_forget, y_forget)
        for _ in range(epochs):
            self.step(X, y, -self.learning_rate * multiplier)
        return self

    def loss(self, X, y):
        """The objective on X (n, d), y (n,), which are checked first; raises as unlearn does."""
        return self.objective(*self._check(X, y))

    def decision_function(self, X):
        """Logits (n,) of X (n, d): positive where classes_[1] is predicted.

        Raises NotFittedError before fit, and ValueError for NaN, infinity, or another d.
        """
        check_is_fitted(self)
        _, z = self.forward(validate_data(self, X, dtype=np.float64, reset=False))
        return z

    def predict_proba(self, X):
        """Probabilities (n, 2) of classes_[0] and classes_[1] for X (n, d)."""
        z = self.decision_function(X)
        return np.column_stack([expit(-z), expit(z)])  # expit: the sigmoid, without overflow

    def predict(self, X):
        """The more probable class (n,) of each row of X (n, d)."""
        positive = self.decision_function(X) > 0
        return self.classes_[positive.astype(int)]

    # What scikit-learn expects of a classifier, so that clone, score and pipelines work. There is
    # nothing to learn about unlearning here.

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def _check_first(self, X, y):
        """X and y as numbers, for the first time: learn what classes_ there are."""
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        if (kind := type_of_target(y)) != "binary":
            message = "Only binary classification is supported. The type of the target is"
            raise ValueError(f"{message} {kind}.")
        self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise ValueError(f"y must hold two classes, it holds one class: {self.classes_[0]}")
        return X, (y == self.classes_[1]).astype(int)

    def _check(self, X, y):
        """X and y as numbers, for a network that has been fitted."""
        check_is_fitted(self)
        X, y = validate_data(self, X, y, dtype=np.float64, reset=False)
        if not np.isin(y, self.classes_).all():
            raise ValueError(f"y may hold {self.classes_} only, it holds {np.unique(y)}")
        return X, (y == self.classes_[1]).astype(int)


# ---- Three answers to a request -----------------------------------------------------------------
# A method gets the original network, the retain and the forget rows, the settings and a
# RandomState. It returns a new network, and changes none of them except the RandomState.


def full_retrain(original, retain, forget, settings, rng):
    """The same training from new random weights, on the retain set alone."""
    return clone(original).set_params(random_state=rng).fit(*retain)


def naive_deletion(original, retain, forget, settings, rng):
    """The rows are deleted, the weights stay."""
    return copy.deepcopy(original)


def gradient_ascent(original, retain, forget, settings, rng):
    """Climb back up the loss of the forget set."""
    return copy.deepcopy(original).unlearn(*forget, settings.unlearn_epochs, settings.multiplier)


ORIGINAL = "Original Model"
RETRAIN = "Full Retrain"
NAIVE = "Naive Deletion"
ASCENT = "Approximate Unlearning"  # the name that older demos gave to gradient ascent
ANSWERS = {RETRAIN: full_retrain, NAIVE: naive_deletion, ASCENT: gradient_ascent}


# ---- How close does each one come? --------------------------------------------------------------


def gap_to_retrained(model, retrained, X):
    """Mean |p - p_retrained| over the rows of X (n, d): 0 where the two agree on all of them."""
    difference = model.predict_proba(X) - retrained.predict_proba(X)
    return np.abs(difference[:, 1]).mean()


def attack_auc(model, forget, test):
    """Loss attack: do forget rows have lower losses than test rows? 0.5: no difference.

    The area under the ROC curve: the chance that a random forget row has a lower loss than a
    random test row. Yeom et al., CSF 2018, arXiv 1709.01604.
    """
    was_trained_on = np.repeat([1, 0], [len(forget.y), len(test.y)])
    losses = np.concatenate([model.losses(*forget), model.losses(*test)])
    return roc_auc_score(was_trained_on, -losses)


def evaluate(model, original, retrained, data):
    """The metrics of one model, by name. The target of each is the retrained model's value."""
    changed = model.predict(data.forget.X) != original.predict(data.forget.X)
    return {
        "test_accuracy": model.score(*data.test),
        "retain_accuracy": model.score(*data.retain),
        "forget_accuracy": model.score(*data.forget),
        "predictions_changed": changed.sum(),  # on the forget set
        "gap_to_retrained": gap_to_retrained(model, retrained, data.forget.X),
        "attack_auc": attack_auc(model, data.forget, data.test),
    }


def timed(function, *arguments, rng, repeats=3):
    """(result, median seconds) of function(*arguments, rng), from the same state of rng each time.

    rng itself advances once.
    """
    copies = [copy.deepcopy(rng) for _ in range(repeats - 1)]
    seconds = []
    for state in [*copies, rng]:
        start = time.perf_counter()
        result = function(*arguments, state)
        seconds.append(time.perf_counter() - start)
    return result, np.median(seconds)


class Comparison(NamedTuple):
    """All that is known about one request; every figure and every sentence is made from it."""

    data: Data
    models: dict  # name -> network
    results: pd.DataFrame  # a row per model: seconds, and the metrics of evaluate
    noise_floor: float  # gap between two retrained models: only their initial weights differ


def train_original(rows, settings, rng):
    """The network that the hospital has: trained on everybody's rows."""
    chosen = settings.hidden, settings.learning_rate, settings.epochs
    return TwoLayerMLP(*chosen, random_state=rng).fit(*rows)


def compare(make_cohort, settings, repeats=3):
    """Train the original, answer the request in each way, measure; returns a Comparison."""
    rng = np.random.RandomState(settings.seed)
    data = split(make_cohort(settings, rng), settings, rng)
    original, seconds = timed(train_original, data.train, settings, rng=rng, repeats=repeats)
    models = {ORIGINAL: original}
    times = [seconds]
    request = original, data.retain, data.forget, settings
    for name, method in ANSWERS.items():
        models[name], seconds = timed(method, *request, rng=rng, repeats=repeats)
        times.append(seconds)
    retrained = models[RETRAIN]
    metrics = {name: evaluate(model, original, retrained, data) for name, model in models.items()}
    results = pd.DataFrame.from_dict(metrics, orient="index").rename_axis("method")
    results.insert(0, "seconds", times)
    second = full_retrain(*request, rng)
    return Comparison(data, models, results, gap_to_retrained(second, retrained, data.forget.X))


# ---- What does it mean? Sentences chosen by the results -----------------------------------------


def percent(fraction):
    """0.95 as "95.0 %"."""
    return f"{100 * fraction:.1f} %"


def check_ascent(comparison):
    """Did ascent forget? A DataFrame: a row per check, with value, low, high and passed."""
    data, models, results, _ = comparison
    ascent, retrained, naive = (results.loc[name] for name in (ASCENT, RETRAIN, NAIVE))
    # Both models are tested on the same rows, so only rows on which they disagree count. Two
    # standard errors of the difference, after McNemar (Psychometrika 12, 1947).
    disagree = models[ASCENT].predict(data.test.X) != models[RETRAIN].predict(data.test.X)
    margin = 2 * np.sqrt(disagree.sum()) / len(disagree)
    worst = max(retrained.test_accuracy - margin, 0)
    half = naive.gap_to_retrained / 2
    checks = {
        "useful": ("as accurate as Full Retrain on the test set", ascent.test_accuracy, worst, 1),
        "close": ("at most half as far off as doing nothing", ascent.gap_to_retrained, 0, half),
        "classic": ("what older demos call a success", ascent.forget_accuracy, 0.4, 0.6),
    }
    table = pd.DataFrame(checks, ["question", "value", "low", "high"]).T
    return table.assign(passed=(table.low <= table.value) & (table.value <= table.high))


def times_as_far(results):
    """The gap that ascent leaves, in multiples of the gap that doing nothing leaves; in words."""
    gaps = results.gap_to_retrained
    times = gaps[ASCENT] / max(gaps[NAIVE], 1e-12)  # doing nothing may already be right
    if times > 10_000:
        return ">10,000"
    if times >= 9.95:
        return f"{times:,.0f}"
    return f"{times:.1f}" if times >= 1 else f"{times:.2f}"


def finding(comparison):
    """What the experiment found, in plain words."""
    results, passed = comparison.results, check_ascent(comparison).passed
    ascent, naive = results.gap_to_retrained[ASCENT], results.gap_to_retrained[NAIVE]
    if passed["close"]:
        verdict = "came close to the retrained model"
    elif ascent < naive:
        verdict = "moved towards the retrained model, but less than half of the way"
    elif ascent == naive:
        verdict = "did not forget: it changed nothing"
    else:
        verdict = "did not forget: it moved away from the retrained model"
    harm = "" if passed["useful"] else " It made the model worse for everybody else, too."
    target = results.forget_accuracy[RETRAIN]
    not_half = "" if 0.45 < target < 0.55 else ", not 50 %,"
    return (
        f"Gradient ascent {verdict}. It ends {times_as_far(results)} times as far from the "
        f"retrained model as doing nothing.{harm} The retrained model never saw the forget set and "
        f"predicts {percent(target)} of it correctly: this{not_half} is the target of forget "
        f"accuracy. Ascent ends at {percent(results.forget_accuracy[ASCENT])}."
    )


def count_changes(comparison, name):
    """Predictions on the forget set: (changed, from right to wrong, from wrong to right)."""
    forget = comparison.data.forget
    before = comparison.models[ORIGINAL].predict(forget.X)
    changed = comparison.models[name].predict(forget.X) != before
    harmed = changed & (before == forget.y)
    return changed.sum(), harmed.sum(), changed.sum() - harmed.sum()


HEADINGS = {  # column of the results -> heading, factor and decimals in the printed table
    "seconds": ("ms", 1000, 1), "test_accuracy": ("test %", 100, 1),
    "retain_accuracy": ("retain %", 100, 1), "forget_accuracy": ("forget %", 100, 1),
    "predictions_changed": ("changed", 1, 0), "gap_to_retrained": ("gap", 1, 4),
    "attack_auc": ("AUC", 1, 3),
}  # fmt: skip
LEGEND = """
ms       time to answer the request, or to train the original; median of 3 runs
test, retain, forget
         accuracy on rows never trained on, on those kept, on those to forget
changed  predictions on the forget set that are not the original model's
gap      mean |p - p of Full Retrain| on the forget set, p the probability of
         {}; 0 where the two agree on every row
AUC      loss attack: how well do low losses tell forget rows from test rows?
         0.5 is a coin toss
The target of every column but ms is the row Full Retrain.
Gradient ascent is in the row Approximate Unlearning.
"""


def report(comparison):
    """The printed page, at most 80 columns wide: finding, table, remarks, checks."""
    data, _, results, noise_floor = comparison
    table = pd.DataFrame(index=results.index.rename(None))
    for column, (heading, factor, decimals) in HEADINGS.items():
        table[heading] = (factor * results[column]).map(f"{{:.{decimals}f}}".format)
    changed, harmed, mended = count_changes(comparison, ASCENT)
    remarks = (
        f"Ascent changes {changed} of {len(data.asked)} predictions on the forget set: {harmed} "
        f"from right to wrong, {mended} from wrong to right; retraining changes "
        f"{results.predictions_changed[RETRAIN]}. Two retrained models that differ only in their "
        f"initial weights have a gap of {noise_floor:.4f}."
    )
    lines = [fill(finding(comparison), 79), "", table.to_string()]
    lines += [LEGEND.format(data.cohort.classes[1]), fill(remarks, 79), ""]
    lines.append(f"{'Is ' + ASCENT + ' ...':45}{'value':>8}   {'yes, if':18}answer")
    for name, check in check_ascent(comparison).iterrows():
        show = "{:.4f}".format if name == "close" else percent
        limits = f"{show(check.low)} to {show(check.high)}"
        answer = "yes" if check.passed else "no"
        lines.append(f"{check.question:45}{show(check.value):>8}   {limits:18}{answer}")
    lines.append("As accurate: within two standard errors of the difference, after McNemar.")
    return "\n".join(lines)


# ---- Figures ------------------------------------------------------------------------------------
# A panel function draws on the axes that it gets, a figure function returns a whole figure. Places
# are given in inches: automatic layout would double the time of the demo.

INK, GREY, PALE, BAND = "#222222", "#666666", "#aaaaaa", "#ececec"
GREEN = "#006450"  # Full Retrain, the target
RED = "#cc3311"  # gradient ascent
CLASS_LOOKS = ({"color": "#1f83c4", "marker": "o"}, {"color": "#e69f00", "marker": "^"})
SHADES = sns.blend_palette(["#bbdaef", "white", "#fae3b4"], as_cmap=True)  # of p, from 0 to 1
TARGET_LINE = {"color": GREEN, "linestyle": "--", "linewidth": 1.8}  # the retrained model's value
HALF_LINE = {"color": GREY, "linestyle": ":", "linewidth": 1.8}  # 50 %
HALF_WORDS = "50 %: what older demos aim at"
STYLE = {
    "font.size": 11, "text.color": INK, "axes.labelcolor": INK, "axes.labelsize": 12,
    "axes.titlesize": 12.5, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.edgecolor": GREY, "axes.linewidth": 0.8, "axes.spines.top": False,
    "axes.spines.right": False, "xtick.color": INK, "ytick.color": INK, "legend.frameon": False,
}  # fmt: skip
in_our_style = style.context(["default", STYLE])  # a decorator; rcParams come back as they were


def color_of(name, other=INK):
    """The colour of a method; one colour has one meaning in all figures."""
    return {RETRAIN: GREEN, ASCENT: RED}.get(name, other)


class NotebookFigure(Figure):
    """A figure that pyplot does not know of, and that a notebook shows nevertheless, once."""

    @in_our_style  # savefig has a style, too
    def _repr_png_(self):
        self.savefig(buffer := BytesIO(), format="png")
        return buffer.getvalue()


def new_page(height, title, *lines):
    """A figure of 10 x height inches: its finding on top, grey lines of explanation below."""
    fig = NotebookFigure(figsize=(10, height))
    fig.text(0.012, 1 - 0.12 / height, title, size=15, weight="bold", va="top")
    words = "\n".join(lines)
    fig.text(0.012, 1 - 0.5 / height, words, size=12, color=GREY, va="top", linespacing=1.4)
    return fig


def add_panel(fig, left, bottom, width, height, title=""):
    """Axes at a place given in inches."""
    page_width, page_height = fig.get_size_inches()
    place = left / page_width, bottom / page_height, width / page_width, height / page_height
    ax = fig.add_axes(place)
    ax.set_title(title)
    return ax


def draw_bars(ax, values, form, target):
    """A bar per method of values, a Series, and its value; a dashed line at Full Retrain's."""
    colors = [color_of(name, PALE) for name in values.index]
    ax.barh(values.index, values, color=colors, height=0.55)
    ax.axvline(values[RETRAIN], **TARGET_LINE)
    ax.text(values[RETRAIN], -0.62, target, color=GREEN, size=12, ha="center", va="bottom")
    for row, (name, value) in enumerate(values.items()):
        ax.annotate(
            form.format(value), (0.99, row), xycoords=("axes fraction", "data"),
            color=color_of(name), size=12, ha="right", va="center",
        )  # fmt: skip
    widest = 100 if form.endswith("%") else values.max()
    ax.set(xlim=(0, 1.55 * widest), ylim=(len(values) - 0.4, -0.6), xticks=[])
    ax.spines["bottom"].set_visible(False)
    ax.tick_params(length=0)


@in_our_style
def performance_figure(comparison):
    """Three panels: what each method costs, and what it does to the two accuracies."""
    results = comparison.results
    share = 100 * results.seconds[ASCENT] / results.seconds[RETRAIN]
    share = f"{share:.0f} %" if share >= 1 else "less than 1 %"
    points = 100 * abs(results.forget_accuracy[ASCENT] - results.forget_accuracy[RETRAIN])
    n = len(comparison.data.asked)
    fig = new_page(
        3.65,
        f"{ASCENT}: {share} of a retrain's time, {points:.1f} points off the target",
        f"The target is what {RETRAIN} achieves, which never saw the {n:,} who asked to be "
        "forgotten.",
        "The title's points are of forget accuracy: how often a model is right about them.",
    )
    unit, times = ("s", 1) if results.seconds.max() >= 1 else ("ms", 1000)
    panels = {  # title -> left edge, values, their form, what to call the retrained model's value
        "Time": (2.05, times * results.seconds, "{:.1f} " + unit, "to beat"),
        "Test accuracy": (4.74, 100 * results.test_accuracy, "{:.1f} %", "target"),
        "Forget accuracy": (7.42, 100 * results.forget_accuracy, "{:.1f} %", "target"),
    }
    for title, (left, *values) in panels.items():
        ax = add_panel(fig, left, 0.35, 2.45, 1.65)
        ax.set_title(title, y=1.16)
        draw_bars(ax, *values)
        if title != "Time":
            ax.set_yticks([])
    ax.axvline(50, **HALF_LINE)
    ax.text(50, len(results) - 0.35, HALF_WORDS, color=GREY, ha="center", va="top")
    return fig


def thin_out(positions, ringed):
    """Some of very many rows, evenly spread: at most 300 ringed ones, or 1,000 others."""
    return positions[:: 1 + (len(positions) - 1) // (300 if ringed else 1000)]


def drawn_of(n):
    """What a figure says where it does not show all n who asked."""
    drawn = len(thin_out(np.arange(n), ringed=True))
    return f" Drawn: {drawn:,}." if drawn < n else ""


def mark_size(n, ringed):
    """Area of each of n marks in square points: the more there are, the smaller."""
    return np.clip((380 if ringed else 160) / np.sqrt(n), 4, 70)


def draw_rows(ax, data, ringed):
    """All training rows, small; or, larger and ringed, the forget set."""
    look = {"linewidth": 0, "alpha": 0.7}
    if ringed:
        look = {"linewidth": 0.9, "edgecolor": INK, "zorder": 3}
    positions = thin_out(data.asked if ringed else np.arange(len(data.train.y)), ringed)
    look["s"] = mark_size(len(positions), ringed)
    for label, class_look in enumerate(CLASS_LOOKS):
        rows = data.features.iloc[positions[data.train.y[positions] == label]]
        ax.scatter(*rows.to_numpy().T, **class_look, **look)


def frame(ax, data):
    """Set the limits, a little outside all training rows, and labels of a map; returns its grid."""
    low, high = data.features.min().to_numpy(), data.features.max().to_numpy()
    margin = 0.02 * (high - low)
    (left, bottom), (right, top) = low - margin, high + margin
    ax.set(xlim=(left, right), ylim=(bottom, top))
    ax.set(xlabel=data.features.columns[0], ylabel=data.features.columns[1])
    ax.locator_params(nbins=5)
    return np.linspace(left, right, 60), np.linspace(bottom, top, 60)


def draw_map(ax, comparison, name):
    """A model's p, shaded; its line p = 0.5, and the retrained model's, green and dashed."""
    data = comparison.data
    x, y = frame(ax, data)
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    X = data.cohort.scaler.transform(pd.DataFrame(points, columns=data.features.columns))
    z = comparison.models[name].decision_function(X).reshape(60, 60)
    shading = ax.contourf(x, y, expit(z), levels=np.linspace(0, 1, 11), cmap=SHADES)
    target = comparison.models[RETRAIN].decision_function(X).reshape(60, 60)
    for logits, color, line in ((target, GREEN, "dashed"), (z, color_of(name), "solid")):
        if logits.min() < 0 < logits.max():  # p = 0.5 where z = 0, and z is smoother than p
            ax.contour(x, y, logits, levels=[0], colors=color, linestyles=line, linewidths=1.8)
    return shading


def add_key(fig, classes):
    """One line below the title that says what marks and lines mean in all maps of a figure."""
    ring = {"color": INK, "marker": "o", "markerfacecolor": "none"}
    marks = [*zip(classes, CLASS_LOOKS), ("asked to be forgotten", ring)]
    handles = [Line2D([], [], linestyle="", label=label, **look) for label, look in marks]
    handles.append(Line2D([], [], color=INK, linewidth=1.8, label="solid: p = 0.5 of this model"))
    handles.append(Line2D([], [], **TARGET_LINE, label=f"dashed: p = 0.5 of {RETRAIN}"))
    fig.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0, 1 - 0.83 / fig.get_figheight()),
        ncols=5, handletextpad=0.4, columnspacing=1, handlelength=2, borderaxespad=0.3,
    )  # fmt: skip


@in_our_style
def boundaries_figure(comparison):
    """Four maps, one per model, each with the retrained model's boundary and the forget set."""
    data, results = comparison.data, comparison.results
    n = len(data.asked)
    fig = new_page(
        8.7,
        f"{ASCENT}: {times_as_far(results)} times as far from {RETRAIN} as doing nothing",
        f"Gap: how far p, the probability of {data.cohort.classes[1]}, is from {RETRAIN}'s, on "
        f"average over the {n:,} who asked.{drawn_of(n)}",
    )
    add_key(fig, data.cohort.classes)
    corners = [(0.75, 4.15), (5.07, 4.15), (0.75, 0.62), (5.07, 0.62)]
    for (left, bottom), name in zip(corners, comparison.models):
        ax = add_panel(fig, left, bottom, 4.07, 2.95)
        shading = draw_map(ax, comparison, name)
        draw_rows(ax, data, ringed=False)
        draw_rows(ax, data, ringed=True)
        ax.set_title(name, color=color_of(name))
        gap = f"gap {results.gap_to_retrained[name]:.3f}"
        ax.set_title(gap, color=color_of(name), loc="right")
        if left > 1:
            ax.set(ylabel="", yticklabels=[])
        if bottom > 1:
            ax.set(xlabel="", xticklabels=[])
    scale = add_panel(fig, 9.35, 4.15, 0.17, 2.95, "p")
    fig.colorbar(shading, cax=scale, ticks=[0, 0.5, 1])
    return fig


def draw_fall(ax, before, after, target):
    """Forget accuracy in % before and after ascent, beside the target and the 50 % line."""
    ax.plot([0, 1], [before, after], color=RED, linewidth=2)
    for x, value, color, side in ((0, before, INK, "right"), (1, after, RED, "left")):
        ax.plot(x, value, color=color, marker="o", markersize=7)
        place = {"y": value - 3, "va": "top"} if value > 12 else {"y": value + 3, "va": "bottom"}
        ax.text(1.12 * x - 0.06, **place, s=f"{value:.1f} %", color=color, ha=side)
    words = f"{RETRAIN},\nthe target: {target:.1f} %"
    # Each label is placed on the side of its line with more room
    lines = (
        (target, target > 80 or 15 < target < 50, TARGET_LINE, words),
        (50, target >= 50, HALF_LINE, HALF_WORDS.replace("older ", "older\n")),
    )
    for level, below, look, words in lines:
        ax.axhline(level, **look, zorder=1)
        place = {"y": level - 2, "va": "top"} if below else {"y": level + 2, "va": "bottom"}
        ax.text(2.9, **place, s=words, color=look["color"], ha="right")
    ax.set(xlim=(-0.6, 2.9), ylim=(0, 104), yticks=[0, 50, 100])
    ax.set_xticks([0, 1], ["before", "after"])


@in_our_style
def concrete_figure(comparison):
    """Four panels: who asked; right and wrong before; the same after ascent; the accuracies."""
    data, forget = comparison.data, comparison.data.forget
    wrong = {name: model.predict(forget.X) != forget.y for name, model in comparison.models.items()}
    before, after, target = (wrong[name].sum() for name in (ORIGINAL, ASCENT, RETRAIN))
    n = len(data.asked)
    drawn = thin_out(np.arange(n), ringed=True)
    cross_size = 2.6 * mark_size(len(drawn), ringed=True)  # wider than the mark in front of it
    fig = new_page(
        9,
        f"Wrong predictions for the {n:,} who asked: {before:,} before, {after:,} after",
        f"Before: {ORIGINAL}. After: {ASCENT}. {RETRAIN}, without them: {target:,}.{drawn_of(n)}",
    )
    add_key(fig, data.cohort.classes)
    title = f"{n:,} of {len(data.train.y):,} asked to be forgotten"
    who = add_panel(fig, 0.75, 4.48, 4.25, 2.92, title)
    frame(who, data)
    draw_rows(who, data, ringed=False)
    draw_rows(who, data, ringed=True)
    for name, left, bottom, when in ((ORIGINAL, 5.6, 4.48, "Before"), (ASCENT, 0.75, 0.6, "After")):
        title = f"{when}: {n - wrong[name].sum():,} right, {wrong[name].sum():,} wrong (×)"
        ax = add_panel(fig, left, bottom, 4.25, 2.92, title)
        draw_map(ax, comparison, name)
        rows = data.features.iloc[data.asked[drawn[wrong[name][drawn]]]].to_numpy()
        ax.scatter(*rows.T, color=INK, marker="x", s=cross_size, linewidth=1.5)
        draw_rows(ax, data, ringed=True)
        ax.set_ylabel("" if left > 1 else ax.get_ylabel())
    accuracies = 100 * comparison.results.forget_accuracy[[ORIGINAL, ASCENT, RETRAIN]]
    draw_fall(add_panel(fig, 5.6, 0.6, 4.25, 2.92, f"Accuracy on the {n:,}, %"), *accuracies)
    return fig


def draw_classes(ax, x, classes):
    """The marks of classes (n,), one below the other, at x inches."""
    for label, look in enumerate(CLASS_LOOKS):
        rows = np.flatnonzero(classes == label)
        ax.scatter(np.full(len(rows), x), rows, s=45, **look)


@in_our_style
def patients_figure(comparison, n_rows=15):
    """A table of the first patients who asked: what each model predicts, and what changed."""
    data, models = comparison.data, comparison.models
    asked, n = data.asked[:n_rows], len(data.asked)
    changed, harmed, mended = count_changes(comparison, ASCENT)
    retrain_changed, _, _ = count_changes(comparison, RETRAIN)
    height = 0.33 * len(asked)
    fig = new_page(
        height + 1.8,
        f"{ASCENT} changes {changed:,} of {n:,} predictions, {RETRAIN} {retrain_changed:,}",
        f"{harmed:,} from right to wrong, {mended:,} from wrong to right. Below, the first "
        f"{len(asked)} of the {n:,} who asked:",
        f"what each model predicts, and p, its probability of {data.cohort.classes[1]}. "
        "Tinted: changed by ascent.",
    )
    ax = add_panel(fig, 0.12, 0.1, 9.76, height)
    ax.set(xlim=(0, 9.76), ylim=(len(asked) - 0.5, -0.5))
    ax.axis("off")
    ax.axhline(-0.5, color=INK, linewidth=1.2, clip_on=False)
    rows = data.train.at(asked)
    said = {name: models[name].predict(rows.X) for name in (ORIGINAL, RETRAIN, ASCENT)}
    is_changed = said[ASCENT] != said[ORIGINAL]
    for row in np.flatnonzero(is_changed):
        ax.axhspan(row - 0.5, row + 0.5, color=RED, alpha=0.12, linewidth=0)
    columns = data.features.iloc[asked].round().astype(int).reset_index(names="Patient")
    columns["Actual"] = np.take(data.cohort.classes, rows.y)
    draw_classes(ax, 2.55, rows.y)
    for left, name in ((3.69, ORIGINAL), (5.4, RETRAIN), (7.12, ASCENT)):
        p = models[name].predict_proba(rows.X)[:, 1]
        classes = np.take(data.cohort.classes, said[name])
        columns[name] = [f"{word}, p {chance:.2f}" for word, chance in zip(classes, p)]
        draw_classes(ax, left, said[name])
    after = np.where(said[ASCENT] == rows.y, "now right", "now wrong")
    columns["Changed?"] = np.where(is_changed, after, "no")
    for right, (name, words) in zip((0.7, 1.48, 2.36, 3.42, 5.1, 6.82, 8.54, 9.7), columns.items()):
        heading = {"s": name.replace(" ", "\n"), "weight": "bold", "color": color_of(name)}
        ax.text(right, -0.7, **heading, size=11.5, ha="right", va="bottom")
        for row, word in enumerate(words):
            ax.text(right, row, word, size=11.5, ha="right", va="center")
    return fig


# ---- The demo -----------------------------------------------------------------------------------


class Result(NamedTuple):
    """What an experiment hands to the command line."""

    text: str  # to print
    table: pd.DataFrame  # for --csv
    figures: dict  # file name -> figure


def demo(settings):
    """80 of 400 patients ask to be forgotten: four figures."""
    comparison = compare(hospital, settings)
    figures = {
        "performance_metrics.png": performance_figure(comparison),
        "decision_boundaries.png": boundaries_figure(comparison),
        "concrete_demonstration.png": concrete_figure(comparison),
        "patient_level_view.png": patients_figure(comparison),
    }
    return Result(report(comparison), comparison.results, figures)


# You have seen the whole demo. What follows repeats it on other rows, and with other settings.

# ---- Variations: abstract data, real patients, other doses, other seeds -------------------------


def abstract(settings, rng):
    """Two overlapping clouds without a meaning, one label in ten drawn at random; not scaled."""
    X, y = make_classification(
        settings.patients, n_features=2, n_redundant=0, n_clusters_per_class=1, flip_y=0.1,
        random_state=settings.seed,
    )  # fmt: skip
    features = pd.DataFrame(X, columns=["Feature 1", "Feature 2"])
    unscaled = StandardScaler(with_mean=False, with_std=False).fit(features)
    return Cohort(features, y, ("Class 0", "Class 1"), unscaled)


def wisconsin(settings, rng):
    """569 real patients with a breast mass: two features of its cell nuclei, and the diagnosis.

    Street, Wolberg, Mangasarian 1993, UCI repository; scikit-learn's own copy. Neither gives units.
    """
    bunch = load_breast_cancer(as_frame=True)
    features = bunch.data[["worst area", "worst smoothness"]].rename(columns=str.capitalize)
    y = (bunch.target == 0).to_numpy(int)  # there, 0 is malignant
    return Cohort(features, y, ("Benign", "Malignant"), StandardScaler().fit(features))


def vary(make_cohort, prefix, settings):
    """The demo on another cohort: two of its figures, and its report."""
    comparison = compare(make_cohort, settings)
    figures = {
        f"{prefix}_performance_metrics.png": performance_figure(comparison),
        f"{prefix}_decision_boundaries.png": boundaries_figure(comparison),
    }
    return Result(report(comparison), comparison.results, figures)


basic = partial(vary, abstract, "basic")
clinical = partial(vary, wisconsin, "clinical")
BASIC = {"patients": 1000, "forget": 160}
REAL = {"patients": 569, "forget": 91}  # all of them; a fifth of the training set

EPOCHS = 25, 50, 75, 100, 145, 200, 300
MULTIPLIERS = 0.1, 0.3, 0.5, 0.7, 1.0, 1.5
CLASSIC = {(100, 0.5): "mild", (145, 0.7): "classic", (200, 1.0): "harsh"}
SEEDS = range(30)


def try_doses(comparison, settings):
    """The metrics of ascent (a DataFrame) for every pair of epochs and multiplier."""
    data, models, _, _ = comparison
    rows = {}
    for multiplier in sorted({*MULTIPLIERS, settings.multiplier}):
        model = copy.deepcopy(models[ORIGINAL])
        done = 0
        for epochs in sorted({*EPOCHS, settings.unlearn_epochs}):
            model.unlearn(*data.forget, epochs - done, multiplier)  # on from the last stop
            done = epochs
            rows[epochs, multiplier] = evaluate(model, models[ORIGINAL], models[RETRAIN], data)
    grid = pd.DataFrame.from_dict(rows, orient="index").rename_axis(["epochs", "multiplier"])
    return grid.sort_index()


def try_seeds(settings):
    """Forget accuracies (a DataFrame): a row per seed, a column per model."""
    accuracies = {}
    for seed in SEEDS:
        comparison = compare(hospital, replace(settings, seed=seed), repeats=1)
        accuracies[seed] = comparison.results.forget_accuracy
    return pd.DataFrame(accuracies).T.drop(columns=NAIVE)


def doses(grid):
    """Epochs x multiplier of each setting: the sum of its step sizes, in learning rates."""
    return grid.index.get_level_values("epochs") * grid.index.get_level_values("multiplier")


def draw_doses(ax, grid, target, marked):
    """Both accuracies over the dose; marked: {(epochs, multiplier): name}."""
    ax.axhspan(40, 60, color=BAND, zorder=0)
    ax.text(0.02, 50, "40 to 60 %: what older\ndemos call a success", color=GREY, va="center",
            transform=ax.get_yaxis_transform())  # fmt: skip
    ax.axhline(target, **TARGET_LINE)
    ax.text(0.99, target + 1, f"forget target {target:.0f} %", color=GREEN, ha="right", va="bottom",
            transform=ax.get_yaxis_transform())  # fmt: skip
    test, forget = 100 * grid.test_accuracy, 100 * grid.forget_accuracy
    ring = {"facecolor": "white", "edgecolor": RED, "linewidth": 1.3}
    ax.scatter(doses(grid), test, s=50, **ring, label="test")
    ax.scatter(doses(grid), forget, s=26, color=RED, label="forget")
    for (epochs, multiplier), name in marked.items():
        dose = epochs * multiplier
        ax.axvline(dose, color=PALE, linewidth=0.8, zorder=0)
        low = name == "yours"
        ax.text(dose, 2 if low else 107, name, ha="center", va="bottom")
    ax.set(xscale="log", ylim=(0, 106), xlabel="dose: epochs × multiplier", ylabel="accuracy, %")
    ax.set_xticks(ticks := [3, 10, 30, 100, 300], ticks)
    ax.legend(loc="center right", bbox_to_anchor=(1, 0.72), handletextpad=0.2)


def draw_seeds(ax, accuracies, seed, classic):
    """The forget accuracy of each model for many seeds; classic: the one of this run's seed."""
    ax.axhspan(40, 60, color=BAND, zorder=0)
    colors = [color_of(name, PALE) for name in accuracies]
    sns.swarmplot(100 * accuracies, ax=ax, palette=colors, size=5, warn_thresh=1)
    ax.scatter(2, classic, s=60, color=RED, marker="D", zorder=3)
    ax.text(1.75, classic, f"seed {seed}: {classic:.0f} %", ha="right", va="center")
    ax.set_xticks(range(3), [name.replace(" ", "\n") for name in accuracies])
    ax.set(xlim=(-0.6, 2.6), ylim=(0, 106), xlabel="", yticklabels=[])


def dose_effect(grid):
    """How forget accuracy follows the dose, in words."""
    if grid.forget_accuracy.nunique() == 1:
        return "forget accuracy does not change with the dose"
    correlation, _ = spearmanr(doses(grid), grid.forget_accuracy)
    return f"rank correlation of forget accuracy with the dose: {correlation:.2f}"


@in_our_style
def sweep_figure(grid, accuracies, results, settings):
    """Forget and test accuracy over the dose, and over the seed."""
    target, classic = (100 * results.forget_accuracy[name] for name in (RETRAIN, ASCENT))
    apart = 100 * np.abs(grid.test_accuracy - grid.forget_accuracy).max()
    seeds = 100 * accuracies[ASCENT]
    setting = f"{settings.unlearn_epochs} × {settings.multiplier:g}"
    fig = new_page(
        5.6,
        f"Over {len(grid)} settings, test and forget accuracy stay within {apart:.0f} points of "
        "each other",
        f"Left: the dose is epochs × multiplier; {dose_effect(grid)}.",
        f"Right: after {setting}, forget accuracy is {classic:.0f} % with seed {settings.seed}; "
        f"with seeds {SEEDS[0]} to {SEEDS[-1]}, {seeds.min():.0f} to {seeds.max():.0f} %.",
    )
    marked = {(settings.unlearn_epochs, settings.multiplier): "yours", **CLASSIC}
    left = add_panel(fig, 0.75, 0.75, 5.45, 3.3)
    left.set_title(f"{len(grid)} settings, with seed {settings.seed}", y=1.07)
    draw_doses(left, grid[doses(grid) > 0], target, marked)
    right = add_panel(fig, 6.45, 0.75, 3.4, 3.3)
    right.set_title(f"Forget accuracy, {len(SEEDS)} seeds", y=1.07)
    draw_seeds(right, accuracies, settings.seed, classic)
    return fig


def sweep(settings):
    """The dose of ascent, and other seeds: one figure."""
    comparison = compare(hospital, settings)
    results = comparison.results
    grid = try_doses(comparison, settings)
    accuracies = try_seeds(settings)
    forget, test = 100 * grid.forget_accuracy, 100 * grid.test_accuracy
    seeds = 100 * accuracies[ASCENT]
    nothing, best = results.gap_to_retrained[NAIVE], grid.gap_to_retrained.min()
    nearer = (grid.gap_to_retrained < nothing).sum()
    words = (
        f"Over {len(grid)} settings of epochs and multiplier, test and forget accuracy are never "
        f"more than {np.abs(test - forget).max():.0f} points apart ({dose_effect(grid)}). {nearer} "
        f"settings end nearer to the retrained model than doing nothing (gap {best:.4f} at best, "
        f"{nothing:.4f} without), but only the retrained model can tell. With the "
        f"setting {settings.unlearn_epochs} x {settings.multiplier:g}, forget accuracy is "
        f"{percent(results.forget_accuracy[ASCENT])} with seed {settings.seed}, and "
        f"{seeds.min():.0f} to {seeds.max():.0f} % (mean {seeds.mean():.0f} %) with seeds "
        f"{SEEDS[0]} to {SEEDS[-1]}. The target is {percent(results.forget_accuracy[RETRAIN])} on "
        f"the forget set and {percent(results.test_accuracy[RETRAIN])} on the test set."
    )
    cells = forget.map("{:.0f} ".format) + test.map("({:.0f})".format)
    heading = "Forget accuracy (test accuracy) in % by epochs, down, and multiplier, across:"
    text = "\n".join([fill(words, 79), "", heading, cells.unstack().to_string()])
    figures = {"parameter_sweep.png": sweep_figure(grid, accuracies, results, settings)}
    return Result(text, grid[["test_accuracy", "forget_accuracy"]], figures)


# =================================================================================================
# Part 2: What really forgets
# =================================================================================================
# Definition: a method has forgotten the rows F of a training set D if its model is distributed as
# a model trained on D without F (Golatkar et al., CVPR 2020, arXiv 1911.04933; definition 3.1 of
# the NeurIPS 2023 unlearning challenge). D and F are fixed. What varies is the algorithm's own
# randomness: here, the initial weights and nothing else.

# ---- Three requests -----------------------------------------------------------------------------

RANDOM, CLINIC, ATYPICAL = "random", "clinic", "atypical"
REQUESTS = {  # kind -> who asks
    RANDOM: "like everybody else",
    CLINIC: "unlike anybody else",
    ATYPICAL: "like the other diagnosis",
}
# Standardising with constants: no scaler remembers anybody. Mean, standard deviation; age, glucose
POPULATION = np.array([[47.5, 125], [13.3, 30.7]])


def standardised(patients):
    """Rows of a DataFrame of patients."""
    X = (patients[["age", "glucose"]].to_numpy() - POPULATION[0]) / POPULATION[1]
    return Rows(X, labels(patients))


def together(*parts):
    """Rows one after the other."""
    return Rows(*map(np.concatenate, zip(*parts)))


def draw_leavers(kind, n, rng):
    """The rows of a request of a kind in REQUESTS.

    random: n patients like all others. clinic: a whole clinic withdraws, n early-onset diabetics,
    young and low in glucose. atypical: of 2.5 n, the n / 4 who look most like the other diagnosis.
    """
    if kind == RANDOM:
        return standardised(make_patients(n, rng).sample(frac=1, random_state=rng))
    if kind == CLINIC:
        columns = {"age": rng.normal(22, 4, n), "glucose": rng.normal(85, 8, n)}
        return standardised(pd.DataFrame({**columns, "diagnosis": "Diabetic"}))
    rows = standardised(make_patients(5 * n // 2, rng))
    means = [[mean for mean, _ in columns.values()] for columns in GROUPS.values()]
    healthy, diabetic = (np.array(means) - POPULATION[0]) / POPULATION[1]
    away = np.linalg.norm(rows.X - healthy, axis=1) - np.linalg.norm(rows.X - diabetic, axis=1)
    typical = np.where(rows.y == 1, away, -away)
    return rows.at(np.argsort(typical)[: n // 4])


def make_request(kind, settings):
    """(forget, retain, test) of a kind in REQUESTS; the same in all trials.

    Raises SettingsError if a request or the retain set would be too small.
    """
    check_range("patients", settings.patients, 40, 10**6)
    n_train = settings.patients * 4 // 5
    reason = ": each request needs some rows, and 20 must remain"
    check_range("forget", settings.forget, 8, n_train - 20, reason)
    rng = np.random.RandomState([settings.seed, list(REQUESTS).index(kind)])
    forget = draw_leavers(kind, settings.forget, rng)
    test = standardised(make_patients(1000, rng))
    retain = standardised(make_patients(n_train - settings.forget, rng))
    return forget, retain, test


# ---- Better answers, by gradient descent --------------------------------------------------------
# All models of this part have one objective, the mean cross-entropy + l2 / 2 |all weights|^2. With
# l2 = 0.01 it nearly always has one optimum for the requests above (65 of 66 that were tried, 22
# seeds); with 0.003 it has several.
OBJECTIVE = {"l2": 0.01, "init_scale": 0.5}


def descend(model, rows, epochs):
    """Train on, in place; returns the model."""
    for _ in range(epochs):
        model.step(*rows, model.learning_rate)
    return model


def train_by_descent(rows, settings, rng):
    """An original that keeps a copy of itself half-way through training, from which to rewind."""
    chosen = settings.hidden, settings.learning_rate, settings.epochs
    model = TwoLayerMLP(*chosen, **OBJECTIVE, random_state=rng)
    half = settings.epochs // 2
    checkpoint = clone(model).set_params(epochs=half, random_state=rng).fit(*rows)
    model = copy.deepcopy(checkpoint).set_params(epochs=settings.epochs)
    model.checkpoint_ = checkpoint
    return descend(model, rows, settings.epochs - half)


def neg_grad_plus(original, retain, forget, settings, rng):
    """Descend 0.95 L(retain) - 0.05 L(forget): ascent, held in place by the retain set.

    Kurmanji et al., NeurIPS 2023, arXiv 2302.09880. The weight 0.05 is a compromise: with less, 40
    epochs are too few where a clinic leaves, and more does harm elsewhere.
    """
    model = copy.deepcopy(original)
    for _ in range(40):
        slopes = model.gradient(*retain), model.gradient(*forget)
        for weights, down, up in zip(model.parameters, *slopes):
            weights -= model.learning_rate * (0.95 * down - 0.05 * up)
    return model


def fine_tune(original, retain, forget, settings, rng):
    """Train on without the forget set for 50 epochs, and hope that its influence fades."""
    return descend(copy.deepcopy(original), retain, 50)


def rewind(original, retain, forget, settings, rng):
    """Go back to the checkpoint and replay the second half of training on the retain set alone.

    Mu & Klabjan, NeurIPS 2025, arXiv 2409.09778. The first half has seen the forget set.
    """
    checkpoint = original.checkpoint_
    return descend(copy.deepcopy(checkpoint), retain, original.epochs - checkpoint.epochs)


# ---- Newton: to the optimum itself --------------------------------------------------------------
# Where an objective has one optimum, every path to it ends at the model that retraining would give,
# whatever the weights to start from. Newton's method gets there in 3 to 27 steps. What is unique is
# the function, not the weights: at these optima the 20 hidden units are copies of one unit, up to
# sign (as long as the clinic's rows are in, of three units). With this penalty, the data ask for no
# more.


def get_weights(model):
    """All weights in one row (P,): W1, b1, W2, b2."""
    return np.concatenate([weights.ravel() for weights in model.parameters])


def set_weights(model, values):
    """The inverse of get_weights, in place; values (P,)."""
    ends = np.cumsum([weights.size for weights in model.parameters])
    for weights, part in zip(model.parameters, np.split(values, ends[:-1])):
        weights[...] = part.reshape(weights.shape)


def slope_and_curvature(model, X, y):
    """Gradient g (P,) and Hessian H (P, P) of the loss at the model's weights.

    With J (n, P) the slopes of the logits and e = (p - y) / n: g = J'e, and H = J'diag(p (1 - p) /
    n) J plus the curvature of the logits themselves, weighted by e, which links the weights of one
    hidden unit only; plus the penalty's l2 w and l2 I.
    """
    n, h = len(X), model.hidden_size
    inputs = np.column_stack([X, np.ones(n)])  # (n, d + 1)  the 1 is for the biases
    A, z = model.forward(X)
    p = expit(z)
    e = (p - y) / n  # (n,)
    w2 = model.W2_[:, 0]  # (h,)
    slope = 1 - A * A  # (n, h)  tanh'
    inner = inputs[:, :, None] * (slope * w2)[:, None]  # (n, d + 1, h)  slopes in W1 and b1
    J = np.column_stack([inner.reshape(n, -1), A, np.ones(n)])  # (n, P)
    g = e @ J + model.l2 * get_weights(model)
    weighted = np.sqrt(p * (1 - p) / n)[:, None] * J
    H = weighted.T @ weighted + model.l2 * np.eye(J.shape[1])
    squares = (inputs[:, :, None] * inputs[:, None]).reshape(n, -1)  # (n, (d + 1)^2)
    within = squares.T @ (e[:, None] * -2 * A * slope * w2)  # tanh'' = -2 A (1 - A^2)
    across = inputs.T @ (e[:, None] * slope)  # (d + 1, h)
    v = np.arange(across.size).reshape(across.shape)  # where W1 and b1 of each unit stand in H
    w = across.size + np.arange(h)  # where W2 stands
    H[v[:, None], v[None]] += within.reshape(len(v), len(v), h)
    H[v, w] += across
    H[w, v] += across
    return g, H


def newton_step(g, H, damping=0.0):
    """(H + damping I)^-1 g by Cholesky; None if the matrix is not positive definite."""
    try:
        return cho_solve(cho_factor(H + damping * np.eye(len(g)), check_finite=False), g)
    except LinAlgError:
        return None


def go_to_optimum(model, rows):
    """Newton's method from the model's weights to an optimum, if 200 steps suffice.

    At an optimum the gradient is 0 (here, of norm 1e-10) and H is positive definite. Elsewhere H
    may curve downwards, and a step may lead up: then damping is added, which turns and shortens the
    step. In place; returns the model.
    """
    value = model.objective(*rows)
    for _ in range(200):
        g, H = slope_and_curvature(model, *rows)
        if np.linalg.norm(g) <= 1e-10:
            if newton_step(g, H) is not None:
                break
            _, directions = np.linalg.eigh(H)  # a saddle: leave it where it curves down the most
            g = 1e-4 * directions[:, 0]
        weights = get_weights(model)
        damping, new = 0.0, value
        while damping < 1e6:
            step = newton_step(g, H, damping)
            damping = 3 * damping + 1e-4
            if step is not None:
                set_weights(model, weights - step)
                new = model.objective(*rows)
                if new <= value + 1e-13:  # a rise by less is rounding
                    break
        value = new
    return model


def train_by_newton(rows, settings, rng):
    """New random weights, and from there to the optimum."""
    blank = TwoLayerMLP(settings.hidden, epochs=0, **OBJECTIVE, random_state=rng).fit(*rows)
    return go_to_optimum(blank, rows)


def newton_retrain(original, retain, forget, settings, rng):
    """To the optimum of the retain set from new random weights."""
    return train_by_newton(retain, settings, rng)


def newton(original, retain, forget, settings, rng):
    """To the optimum from the old weights: if it is the only one, retraining ends there, too."""
    return go_to_optimum(copy.deepcopy(original), retain)


def influence_function(original, retain, forget, settings, rng):
    """One Newton step from the old weights: enough if the objective were quadratic.

    Koh & Liang, ICML 2017, arXiv 1703.04730, who take H of all rows, not of the retain set; for
    networks: Bae et al. 2022, arXiv 2209.05364.
    """
    model = copy.deepcopy(original)
    g, H = slope_and_curvature(model, *retain)
    set_weights(model, get_weights(model) - np.linalg.solve(H, g))
    return model


PLUS, TUNE, REWIND = "Ascent + Descent", "Fine-Tuning", "Rewind"
NEWTON_RETRAIN, NEWTON, INFLUENCE = "Newton Retrain", "Newton", "Influence Function"
BY_DESCENT = {**ANSWERS, PLUS: neg_grad_plus, TUNE: fine_tune, REWIND: rewind}
BY_NEWTON = {NEWTON_RETRAIN: newton_retrain, NEWTON: newton, INFLUENCE: influence_function}
METHODS = {**BY_DESCENT, **BY_NEWTON}
# Each family is judged by its own way of retraining: how its original is trained, its methods
FAMILIES = {RETRAIN: (train_by_descent, BY_DESCENT), NEWTON_RETRAIN: (train_by_newton, BY_NEWTON)}


# ---- The attack ---------------------------------------------------------------------------------


def lira_attack(unlearned, retrained, splits=8):
    """Accuracy (T,), by trial, at telling unlearned from retrained models; 0.5: it cannot.

    Both are signed logits s z (T, m) of m patients in T trials, s = 2y - 1. For each patient, a
    Gaussian is fitted to either kind on one half of the trials, and the other half is classified;
    then the halves change places; for several random splits. U-LiRA, a likelihood-ratio attack:
    Hayes et al. 2024, arXiv 2403.01218. The attacker sees 4 decimals: two models at the same
    optimum still differ in the tenth, which would give them away.
    """
    scores = np.round(np.stack([unlearned, retrained]), 4)  # (2, T, m)
    rng = np.random.RandomState(0)
    n_trials = scores.shape[1]
    right = np.zeros(n_trials)
    for _ in range(splits):
        half = rng.permutation(n_trials) < n_trials // 2
        for fit in (half, ~half):
            mean = scores[:, fit].mean(axis=1)[:, None, None]  # (2, 1, 1, m)
            std = scores[:, fit].std(axis=1, ddof=1)[:, None, None] + 1e-9
            # Log-densities of either kind's Gaussians at the scores of either model, (2, 2, T/2, m)
            density = -(((scores[:, ~fit] - mean) / std) ** 2) / 2 - np.log(std)
            says = np.sign(density[0] - density[1])  # (2, T/2, m)  1: unlearned, -1: retrained
            # A patient counts 1 if both models are classified rightly, 0.5 if one is, 0 if neither
            # is; undecided is half right
            right[~fit] += (0.5 + (says[0] - says[1]) / 4).mean(axis=1)
    return right / splits


def chance_limit(retrained, others, swaps=200):
    """The attack accuracy that chance alone exceeds in 1 of 100 cases.

    Two sets (T, m) of scores of retrained models are attacked after their labels have been swapped
    at random in each trial, many times. A method is told apart if it is attacked more successfully.
    """
    rng = np.random.RandomState(0)
    accuracies = []
    for _ in range(swaps):
        swap = rng.randint(2, size=(len(retrained), 1)) == 1
        pair = np.where(swap, others, retrained), np.where(swap, retrained, others)
        accuracies.append(lira_attack(*pair).mean())
    return np.quantile(accuracies, 0.99)


# ---- The study ----------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What one method did in one trial."""

    metrics: dict
    scores: np.ndarray  # (m,)  s z of the forget set
    target_scores: np.ndarray  # (m,)  the same of a retrained model of the method's family


def study_trial(settings, kind, trial):
    """{method: Outcome}; the request is the same in all trials, only the initial weights differ.

    Either family is retrained twice. One model is the target of all its methods; the other stands
    in the table, to show what a perfect answer looks like.
    """
    forget, retain, test = make_request(kind, settings)
    rng = np.random.RandomState([settings.seed, list(REQUESTS).index(kind), trial])
    sign = 2 * forget.y - 1
    outcomes = {}
    for retrain, (train, methods) in FAMILIES.items():
        original = train(together(forget, retain), settings, rng)
        request = original, retain, forget, settings
        target = methods[retrain](*request, rng)
        for name, method in methods.items():
            with np.errstate(all="ignore"):  # a very large multiplier: the weights overflow
                model, seconds = timed(method, *request, rng=rng, repeats=1)
            metrics = {
                "seconds": seconds,
                "test_accuracy": model.score(*test),
                "retain_accuracy": model.score(*retain),
                "forget_accuracy": model.score(*forget),
                "gap_to_retrained": gap_to_retrained(model, target, forget.X),
            }
            logits, target_logits = (m.decision_function(forget.X) for m in (model, target))
            outcomes[name] = Outcome(metrics, sign * logits, sign * target_logits)
    return outcomes


# ---- Trials in parallel: nothing about unlearning here ------------------------------------------


def with_progress(items, total, what, quiet):
    """Hand out items one by one; tell on stderr how many are done and how long the rest takes."""
    start = time.perf_counter()
    for done, item in enumerate(items, 1):
        yield item
        left = (time.perf_counter() - start) / done * (total - done)
        if not quiet and sys.stderr:
            end = "\r" if done < total else "\n"  # what is said next covers this line
            with suppress(OSError):  # nobody listens: no reason to stop
                words = f"{what}{done} of {total} done, {left:.0f} s left  "
                print(words, end=end, file=sys.stderr, flush=True)


@contextmanager
def shielded_from_ctrl_c():
    """Processes that are started here do not hear of Ctrl-C while they start (not on Windows)."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_worker():
    """One thread for linear algebra; only the parent handles Ctrl-C, and workers end with it."""
    threadpool_limits(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=lambda: os._exit(parent_process().join() or 1), daemon=True).start()


def in_parallel(function, cases, quiet):
    """[function(*case) for case in cases], on all cores; raises BrokenExecutor if a worker dies."""
    others = set(active_children())
    n_workers = min(cpu_count(), len(cases))
    # The workers run this file by its path, and not the script or notebook that called it
    this = sys.modules[__name__]
    as_main = patch.dict(sys.modules, __main__=this)
    by_path = patch.object(this, "__spec__", None, create=True)
    with ProcessPoolExecutor(n_workers, get_context("spawn"), start_worker) as workers:
        try:
            with as_main, by_path, shielded_from_ctrl_c():
                jobs = [workers.submit(function, *case) for case in cases]
            for job in with_progress(as_completed(jobs), len(jobs), "", quiet):
                job.result()  # raises what went wrong
            return [job.result() for job in jobs]
        except BaseException:  # do not wait for the rest
            for worker in set(active_children()) - others:
                worker.kill()
            raise


# ---- What was found -----------------------------------------------------------------------------


def run_trials(settings):
    """{kind of request: [{method: Outcome} of each trial]}."""
    cases = [(settings, kind, trial) for kind in REQUESTS for trial in range(settings.trials)]
    outcomes = in_parallel(study_trial, cases, settings.quiet)
    starts = range(0, len(outcomes), settings.trials)
    return {kind: outcomes[k : k + settings.trials] for kind, k in zip(REQUESTS, starts)}


def estimates(groups):
    """Mean of each column over the trials of a group, and its 95 % interval (Student's t).

    It takes the trials for independent, although the attack on one has learnt from others.
    """
    mean, n = groups.mean(), groups.size().iloc[0]
    half = stdtrit(n - 1, 0.975) * groups.std() / np.sqrt(n)
    ends = {"": mean, "_low": mean - half, "_high": mean + half}
    return pd.DataFrame({name + end: ends[end][name] for name in mean for end in ends})


def attack_all(trials):
    """The study's table: a row per request and method, means and intervals, attack_limit."""
    rows, limits = [], {}
    for kind, outcomes in trials.items():
        for retrain, (_, methods) in FAMILIES.items():
            for name in methods:
                scores = np.array([trial[name].scores for trial in outcomes])  # (T, m)
                target_scores = np.array([trial[name].target_scores for trial in outcomes])
                if name == retrain:  # the first of its family
                    with np.errstate(invalid="ignore"):  # where even retraining diverges
                        limit = chance_limit(scores, target_scores)
                limits[kind, name] = limit
                right = np.ones(len(outcomes))  # a model that has diverged is always told apart
                if np.isfinite(scores).all():
                    right = lira_attack(scores, target_scores)
                for trial, attack_accuracy in zip(outcomes, right):
                    metrics = {**trial[name].metrics, "attack_accuracy": attack_accuracy}
                    rows.append({"request": kind, "method": name, **metrics})
    table = estimates(pd.DataFrame(rows).groupby(["request", "method"], sort=False))
    return table.assign(attack_limit=pd.Series(limits))


def optima_apart(outcomes):
    """Largest difference of a logit of the forget set between two Newton runs of a request."""
    ends = [trial[name] for trial in outcomes for name in (NEWTON_RETRAIN, NEWTON)]
    logits = [scores for end in ends for scores in (end.scores, end.target_scores)]
    return np.ptp(logits, axis=0).max()


def told_apart(table):
    """Is a method attacked more successfully than the limit of its family allows? By row."""
    return ~(table.attack_accuracy <= table.attack_limit)  # without a limit, nobody passes


def summarise(table):
    """A row per method, the worst of the requests: told apart, points of test accuracy lost, cost.

    A method passes if it is not told apart and loses at most half a point against its retraining.
    """
    family = {name: retrain for retrain, (_, methods) in FAMILIES.items() for name in methods}
    target = [table.test_accuracy[kind, family[name]] for kind, name in table.index]
    lost = 100 * (target - table.test_accuracy) + 0.0  # + 0: no "-0.0"
    columns = {"told": told_apart(table), "points_lost": lost}
    columns["diverged"] = table.gap_to_retrained.isna()
    for retrain in FAMILIES:
        columns[retrain] = table.seconds / table.seconds.xs(retrain, level="method")
    worst = pd.DataFrame(columns).groupby("method", sort=False).max()
    return worst.assign(passes=~worst.told & (worst.points_lost <= 0.5))


def headline(table):
    """The study's finding, computed: which methods pass on all requests?"""
    worst = summarise(table).drop(list(FAMILIES))
    passing = list(worst.index[worst.passes])
    if len(passing) == 1:
        return f"Only {passing[0]} passes for a retrained model on all 3 requests"
    many = f"{len(passing) or 'None'} of {len(worst)} methods"
    return f"{many} pass for a retrained model on all 3 requests"


SAME_OPTIMUM = 1e-6  # models that differ by less, in p or in logits, are one up to rounding
TOLD = "#8a8a8a"
TINT = {"color": GREEN, "alpha": 0.13, "linewidth": 0}  # passes for a retrained model
PLACES = {  # method -> its row in the panels; the headings of the families stand in between
    **{name: row for row, name in enumerate(BY_DESCENT, 1)},
    **{name: row for row, name in enumerate(BY_NEWTON, len(BY_DESCENT) + 2)},
}


def add_methods_panel(fig, left, bottom, width, tinted):
    """A panel with a row per method; tinted: which ones pass."""
    ax = add_panel(fig, left, bottom, width, 3.2)
    ax.set(ylim=(max(PLACES.values()) + 0.6, -0.6), yticks=[])
    ax.spines["left"].set_visible(False)
    for name in tinted:
        ax.axhspan(PLACES[name] - 0.45, PLACES[name] + 0.45, **TINT)
    return ax


def draw_names(ax, title):
    """The names of the methods, by family."""
    ax.axis("off")
    ax.set_title(title)
    words = {"by descent": PLACES[RETRAIN], "by Newton, to the optimum": PLACES[NEWTON_RETRAIN]}
    for family, row in words.items():
        ax.text(1, row - 1, family, ha="right", va="center", color=GREY, style="italic")
    for name, row in PLACES.items():
        ax.text(1, row, name, ha="right", va="center")


def draw_verdicts(ax, values, told):
    """A mark for each method at its value in %: a cross if told apart, else a dot."""
    for name, value in values.items():
        color = GREEN if name in FAMILIES else color_of(name, TOLD if told[name] else INK)
        look = {"marker": "X" if told[name] else "o", "color": color}
        ax.scatter(value, PLACES[name], s=75, edgecolor="white", linewidth=0.8, zorder=3, **look)


def draw_attack(ax, part):
    """Attack accuracy of each method on one request, and the limit of each family."""
    for retrain, (_, methods) in FAMILIES.items():
        rows = [PLACES[name] for name in methods]
        top, bottom, limit = min(rows) - 0.45, max(rows) + 0.45, 100 * part.attack_limit[retrain]
        ax.fill_between([limit, 107], top, bottom, color=BAND, linewidth=0, zorder=0)
        ax.text(limit, top - 0.05, f"limit {limit:.0f}", color=GREY, va="bottom")
        ax.vlines(50, top, bottom, **HALF_LINE)
    ends = 100 * part[["attack_accuracy_low", "attack_accuracy_high"]].clip(0, 1)
    for (name, value), (low, high) in zip(part.attack_accuracy.items(), ends.to_numpy()):
        color = GREEN if name in FAMILIES else INK
        ax.plot([low, high], [PLACES[name]] * 2, color=color, linewidth=2)
        to_the_left = value > 0.8 or value == part.attack_limit[name]  # not into the grey
        place = {"x": low - 3, "ha": "right"} if to_the_left else {"x": high + 3}
        ax.text(**place, y=PLACES[name], s=f"{100 * value:.0f}", size=12, va="center")
    draw_verdicts(ax, 100 * part.attack_accuracy, told_apart(part))
    ax.set(xlim=(33, 107), xticks=[50, 75, 100])


def draw_costs(ax, worst):
    """Two columns of numbers: time relative to a retrain, and points of test accuracy lost."""
    ax.axis("off")
    for column, right, heading, unit in (
        (worst[RETRAIN].map("{:.2f}".format), 0.46, "time", "/descent"),
        (worst.points_lost.map("{:.1f}".format), 1, "test", "pts lost"),
    ):
        ax.text(right, -1.55, heading, weight="bold", size=12.5, ha="right")
        ax.text(right, -0.75, unit, color=GREY, ha="right")
        for name, words in column.items():
            color = GREEN if name in FAMILIES else color_of(name)
            ax.text(right, PLACES[name], words, size=12, color=color, ha="right", va="center")


@in_our_style
def study_figure(table):
    """Above, how well each method is told apart, its cost and its harm; below, forget accuracy."""
    worst = summarise(table)
    fig = new_page(
        9.5,
        headline(table),
        "How often an attack tells a model from one retrained in the same way; 50 is a coin toss.",
        "✖: more often than chance allows (grey area). Bars: 95 % intervals. Right: worst request.",
    )
    tinted = [name for name in PLACES if name not in FAMILIES and worst.passes[name]]
    draw_names(add_methods_panel(fig, 0.12, 4.72, 2.1, []), "Attack accuracy, %")
    draw_names(add_methods_panel(fig, 0.12, 0.45, 2.1, []), "Forget accuracy, %")
    for left, (kind, who) in zip((2.35, 4.4, 6.45), REQUESTS.items()):
        part = table.loc[kind]
        above = add_methods_panel(fig, left, 4.72, 1.85, tinted)
        above.set_title(kind, y=1.07)
        above.text(0, 1.01, who, color=GREY, transform=above.transAxes)
        draw_attack(above, part)
        below = add_methods_panel(fig, left, 0.45, 1.85, tinted)
        right = 100 * part.forget_accuracy[RETRAIN]
        below.set_title(f"target {right:.0f} %", color=GREEN, weight="normal")
        below.axvline(right, **TARGET_LINE)
        draw_verdicts(below, 100 * part.forget_accuracy, told_apart(part))
        below.set(xlim=(-6, 106), xticks=[0, 50, 100])
    draw_costs(add_methods_panel(fig, 8.4, 4.72, 1.5, []), worst)
    note = "✖ on the line:\non target, and\nyet told apart"
    fig.text(0.845, 0.33, note, color=GREY, va="top")
    return fig


STUDY_LEGEND = """
random, clinic, atypical
          attack accuracy in %: how often U-LiRA tells the model from one that
          was retrained in the same way. 50 is a coin toss; * told apart: more
          often than chance allows (limits below)
/descent  time relative to retraining by descent, /Newton: by Newton
lost      points of test accuracy lost against retraining in the same way
          (these three: the worst of the requests)
"""


def study_report(table, apart):
    """The study in words; apart: how far apart the Newton optima of each request lie."""
    told, worst = told_apart(table), summarise(table)
    shown = pd.DataFrame(index=list(METHODS))
    for kind in REQUESTS:
        stars = told[kind].map({True: "*", False: " "})
        shown[kind] = (100 * table.attack_accuracy[kind]).map("{:.0f}".format) + stars
    shown["/descent"] = worst[RETRAIN].map("{:.2f}".format)
    shown["/Newton"] = worst[NEWTON_RETRAIN].map("{:.2f}".format)
    shown["lost"] = worst.points_lost.map("{:.1f}".format)
    lines = [headline(table) + ".", "", shown.to_string(), STUDY_LEGEND]
    for kind in REQUESTS:
        limits = 100 * table.attack_limit[kind]
        forget = 100 * table.forget_accuracy[kind]
        optima = "one optimum" if apart[kind] < SAME_OPTIMUM else "several optima"
        words = (
            f"{kind}: limits {limits[RETRAIN]:.0f} % by descent, {limits[NEWTON_RETRAIN]:.0f} % by "
            f"Newton. Forget accuracy {forget[NAIVE]:.0f} % before, {forget[RETRAIN]:.0f} % "
            f"retrained, {forget[ASCENT]:.0f} % after ascent. The logits of all Newton runs, from "
            f"old and new weights, lie within {apart[kind]:.0e}: {optima}."
        )
        lines.append(fill(words, 79, subsequent_indent="  "))
    diverged = worst.index[worst.diverged]
    lines += [f"{name} diverged: its weights are not finite." for name in diverged]
    return "\n".join(lines)


# A well-trained network. Ascent keeps the demo's step: learning rate x multiplier = 0.1 x 0.7
STUDY = {"learning_rate": 1.0, "epochs": 400, "multiplier": 0.07}


def study(settings):
    """Three requests, all methods, many trials, an attack: one figure."""
    for kind in REQUESTS:
        make_request(kind, settings)  # raises SettingsError before the work
    trials = run_trials(settings)
    table = attack_all(trials)
    apart = {kind: optima_apart(outcomes) for kind, outcomes in trials.items()}
    return Result(study_report(table, apart), table, {"method_study.png": study_figure(table)})


# =================================================================================================
# Part 3: One by one
# =================================================================================================
# Requests seldom come in batches of 80. Here the same patients ask one after the other, and each
# request is answered before the next one arrives.

# ---- SISA: an ensemble built for deletion -------------------------------------------------------

SHARDS = 5
SLICES = 2


class Sisa:
    """SHARDS networks, each trained on rows of its own; the prediction is the mean probability.

    The rows of a shard come in SLICES. Stage r trains on slices 1 to r, and every stage is kept: to
    delete a row, its shard goes back to the last stage that has not seen it. Exact, given the
    shards, if requests do not react to the model (Gupta et al. 2021, arXiv 2106.04378).
    Bourtoule et al., IEEE S&P 2021, arXiv 1912.03817.
    """

    def __init__(self, rows, settings, rng):
        """Train on rows; the shards are drawn at random."""
        self.rows = rows
        shards = np.array_split(rng.permutation(len(rows.y)), SHARDS)
        self.slices = [np.array_split(shard, SLICES) for shard in shards]  # positions in rows
        chosen = settings.hidden, settings.learning_rate
        blank = TwoLayerMLP(*chosen, epochs=0, **OBJECTIVE, random_state=rng)
        self.stages = [[copy.deepcopy(blank.fit(*rows))] for _ in shards]  # initial weights only
        # A row takes part in (SLICES + 1) / 2 stages, on average: seen as often as without slices
        self.epochs = round(2 * settings.epochs / (SLICES + 1))
        self.train()

    def train(self):
        """Train the stages that are missing; returns self."""
        for stages, slices in zip(self.stages, self.slices):
            for stage in range(len(stages), SLICES + 1):
                rows = self.rows.at(np.concatenate(slices[:stage]))
                stages.append(descend(copy.deepcopy(stages[-1]), rows, self.epochs))
        return self

    def remove(self, position, rng):
        """Forget the row at a position, in place; returns self. Draws nothing from rng."""
        for stages, slices in zip(self.stages, self.slices):
            for stage, positions in enumerate(slices):
                if position in positions:
                    slices[stage] = positions[positions != position]
                    del stages[stage + 1 :]
        return self.train()

    def retrained(self):
        """Another ensemble, trained from the same initial weights on what is left of the shards."""
        fresh = copy.copy(self)
        fresh.stages = [stages[:1] for stages in self.stages]
        return fresh.train()

    def predict_proba(self, X):
        """Mean probabilities (n, 2) of the networks' two classes for X (n, d)."""
        return np.mean([stages[-1].predict_proba(X) for stages in self.stages], axis=0)


# ---- Certified removal, from a model that is convex ---------------------------------------------


class CertifiedHead:
    """Logistic regression w (h,) on random tanh features, trained with noise b.

        w = argmin sum log(1 + exp(-s x.w)) + LAMBDA n / 2 |w|^2 + b.w,    b ~ N(0, SIGMA^2 I)

    A removal is one Newton step. It leaves a gradient that retraining would not have; spent is an
    upper bound on its norm. While spent <= allowed, the noise hides what is left of the removed
    rows from an observer of w. Then w is (EPSILON, DELTA)-certified: whatever is observed of it is
    as likely as with a retrained head, up to a factor of exp(EPSILON) either way, except with
    probability DELTA. Guo, Goldstein, Hannun, van der Maaten, ICML 2020, arXiv 1911.03030.
    """

    EPSILON, DELTA, LAMBDA = 1.0, 1e-4, 1e-2
    SIGMA = 1.5  # by trial: enough noise for 80 random requests; more costs accuracy
    GAMMA = 1 / (6 * np.sqrt(3))  # largest third derivative of log(1 + exp); the paper takes 1/4
    allowed = SIGMA * EPSILON / np.sqrt(2 * np.log(1.5 / DELTA))

    def __init__(self, rows, settings, rng):
        """Draw the features and the noise, and train on rows."""
        self.W1 = rng.randn(rows.X.shape[1], settings.hidden)
        self.b1 = rng.randn(settings.hidden)
        self.fit(rows, self.SIGMA * rng.randn(settings.hidden))

    def signed(self, rows):
        """s x (n, h): features of norm at most 1, times s = 2y - 1."""
        features = np.tanh(rows.X @ self.W1 + self.b1) / np.sqrt(len(self.b1))
        return (2 * rows.y - 1)[:, None] * features

    def slope(self, V):
        """Gradient (h,) of the objective without noise on signed rows V (n, h)."""
        return self.LAMBDA * len(V) * self.w - expit(-V @ self.w) @ V

    def curvature(self, V):
        """Hessian (h, h) of the objective on signed rows V (n, h)."""
        p = expit(V @ self.w)
        return (V.T * (p * (1 - p))) @ V + self.LAMBDA * len(V) * np.eye(len(self.w))

    def residual(self, rows):
        """Norm of the gradient that is left: 0 if trained on exactly these rows."""
        return np.linalg.norm(self.slope(self.signed(rows)) + self.b)

    def fit(self, rows, b):
        """Train with noise b (h,): 10 Newton steps suffice, and spent starts at what is left."""
        V = self.signed(rows)
        self.b = b
        self.was_retrained = False
        self.w = np.zeros(len(b))
        for _ in range(10):
            self.w = self.w - np.linalg.solve(self.curvature(V), self.slope(V) + b)
        self.spent = self.residual(rows)
        return self

    def remove(self, leavers, left, rng):
        """A new head: one Newton step, or retrained with fresh noise if it would cost too much."""
        head = copy.copy(self)
        V = head.signed(left)
        # On all rows, noise included, the slope was 0 or nearly so: taking the leavers' part away
        # leaves its negative
        step = np.linalg.solve(head.curvature(V), head.slope(head.signed(leavers)))
        cost = self.GAMMA * np.linalg.norm(V, 2) * np.linalg.norm(step) * np.linalg.norm(V @ step)
        if head.spent + cost > head.allowed:
            head.fit(left, self.SIGMA * rng.randn(len(self.w)))
            head.was_retrained = True
            return head
        head.was_retrained = False
        head.w = head.w + step
        head.spent = head.spent + cost
        return head

    def retrained(self, left):
        """A head trained on the rows that are left, with the same noise."""
        return copy.copy(self).fit(left, self.b)

    def predict_proba(self, X):
        """Probabilities (n, 2) of healthy and diabetic for X (n, d)."""
        z = self.signed(Rows(X, np.ones(len(X)))) @ self.w
        return np.column_stack([expit(-z), expit(z)])


# ---- Five strategies ----------------------------------------------------------------------------

SISA, HEAD = "SISA", "Certified Head"
STRATEGIES = RETRAIN, SISA, NEWTON_RETRAIN, NEWTON, HEAD


def one_by_one(kind, settings):
    """The patients of a request ask one after the other; returns (ledger, heads).

    The ledger has a row per patient and strategy. Each gap is to a model of the strategy's own kind
    that is retrained at this very request, Newton's to Newton Retrain; those of SISA and of Full
    Retrain are measured at every fourth request only. heads are the versions of the certified head,
    the one before all requests first.
    """
    forget, retain, _ = make_request(kind, settings)
    everybody = together(forget, retain)
    rng = np.random.RandomState([settings.seed, list(REQUESTS).index(kind), 0])
    models = {
        SISA: Sisa(everybody, settings, rng),
        NEWTON: train_by_newton(everybody, settings, rng),
        HEAD: CertifiedHead(everybody, settings, rng),
    }
    heads = [models[HEAD]]
    ledger = []
    n = len(forget.y)
    for asked in with_progress(range(1, n + 1), n, f"{kind}: ", settings.quiet):
        leaver = everybody.at(slice(asked - 1, asked))
        left = everybody.at(slice(asked, None))
        answers = {
            RETRAIN: (train_by_descent, left, settings),
            SISA: (models[SISA].remove, asked - 1),
            NEWTON_RETRAIN: (train_by_newton, left, settings),
            NEWTON: (newton, models[NEWTON], left, leaver, settings),
            HEAD: (models[HEAD].remove, leaver, left),
        }
        seconds = {}
        for name, (answer, *arguments) in answers.items():
            models[name], seconds[name] = timed(answer, *arguments, rng=rng, repeats=1)
        targets = {
            NEWTON_RETRAIN: train_by_newton(left, settings, rng),
            NEWTON: models[NEWTON_RETRAIN],
            HEAD: models[HEAD].retrained(left),
        }
        if asked % 4 == 0:  # these take long
            targets[RETRAIN] = train_by_descent(left, settings, rng)
            targets[SISA] = models[SISA].retrained()
        head = models[HEAD]
        heads.append(head)
        for name in STRATEGIES:
            row = {"request": kind, "method": name, "asked": asked, "seconds": seconds[name]}
            if name in targets:
                gap = gap_to_retrained(models[name], targets[name], forget.X[:asked])
                row["gap_to_retrained"] = gap
            ledger.append(row)
        budget = {"spent": head.spent, "allowed": head.allowed, "residual": head.residual(left)}
        ledger[-1].update(budget, retrained=int(head.was_retrained))
    return pd.DataFrame(ledger).set_index(["request", "method", "asked"]), heads


# ---- What a removal gives away ------------------------------------------------------------------
# The certificate is about an observer of one version of the head. Here somebody holds two, from
# before and after a removal, and 400 public patients. Both versions have the same noise, so their
# difference has none. Bertran et al. 2024, arXiv 2405.20272.

N_PUBLIC = 400
COLUMNS = ["age", "glucose"]


def possible_patients():
    """Whoever may have left: a DataFrame with a row for each age, glucose and diagnosis."""
    axes = {"age": np.arange(0, 101), "glucose": np.arange(40, 221), "diagnosis": list(GROUPS)}
    return pd.MultiIndex.from_product(axes.values(), names=axes).to_frame(index=False)


def recover(before, after, n_left, public, n_leavers):
    """The n_leavers of possible_patients() whose removal explains best how a head has changed.

    A removal moves w by H^-1 (LAMBDA w + slope of the leaver's loss), as in CertifiedHead.remove.
    The observer lacks H, but public rows have nearly the same. Of several leavers, the best is
    chosen one after the other, and then twice more, given the others. Reads no row of the hospital.
    """
    candidates = possible_patients()
    V = before.signed(standardised(candidates))  # (N, h)
    slopes = -expit(-V @ before.w)[:, None] * V  # (N, h)
    H = before.curvature(before.signed(public)) * n_left / len(public.y)
    moves = np.linalg.solve(H, (before.LAMBDA * before.w + slopes).T).T  # (N, h)
    unexplained = after.w - before.w
    chosen = []
    for _ in range(3 * n_leavers):
        if len(chosen) == n_leavers:
            unexplained = unexplained + moves[chosen.pop(0)]
        chosen.append(np.argmin(((moves - unexplained) ** 2).sum(axis=1)))
        unexplained = unexplained - moves[chosen[-1]]
    return candidates.iloc[chosen]


def in_units(rows):
    """A DataFrame of patients from standardised rows."""
    patients = pd.DataFrame(rows.X * POPULATION[1] + POPULATION[0], columns=COLUMNS)
    return patients.assign(diagnosis=np.take(list(GROUPS), rows.y))


def matched(patients, leavers):
    """The patients, in the order in which they fit the leavers best."""
    distances = cdist(*(standardised(each).X for each in (leavers, patients)))
    return patients.iloc[linear_sum_assignment(distances)[1]].reset_index(drop=True)


def observe(kind, settings, heads, n_leavers):
    """Who left and who was recovered, a DataFrame: n_leavers at a time, from two versions each.

    Columns: age, glucose, diagnosis of the leavers, and the same with "found_" and "guess_" before
    them. One leaver is guessed to be the mean of their kind, several to be random ones of their
    kind. Requests that the head answered by retraining with fresh noise are left out.
    """
    forget, retain, _ = make_request(kind, settings)
    rng = np.random.RandomState([settings.seed, 99])  # the observer's own
    public = standardised(make_patients(N_PUBLIC, rng))
    pool = in_units(draw_leavers(kind, N_PUBLIC, rng))
    n_train = len(forget.y) + len(retain.y)
    batches = []
    for start in range(0, len(forget.y) - n_leavers + 1, n_leavers):
        end = start + n_leavers
        if any(head.was_retrained for head in heads[start + 1 : end + 1]):
            continue
        leavers = in_units(forget.at(slice(start, end)))
        found = recover(heads[start], heads[end], n_train - end, public, n_leavers)
        guess = pool.sample(n_leavers, random_state=rng)
        if n_leavers == 1:
            guess = guess.assign(**pool[COLUMNS].mean())
        others = {"found_": matched(found, leavers), "guess_": matched(guess, leavers)}
        columns = [patients.add_prefix(prefix) for prefix, patients in others.items()]
        batches.append(pd.concat([leavers, *columns], axis=1))
    names = [
        prefix + name for prefix in ("", "found_", "guess_") for name in (*COLUMNS, "diagnosis")
    ]
    nobody = pd.DataFrame(columns=names, dtype=float)  # where the noise is always fresh
    return pd.concat(batches, ignore_index=True) if batches else nobody


def median_error(observed, prefix, column):
    """Median error of what was found ("found_") or guessed ("guess_"): years, or mg/dL."""
    return np.abs(observed[column] - observed[prefix + column]).median()


# ---- The experiment -----------------------------------------------------------------------------

PURPLE = "#5b2a86"  # the certificate
SEQUENCES = RANDOM, CLINIC
BATCH = 5  # removals from one version that is shown to the next, as a remedy


def relative_times(ledger):
    """Total seconds of each strategy by request, relative to a retrain by descent each time."""
    totals = ledger.groupby(["request", "method"], sort=False).seconds.sum()
    return totals / totals.xs(RETRAIN, level="method")


def in_another_optimum(ledger):
    """At how many requests a model ended in another optimum than Newton Retrain, by method."""
    another = ledger.gap_to_retrained > SAME_OPTIMUM
    return another.groupby(["request", "method"], sort=False).sum()


def mean_gaps(ledger):
    """Mean gap of each strategy by request."""
    return ledger.groupby(["request", "method"], sort=False).gap_to_retrained.mean()


def keeps_to_its_own(ledger):
    """The kinds of request on which Newton ends in other optima than retraining.

    There, its mean gap to Newton Retrain is more than twice that of a second Newton Retrain, a sign
    that it is not distributed like retraining: by the definition, it has then not forgotten.
    """
    gaps = mean_gaps(ledger)
    allowed = (2 * gaps).clip(lower=SAME_OPTIMUM)
    return [kind for kind in SEQUENCES if gaps[kind, NEWTON] > allowed[kind, NEWTON_RETRAIN]]


def sequential_headline(ledger):
    """The finding, computed."""
    times = 100 * relative_times(ledger).xs(NEWTON, level="method")
    words = f"Newton takes {times.min():.0f} to {times.max():.0f} % of a retrain's time"
    elsewhere = " and ".join(keeps_to_its_own(ledger))
    return words + (f", but ends elsewhere on {elsewhere}" if elsewhere else "")


def revealed(observed):
    """What two versions of the head show of the random leavers, computed."""
    years, guess = (median_error(observed[RANDOM, 1], p, "age") for p in ("found_", "guess_"))
    verb = "reveal" if years < guess / 3 else "do not reveal"
    return f"Two versions of the head {verb} random leavers."


def count_requests(ax):
    """The horizontal axis of what happens at each request."""
    ax.set_xlabel("requests answered", size=11, labelpad=1)
    ax.locator_params(axis="x", integer=True)


def draw_gaps(ax, gaps, others):
    """Gaps at each request: Newton's, and those between two models retrained in the same way."""
    gaps = gaps.clip(lower=1e-17).unstack("method")
    ax.plot(gaps[RETRAIN].dropna(), color=GREEN)
    look = {"linestyle": "", "marker": "o", "markersize": 4.5}
    ax.plot(gaps[NEWTON], **look, color=INK)
    ax.plot(gaps[NEWTON_RETRAIN], **look, color=GREEN, fillstyle="none")
    words = f"another optimum: {NEWTON} at {others[NEWTON]} of {len(gaps)},\n"
    words += f"2nd {NEWTON_RETRAIN} at {others[NEWTON_RETRAIN]}"
    ax.text(0.96, 0.5, words, transform=ax.transAxes, ha="right")
    ax.set(yscale="log", ylim=(1e-18, 3), yticks=[1e-15, 1e-10, 1e-5, 1])
    count_requests(ax)


def draw_budget(ax, head):
    """The certificate's budget at each request, in %, and where the head had to be retrained."""
    forced = head.index[head.retrained == 1]
    for asked in np.split(head.index, np.searchsorted(head.index, forced)):  # from start to start
        ax.plot(100 * (head.spent / head.allowed)[asked], color=PURPLE, linewidth=2)
        ax.plot(100 * (head.residual / head.allowed)[asked], color=GREY)
    ax.scatter(forced, np.full(len(forced), 108), marker="v", color=INK, s=35)
    ax.axhline(100, color=INK, linewidth=0.8)
    ax.set_title(f"▼ forced retrains: {len(forced)}", loc="right", weight="normal", size=12)
    ax.set(ylim=(0, 115), yticks=[0, 50, 100])
    count_requests(ax)


def draw_recovered(ax, people, column, unit, limits):
    """True against recovered values of those who left one by one."""
    ax.plot(limits, limits, color=GREY, linestyle=":")
    look = {"s": 18, "color": PURPLE, "alpha": 0.7, "linewidth": 0}
    ax.scatter(people[column], people["found_" + column], **look)
    error, guess = (median_error(people, prefix, column) for prefix in ("found_", "guess_"))
    found, guessed = f"{error:.1f} {unit} off", f"guess: {guess:.1f} off"
    if people.empty:
        found, guessed = "nobody", ""
    ax.set_title(f"{column}: {found}", weight="normal", size=11)
    ax.text(0.98, 0.04, guessed, color=GREY, ha="right", transform=ax.transAxes)
    ax.set(xlim=limits, ylim=limits, xticks=limits, yticks=limits)
    ax.set_xlabel("true", labelpad=-12)
    ax.set_ylabel("recovered", labelpad=-16)


@in_our_style
def sequential_figure(ledger, observed):
    """For either request: total time, gap and budget at each request, and who was recovered."""
    times, others = relative_times(ledger), in_another_optimum(ledger)
    fig = new_page(
        11,
        sequential_headline(ledger),
        "Times: relative to retraining by descent at each request. Newton continues from its last "
        "weights.",
        f"{revealed(observed)} The certificate covers one version only.",
    )
    rows = {  # heading of a row of panels -> where it stands, in inches
        "Total time": 9.42,
        "Gap to a model retrained at each request": 7.32,
        "Certificate's budget, %": 4.97,
        "Who left: recovered from two versions of the head and public data": 2.57,
    }
    for heading, bottom in rows.items():
        fig.text(0.012, bottom / 11, heading, weight="bold", size=12.5)
    for kind, left in zip(SEQUENCES, (1.5, 6.0)):
        ax = add_panel(fig, left, 7.95, 3.85, 1.3)
        ax.set_title(kind, y=1.17)
        ax.text(0, 1.04, REQUESTS[kind], color=GREY, transform=ax.transAxes)
        draw_bars(ax, times[kind], "{:.2f}", "")
        if kind != SEQUENCES[0]:
            ax.set_yticks([])
        draw_gaps(
            add_panel(fig, left, 5.6, 3.85, 1.55), ledger.gap_to_retrained[kind], others[kind]
        )
        draw_budget(add_panel(fig, left, 3.25, 3.85, 1.55), ledger.loc[kind].loc[HEAD])
        people = observed[kind, 1]
        ax = add_panel(fig, left, 0.45, 1.6, 1.75)
        draw_recovered(ax, people, "age", "years", (0, 100))
        ax = add_panel(fig, left + 2.2, 0.45, 1.6, 1.75)
        draw_recovered(ax, people, "glucose", "mg/dL", (40, 220))
    key = ((5.5, 7.32, f"2nd {RETRAIN}", GREEN), (6.95, 7.32, f"● {NEWTON}", INK))
    key += ((8, 7.32, f"○ 2nd {NEWTON_RETRAIN}", GREEN), (1.6, 4.38, "allowed", INK))
    key += ((2.35, 4.38, "spent: a bound", PURPLE), (3.7, 4.38, "true residual", GREY))
    for left, bottom, words, color in key:
        fig.text(left / 10, bottom / 11, words, color=color)
    return fig


SEQUENTIAL_LEGEND = """
time  of all requests, relative to a retrain by descent at each of them
gap   mean |p - p'| on all who have asked so far, p' of a model of its kind that
      is retrained at this request (for Newton: Newton Retrain; for the head:
      with the same noise); the largest
"""


def sequential_report(ledger, observed):
    """One by one in words."""
    times, others, means = relative_times(ledger), in_another_optimum(ledger), mean_gaps(ledger)
    gaps = ledger.groupby(["request", "method"], sort=False).gap_to_retrained.max()
    shown = pd.DataFrame(index=list(STRATEGIES))
    for kind in SEQUENCES:
        shown[f"{kind}: time"] = times[kind].map("{:.2f}".format)
        shown[f"{kind}: gap"] = gaps[kind].map("{:.0e}".format)
    finding = fill(f"{sequential_headline(ledger)}. {revealed(observed)}", 79)
    lines = [finding, "", shown.to_string(), SEQUENTIAL_LEGEND]
    for kind in SEQUENCES:
        head = ledger.loc[kind].loc[HEAD]
        forced = int(head.retrained.sum())
        bound = (head.residual / head.spent)[head.retrained == 0].max()
        words = (
            f"{kind}: Newton ends in another optimum than Newton Retrain at "
            f"{others[kind, NEWTON]} of {len(head)} requests, a second Newton Retrain at "
            f"{others[kind, NEWTON_RETRAIN]} (mean gaps {means[kind, NEWTON]:.0e} and "
            f"{means[kind, NEWTON_RETRAIN]:.0e}). The head certifies {len(head) - forced} "
            f"removals; forced retrains: {forced}"
        )
        if forced < len(head):
            words += f"; the true residual is at most {100 * bound:.0f} % of the bound"
        lines.append(fill(words + ".", 79))
        for n_leavers, when in ((1, "one by one"), (BATCH, f"in batches of {BATCH}")):
            people = observed[kind, n_leavers]
            right = (people.diagnosis == people.found_diagnosis).sum()
            errors = [median_error(people, p, c) for p in ("found_", "guess_") for c in COLUMNS]
            words = f"Recovered {when}: nobody, as the noise was always fresh."
            if not people.empty:
                words = (
                    f"Recovered {when}: median error {errors[0]:.1f} years and {errors[1]:.1f} "
                    f"mg/dL, diagnosis right in {right} of {len(people)}; guessing: "
                    f"{errors[2]:.1f} and {errors[3]:.1f}."
                )
            lines.append(fill(words, 79, initial_indent="  ", subsequent_indent="  "))
    return "\n".join(lines)


def sequential(settings):
    """The same patients ask one by one; five strategies, and what a removal gives away."""
    for kind in SEQUENCES:
        make_request(kind, settings)  # raises SettingsError before the work
    cases = [(kind, settings) for kind in SEQUENCES]
    ledgers, heads = zip(*in_parallel(one_by_one, cases, quiet=True))  # they tell themselves
    ledger = pd.concat(ledgers)
    observed = {}
    for kind, versions in zip(SEQUENCES, heads):
        for n_leavers in (1, BATCH):
            observed[kind, n_leavers] = observe(kind, settings, versions, n_leavers)
    figures = {"sequential_requests.png": sequential_figure(ledger, observed)}
    return Result(sequential_report(ledger, observed), ledger, figures)


# =================================================================================================
# Part 4: The command line. Nothing about unlearning from here on
# =================================================================================================


class Experiment(NamedTuple):
    """What the command line knows of an experiment."""

    run: Callable
    meaning: str  # for --help
    defaults: dict  # settings that have another default here
    unused: tuple = ("trials",)  # settings that have no effect here


UNUSED_ONE_BY_ONE = "trials", "unlearn_epochs", "multiplier"
EXPERIMENTS = {
    "demo": Experiment(demo, "80 of 400 patients ask to be forgotten", {}),
    "basic": Experiment(basic, "the same on abstract data", BASIC),
    "clinical": Experiment(clinical, "the same on real patients", REAL, ("trials", "patients")),
    "sweep": Experiment(sweep, "the dose of ascent, and other seeds", {}),
    "study": Experiment(study, "what really forgets: nine methods, an attack", STUDY, ()),
    "sequential": Experiment(
        sequential, "one by one; what removals give away", STUDY, UNUSED_ONE_BY_ONE
    ),
}


def make_parser():
    """The command line; every field of Settings is a flag."""
    meanings = [f"  {name:12}{each.meaning}" for name, each in EXPERIMENTS.items()]
    parser = argparse.ArgumentParser(
        prog="machine_unlearning.py",
        usage="%(prog)s [experiment] [flags]",
        description="\n".join(["What does it take to make a trained model forget?\n", *meanings]),
        epilog="example: machine_unlearning.py study --seed 7 --csv study.csv",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,  # only what was given is returned
        allow_abbrev=False,
    )
    parser.add_argument("experiment", nargs="?", default="demo", help="the demo if not given")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    groups = {}
    for option in fields(Settings):
        title = option.metadata["group"]
        groups[title] = groups.get(title) or parser.add_argument_group(title)
        words, name = option.metadata["meaning"], option.name
        if option.type is bool:
            groups[title].add_argument(flag(name), action="store_true", help=words)
            continue
        words += f" (default {option.default or 'none'}"
        for experiment, known in EXPERIMENTS.items():
            if name in known.defaults and name not in known.unused:
                words += f", {experiment} {known.defaults[name]}"
        metavar = {"output": "DIR", "csv": "FILE"}.get(name, "N")
        groups[title].add_argument(flag(name), type=option.type, metavar=metavar, help=words + ")")
    return parser


def parse_arguments(argv):
    """(experiment, settings) from a command line. Raises SettingsError for what it cannot mean."""
    parser = make_parser()

    def refuse(message):
        raise SettingsError(f"{message}; see --help")

    parser.error = refuse
    given, unknown = parser.parse_known_args(argv)
    given = vars(given)
    name = given.pop("experiment")
    if name not in EXPERIMENTS:
        unknown.insert(0, name)
    if unknown:
        word = min(unknown, key=lambda word: not word.startswith("-"))  # a flag, not its value
        flags = [flag(option.name) for option in fields(Settings)]
        near = get_close_matches(word, {*flags, *EXPERIMENTS} - {word}, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        refuse(f"not understood: {word}{hint}")
    experiment = EXPERIMENTS[name]
    for option in experiment.unused:
        if option in given:
            refuse(f"{flag(option)} has no effect on {name}")
    return name, Settings(**{**experiment.defaults, **given})


def is_special(path):
    """A device or a pipe such as /dev/stdout: it is written to, never replaced."""
    is_stream = path.as_posix().startswith(("/dev/std", "/dev/fd/"))  # perhaps into a file
    return is_stream or (path.exists() and not path.is_file())


@contextmanager
def blaming(path):
    """An OSError in here is said of path, whichever temporary file it was that failed."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None


def check_writable(path):
    """Raise OSError unless a file can be put at path; its folders need not exist yet."""
    if path.is_dir():
        raise OSError(f"{path} is a folder, not a file")
    if not is_special(path):
        existing = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
        if not existing.is_dir():
            raise OSError(f"{existing.name} is a file, not a folder")
        with blaming(existing):
            TemporaryFile(dir=existing).close()


def write(path, save):
    """Call save(path) so that the file at path is whole, or as it was before."""
    if is_special(path):
        return save(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=".", suffix=".part") as folder:
        beside = Path(folder, path.name)
        save(beside)
        return beside.replace(path)  # a symlink is replaced, not followed


def run(name, settings):
    """Run an experiment, print what it found, write its files. Raises OSError, SettingsError."""
    csv = Path(settings.csv)
    if csv.suffix.lower() == ".png":
        raise SettingsError(f"--csv {csv}: a table is no picture; give it another name")
    check_writable(Path(settings.output, "figure"))  # fail now, not after the work
    if settings.csv:
        check_writable(csv)

    def say(*lines):
        if not settings.quiet:
            with suppress(OSError):  # a reader who has seen enough: the files are still written
                print(*lines, sep="\n", flush=True)

    text, table, figures = EXPERIMENTS[name].run(settings)
    say(text, "")  # before anything can go wrong with a file
    look = {"format": "png", "dpi": settings.dpi, "metadata": {"Software": None}}  # no version
    look["pil_kwargs"] = {"compress_level": 1}  # a tenth larger, but three times as fast
    saves = {
        Path(settings.output, file): partial(figure.savefig, **look)
        for file, figure in figures.items()
    }
    if settings.csv:
        saves[csv] = partial(table.to_csv, mode="a")  # /dev/stdout may be a file, half full
    with style.context("default"):  # how a figure is saved is not for a matplotlibrc to say
        for path, save in saves.items():
            with blaming(path):
                write(path, save)
            if not is_special(path):  # where it would land in the table
                say(f"wrote {path}")


def fail(message, status):
    """Say in one line what went wrong; returns the exit status."""
    print(f"machine_unlearning.py: error: {message}", file=sys.stderr)
    return status


def main(argv=None):
    """Run the command line; returns the exit status.

    0: done; 1: failed; 2: wrong usage; 130: Ctrl-C; 143: terminated.
    """
    try:
        run(*parse_arguments(argv))
        return 0
    except SystemExit as stop:  # unless terminated, --help or --version has printed its text
        return fail("terminated", 143) if stop.code == 143 else stop.code
    except SettingsError as error:
        return fail(error, 2)
    except BrokenPipeError:  # whoever reads --help, or the CSV, has read enough
        return 0
    except OSError as error:
        what = f"cannot write {error.filename}: {error.strerror}" if error.filename else error
        return fail(what, 1)
    except (BrokenExecutor, MemoryError):
        return fail("out of memory, or a worker process died", 1)
    except KeyboardInterrupt:
        return fail("interrupted", 130)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if hasattr(sys.stdout, "reconfigure"):  # an IDE's output may have less to offer
        sys.stdout.reconfigure(errors="backslashreplace")  # a console may lack a folder's letters
    status = main()
    try:
        print(end="", flush=True)
    except OSError as error:  # nobody reads, or the disk is full
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if status == 0 and not isinstance(error, BrokenPipeError):
            status = fail(f"cannot print: {error}", 1)
    if "IPython" not in sys.modules:  # the end of this process, not of somebody's notebook
        gc.freeze()  # no last garbage collection: it would take a tenth of the whole run
    sys.exit(status)
