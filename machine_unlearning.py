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

It is a lecture with an appendix. Every part uses only what stands above it; to understand the
demo, read to the end of Part 1 and stop.

    Part 1  The demo              a network, three answers to a request, how close each one comes
    Part 2  What really forgets   better answers, and attacks that put all of them to the test
    Part 3  One by one            patients who ask one after the other; what a removal gives away
    Part 4  Figures and pages     how the results are shown; no result is computed here
    Part 5  Running it            experiments by name, flags, files

    forget, retain, test   sets of rows: to be deleted (80), kept (320), never trained on (100)
    original        the network trained on the forget and the retain set
    retrained       the network trained on the retain set alone, from scratch. This is what
                    forgetting should lead to: ITS value is the target of every metric
    naive deletion  the rows are deleted, the weights stay as they are
    ascent          gradient ascent on the loss of the forget set; "Approximate Unlearning" in
                    the figures, NegGrad in papers
    gap             mean |p - p_retrained| over the forget set, p the probability of "Diabetic"

    X (n, d) features, y (n,) labels 0 and 1, A (n, h) hidden layer, z (n,) logits, p (n,)
    probabilities of n rows; P weights in all

The demo finds           test accuracy    forget accuracy
    Original Model               94.0%              95.0%
    Full Retrain                 94.0%              95.0%
    Naive Deletion               94.0%              95.0%
    Approximate Unlearning       71.0%              70.0%
"""

import copy
import time
from dataclasses import dataclass, field, fields, replace
from itertools import chain, product
from numbers import Integral
from typing import NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from joblib.parallel import get_active_backend
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.special import expit as sigmoid  # 1 / (1 + exp(-z)), without overflow
from scipy.special import stdtrit
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.covariance import ledoit_wolf
from sklearn.datasets import load_breast_cancer, make_classification
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state, check_scalar
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

__version__ = "3.0.0"

# Only Parts 4 and 5 use what follows: drawing, the command line, files
import argparse
import gc
import os
import platform
import re
import sys
from concurrent.futures import BrokenExecutor
from difflib import get_close_matches
from functools import partial
from io import BytesIO
from pathlib import Path
from textwrap import fill

if __name__ == "__main__":  # a notebook hands down its backend, which may not be installed here
    os.environ.pop("MPLBACKEND", None)
import seaborn as sns
import sklearn
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.lines import Line2D


class SettingsError(ValueError):
    """A setting is out of range, or several settings do not fit together."""


def check_range(name, value, low, high):
    """Raise SettingsError unless low <= value <= high; NaN is in no range."""
    if not low <= value <= high:
        flag = "--" + name.replace("_", "-")
        raise SettingsError(f"{flag} {value}: the allowed range is {low:,} to {high:,}")


def setting(default, meaning, *limits):
    """A field of Settings: its default, what it means and, for a number, its range."""
    return field(default=default, metadata={"meaning": meaning, "limits": limits})


@dataclass(frozen=True)
class Settings:
    """All settings. Each field is also a flag; the defaults give the classic result."""

    patients: int = setting(500, "patients; four fifths of them are trained on", 10, 10**6)
    forget: int = setting(80, "patients who ask to be forgotten", 1, 10**6)
    trials: int = setting(64, "trials of the study", 4, 10**4)
    seed: int = setting(42, "seed of all data and models", 0, 2**32 - 1)
    hidden: int = setting(20, "hidden units: room for a curved boundary", 1, 10**3)
    learning_rate: float = setting(0.1, "step size of gradient descent", 0, 10**3)
    epochs: int = setting(200, "epochs of training", 0, 10**7)  # by then it is accurate
    # The classic setting of ascent. Less changes little, more swaps the classes: see the sweep
    unlearn_epochs: int = setting(145, "epochs of gradient ascent", 0, 10**7)
    multiplier: float = setting(0.7, "step size of ascent, in learning rates", 0, 10**6)
    output: str = setting("output", "folder for the figures")
    csv: str = setting("", "also write the table to this CSV file")
    dpi: int = setting(150, "resolution of the figures in dots per inch", 10, 1200)
    quiet: bool = setting(False, "print nothing but errors")

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
    groups = []
    for (diagnosis, columns), n in zip(GROUPS.items(), (n_healthy, n_patients - n_healthy)):
        drawn = {name: rng.normal(*column, n) for name, column in columns.items()}
        groups.append(pd.DataFrame({**drawn, "diagnosis": diagnosis}))
    patients = pd.concat(groups, ignore_index=True)
    patients.insert(0, "patient_id", 1000 + np.arange(n_patients))
    return patients


def labels(patients):
    """1 for every diabetic, 0 for every healthy patient."""
    return (patients["diagnosis"] == "Diabetic").to_numpy(int)


def hospital(settings, rng):
    """The demo's cohort: features in real units, labels, what labels 0 and 1 mean, a scaler."""
    patients = make_patients(settings.patients, rng).set_index("patient_id")
    features = patients[["age", "glucose"]].set_axis(["Age (years)", "Glucose (mg/dL)"], axis=1)
    return features, labels(patients), tuple(GROUPS), StandardScaler()


class Rows(NamedTuple):
    """Rows of a data set: features X (n, d) as the network sees them, labels y (n,)."""

    X: np.ndarray
    y: np.ndarray

    def at(self, which):
        """Some of them; which is an array of positions, a mask or a slice."""
        return Rows(self.X[which], self.y[which])


class Data(NamedTuple):
    """A training set, the request to forget some of its rows, and a test set."""

    features: pd.DataFrame  # the training rows in real units, columns named as on the axes
    classes: tuple  # what label 0 and label 1 mean
    scaler: StandardScaler  # features -> X
    asked: np.ndarray  # positions of the forget set in the training set, in the order of asking
    train: Rows
    forget: Rows
    retain: Rows
    test: Rows


def tidy(features, y, classes):
    """Anybody's features (n, d) and labels as a DataFrame of floats and an array (n,) of 0 and 1.

    Labels go by position. Words are the names in classes, of two numbers the larger is class 1.
    Raises ValueError that names the column or the labels at fault.
    """
    if np.ndim(y) != 1:
        raise ValueError(f"the labels must be of shape (n,), they are of shape {np.shape(y)}")
    features, y = pd.DataFrame(features).apply(pd.to_numeric, errors="coerce"), pd.Series(y)
    features.columns = features.columns.astype(str)
    for name, column in [*features.items(), ("labels", y)]:
        if column.isna().any():
            raise ValueError(f"missing values in {name}, or words among numbers")
    if len(y) != len(features):
        raise ValueError(f"there are {len(y)} labels for {len(features)} rows of features")
    found = sorted(y.unique().tolist(), key=str)
    words = [isinstance(label, str) for label in found]
    if len(found) != 2 or (any(words) and set(found) != set(classes)):
        raise ValueError(f"the labels must be of two classes, {classes}; they are {found}")
    second = classes[1] if any(words) else max(found)
    return features.astype(float), (y == second).to_numpy(int)


def split(cohort, settings, rng):
    """Divide a cohort into 80% training and 20% test rows, and draw who asks to be forgotten.

    The scaler is fitted on everybody, so it remembers those who leave, as scalers usually do.
    Raises ValueError for data that tidy cannot read, and SettingsError if the retain set would lack
    a class.
    """
    *rows, classes, scaler = cohort
    features, y = tidy(*rows, classes)
    everybody = Rows(np.asarray(scaler.fit_transform(features)), y)
    train, test = train_test_split(np.arange(len(y)), test_size=0.2, random_state=settings.seed)
    order = rng.permutation(len(train))  # who would ask first, second, ...
    asked, kept = order[: settings.forget], np.sort(order[settings.forget :])
    if len(np.unique(y[train[kept]])) < 2:
        reason = f"both classes must remain among the {len(train)} training rows"
        raise SettingsError(f"--forget {settings.forget}: {reason}")
    sets = (everybody.at(which) for which in (train, train[asked], train[kept], test))
    return Data(features.iloc[train], classes, scaler, asked, *sets)


# ---- The network --------------------------------------------------------------------------------


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
    Learned: classes_ (2,) and weights_ (P,), which holds W1, b1, W2 and b2 one after the other.
    """

    BLOCK = 2048  # rows at a time: their hidden layer (2048 x 20 floats) fits a core's cache

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

    def unpack(self):
        """W1 (d, h), b1 (h,), W2 (h,), b2 (1,): views into weights_; writing there changes it."""
        d, h, w = self.n_features_in_, self.hidden_size, self.weights_
        return w[: d * h].reshape(d, h), w[d * h : -h - 1], w[-h - 1 : -1], w[-1:]

    def forward(self, X):
        """Hidden layer A (n, h) and logits z (n,) of X (n, d)."""
        W1, b1, W2, b2 = self.unpack()
        A = np.tanh(X @ W1 + b1)
        return A, A @ W2 + b2

    def losses(self, X, y):
        """Cross-entropy (n,) of each row: -log p where y is 1, -log(1 - p) where y is 0.

        Computed as log(1 + exp(-z)) and log(1 + exp(z)): finite even where p is rounded to 0 or 1.
        """
        _, z = self.forward(X)
        return np.logaddexp(0, np.where(y == 1, -z, z))

    def objective(self, X, y):
        """Mean cross-entropy of X (n, d), y (n,), plus the penalty: what training lowers."""
        return self.losses(X, y).mean() + self.l2 / 2 * self.weights_ @ self.weights_

    def backpropagate(self, X, y):
        """Gradient (P,) of the rows' summed losses with respect to all weights: the chain rule."""
        _, _, W2, _ = self.unpack()
        A, z = self.forward(X)
        dz = sigmoid(z) - y  # (n,)  with respect to the logit: p - y
        dH = (1 - A**2) * W2 * dz[:, None]  # (n, h)  the hidden units' inputs; tanh' = 1 - tanh^2
        dW1 = X.T @ dH  # (d, h)
        db1 = np.ones(len(X)) @ dH  # (h,)  the sum over rows, faster than dH.sum(axis=0)
        dW2 = A.T @ dz  # (h,)
        db2 = dz.sum(keepdims=True)  # (1,)
        return np.concatenate([dW1.ravel(), db1, dW2, db2])

    def gradient(self, X, y):
        """Gradient (P,) of the loss with respect to all weights.

        A sum over rows, taken block by block, since a block's hidden layer stays in the cache.
        """
        blocks = (slice(i, i + self.BLOCK) for i in range(0, len(X), self.BLOCK))
        total = sum(self.backpropagate(X[block], y[block]) for block in blocks)
        return total / len(X) + self.l2 * self.weights_

    def step(self, X, y, rate):
        """One epoch: move all weights against the gradient, downhill; uphill if rate < 0."""
        self.weights_ -= rate * self.gradient(X, y)

    def descend(self, X, y, epochs):
        """Continue training, in place, without checks; returns self."""
        for _ in range(epochs):
            self.step(X, y, self.learning_rate)
        return self

    def fit(self, X, y):
        """Train from scratch on X (n, d), y (n,) by full-batch gradient descent; returns self.

        Raises ValueError for NaN, infinity, unequal lengths, or not exactly two classes, and
        TypeError or ValueError if hidden_size or epochs is not a whole number, or too small.
        """
        check_scalar(self.hidden_size, "hidden_size", Integral, min_val=1)
        check_scalar(self.epochs, "epochs", Integral, min_val=0)
        X, y = self._check(X, y, first=True)
        rng = check_random_state(self.random_state)
        self.weights_ = np.zeros((X.shape[1] + 2) * self.hidden_size + 1)
        W1, _, W2, _ = self.unpack()
        W1[:] = self.init_scale * rng.randn(*W1.shape)
        W2[:] = self.init_scale * rng.randn(*W2.shape)
        return self.descend(X, y, self.epochs)

    def unlearn(self, X_forget, y_forget, epochs=145, multiplier=0.7):
        """Gradient ascent on the loss of X_forget (m, d), y_forget (m,); in place, returns self.

        Each step is multiplier times as long as one of descent. Nothing holds the predictions for
        other rows in place. Known as NegGrad: Golatkar et al., CVPR 2020, arXiv 1911.04933. Raises
        NotFittedError before fit, ValueError for NaN, infinity, unequal lengths and labels that fit
        has not seen, and TypeError or ValueError if epochs is not a whole number, or negative.
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
        """Logits (n,) of X (n, d); NotFittedError before fit, ValueError for NaN or another d."""
        check_is_fitted(self)
        _, z = self.forward(validate_data(self, X, dtype=np.float64, reset=False))
        return z

    def predict_proba(self, X):
        """Probabilities (n, 2) of classes_[0] and classes_[1] for X (n, d)."""
        z = self.decision_function(X)
        return np.column_stack([sigmoid(-z), sigmoid(z)])

    def predict(self, X):
        """The more probable class (n,) of each row of X (n, d)."""
        z = self.decision_function(X)
        return self.classes_[(z > 0).astype(int)]

    # What scikit-learn expects of a classifier, so that clone, score and pipelines work

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def _check(self, X, y, first=False):
        """X and y as numbers; the first time, learn what classes_ there are."""
        if not first:
            check_is_fitted(self)
        X, y = validate_data(self, X, y, dtype=np.float64, reset=first)
        if first:
            check_classification_targets(y)
            if (kind := type_of_target(y)) != "binary":
                message = "Only binary classification is supported. The type of the target is"
                raise ValueError(f"{message} {kind}.")
            self.classes_ = np.unique(y)
            if len(self.classes_) < 2:
                raise ValueError(f"y must hold two classes, it holds one class: {self.classes_[0]}")
        elif not np.isin(y, self.classes_).all():
            raise ValueError(f"y may hold {self.classes_} only, it holds {np.unique(y)}")
        return X, (y == self.classes_[1]).astype(int)


# ---- Three answers to a request -----------------------------------------------------------------
# A method gets the original network, the retain and the forget rows, the settings and a
# RandomState. It returns a new network; its inputs are not modified, only the RandomState advances.
# clone(original) keeps the settings and drops the weights: a model that has never seen anybody.
# copy.deepcopy(original) keeps both: whatever was learned from the forget set is still in it.


def full_retrain(original, retain, forget, settings, rng):
    """The same training from new random weights, on the retain set alone."""
    return clone(original).set_params(random_state=rng).fit(*retain)


def naive_deletion(original, retain, forget, settings, rng):
    """The rows are deleted, the weights stay."""
    return copy.deepcopy(original)


def gradient_ascent(original, retain, forget, settings, rng):
    """Climb back up the loss of the forget set, from where training ended."""
    return copy.deepcopy(original).unlearn(*forget, settings.unlearn_epochs, settings.multiplier)


ORIGINAL, RETRAIN, NAIVE = "Original Model", "Full Retrain", "Naive Deletion"
ASCENT = "Approximate Unlearning"  # the name in the demo that this one started from
ANSWERS = {RETRAIN: full_retrain, NAIVE: naive_deletion, ASCENT: gradient_ascent}


# ---- How close does each one come? --------------------------------------------------------------


def gap_to_retrained(model, retrained, X, over=np.mean):
    """Mean |p - p_retrained| over the rows of X (n, d): 0 where the two agree on all of them."""
    difference = model.predict_proba(X) - retrained.predict_proba(X)
    return over(np.abs(difference[:, 1]))


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
    before, after = original.predict(data.forget.X), model.predict(data.forget.X)
    return {
        "test_accuracy": model.score(*data.test),
        "retain_accuracy": model.score(*data.retain),
        "forget_accuracy": model.score(*data.forget),
        "predictions_changed": (after != before).sum(),  # on the forget set
        "gap_to_retrained": gap_to_retrained(model, retrained, data.forget.X),
        "attack_auc": attack_auc(model, data.forget, data.test),
        "newly_wrong": ((after != before) & (before == data.forget.y)).sum(),
        "worst_patient": gap_to_retrained(model, retrained, data.forget.X, over=np.max),
    }


def timed(function, *arguments, rng, repeats=3):
    """(result, median seconds) of function(*arguments, rng), always from the same state of rng."""
    copies, seconds = [copy.deepcopy(rng) for _ in range(repeats - 1)], []
    for state in [*copies, rng]:  # rng itself advances once
        start = time.perf_counter()
        result = function(*arguments, state)
        seconds.append(time.perf_counter() - start)
    return result, np.median(seconds)


class Comparison(NamedTuple):
    """All that is known about one request; every figure and every sentence is made from it."""

    data: Data
    models: dict  # name -> network
    results: pd.DataFrame  # a row per model: seconds, and the metrics of evaluate
    others: list  # ten more retrained networks; only their initial weights differ


def compare(make_cohort, settings, repeats=3, n_others=10):
    """Train the original, answer the request in each way, measure; returns a Comparison."""
    rng = np.random.RandomState(settings.seed)
    data = split(make_cohort(settings, rng), settings, rng)
    untrained = TwoLayerMLP(settings.hidden, settings.learning_rate, settings.epochs)
    on_all_rows = untrained, data.train, None, settings
    original, seconds = timed(full_retrain, *on_all_rows, rng=rng, repeats=repeats)
    models, times = {ORIGINAL: original}, [seconds]
    request = original, data.retain, data.forget, settings
    for name, method in ANSWERS.items():
        models[name], seconds = timed(method, *request, rng=rng, repeats=repeats)
        times.append(seconds)
    retrained = models[RETRAIN]
    metrics = {name: evaluate(model, original, retrained, data) for name, model in models.items()}
    results = pd.DataFrame.from_dict(metrics, orient="index").rename_axis("method")
    results.insert(0, "seconds", times)
    others = [full_retrain(*request, rng) for _ in range(n_others)]
    return Comparison(data, models, results, others)


def gaps_to_others(model, comparison):
    """The gaps of a model to the other retrained networks.

    Those of the retrained model itself are the yardstick: no answer needs to come closer.
    """
    X = comparison.data.forget.X
    return np.array([gap_to_retrained(model, other, X) for other in comparison.others])


def check_answers(comparison):
    """Four questions: a DataFrame with value, low, high and passed (low <= value <= high)."""
    data, models, results, _ = comparison
    gaps, target = results.gap_to_retrained, results.test_accuracy[RETRAIN]
    # Both models are tested on the same rows, so only rows on which they disagree count. Two
    # standard errors of the difference, after McNemar (Psychometrika 12, 1947).
    disagree = models[ASCENT].predict(data.test.X) != models[RETRAIN].predict(data.test.X)
    worst = max(target - 2 * np.sqrt(disagree.sum()) / len(disagree), 0)
    farthest = gaps_to_others(models[RETRAIN], comparison).max()
    checks = {
        "useful": (results.test_accuracy[ASCENT], worst, 1),  # as accurate as the target
        "close": (gaps[ASCENT], 0, max(gaps[NAIVE] / 2, farthest)),  # at least half of the way
        "classic": (results.forget_accuracy[ASCENT], 0.4, 0.6),
        "naive": (gaps[NAIVE], 0, farthest),  # no farther than other retrained models
    }
    table = pd.DataFrame.from_dict(checks, orient="index", columns=["value", "low", "high"])
    return table.assign(passed=table.value.between(table.low, table.high))


# You have seen the whole demo. What follows repeats it on other rows, and with other settings.

# ---- Other rows and settings: abstract data, real patients, other doses, other seeds ------------


def abstract(settings, rng):
    """A cohort: two overlapping clouds, one label in ten drawn at random; features as they are."""
    X, y = make_classification(
        settings.patients, n_features=2, n_redundant=0, n_clusters_per_class=1, flip_y=0.1,
        random_state=settings.seed,
    )  # fmt: skip
    features = pd.DataFrame(X, columns=["Feature 1", "Feature 2"])
    return features, y, ("Class 0", "Class 1"), StandardScaler(with_mean=False, with_std=False)


def wisconsin(settings, rng):
    """569 real patients with a breast mass: two features of its cell nuclei, and the diagnosis.

    Street, Wolberg, Mangasarian 1993, UCI repository; scikit-learn's own copy. Neither gives units.
    """
    bunch = load_breast_cancer(as_frame=True)
    features = bunch.data[["worst area", "worst smoothness"]].rename(columns=str.capitalize)
    y = (bunch.target == 0).to_numpy(int)  # there, 0 is malignant
    return features, y, ("Benign", "Malignant"), StandardScaler()


EPOCHS = 25, 50, 75, 100, 145, 200, 300
MULTIPLIERS = 0.1, 0.3, 0.5, 0.7, 1.0, 1.5
SEEDS = range(30)


def try_doses(comparison, settings):
    """The metrics of ascent (a DataFrame) for every pair of epochs and multiplier.

    dose is epochs x multiplier, the sum of all step sizes in learning rates. gap_to_others is the
    mean gap to ten other retrained models, so that it does not hang on the one that was drawn.
    """
    data, models, _, _ = comparison
    epochs = sorted({*EPOCHS, settings.unlearn_epochs})
    multipliers = sorted({*MULTIPLIERS, settings.multiplier})
    rows = []
    for steps, multiplier in product(epochs, multipliers):
        chosen = replace(settings, unlearn_epochs=steps, multiplier=multiplier)
        model = gradient_ascent(models[ORIGINAL], data.retain, data.forget, chosen, None)
        metrics = evaluate(model, models[ORIGINAL], models[RETRAIN], data)
        metrics["dose"] = steps * multiplier
        metrics["gap_to_others"] = gaps_to_others(model, comparison).mean()
        rows.append(metrics)
    index = pd.MultiIndex.from_product([epochs, multipliers], names=["epochs", "multiplier"])
    return pd.DataFrame(rows, index)


def try_seeds(settings):
    """Forget accuracies (a DataFrame): a row per seed, a column per model."""
    accuracies = {}
    for seed in SEEDS:
        comparison = compare(hospital, replace(settings, seed=seed), repeats=1, n_others=0)
        accuracies[seed] = comparison.results.forget_accuracy
    return pd.DataFrame(accuracies).T.drop(columns=NAIVE)


# =================================================================================================
# Part 2: What really forgets
# =================================================================================================
# Definition: a method has forgotten the rows F of a training set D if its model is distributed as
# a model trained on D without F (Ginart et al., NeurIPS 2019, arXiv 1907.05012). D and F are fixed.
# What varies is the algorithm's own randomness: here, the initial weights and nothing else.

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
    to_healthy, to_diabetic = cdist((np.array(means) - POPULATION[0]) / POPULATION[1], rows.X)
    typical = np.where(rows.y == 1, to_healthy - to_diabetic, to_diabetic - to_healthy)
    return rows.at(np.argsort(typical)[: n // 4])


def make_request(kind, settings):
    """(forget, retain, test) of a kind in REQUESTS; the same in all trials.

    Raises SettingsError if a request or the retain set would be too small.
    """
    check_range("patients", settings.patients, 40, 10**6)
    n_train = settings.patients * 4 // 5
    check_range("forget", settings.forget, 8, n_train - 20)  # some must ask, and some remain
    rng = np.random.RandomState([settings.seed, list(REQUESTS).index(kind)])
    forget = draw_leavers(kind, settings.forget, rng)
    test = standardised(make_patients(1000, rng))
    retain = standardised(make_patients(n_train - settings.forget, rng))
    return forget, retain, test


# ---- Better answers, by gradient descent --------------------------------------------------------
# All models of this part have one objective, the mean cross-entropy + l2 / 2 |all weights|^2. With
# l2 = 0.01 it nearly always has one optimum for the requests above (116 of 120 that were tried, 40
# seeds); with 0.003 it has several. They are trained better than the demo's; ascent keeps the
# demo's step: learning rate x multiplier = 0.1 x 0.7.

STUDY = {"learning_rate": 1.0, "epochs": 400, "multiplier": 0.07}  # settings of Parts 2 and 3


def new_network(settings, rng, epochs):
    """A network of Parts 2 and 3, untrained."""
    chosen = settings.hidden, settings.learning_rate, epochs
    return TwoLayerMLP(*chosen, init_scale=0.5, l2=0.01, random_state=rng)


def train_by_descent(rows, settings, rng):
    """An original that keeps a copy of itself half-way through training, from which to rewind."""
    half = settings.epochs // 2
    checkpoint = new_network(settings, rng, half).fit(*rows)
    model = copy.deepcopy(checkpoint).set_params(epochs=settings.epochs)
    model.checkpoint_ = checkpoint
    return model.descend(*rows, settings.epochs - half)


def neg_grad_plus(original, retain, forget, settings, rng):
    """Descend 0.95 L(retain) - 0.05 L(forget): ascent, held in place by the retain set.

    Kurmanji et al., NeurIPS 2023, arXiv 2302.09880. The weight 0.05 is a compromise: with less, 40
    epochs are too few where a clinic leaves, and more does harm elsewhere.
    """
    model = copy.deepcopy(original)
    for _ in range(40):
        down, up = model.gradient(*retain), model.gradient(*forget)
        model.weights_ -= model.learning_rate * (0.95 * down - 0.05 * up)
    return model


def fine_tune(original, retain, forget, settings, rng):
    """Continue training on the retain set alone, 50 epochs, and hope that the rest fades."""
    return copy.deepcopy(original).descend(*retain, 50)


def rewind(original, retain, forget, settings, rng):
    """Go back to the checkpoint and replay the second half of training on the retain set alone.

    The first half has seen the forget set. Mu & Klabjan, NeurIPS 2025, arXiv 2409.09778, add noise
    and prove a certificate; as run here it has none.
    """
    checkpoint = original.checkpoint_
    return copy.deepcopy(checkpoint).descend(*retain, original.epochs - checkpoint.epochs)


# ---- Newton: to the optimum itself --------------------------------------------------------------
# Where an objective has one optimum, every path to it ends at the model that retraining would give,
# whatever the weights to start from. Newton's method gets there in 3 to 27 steps. At these optima
# the 20 hidden units are copies of one (as long as the clinic's rows are in, of three): with this
# penalty, the data ask for no more.


def gradient_and_hessian(model, X, y):
    """Gradient g (P,) and Hessian H (P, P) of the loss with respect to all weights.

    With J (n, P) the gradients of the logits and e = (p - y) / n: g = J'e, and H = J'diag(p (1 - p)
    / n) J plus the second derivatives of the logits themselves, weighted by e, which link the
    weights of one hidden unit only; plus the penalty's l2 w and l2 I.
    """
    n, h = len(X), model.hidden_size
    _, _, W2, _ = model.unpack()
    inputs = np.column_stack([X, np.ones(n)])  # (n, d + 1)  the 1 is for the biases
    A, z = model.forward(X)
    p = sigmoid(z)
    e = (p - y) / n  # (n,)
    slope = 1 - A**2  # (n, h)  tanh'
    inner = inputs[:, :, None] * (slope * W2)[:, None]  # (n, d + 1, h)  dz / dW1 and dz / db1
    J = np.column_stack([inner.reshape(n, -1), A, np.ones(n)])  # (n, P)
    g = e @ J + model.l2 * model.weights_
    weighted = np.sqrt(p * (1 - p) / n)[:, None] * J
    H = weighted.T @ weighted + model.l2 * np.eye(J.shape[1])
    squares = (inputs[:, :, None] * inputs[:, None]).reshape(n, -1)  # (n, (d + 1)^2)
    within = squares.T @ (e[:, None] * -2 * A * slope * W2)  # tanh'' = -2 A (1 - A^2)
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
    """Newton's method from the model's weights to an optimum; in place, returns the model.

    At an optimum the gradient is 0 and H is positive definite. Elsewhere H may curve downwards, and
    a step may lead up: then damping is added, which turns and shortens the step. If none helps, the
    weights stay where they are.
    """
    value = model.objective(*rows)
    for _ in range(200):  # 3 to 27 are needed; this ends a search that finds no optimum
        g, H = gradient_and_hessian(model, *rows)
        if np.linalg.norm(g) <= 1e-10:  # so near, a last step leaves nothing but rounding
            if (step := newton_step(g, H)) is not None:
                # The last digits would tell from where the weights have come, and so would the
                # signs: with tanh, those of all weights of a unit can be flipped
                model.weights_ = np.round(model.weights_ - step, 10)
                W1, b1, W2, _ = model.unpack()
                for weights in (W1, b1, W2):
                    weights *= np.where(W2 < 0, -1, 1)
                break
            _, directions = np.linalg.eigh(H)  # a saddle: leave it where it curves down the most
            g = 1e-4 * directions[:, 0]
        accepted, damping = model.weights_, 0.0
        while damping < 1e6:  # a step of a millionth of the gradient is none
            step = newton_step(g, H, damping)
            damping = 3 * damping + 1e-4  # 0 first, then from the size of the smallest eigenvalues
            if step is not None:
                model.weights_ = accepted - step
                new = model.objective(*rows)
                if new <= value + 1e-13:  # a rise by less is rounding
                    value = new
                    break
        else:
            model.weights_ = accepted
            break
    return model


def train_by_newton(rows, settings, rng):
    """New random weights, and from there to the optimum."""
    return go_to_optimum(new_network(settings, rng, epochs=0).fit(*rows), rows)


def newton_retrain(original, retain, forget, settings, rng):
    """To the optimum of the retain set from new random weights."""
    return train_by_newton(retain, settings, rng)


def newton(original, retain, forget, settings, rng):
    """To the optimum from the old weights: if it is the only one, retraining ends there, too."""
    return go_to_optimum(copy.deepcopy(original), retain)


def influence_function(original, retain, forget, settings, rng):
    """One Newton step from the old weights: enough if the objective were quadratic.

    Koh & Liang, ICML 2017, arXiv 1703.04730, who take H of all rows, not of the retain set; for
    networks: Bae et al., NeurIPS 2022, arXiv 2209.05364.
    """
    model = copy.deepcopy(original)
    g, H = gradient_and_hessian(model, *retain)
    model.weights_ -= np.linalg.solve(H, g)
    return model


PLUS, TUNE, REWIND = "Ascent + Descent", "Fine-Tuning", "Rewind"
NEWTON_RETRAIN, NEWTON, INFLUENCE = "Newton Retrain", "Newton", "Influence Function"
BY_DESCENT = {**ANSWERS, PLUS: neg_grad_plus, TUNE: fine_tune, REWIND: rewind}
BY_NEWTON = {NEWTON_RETRAIN: newton_retrain, NEWTON: newton, INFLUENCE: influence_function}
METHODS = {**BY_DESCENT, **BY_NEWTON}
# Each method is judged by retraining with the same optimiser, and starts from such an original
RETRAINING_OF = {name: RETRAIN if name in BY_DESCENT else NEWTON_RETRAIN for name in METHODS}
TRAINING = {RETRAIN: train_by_descent, NEWTON_RETRAIN: train_by_newton}


# ---- Two attacks --------------------------------------------------------------------------------
# An attacker sees models of two kinds, unlearned and retrained, as scores (T, m): signed logits
# s z, s = 2y - 1, of the m forget patients in T trials. Having learned from some trials how the
# kinds differ, it classifies the models of the others; 0.5 is a coin toss. Each attack is repeated
# after the labels have been swapped at random in each trial: what it then scores is chance. labels
# (L, T) of +-1 hold the true labelling first, and -1 where a trial's two models are swapped.

DECIMALS = 4  # of a logit that an attacker sees; see decimals_that_tell
SWAPS = 199  # random labellings
LEVEL = 0.01  # told apart: at most 1 in 100 labellings is attacked as successfully


def differences(unlearned, retrained, decimals):
    """Scores (2, T, m) as differences from the first model, in units of the last decimal.

    Whole numbers: their sums are exact, and a score that never varies is exactly 0.
    """
    scores = np.rint(10.0**decimals * np.stack([unlearned, retrained]))
    return scores - scores[:1, :1]


def lira_attack(unlearned, retrained, labels, decimals=DECIMALS, splits=8):
    """U-LiRA, a likelihood-ratio attack: accuracies (L, T), by labelling and trial.

    For each patient, a Gaussian is fitted to the scores of either kind on one half of the trials,
    and the other half is classified; then the halves change places; for several random splits.
    The verdicts of all patients are averaged. Hayes et al., SaTML 2025, arXiv 2403.01218.
    """
    scores = differences(unlearned, retrained, decimals)
    rng = np.random.RandomState(0)
    right = np.zeros(labels.shape)
    for _ in range(splits):
        half = rng.permutation(labels.shape[1]) < labels.shape[1] // 2
        for fit in (half, ~half):
            # Sums of x and of x^2 over either kind: half of all, plus or minus half the difference
            powers = np.stack([scores[:, fit], scores[:, fit] ** 2])  # (2, 2, T/2, m)
            both = powers.sum(axis=(1, 2))[:, None] / 2
            apart = labels[:, fit] @ (powers[:, 0] - powers[:, 1]) / 2  # (2, L, m)
            sums, squares = np.stack([both + apart, both - apart], axis=1)  # (2, L, m)
            mean = sums / fit.sum()
            variance = np.maximum(squares - sums * mean, 0) / (fit.sum() - 1) + 1e-4  # not 0
            # Twice the difference of the log-densities: a parabola, by patient and labelling
            parts = -1 / variance, 2 * mean / variance, -(mean**2) / variance - np.log(variance)
            parabola = np.stack([part[0] - part[1] for part in parts]).T  # (m, L, 3)
            x = scores[:, ~fit].reshape(-1, scores.shape[2]).T  # (m, T)
            says = np.sign(parabola @ np.stack([x**2, x, x**0], axis=1)).sum(axis=0)  # (L, T)
            first, second = np.split(says, 2, axis=1)  # of the held-out models of either kind
            right[:, ~fit] += labels[:, ~fit] * (first - second)
    return 0.5 + right / (4 * splits * scores.shape[2])  # undecided is half right


def vector_attack(unlearned, retrained, labels, decimals=DECIMALS, folds=8):
    """Linear discriminant analysis of whole vectors of scores: accuracies (L, T).

    Both models of a trial are in one fold, so the kinds are equally frequent. Then the direction
    S^-1 (difference of means) is the same with S the covariance of all models as within the kinds,
    up to its length, and does not depend on the labels: one S serves all labellings. S is shrunk
    after Ledoit & Wolf, J. Multivariate Analysis 88, 2004.
    """
    scores = differences(unlearned, retrained, decimals)
    right = np.empty(labels.shape)
    for fold in range(folds):
        test = np.arange(labels.shape[1]) % folds == fold
        known = scores[:, ~test]
        X = (scores - known.mean(axis=(0, 1))) / (known.std(axis=(0, 1)) + 1e-5)
        S, _ = ledoit_wolf(np.concatenate(X[:, ~test]), assume_centered=True)
        S += 1e-9 * np.eye(len(S))  # invertible even where nothing varies
        means = labels[:, ~test] @ (X[0, ~test] - X[1, ~test])  # (L, m)  first less second kind
        says = np.sign(X[:, test] @ np.linalg.solve(S, means.T))  # (2, T/8, L)
        right[:, test] = 0.5 + labels[:, test] * (says[0] - says[1]).T / 4
    return right


ATTACKS = {"attack": lira_attack, "vector": vector_attack}


def attack_both(unlearned, retrained, decimals=DECIMALS):
    """{name: (accuracies (T,) by trial, what chance reaches, p-value)} of both attacks.

    p = (1 + swapped labellings attacked as successfully as the true one) / (1 + SWAPS). The limit
    is the accuracy beyond which p <= LEVEL. A model that has diverged is told apart by looking.
    """
    n_trials = len(unlearned)
    if not np.isfinite([unlearned, retrained]).all():
        return {name: (np.ones(n_trials), 0.5, 1 / (1 + SWAPS)) for name in ATTACKS}
    swapped = np.random.RandomState(0).choice([-1.0, 1.0], (SWAPS, n_trials))
    labels = np.concatenate([np.ones((1, n_trials)), swapped])
    found = {}
    for name, attack in ATTACKS.items():
        accuracies = attack(unlearned, retrained, labels, decimals)
        means = accuracies.mean(axis=1).round(12)  # equal ones stay equal
        limit = np.sort(means[1:])[-int(LEVEL * (1 + SWAPS))]
        found[name] = accuracies[0], limit, np.mean(means >= means[0])
    return found


# ---- The study ----------------------------------------------------------------------------------


def study_trial(settings, kind, trial):
    """A dict per method: metrics, scores s z (m,) of the forget set, and those of its target.

    The request is the same in all trials, only the initial weights differ. Either kind of network
    is retrained twice. One model is the target of all methods of its kind; the other stands in the
    table, to show what a perfect answer looks like.
    """
    forget, retain, test = make_request(kind, settings)
    rng = np.random.RandomState([settings.seed, list(REQUESTS).index(kind), trial])
    sign = 2 * forget.y - 1
    records = []
    for retrain, train in TRAINING.items():
        original = train(together(forget, retain), settings, rng)
        request = original, retain, forget, settings
        target = METHODS[retrain](*request, rng)
        for name in (name for name in METHODS if RETRAINING_OF[name] == retrain):
            with np.errstate(all="ignore"):  # a very large multiplier: the weights overflow
                model, seconds = timed(METHODS[name], *request, rng=rng, repeats=1)
            records.append({
                "request": kind,
                "method": name,
                "seconds": seconds,
                "test_accuracy": model.score(*test),
                "retain_accuracy": model.score(*retain),
                "forget_accuracy": model.score(*forget),
                "gap_to_retrained": gap_to_retrained(model, target, forget.X),
                "scores": sign * model.decision_function(forget.X),
                "target_scores": sign * target.decision_function(forget.X),
            })  # fmt: skip
    return records


def on_all_cores(function, cases, quiet):
    """[function(*case) for case in cases], in parallel.

    The number of processes and where they run is joblib's business: with parallel_config, it can
    be a cluster.
    """
    _, n_jobs = get_active_backend()  # what a caller has configured
    parallel = Parallel(n_jobs or -1, verbose=0 if quiet else 1)
    return parallel(delayed(function)(*case) for case in cases)


def run_trials(settings):
    """All trials of all requests: a DataFrame with a row per record of study_trial."""
    cases = list(product([settings], REQUESTS, range(settings.trials)))
    return pd.DataFrame(chain.from_iterable(on_all_cores(study_trial, cases, settings.quiet)))


def estimate(sample):
    """Mean of each column of a sample (T, ...), and its 95% interval (Student's t), by name.

    It takes the trials for independent, although the attack on one has learned from others.
    """
    half = stdtrit(len(sample) - 1, 0.975) * sample.sem()
    ends = {"": sample.mean(), "_low": sample.mean() - half, "_high": sample.mean() + half}
    return {name + end: value[name] for name in sample for end, value in ends.items()}


def attack_all(trials):
    """The study's table: a row per request and method, means and intervals, limits, verdicts."""
    rows = {}
    for key, group in trials.groupby(["request", "method"], sort=False):
        scores = [np.stack(group[column]) for column in ("scores", "target_scores")]
        (one, one_limit, one_p), (whole, whole_limit, whole_p) = attack_both(*scores).values()
        metrics = group.drop(columns=["request", "method", "scores", "target_scores"])
        rows[key] = {
            **estimate(metrics.assign(attack_accuracy=one)), "attack_limit": one_limit,
            **estimate(pd.DataFrame({"vector_accuracy": whole})), "vector_limit": whole_limit,
            "attack_p": one_p, "vector_p": whole_p, "told_apart": min(one_p, whole_p) <= LEVEL,
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["request", "method"])


def optima_apart(trials):
    """Largest difference of a logit of the forget set between Newton runs, by request."""
    newton_runs = trials[trials.method.isin([NEWTON_RETRAIN, NEWTON])]
    return {
        kind: np.ptp(np.stack([*group.scores, *group.target_scores]), axis=0).max()
        for kind, group in newton_runs.groupby("request", sort=False)
    }


def decimals_that_tell(trials):
    """From how many decimals of the logits on an attack tells Newton apart, by request; or None."""
    newton_runs = trials[trials.method == NEWTON]
    first = {}
    for kind, group in newton_runs.groupby("request", sort=False):
        scores = [np.stack(group[column]) for column in ("scores", "target_scores")]
        tells = (d for d in range(DECIMALS, 16)
                 if min(p for _, _, p in attack_both(*scores, d).values()) <= LEVEL)  # fmt: skip
        first[kind] = next(tells, None)
    return first


SAME_OPTIMUM = 1e-6  # models that differ by less, in p or in logits, are one up to rounding


def summarise(table):
    """A row per method, the worst of the requests: told apart, points of test accuracy lost, time.

    All are relative to retraining with the same optimiser.
    """
    same = pd.MultiIndex.from_tuples((kind, RETRAINING_OF[name]) for kind, name in table.index)
    target = table.loc[same].set_axis(table.index)
    columns = {
        "told_apart": table.told_apart,
        "points_lost": 100 * (target.test_accuracy - table.test_accuracy).clip(lower=0),
        "time": table.seconds / target.seconds,
        "diverged": table.gap_to_retrained.isna(),
    }
    return pd.DataFrame(columns).groupby("method", sort=False).max()


# =================================================================================================
# Part 3: One by one
# =================================================================================================
# Requests seldom come in batches of 80. Here the same patients ask one after the other, and each
# request is answered before the next one arrives.

# ---- SISA: an ensemble built for deletion -------------------------------------------------------


class Sisa:
    """SHARDS networks, each trained on rows of its own; the prediction is the mean probability.

    The rows of a shard come in SLICES. Stage r trains on slices 1 to r, and every stage is kept: to
    delete a row, its shard goes back to the last stage that has not seen it. That equals retraining
    on these shards, always. If requests react to the model, the shards are no longer a random
    division of those who are left (Gupta et al., NeurIPS 2021, arXiv 2106.04378). Bourtoule et al.,
    IEEE S&P 2021, arXiv 1912.03817.
    """

    SHARDS, SLICES = 5, 2

    def __init__(self, rows, settings, rng):
        """Train on rows; the shards are drawn at random."""
        self.rows = rows
        shards = np.array_split(rng.permutation(len(rows.y)), self.SHARDS)
        self.slices = [np.array_split(shard, self.SLICES) for shard in shards]  # positions in rows
        blank = new_network(settings, rng, epochs=0)
        self.stages = [[copy.deepcopy(blank.fit(*rows))] for _ in shards]  # initial weights only
        # A row takes part in (SLICES + 1) / 2 stages, on average: seen as often as without slices
        self.epochs = round(2 * settings.epochs / (self.SLICES + 1))
        self.train()

    def train(self):
        """Train the stages that are missing; returns self."""
        for stages, slices in zip(self.stages, self.slices):
            for stage in range(len(stages), self.SLICES + 1):
                rows = self.rows.at(np.concatenate(slices[:stage]))
                epochs = self.epochs if len(rows.y) else 0  # everybody has left: nothing to learn
                stages.append(copy.deepcopy(stages[-1]).descend(*rows, epochs))
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
    probability DELTA. Guo, Goldstein, Hannun, van der Maaten, ICML 2020, arXiv 1911.03030. As with
    every removal that keeps its noise, requests must not have been chosen by looking at w
    (Chourasia & Shah, ICML 2023, arXiv 2210.08911).

    The paper's bound is loose by a factor of two at least: a step leaves the integral over t from 0
    to 1 of (H(w + t step) - H(w)) step, where p (1 - p) of a row x changes by at most GAMMA t
    |x.step|, and t integrates to 1/2.
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

    def gradient(self, V):
        """Gradient (h,) of the objective without noise on signed rows V (n, h)."""
        return self.LAMBDA * len(V) * self.w - sigmoid(-V @ self.w) @ V

    def hessian(self, V):
        """Hessian (h, h) of the objective on signed rows V (n, h)."""
        p = sigmoid(V @ self.w)
        return (V.T * (p * (1 - p))) @ V + self.LAMBDA * len(V) * np.eye(len(self.w))

    def residual(self, rows):
        """Norm of the gradient that is left: 0 if trained on exactly these rows."""
        return np.linalg.norm(self.gradient(self.signed(rows)) + self.b)

    def fit(self, rows, b):
        """Train with noise b (h,): 10 Newton steps suffice, and spent starts at what is left."""
        V = self.signed(rows)
        self.b, self.w, self.was_retrained = b, np.zeros(len(b)), False
        for _ in range(10):
            self.w = self.w - np.linalg.solve(self.hessian(V), self.gradient(V) + b)
        self.spent = self.residual(rows)
        return self

    def remove(self, leavers, left, rng):
        """A new head: one Newton step, or retrained with fresh noise if it would cost too much."""
        head = copy.copy(self)
        V = head.signed(left)
        # On all rows, noise included, the gradient was 0 or nearly so: taking the leavers' part
        # away leaves its negative
        step = np.linalg.solve(head.hessian(V), head.gradient(head.signed(leavers)))
        cost = self.GAMMA * np.linalg.norm(V, 2) * np.linalg.norm(step) * np.linalg.norm(V @ step)
        if head.spent + cost > head.allowed:
            head.fit(left, self.SIGMA * rng.randn(len(self.w)))
            head.was_retrained = True
            return head
        head.w, head.spent, head.was_retrained = head.w + step, head.spent + cost, False
        return head

    def retrained(self, left):
        """A head trained on the rows that are left, with the same noise."""
        return copy.copy(self).fit(left, self.b)

    def predict_proba(self, X):
        """Probabilities (n, 2) of healthy and diabetic for X (n, d)."""
        z = self.signed(Rows(X, np.ones(len(X)))) @ self.w
        return np.column_stack([sigmoid(-z), sigmoid(z)])


# ---- Five strategies ----------------------------------------------------------------------------

SISA, HEAD = "SISA", "Certified Head"
STRATEGIES = RETRAIN, SISA, NEWTON_RETRAIN, NEWTON, HEAD
SEQUENCES = RANDOM, CLINIC


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
    heads, ledger = [models[HEAD]], []
    for asked in range(1, len(forget.y) + 1):
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
        head = models[HEAD]
        heads.append(head)
        targets = {
            NEWTON_RETRAIN: train_by_newton(left, settings, rng),
            NEWTON: models[NEWTON_RETRAIN],
            HEAD: head.retrained(left),
        }
        if asked % 4 == 0:  # these take long
            targets[RETRAIN] = train_by_descent(left, settings, rng)
            targets[SISA] = models[SISA].retrained()
        for name in STRATEGIES:
            row = {"request": kind, "method": name, "asked": asked, "seconds": seconds[name]}
            if name in targets:
                gap = gap_to_retrained(models[name], targets[name], forget.X[:asked])
                row["gap_to_retrained"] = gap
            if name == HEAD:
                row.update(spent=head.spent, allowed=head.allowed, residual=head.residual(left))
                row["retrained"] = int(head.was_retrained)
            ledger.append(row)
    return pd.DataFrame(ledger), heads


def summarise_ledger(ledger):
    """A row per request and strategy.

    time: of all requests, relative to a retrain by descent at each; mean_gap, largest_gap;
    elsewhere: at how many requests it is another model than the one that it is compared with.
    """
    groups = ledger.groupby(["request", "method"], sort=False)
    seconds, gaps = groups.seconds.sum(), groups.gap_to_retrained
    columns = {
        "time": seconds / seconds.xs(RETRAIN, level="method"),
        "mean_gap": gaps.mean(),
        "largest_gap": gaps.max(),
        "elsewhere": gaps.agg(lambda gap: (gap > SAME_OPTIMUM).sum()),
    }
    return pd.DataFrame(columns)


# ---- What a removal gives away ------------------------------------------------------------------
# The certificate is about an observer of one version of the head. Here somebody holds two, from
# before and after a removal, and 400 public patients. Both versions have the same noise, so their
# difference has none. Bertran et al., NeurIPS 2024, arXiv 2405.20272.

N_PUBLIC = 400
BATCH = 5  # removals from one version that is shown to the next, as a remedy
AGES, GLUCOSES = np.arange(101), np.arange(40, 221)  # where the observer searches


def possible_patients():
    """Whoever may have left: a row for each age, glucose and diagnosis."""
    grid = np.stack(np.meshgrid(AGES, GLUCOSES, [0, 1], indexing="ij"), axis=-1).reshape(-1, 3)
    return Rows((grid[:, :2] - POPULATION[0]) / POPULATION[1], grid[:, 2])


def recover(before, after, n_left, public, n_leavers):
    """The n_leavers of possible_patients() whose removal explains best how a head has changed.

    A removal moves w by H^-1 (LAMBDA w + gradient of the leaver's loss), as in
    CertifiedHead.remove. The observer lacks H, but public rows have nearly the same. Of several
    leavers, the best is chosen one after the other, and then twice more, given the others. Reads no
    row of the hospital.
    """
    candidates = possible_patients()
    V = before.signed(candidates)  # (N, h)
    gradients = before.LAMBDA * before.w - sigmoid(-V @ before.w)[:, None] * V  # (N, h)
    H = before.hessian(before.signed(public)) * n_left / len(public.y)
    moves = np.linalg.solve(H, gradients.T).T  # (N, h)
    unexplained = after.w - before.w
    chosen = []
    for _ in range(3 * n_leavers):
        if len(chosen) == n_leavers:
            unexplained = unexplained + moves[chosen.pop(0)]
        chosen.append(np.argmin(((moves - unexplained) ** 2).sum(axis=1)))
        unexplained = unexplained - moves[chosen[-1]]
    return candidates.at(chosen)


def observe(kind, settings, heads, n_leavers):
    """Who left and who was recovered, n_leavers at a time from two versions of the head each.

    A DataFrame with a row per leaver: age, glucose, diagnosis (1: diabetic), and the same after
    "found_" and "guess_". One leaver is guessed to be the mean of their kind, several to be random
    ones of their kind. Requests that the head answered by retraining with fresh noise are left out.
    """
    forget, retain, _ = make_request(kind, settings)
    rng = np.random.RandomState([settings.seed, 99])  # the observer's own
    public = standardised(make_patients(N_PUBLIC, rng))
    pool = draw_leavers(kind, N_PUBLIC, rng)
    n, batches = len(forget.y), [np.empty((0, 9))]
    for start in range(0, n - n_leavers + 1, n_leavers):
        end = start + n_leavers
        if any(head.was_retrained for head in heads[start + 1 : end + 1]):
            continue
        leavers, n_left = forget.at(slice(start, end)), n + len(retain.y) - end
        found = recover(heads[start], heads[end], n_left, public, n_leavers)
        guess = pool.at(rng.choice(N_PUBLIC, n_leavers, replace=False))
        if n_leavers == 1:
            guess = Rows(pool.X.mean(axis=0, keepdims=True), guess.y)
        columns = []
        for rows in (leavers, found, guess):  # in the order in which they fit the leavers best
            fitting = rows.at(linear_sum_assignment(cdist(leavers.X, rows.X))[1])
            columns += [fitting.X * POPULATION[1] + POPULATION[0], fitting.y[:, None]]
        batches.append(np.hstack(columns))
    names = product(["", "found_", "guess_"], ["age", "glucose", "diagnosis"])
    return pd.DataFrame(np.vstack(batches), columns=["".join(pair) for pair in names])


def median_error(observed, prefix, column):
    """Median error of what was found ("found_") or guessed ("guess_"): years, or mg/dL."""
    return (observed[prefix + column] - observed[column]).abs().median()


def run_sequences(settings):
    """The ledger, and {(kind of request, leavers at a time): who was recovered}."""
    cases = [(kind, settings) for kind in SEQUENCES]
    ledgers, heads = zip(*on_all_cores(one_by_one, cases, settings.quiet))
    observed = {
        (kind, n_leavers): observe(kind, settings, versions, n_leavers)
        for kind, versions in zip(SEQUENCES, heads)
        for n_leavers in (1, BATCH)
    }
    return pd.concat(ledgers, ignore_index=True), observed


# =================================================================================================
# Part 4: Figures and pages
# =================================================================================================
# How the results of Parts 1 to 3 are shown. No result is computed here; titles and sentences are
# chosen by the results.

# ---- The language of all figures ----------------------------------------------------------------

INK, GREY, PALE = "#222222", "#666666", "#aaaaaa"
GREEN, GREEN_TINT = "#006450", "#cfe6df"  # Full Retrain, the target; not told apart from it
RED, RED_TINT = "#cc3311", "#f6d2ca"  # gradient ascent; told apart
PURPLE = "#5b2a86"  # the certificate
COLORS = {RETRAIN: GREEN, NEWTON_RETRAIN: GREEN, ASCENT: RED}  # one colour has one meaning
CLASS_LOOKS = ({"color": "#1f83c4", "marker": "o"}, {"color": "#e69f00", "marker": "^"})
SHADES = sns.blend_palette(["#bbdaef", "white", "#fae3b4"], as_cmap=True)  # of p, from 0 to 1
TARGET_LINE = {"color": GREEN, "linestyle": "--", "linewidth": 1.8}  # the retrained model's value
HALF_LINE = {"color": GREY, "linestyle": ":", "linewidth": 1.8}  # 50%
STYLE = {
    "font.size": 11, "text.color": INK, "axes.labelcolor": INK, "axes.labelsize": 12,
    "axes.titlesize": 12.5, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.edgecolor": GREY, "axes.linewidth": 0.8, "axes.spines.top": False,
    "axes.spines.right": False, "xtick.color": INK, "ytick.color": INK, "legend.frameon": False,
}  # fmt: skip
in_our_style = style.context(["default", STYLE])  # a decorator; rcParams come back as they were


class NotebookFigure(Figure):
    """A figure that pyplot does not know of, and that a notebook shows nevertheless, once."""

    @in_our_style  # savefig has a style, too
    def _repr_png_(self):
        self.savefig(buffer := BytesIO(), format="png")
        return buffer.getvalue()


def wrapped(words, width=79):
    """Lines of at most this width; none ends between a number and its unit."""
    return fill(re.sub(r"(?<=\d) (?=[a-z])", "\xa0", words), width).replace("\xa0", " ")


def percent(fraction, digits=1):
    """0.95 as "95.0%"."""
    return f"{100 * fraction:.{digits}f}%"


def new_figure(height, finding, explanation, shape, left=0.75, top=0.8, bottom=0.6, **grid):
    """A figure of 10 x height inches, and its axes: finding, panels, explanation.

    The margins are in inches; grid is for fig.subplots, spaces and ratios for its grid.
    """
    fig = NotebookFigure(figsize=(10, height))
    words = wrapped(explanation, 108)
    fig.text(0.012, 1 - 0.12 / height, finding, size=15, weight="bold", va="top")
    fig.text(0.012, 0.1 / height, words, size=12, color=GREY, va="bottom", linespacing=1.35)
    bottom += 0.25 * (words.count("\n") + 1)
    place = {"left": left / 10, "right": 0.985, "bottom": bottom / height, "top": 1 - top / height}
    place.update({name: grid.pop(name) for name in [*grid] if name.endswith(("space", "ratios"))})
    return fig, fig.subplots(*shape, gridspec_kw=place, **grid)


def note(ax, words, place, offset, **look):
    """Words beside a point of the data; the offset is in points."""
    look = {"ha": "center", "va": "center", **look}
    ax.annotate(words, place, xytext=offset, textcoords="offset points", **look)


def draw_bars(ax, title, values, form):
    """A bar per method of values, a Series, with its number; a dashed line at Full Retrain's."""
    ax.barh(values.index, values, color=[COLORS.get(name, PALE) for name in values.index])
    ax.axvline(values[RETRAIN], **TARGET_LINE)
    # Invisible bars as long as the longest carry the numbers: right of all lines
    ends = ax.barh(values.index, 1.03 * values.max(), alpha=0)
    for name, number in zip(values.index, ax.bar_label(ends, values.map(form.format), padding=3)):
        number.set(color=COLORS.get(name, INK), size=12)
    ax.set(xlim=(0, 1.5 * values.max() or 1), ylim=(len(values) - 0.4, -0.6), xticks=[])
    ax.set_title(title)
    ax.spines["bottom"].set_visible(False)
    ax.tick_params(length=0)


def draw_patients(ax, data, ringed):
    """All training rows, small; or, larger and ringed, the forget set."""
    positions = data.asked if ringed else np.arange(len(data.train.y))
    look = {"s": np.clip((380 if ringed else 160) / np.sqrt(len(positions)), 4, 70)}
    look.update({"linewidth": 0.9, "edgecolor": INK, "zorder": 3} if ringed else {"linewidth": 0})
    for label, class_look in enumerate(CLASS_LOOKS):
        rows = data.features.iloc[positions[data.train.y[positions] == label]]
        ax.scatter(*rows.to_numpy().T, alpha=1 if ringed else 0.7, **class_look, **look)


def draw_map(ax, comparison, name=None):
    """A model's p, shaded; its line p = 0.5, and on it the retrained model's, green and dashed.

    Without a name, just the frame. Raises ValueError if the data have not two features.
    """
    data, models = comparison.data, comparison.models
    if data.features.shape[1] != 2:
        raise ValueError(f"a map needs two features, there are {data.features.shape[1]}")
    low, high = data.features.min().to_numpy(), data.features.max().to_numpy()
    x, y = np.linspace(low - 0.02 * (high - low), high + 0.02 * (high - low), 60).T
    ax.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    ax.set(xlabel=data.features.columns[0], ylabel=data.features.columns[1])
    ax.locator_params(nbins=5)
    if name is None:
        return None
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    X = np.asarray(data.scaler.transform(pd.DataFrame(points, columns=data.features.columns)))
    z, target = (models[each].decision_function(X).reshape(60, 60) for each in (name, RETRAIN))
    for logits, color, line in ((z, INK, "solid"), (target, GREEN, "dashed")):
        if logits.min() < 0 < logits.max():  # p = 0.5 where z = 0, and z is smoother than p
            ax.contour(x, y, logits, levels=[0], colors=color, linestyles=line, linewidths=1.8)
    return ax.contourf(x, y, sigmoid(z), levels=np.linspace(0, 1, 11), cmap=SHADES, zorder=0)


def add_key(fig, data):
    """One line below the title that says what marks and lines mean in all maps of a figure."""
    ring = {"color": INK, "marker": "o", "markerfacecolor": "none"}
    marks = [*zip(data.classes, CLASS_LOOKS), ("to be forgotten", ring)]
    handles = [Line2D([], [], linestyle="", label=label, **look) for label, look in marks]
    line = f"probability of {data.classes[1]} = 0.5"
    handles.append(Line2D([], [], color=INK, linewidth=1.8, label=line))
    handles.append(Line2D([], [], **TARGET_LINE, label=f"{RETRAIN}'s line"))
    fig.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0, 1 - 0.42 / fig.get_figheight()),
        ncols=5, handletextpad=0.4, columnspacing=1, handlelength=2, borderaxespad=0.3,
    )  # fmt: skip


# ---- The demo, and the same on other rows -------------------------------------------------------


def times_the_gap(results):
    """The gap that ascent leaves, in multiples of the gap that doing nothing leaves; in words."""
    times = results.gap_to_retrained[ASCENT] / max(results.gap_to_retrained[NAIVE], 1e-12)
    return f"{times:,.0f}" if times >= 9.95 else f"{times:.2g}"


@in_our_style
def performance_figure(comparison):
    """Four panels: time, the two accuracies, and the gap beside the range of other retrains."""
    data, models, results, _ = comparison
    passed, n = check_answers(comparison).passed, len(data.asked)
    fig, (*bars, dots) = new_figure(
        4.1,
        f"Ascent {'keeps test accuracy' if passed['useful'] else 'harms everybody'}; its gap is "
        f"{times_the_gap(results)} times that of doing nothing",
        f"Dashed: {RETRAIN}, which never saw the {n:,} to be forgotten; its accuracies are the "
        "target. Dotted: 50%, the aim of an earlier demo. Gap: mean difference "
        f"from {RETRAIN} in the probability of {data.classes[1]} on the {n:,}; green band: ten "
        f"other retrains. {NAIVE} keeps the original's weights; its gap is "
        f"{'in' if passed['naive'] else 'out'}side the band. Ascent: {ASCENT}.",
        (1, 4), left=2.05, top=0.75, bottom=0.45, sharey=True, wspace=0.14,
    )  # fmt: skip
    unit, factor = ("s", 1) if results.seconds.max() >= 1 else ("ms", 1000)
    draw_bars(bars[0], f"Time, {unit}", factor * results.seconds, "{:.1f}")
    draw_bars(bars[1], "Test accuracy, %", 100 * results.test_accuracy, "{:.1f}")
    draw_bars(bars[2], "Forget accuracy, %", 100 * results.forget_accuracy, "{:.1f}")
    bars[2].axvline(50, **HALF_LINE)
    others = gaps_to_others(models[RETRAIN], comparison)
    gaps = results.gap_to_retrained.drop(RETRAIN).clip(lower=1e-12)  # 0 has no place on a log axis
    dots.axvspan(others.min(), others.max(), color=GREEN_TINT)
    for name, gap in gaps.items():
        dots.scatter(gap, name, s=70, color=COLORS.get(name, GREY))
        note(dots, f"{gap:.4f}", (gap, name), (0, 11), color=COLORS.get(name, INK))
    note(dots, "the target", (gaps.max(), RETRAIN), (18, 0), color=GREEN, ha="right")
    dots.set(xscale="log", xlim=(min(*gaps, *others) / 3, 6 * gaps.max()))
    dots.set_title("Gap (log scale)")
    dots.xaxis.set_major_formatter("{x:g}")
    dots.tick_params(axis="y", length=0)
    return fig


@in_our_style
def boundaries_figure(comparison):
    """Four maps, one per model, each with the retrained model's boundary and the forget set."""
    data, gaps = comparison.data, comparison.results.gap_to_retrained
    times = times_the_gap(comparison.results)
    fig, axes = new_figure(
        8.8,
        f"Ascent leaves a gap of {gaps[ASCENT]:.4f}: {times} times that of doing nothing",
        f"Shaded: the probability of {data.classes[1]}. Gap: how far it is from {RETRAIN}'s, on "
        f"average over the {len(data.asked):,} to be forgotten. Ascent: {ASCENT}.",
        (2, 2), top=1.2, sharex=True, sharey=True, wspace=0.06, hspace=0.16,
    )  # fmt: skip
    add_key(fig, data)
    for ax, name in zip(axes.flat, comparison.models):
        shading = draw_map(ax, comparison, name)
        draw_patients(ax, data, ringed=False)
        draw_patients(ax, data, ringed=True)
        ax.set_title(name, color=COLORS.get(name, INK))
        gap = "the target" if name == RETRAIN else f"gap {gaps[name]:.4f}"
        ax.set_title(gap, color=COLORS.get(name, INK), loc="right")
        ax.label_outer()
    scale = fig.colorbar(shading, ax=axes, ticks=[0, 0.5, 1], pad=0.015, aspect=50)
    scale.set_label(f"probability of {data.classes[1]}")
    return fig


@in_our_style
def concrete_figure(comparison):
    """Four panels: who asked; right and wrong before; the same after ascent; the accuracies."""
    data, models, results, _ = comparison
    forget, n, accuracy = data.forget, len(data.asked), 100 * results.forget_accuracy
    wrong = {name: model.predict(forget.X) != forget.y for name, model in models.items()}
    still = (wrong[RETRAIN] & wrong[ORIGINAL]).sum()
    fig, ((who, before), (after, fall)) = new_figure(
        9,
        f"A model that never saw the {n:,} gets {accuracy[RETRAIN]:.0f}% of them right; ascent "
        f"ends at {accuracy[ASCENT]:.0f}%",
        f"Before: {ORIGINAL}. After: {ASCENT}, that is, gradient ascent. {RETRAIN} is "
        f"wrong about {wrong[RETRAIN].sum():,}, {still:,} of them as before.",
        (2, 2), top=1.2, wspace=0.16, hspace=0.3,
    )  # fmt: skip
    add_key(fig, data)
    draw_map(who, comparison)
    draw_patients(who, data, ringed=False)
    draw_patients(who, data, ringed=True)
    who.set_title(f"{n:,} of {len(data.train.y):,} asked to be forgotten")
    for ax, name, when, side in (
        (before, ORIGINAL, "Before", -28), (after, ASCENT, "After", 28)
    ):  # fmt: skip
        draw_map(ax, comparison, name)
        draw_patients(ax, data, ringed=True)
        rows = data.features.iloc[data.asked[wrong[name]]].to_numpy()
        size = np.clip(1300 / np.sqrt(n), 12, 150)  # a cross is larger than its ring
        ax.scatter(*rows.T, color=INK, marker="x", s=size, linewidth=1.6, zorder=4)
        ax.set_title(f"{when}: {(~wrong[name]).sum():,} right, {wrong[name].sum():,} wrong (×)")
        place = (side, -9 if accuracy[name] > 15 else 9)
        note(fall, f"{accuracy[name]:.1f}%", (when, accuracy[name]), place, color=RED)
    fall.plot(["Before", "After"], accuracy[[ORIGINAL, ASCENT]], color=RED, marker="o", linewidth=2)
    target = f"{RETRAIN}, the target: {accuracy[RETRAIN]:.1f}%"
    fall.axhline(accuracy[RETRAIN], **TARGET_LINE, label=target)
    fall.axhline(50, **HALF_LINE, label="50%: the aim of an earlier demo")
    fall.set(title=f"Accuracy on the {n:,}, %", xlim=(-0.5, 1.5), ylim=(0, 104))
    fall.legend(loc="best")
    return fig


@in_our_style
def patients_figure(comparison, n_rows=15):
    """A table of the first patients who asked: what each model predicts, and what changed."""
    data, models, results, _ = comparison
    asked, n = data.asked[:n_rows], len(data.asked)
    changes, harmed = results.loc[ASCENT, ["predictions_changed", "newly_wrong"]].astype(int)
    also = results.predictions_changed[RETRAIN]
    fig, ax = new_figure(
        0.31 * len(asked) + 2.0,
        f"Ascent changes {changes:,} of {n:,} predictions, {RETRAIN} {also:,}",
        f"{harmed:,} from right to wrong, {changes - harmed:,} from wrong to right. Here are the "
        f"first {len(asked)} of the {n:,} who asked: what each model predicts and p, the "
        f"probability of {data.classes[1]}. Tinted: changed by ascent.",
        (1, 1), left=0.12, top=0.55, bottom=0.2,
    )  # fmt: skip
    ax.axis("off")
    rows, columns = data.train.at(asked), [("Patient", data.features.index[asked])]
    for name, values in data.features.items():
        decimals = int(np.clip(2 - np.log10(max(values.abs().max(), 1e-9)), 0, 6))
        columns.append((name, values.iloc[asked].map(f"{{:.{decimals}f}}".format)))
    columns.append(("Actual", np.take(data.classes, rows.y)))
    for name in (ORIGINAL, RETRAIN, ASCENT):
        said, p = models[name].predict(rows.X), models[name].predict_proba(rows.X)[:, 1]
        words = zip(np.take(data.classes, said), p)
        columns.append((name, [f"{word}, p {chance:.2f}" for word, chance in words]))
    changed = said != models[ORIGINAL].predict(rows.X)
    after = np.where(said == rows.y, "now right", "now wrong")
    columns.append(("Prediction changed?", np.where(changed, after, "no")))
    table = ax.table(
        [*zip(*(words for _, words in columns))], bbox=[0, 0, 1, 1], colLoc="right",
        colLabels=[name.replace(" ", "\n") for name, _ in columns],
        colWidths=[0.085] + [0.115] * (len(columns) - 6) + [0.105] + [0.165] * 3 + [0.125],
    )  # fmt: skip
    table.auto_set_font_size(False)
    table.set_fontsize(11.5)
    for (row, column), cell in table.get_celld().items():
        cell.set(height=1 if row else 1.7, linewidth=0)
        if row == 0:
            cell.set_text_props(weight="bold", color=COLORS.get(columns[column][0], INK))
        elif changed[row - 1]:
            cell.set_facecolor(RED_TINT)
    return fig


def finding(comparison):
    """What the experiment found, in plain words."""
    results, passed = comparison.results, check_answers(comparison).passed
    gaps, forget = results.gap_to_retrained, results.forget_accuracy.map(percent)
    moved = {-1: "moved towards", 0: "stayed as far from", 1: "moved away from"}
    verdict = "came close to" if passed["close"] else moved[np.sign(gaps[ASCENT] - gaps[NAIVE])]
    harm = "" if passed["useful"] else " It made the model worse for everybody else, too."
    not_half = "" if 0.45 < results.forget_accuracy[RETRAIN] < 0.55 else ", not 50%,"
    naive = "Its gap tells: it is larger than that of ten other retrained models."
    if passed["naive"]:
        naive = "Its gap is one that retrained models have, too: it takes an attack to tell."
    return wrapped(
        f"Gradient ascent {verdict} the retrained model. The gap to it is {times_the_gap(results)} "
        f"times what it is if nothing is done.{harm} The retrained model never saw the forget set "
        f"and predicts {forget[RETRAIN]} of it correctly: this{not_half} is the target of forget "
        f"accuracy. Ascent ends at {forget[ASCENT]}. Naive deletion, at {forget[NAIVE]}, has "
        f"forgotten nothing: its weights are the original's. {naive}"
    )


DEMO_LEGEND = """
ms       time to answer the request, or to train the original; median of 3 runs
test     accuracy on rows never trained on; retain, forget: on those sets
changed  predictions on the forget set that are not the original model's;
         harmed: those of them that were right before
gap      mean |p - p of Full Retrain| on the forget set, p the probability of
         {}; 0 where the two agree on every row. A mean hides the worst
         patient: {:.4f} for naive deletion, {:.4f} for ascent
AUC      loss attack: the chance that a forget row has a lower loss than a test
         row; below 0.5, forget rows have the higher losses. Few rows: no news
The target of every column but ms is the row Full Retrain, not 50%, 0.5 or 0.
Ten other retrains, with other initial weights, are {:.4f} to {:.4f} away from
it (median {:.4f}). Gradient ascent is in the row Approximate Unlearning.

useful   test accuracy within two standard errors of Full Retrain's (McNemar)
close    gap at most half of naive deletion's, or one that retrains have
at 50%   forget accuracy of 40 to 60%, the aim of the demo before this one
"""


def demo_page(comparison):
    """The printed page, at most 80 columns wide: finding, table, yardstick, checks."""
    results, others = comparison.results, gaps_to_others(comparison.models[RETRAIN], comparison)
    table = pd.DataFrame({
        "ms": (1000 * results.seconds).map("{:.1f}".format),
        **{name: results[f"{name}_accuracy"].map(percent) for name in ("test", "retain", "forget")},
        "changed": results.predictions_changed.map(str), "harmed": results.newly_wrong.map(str),
        "gap": results.gap_to_retrained.map("{:.4f}".format),
        "AUC": results.attack_auc.map("{:.3f}".format),
    }).rename_axis(None)  # fmt: skip
    yardstick = others.min(), others.max(), np.median(others)
    worst = results.worst_patient[[NAIVE, ASCENT]]
    legend = DEMO_LEGEND.format(comparison.data.classes[1], *worst, *yardstick)
    questions = ["ascent useful?", "ascent close?", "ascent at 50%?", "naive deletion close?"]
    checks = check_answers(comparison).round(4).set_axis(questions)
    checks["answer"] = np.where(checks.pop("passed"), "yes", "no")
    return "\n".join([finding(comparison), "", table.to_string(), legend, checks.to_string()])


# ---- The sweep ----------------------------------------------------------------------------------

CLASSIC = {(100, 0.5): "mild", (145, 0.7): "classic", (200, 1.0): "harsh"}


def sweep_headline(doses):
    """What ascent does to the two accuracies."""
    both = doses[["test_accuracy", "forget_accuracy"]]
    fell = both.loc[doses.dose.idxmax()] < both.loc[doses.dose.idxmin()]
    apart = 100 * (doses.test_accuracy - doses.forget_accuracy).abs().max()
    verb = "lowers" if fell.all() else "does not lower"
    return f"Ascent {verb} both accuracies together: they are at most {apart:.0f} points apart"


@in_our_style
def sweep_figure(doses, accuracies, results, settings):
    """Forget and test accuracy over the dose, and over the seed."""
    yours = settings.unlearn_epochs, settings.multiplier
    seeds, ascent = 100 * accuracies[ASCENT], 100 * results.forget_accuracy[ASCENT]
    fig, (left, right) = new_figure(
        5.2,
        sweep_headline(doses),
        f"Dashed: {RETRAIN}, the target. Left: {len(doses)} settings; mild, classic and harsh are "
        f"those of an earlier demo. Right: with other seeds, {yours[0]} × "
        f"{yours[1]:g} gives {seeds.min():.0f} to {seeds.max():.0f}%.",
        (1, 2), top=1.1, bottom=0.75, sharey=True, wspace=0.06, width_ratios=[5, 3.6],
    )  # fmt: skip
    doses = doses[doses.dose > 0]  # there is no place for 0 on a logarithmic axis
    for name, look in (
        ("test", {"marker": "s", "facecolor": "white", "edgecolor": INK, "s": 45}),
        ("forget", {"color": RED, "s": 24}),
    ):
        column, target = f"{name}_accuracy", 100 * results.loc[RETRAIN, f"{name}_accuracy"]
        left.scatter(doses.dose, 100 * doses[column], **look, label=f"{name} accuracy")
        left.axhline(target, **TARGET_LINE, zorder=0, label=f"target, {name}: {target:.0f}%")
    for (epochs, multiplier), name in {yours: "yours", **CLASSIC}.items():
        left.axvline(epochs * multiplier, color=PALE, linewidth=0.8, zorder=0)
        note(left, name, (epochs * multiplier, 106), (0, 7 if name != "yours" else 22))
    left.set(xscale="log", ylim=(0, 106), ylabel="accuracy, %")
    left.set(xlabel="dose: epochs of ascent × multiplier")
    left.set_title(f"Seed {settings.seed}, any dose", y=1.13)
    left.xaxis.set_major_formatter("{x:g}")
    left.legend(loc="lower left", handletextpad=0.4)
    colors = [COLORS.get(name, PALE) for name in accuracies]
    sns.swarmplot(100 * accuracies, ax=right, size=5, warn_thresh=1, palette=colors)
    right.scatter([2], [ascent], s=60, color=RED, marker="D", zorder=3)
    note(right, f"seed {settings.seed}: {ascent:.0f}%", (2, ascent), (-12, 0), ha="right")
    right.set_xticks(range(3), [name.replace(" ", "\n") for name in accuracies])
    right.set_title(f"Forget accuracy, seeds {SEEDS[0]} to {SEEDS[-1]}", y=1.13)
    right.set(xlim=(-0.6, 2.6), xlabel="")
    return fig


def sweep_page(doses, accuracies, comparison, settings):
    """The sweep in words, and both accuracies for every setting."""
    seeds, forget = accuracies[ASCENT].describe().map(percent), comparison.results.forget_accuracy
    nothing = gaps_to_others(comparison.models[ORIGINAL], comparison).mean()
    nearer = (doses.gap_to_others < nothing).sum()
    words = (
        f"{sweep_headline(doses)}, over {len(doses)} settings. The gap to ten retrained models, "
        f"{nothing:.4f} if nothing is done, is smaller with {nearer} settings "
        f"({doses.gap_to_others.min():.4f} at best); but only retrained models can tell. With "
        f"{settings.unlearn_epochs} x {settings.multiplier:g}, forget accuracy is "
        f"{percent(forget[ASCENT])} with seed {settings.seed}, and {seeds['min']} to "
        f"{seeds['max']} (mean {seeds['mean']}) with seeds {SEEDS[0]} to {SEEDS[-1]}. The target "
        f"is {percent(forget[RETRAIN])}."
    )
    if doses.forget_accuracy.nunique() > 1:
        rank = doses.dose.corr(doses.forget_accuracy, "spearman")
        words += f" Rank correlation of forget accuracy with the dose: {rank:.2f}."
    heading = "Forget accuracy (test accuracy) in % by epochs, down, and multiplier, across:"
    cells = (100 * doses.forget_accuracy).map("{:.0f}".format)
    cells += (100 * doses.test_accuracy).map(" ({:.0f})".format)
    return "\n".join([wrapped(words), "", heading, cells.unstack().to_string()])


# ---- The study ----------------------------------------------------------------------------------


def study_headline(table):
    """The study's finding: which methods are told apart on no request?"""
    told = summarise(table).told_apart.drop(list(TRAINING))
    never = list(told.index[~told])
    if len(never) == 1:
        return f"Of {len(told)} ways to forget, only {never[0]} is never told apart from retraining"
    return (
        f"{len(never) or 'None'} of {len(told)} ways to forget are never told apart from retraining"
    )


@in_our_style
def study_figure(table):
    """A grid: methods by request; attack and forget accuracy, time and points lost."""
    rows = [*BY_DESCENT, "", *BY_NEWTON]  # the empty row keeps the two kinds of training apart
    told, worst = table.told_apart.unstack(0).reindex(rows), summarise(table).reindex(rows)
    stronger = table[["attack_accuracy", "vector_accuracy"]].max(axis=1)
    words, tints = {}, {}  # of the cells of each column; tint: 0 green, 0.5 grey, 1 red
    for heading, values in (("attack %", stronger), ("forget %", table.forget_accuracy)):
        for kind, column in (100 * values).unstack(0).reindex(rows)[list(REQUESTS)].items():
            words[f"{heading}\n{kind}"] = column.map("{:.0f}".format)
            tints[f"{heading}\n{kind}"] = told[kind].astype(float)
            if values is stronger:
                words[f"{heading}\n{kind}"] += told[kind].map({True: " ×"}).fillna("")
    words["time"] = worst.time.map("{:.2f}".format)
    words["points\nlost"] = worst.points_lost.map("{:.1f}".format)
    tints["time"] = tints["points\nlost"] = 0 * worst.time + 0.5
    fig, ax = new_figure(
        6.2,
        study_headline(table),
        "Red ×: an attack tells the model from one retrained with the same optimiser (in bold; "
        "above by descent, below by Newton) more often than chance allows. Attack: how often the "
        "stronger of two is right; 50 is a coin toss. Forget: accuracy on the forget set; the "
        "target is the row in bold, and a red one can be on target. Time, and points of test "
        "accuracy lost: relative to that row, in the worst of the three.",
        (1, 1), left=2.05, top=0.95, bottom=0.15,
    )  # fmt: skip
    sns.heatmap(
        pd.DataFrame(tints), annot=pd.DataFrame(words), fmt="", mask=pd.DataFrame(tints).isna(),
        cmap=[GREEN_TINT, "#f2f2f2", RED_TINT], vmin=0, vmax=1, cbar=False, linewidths=3,
        annot_kws={"color": INK, "size": 12}, ax=ax,
    )  # fmt: skip
    ax.tick_params(length=0, rotation=0, labelbottom=False, labeltop=True)
    ax.set(xlabel="", ylabel="")
    for label in ax.get_yticklabels():
        label.set_color(COLORS.get(label.get_text(), INK))
        label.set_weight("bold" if label.get_text() in TRAINING else "normal")
    return fig


STUDY_LEGEND = """
one, all  how often an attack tells the model from one that was retrained with
          the same optimiser, in %. U-LiRA looks at one logit at a time, LDA at
          all of them; 50 is a coin toss. * told apart: of {} labellings, the
          true one is among the {:.0f} that are attacked most successfully
          (limits of chance for descent: {:.0f} to {:.0f}%)
lost      points of test accuracy lost against that retraining
time      relative to that retraining (both: the worst of the requests)
forget    forget accuracy in %: before / retrained / after ascent
Newton    its time relative to Newton Retrain's / Newton Retrain's to descent's
optima    how far apart the logits of all Newton runs lie
decimals  of a logit from which on an attack tells Newton from Newton Retrain
"""


def study_page(table, apart, decimals):
    """The study in tables; apart and decimals: see optima_apart and decimals_that_tell."""
    worst, columns, requests = summarise(table), {}, {}
    for kind in REQUESTS:
        part = table.loc[kind]
        for heading, attack in (("one", "attack"), ("all", "vector")):
            stars = np.where(part[f"{attack}_p"] <= LEVEL, "*", " ")
            columns[kind, heading] = (100 * part[f"{attack}_accuracy"]).map("{:.0f}".format) + stars
        forget = 100 * part.forget_accuracy[[NAIVE, RETRAIN, ASCENT]]
        seconds = part.seconds[[NEWTON, NEWTON_RETRAIN, RETRAIN]].to_numpy()
        requests[kind] = {
            "forget": " / ".join(forget.map("{:.0f}".format)),
            "Newton": " / ".join(map("{:.2f}".format, seconds[:2] / seconds[1:])),
            "optima": f"{apart[kind]:.0e}: {'one' if apart[kind] < SAME_OPTIMUM else 'several'}",
            "decimals": decimals[kind] or "not even 15",
        }
    columns["", "lost"] = worst.points_lost.map("{:.1f}".format)
    columns["", "time"] = worst.time.map("{:.2f}".format)
    limits = 100 * table.loc[(slice(None), list(BY_DESCENT)), ["attack_limit", "vector_limit"]]
    ends = limits.min(axis=None), limits.max(axis=None)
    legend = STUDY_LEGEND.format(1 + SWAPS, LEVEL * (1 + SWAPS), *ends)
    lines = [study_headline(table) + ".", "", pd.DataFrame(columns).rename_axis(None).to_string()]
    lines += [legend, pd.DataFrame(requests).T.to_string()]
    return "\n".join([*lines, *(f"{name} diverged." for name in worst.index[worst.diverged])])


# ---- One by one ---------------------------------------------------------------------------------


def sequential_headline(summary):
    """The finding: what Newton saves, and where retraining is not one model."""
    times = 100 * summary.time.xs(NEWTON, level="method")
    words = f"Newton takes {times.min():.0f} to {times.max():.0f}% of a retrain's time"
    several = [kind for kind in SEQUENCES if summary.elsewhere[kind, NEWTON_RETRAIN] > 0]
    return words + (f"; several optima on {' and '.join(several)}" if several else "")


@in_our_style
def sequential_figure(ledger, summary):
    """For either kind of request: total time; gap and certificate's budget at each request."""
    fig, axes = new_figure(
        9,
        sequential_headline(summary),
        "Time: of all requests, relative to retraining by descent at each. Gap: of the predictions "
        "for all who have left, to a model of the same kind that is retrained at this request; "
        "green: between two retrained models. Dots at the bottom: the same optimum. Budget: a "
        "removal is certified while what is spent, a bound on the residual, is within 100%.",
        (3, 2), left=1.5, top=0.95, bottom=0.7, wspace=0.12, hspace=0.45,
    )  # fmt: skip
    for (times, gaps, budget), kind in zip(axes.T, SEQUENCES):
        draw_bars(times, f"{kind}, {REQUESTS[kind]}: total time", summary.time[kind], "{:.2f}")
        part = ledger[ledger.request == kind].pivot(index="asked", columns="method")
        gap, elsewhere = part.gap_to_retrained.clip(lower=1e-17), summary.elsewhere[kind]
        gaps.plot(gap[RETRAIN].dropna(), color=GREEN, label=RETRAIN)
        for name, fill_style, size in ((NEWTON_RETRAIN, "none", 6), (NEWTON, "full", 3)):
            label = f"{name}: other optimum at {elsewhere[name]:.0f} of {len(gap)}"
            look = {"color": COLORS.get(name, INK), "linestyle": "", "marker": "o"}
            gaps.plot(gap[name], markersize=size, fillstyle=fill_style, label=label, **look)
        gaps.set(yscale="log", ylim=(1e-18, 1e13), yticks=[1e-15, 1e-10, 1e-5, 1])
        gaps.set_title("gap to a retrained model")
        gaps.legend(loc="upper left", labelspacing=0.2, borderaxespad=0.1)
        head = part.xs(HEAD, axis=1, level="method")
        forced = head.index[head.retrained == 1]
        share = 100 * head[["spent", "residual"]].div(head.allowed, axis=0)
        share.loc[forced] = np.nan  # no line across a retrain
        budget.plot(share.spent, color=PURPLE, linewidth=2, label="spent: a bound")
        budget.plot(share.residual, color=GREY, label="true residual")
        budget.scatter(forced, 0 * forced + 112, marker="v", color=INK, label="forced retrain")
        budget.axhline(100, color=INK, linewidth=0.8)
        budget.set(ylim=(0, 125), yticks=[0, 50, 100], xlabel="requests answered")
        budget.set_title(f"budget, %: {len(forced)} forced retrains")
    axes[0, 1].set_yticklabels([])
    axes[2, 0].legend(loc="upper left", bbox_to_anchor=(0, 0.8), labelspacing=0.2)
    return fig


def revealed(observed):
    """What two versions of the head show of the random leavers."""
    people = observed[RANDOM, 1]
    years, mg = (median_error(people, "found_", column) for column in ("age", "glucose"))
    if not years < median_error(people, "guess_", "age") / 3:
        return "Two versions of a model do not reveal who left"
    words = "Two versions of a model reveal who left: age to"
    return f"{words} {years:.1f} years, glucose to {mg:.1f} mg/dL"


@in_our_style
def reveals_figure(observed):
    """True against recovered age and glucose of those who left one by one, and a guess."""
    fig, axes = new_figure(
        4.4,
        revealed(observed),
        f"Someone holds the certified head from before and after one removal, and {N_PUBLIC} other "
        "patients of the same population, and picks the patient whose leaving explains the change "
        "best. On the dotted line: found exactly. The clinic's patients are unlike the others, "
        "whose data then do not suffice. The certificate covers one version only.",
        (1, 4), left=0.65, top=1.05, wspace=0.4,
    )  # fmt: skip
    pairs = product(SEQUENCES, (("age", "years", AGES), ("glucose", "mg/dL", GLUCOSES)))
    for ax, (kind, (column, unit, searched)) in zip(axes, pairs):
        people, ends = observed[kind, 1], (searched[0], searched[-1])
        found, guess = (median_error(people, p, column) for p in ("found_", "guess_"))
        ax.plot(ends, ends, color=GREY, linestyle=":")
        ax.scatter(people[column], people["guess_" + column], s=14, color=PALE, label="guessed")
        look = {"s": 14, "color": PURPLE, "alpha": 0.7, "label": "recovered"}
        ax.scatter(people[column], people["found_" + column], **look)
        words = f"{found:.1f} {unit} off\n(guess: {guess:.1f})" if len(people) else "nobody\n"
        ax.set_title(f"{kind}, {column}:\n{words}")
        ax.set(xlim=ends, ylim=ends, xticks=ends, yticks=ends, xlabel=f"true {column}, {unit}")
    axes[0].set_ylabel("recovered", labelpad=-12)
    axes[0].legend(loc="lower right", handletextpad=0.1, borderaxespad=0)
    return fig


SEQUENTIAL_LEGEND = """
time       of all requests, relative to a retrain by descent at each of them
gap        mean |p - p'| on all who have asked so far, p' of a model of its kind
           that is retrained at this request (for Newton: Newton Retrain; for
           the head: with the same noise); the largest
elsewhere  at how many of {} requests it is in another optimum than that model

certified  removals that the head answers within its budget
residual   what its removals left, at most, in % of the bound that is spent
recovered  from two versions of the head: median errors in years / mg/dL, and
           right diagnoses; guess: median errors of a guess that sees no head
"""


def sequential_page(ledger, summary, observed):
    """One by one in tables: the strategies; the head's certificate and what it does not cover."""
    shown, recovered = {}, {}
    for kind in SEQUENCES:
        part = summary.loc[kind]
        shown[kind, "time"] = part.time.map("{:.2f}".format)
        shown[kind, "gap"] = part.largest_gap.map("{:.0e}".format)
        newtons = part.index.isin([NEWTON_RETRAIN, NEWTON])
        shown[kind, "elsewhere"] = part.elsewhere.map("{:.0f}".format).where(newtons, "")
    for (kind, n_leavers), people in observed.items():
        head = ledger[(ledger.request == kind) & (ledger.method == HEAD) & (ledger.retrained == 0)]
        found, guess = (
            " / ".join(f"{median_error(people, prefix, name):.1f}" for name in ("age", "glucose"))
            for prefix in ("found_", "guess_")
        )
        residual = percent((head.residual / head.spent).max(), 0)
        right = (people.diagnosis == people.found_diagnosis).sum()
        row = [len(head), residual, found, f"{right} of {len(people)}", guess]
        if people.empty:  # the noise was always fresh
            row[1:] = ["-", "nobody", "-", "-"]
        recovered[f"{kind}, {n_leavers} at a time"] = row
    headings = ["certified", "residual", "recovered", "diagnosis", "guess"]
    tables = pd.DataFrame(shown).rename_axis(None), pd.DataFrame(recovered, headings).T
    words = wrapped(f"{sequential_headline(summary)}. {revealed(observed)}.")
    legend = SEQUENTIAL_LEGEND.format(ledger.asked.max())
    return "\n".join([words, "", tables[0].to_string(), legend, tables[1].to_string()])


# =================================================================================================
# Part 5: Running it
# =================================================================================================

# ---- The experiments: settings -> (page, table for --csv, {file: figure}) -----------------------


def demo(settings, make_cohort=hospital, prefix=""):
    """80 of 400 patients ask to be forgotten; for another cohort, only the first two figures."""
    comparison = compare(make_cohort, settings)
    figures = {
        f"{prefix}performance_metrics.png": performance_figure(comparison),
        f"{prefix}decision_boundaries.png": boundaries_figure(comparison),
    }
    if not prefix:
        figures["concrete_demonstration.png"] = concrete_figure(comparison)
        figures["patient_level_view.png"] = patients_figure(comparison)
    return demo_page(comparison), comparison.results, figures


def sweep(settings):
    """The dose of ascent, and other seeds."""
    comparison = compare(hospital, settings)
    doses, accuracies = try_doses(comparison, settings), try_seeds(settings)
    figure = sweep_figure(doses, accuracies, comparison.results, settings)
    page = sweep_page(doses, accuracies, comparison, settings)
    return page, doses[["test_accuracy", "forget_accuracy"]], {"parameter_sweep.png": figure}


def study(settings):
    """Three requests, all methods, many trials, two attacks."""
    make_request(RANDOM, settings)  # raises SettingsError before the work
    trials = run_trials(settings)
    table = attack_all(trials)
    page = study_page(table, optima_apart(trials), decimals_that_tell(trials))
    return page, table, {"method_study.png": study_figure(table)}


def sequential(settings):
    """The same patients ask one by one; five strategies, and what a removal gives away."""
    make_request(RANDOM, settings)  # raises SettingsError before the work
    ledger, observed = run_sequences(settings)
    summary = summarise_ledger(ledger)
    figures = {
        "sequential_requests.png": sequential_figure(ledger, summary),
        "removal_reveals.png": reveals_figure(observed),
    }
    page = sequential_page(ledger, summary, observed)
    return page, ledger.set_index(["request", "method", "asked"]), figures


EXPERIMENTS = {  # name -> function, what it is, defaults of its own, settings without effect
    "demo": (demo, "80 of 400 patients ask to be forgotten", {}, ["trials"]),
    "basic": (partial(demo, make_cohort=abstract, prefix="basic_"), "the same on abstract data",
              {"patients": 1000, "forget": 160}, ["trials"]),
    "clinical": (partial(demo, make_cohort=wisconsin, prefix="clinical_"),
                 "the same on real patients", {"patients": 569, "forget": 91},
                 ["trials", "patients"]),
    "sweep": (sweep, "the dose of ascent, and other seeds", {}, ["trials"]),
    "study": (study, "what really forgets: nine methods, two attacks", STUDY, []),
    "sequential": (sequential, "one by one; what removals give away", STUDY,
                   ["trials", "unlearn_epochs", "multiplier"]),
}  # fmt: skip


# ---- The command line ---------------------------------------------------------------------------

VERSIONS = f"machine_unlearning.py {__version__}, Python {platform.python_version()}, "
VERSIONS += f"numpy {np.__version__}, scikit-learn {sklearn.__version__}"
FLAGS = {"--" + option.name.replace("_", "-"): option for option in fields(Settings)}


def make_parser():
    """The command line; every field of Settings is a flag."""
    experiments = [f"  {name:12}{meaning}" for name, (_, meaning, *_) in EXPERIMENTS.items()]
    parser = argparse.ArgumentParser(
        prog="machine_unlearning.py",
        usage="%(prog)s [experiment] [flags]",
        description="\n".join(
            ["What does it take to make a trained model forget?\n", *experiments]
        ),
        epilog="example: machine_unlearning.py study --seed 7 --csv study.csv",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,  # only what was given is returned
        allow_abbrev=False,
    )
    parser.add_argument("experiment", nargs="?", default="demo", help="the demo if not given")
    parser.add_argument("--version", action="version", version=VERSIONS)
    for flag, option in FLAGS.items():
        words = option.metadata["meaning"]
        if option.type is bool:
            parser.add_argument(flag, help=words, action="store_true")
            continue
        own = "".join(f", {name} {defaults[option.name]}"
                      for name, (*_, defaults, unused) in EXPERIMENTS.items()
                      if option.name in defaults and option.name not in unused)  # fmt: skip
        words += f" (default {option.default or 'none'}{own})"
        metavar = {"output": "DIR", "csv": "FILE"}.get(option.name, "N")
        parser.add_argument(flag, help=words, type=option.type, metavar=metavar)
    return parser


def parse_arguments(argv):
    """(experiment, settings) from a command line; argparse exits where it means nothing."""
    parser = make_parser()
    given, unknown = parser.parse_known_args(argv)
    given = vars(given)
    name = given.pop("experiment")
    if name not in EXPERIMENTS:
        unknown.insert(0, name)
    unknown.sort(key=lambda word: not word.startswith("-"))  # a flag, not its value
    for word in unknown[:1]:
        near = get_close_matches(word, {*FLAGS, *EXPERIMENTS} - {word}, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        if word == "-f":  # what a notebook's own command line starts with
            hint = " (in a notebook, import this file, or %run it)"
        parser.error(f"not understood: {word}{hint}")
    *_, defaults, unused = EXPERIMENTS[name]
    for flag, option in FLAGS.items():
        if option.name in unused and option.name in given:
            parser.error(f"{flag} has no effect on {name}")
    try:
        return name, Settings(**{**defaults, **given})
    except SettingsError as error:
        return parser.error(error)


def say(*lines, end="\n"):
    """Print; where nobody listens any more (| head), go on in silence."""
    try:
        print(*lines, sep="\n", end=end, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(name, settings):
    """Run an experiment, print what it found, write its files. Raises OSError, SettingsError."""
    folder, csv = (Path(path).expanduser() for path in (settings.output, settings.csv))
    folder.mkdir(parents=True, exist_ok=True)  # before the work: it may fail
    experiment, _, defaults, _ = EXPERIMENTS[name]
    page, table, figures = experiment(settings)
    own = sorted(vars(settings).items() - vars(Settings(**defaults)).items())
    plain = "seed", "output", "csv", "dpi", "quiet"
    how = [f"{VERSIONS}: {name}", f"seed {settings.seed}"]
    how += [f"{key} {value}" for key, value in own if key not in plain]
    if not settings.quiet:
        say(page, "", wrapped(", ".join(how)))  # before anything can go wrong with a file
    look = {"format": "png", "dpi": settings.dpi, "metadata": {"Software": None}}  # no version
    look["pil_kwargs"] = {"compress_level": 1}  # a tenth larger, but three times as fast
    for file, figure in figures.items():
        beside = folder / f".{file}.{os.getpid()}.part"
        try:
            with style.context("default"):  # how it is saved is not for a matplotlibrc to say
                figure.savefig(beside, **look)
            beside.replace(folder / file)  # whole, or as it was before
        finally:
            beside.unlink(missing_ok=True)
    written = [folder / file for file in figures]
    if settings.csv == "/dev/stdout":
        say(table.to_csv(), end="")
    elif settings.csv:
        table.to_csv(csv)
    written += [csv] if settings.csv else []
    if not settings.quiet:
        say(*(f"wrote {file}" for file in written))


def main(argv=None):
    """Run the command line; returns the exit status: 0 done, 1 failed, 2 usage, 130 Ctrl-C."""
    try:
        run(*parse_arguments(argv))
        return 0
    except SystemExit as stop:  # argparse has said what there is to say
        say(end="")
        return stop.code
    except SettingsError as error:
        message, status = error, 2
    except OSError as error:
        message, status = error, 1
        if error.filename:
            message = f"cannot write {error.filename}: {error.strerror}"
    except (BrokenExecutor, MemoryError):
        message, status = "out of memory, or a worker process died", 1
    except KeyboardInterrupt:
        message, status = "interrupted", 130
    print(f"machine_unlearning.py: error: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    if hasattr(sys.stdout, "reconfigure"):  # an IDE's output may have less to offer
        sys.stdout.reconfigure(errors="backslashreplace")  # a console may lack a folder's letters
    if "IPython" in sys.modules:  # %run: the process is somebody's notebook
        sys.exit(main())
    gc.freeze()  # what is imported is no garbage, and neither is anything when the process ends:
    status = main()  # looking for it would take a sixth of the demo's time
    gc.freeze()
    sys.exit(status)
