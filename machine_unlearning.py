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

It is a lecture. Each experiment is complete in itself, figures and page included, and each part
uses only what stands above it. To understand the demo, read to the end of Part 1 and stop.

    Part 1  The demo              a network, three answers to a request, how close each one comes
    Part 2  The same elsewhere    other data, your own table, other doses and seeds, a film
    Part 3  What really forgets   better answers, and attacks that put all of them to the test
    Part 4  One by one            patients who ask one after the other; what a removal gives away
    Part 5  Running it            experiments by name, flags, files

To teach the demo alone, delete Parts 2 to 4 and the three lines of Part 5 that update
EXPERIMENTS.

    forget, retain, test   sets of rows: to be deleted (80), kept (320), never trained on (100)
    original        the network trained on the forget and the retain set
    retrained       the network trained on the retain set alone, from scratch. This is what
                    forgetting should lead to: it is the TARGET of every metric
    naive deletion  the rows are deleted, the weights stay as they are
    ascent          gradient ascent on the loss of the forget set; papers call it NegGrad
    gap             mean |p - p_retrained| over the forget set, p the probability of "Diabetic"

    X (n, d) features, y (n,) labels 0 and 1, A (n, h) hidden layer, z (n,) logits, p (n,)
    probabilities of n rows; P weights in all

The demo finds     test accuracy    forget accuracy
    Original Model         94.0%              95.0%
    Full Retrain           94.0%              95.0%
    Naive Deletion         94.0%              95.0%
    Gradient Ascent        71.0%              70.0%
"""

import copy
import logging
import math
import os
import time
import warnings
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from itertools import chain, product
from numbers import Integral, Real
from typing import Callable, NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.special import expit as sigmoid  # 1 / (1 + exp(-z)), without overflow
from scipy.special import stdtrit
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.covariance import ledoit_wolf
from sklearn.datasets import load_breast_cancer, make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state, check_scalar
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

__version__ = "4.0.0"

# For drawing, the command line and files
import argparse
import errno
import platform
import re
import sys
from contextlib import contextmanager
from difflib import get_close_matches
from io import BytesIO, StringIO
from pathlib import Path
from textwrap import fill
from threading import RLock

if __name__ == "__main__":  # a notebook hands down its backend, which may not be installed here
    os.environ.pop("MPLBACKEND", None)
import seaborn as sns
import sklearn
from matplotlib import rcParams, style
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullLocator
from PIL import Image

log = logging.getLogger("machine_unlearning")  # says what takes long, if anybody is listening


class SettingsError(ValueError):
    """A setting is out of range, or several settings do not fit together."""


def flag_of(name):
    """The flag of a setting: "--learning-rate" for learning_rate."""
    return "--" + name.replace("_", "-")


def check_range(name, value, low, high, meaning=""):
    """Raise SettingsError unless low <= value <= high; NaN is in no range."""
    if not low <= value <= high:
        flag = flag_of(name)
        words = f" ({meaning})" if meaning else ""
        raise SettingsError(f"{flag} {value}: the allowed range is {low:,} to {high:,}{words}")


def check_type(name, value, kind):
    """Raise SettingsError unless a value is of a kind: int, float, str or bool."""
    types = {int: Integral, float: Real, str: str, bool: bool}
    words = {int: "a whole number", float: "a number", str: "text", bool: "True or False"}
    fits = isinstance(value, types[kind])
    if isinstance(value, bool):  # to Python, True is a whole number
        fits = kind is bool
    if not fits:
        raise SettingsError(f"{flag_of(name)} {value!r}: {words[kind]} is needed")


def setting(default, meaning, *limits):
    """A field of Settings: its default, what it means and, for a number, its range."""
    return field(default=default, metadata={"meaning": meaning, "limits": limits})


FORMATS = ("png", "svg", "pdf")


@dataclass(frozen=True)
class Settings:
    """All settings. Each field is also a flag; the defaults give the classic result."""

    patients: int = setting(500, "patients; four fifths of them are trained on", 10, 10**6)
    forget: int = setting(80, "patients who ask to be forgotten", 1, 10**6)
    trials: int = setting(64, "trials of the study; fewer would leave it to chance", 8, 10**4)
    seed: int = setting(42, "seed of all data and models", 0, 2**32 - 1)
    hidden: int = setting(20, "hidden units: room for a curved boundary", 1, 10**3)
    learning_rate: float = setting(0.1, "step size of gradient descent", 0, 10**3)
    epochs: int = setting(200, "epochs of training", 0, 10**7)  # by then it is accurate
    # 145 x 0.7 is the setting with which this story is usually told. Less changes little, more
    # swaps the two classes: see the sweep, in Part 2
    unlearn_epochs: int = setting(145, "epochs of gradient ascent", 0, 10**7)
    multiplier: float = setting(0.7, "step size of ascent, in learning rates", 0, 10**6)
    output: str = setting("output", "folder for the figures")
    csv: str = setting("", "also write the table to this CSV file")
    dpi: int = setting(150, "resolution of the figures in dots per inch", 10, 1200)
    quiet: bool = setting(False, "print nothing but errors")
    format: str = setting("png", "format of the figures: png, svg or pdf")
    data: str = setting("", "own: your CSV file")
    label: str = setting("", "own: its column with the two classes")
    features: str = setting("", "own: the columns to learn from, separated by commas")
    asked: str = setting("", "own: who asks to be forgotten, such as 'clinic == 3'")

    def __post_init__(self):
        """Raise SettingsError for a value of another type, or a number that is out of range."""
        for option in fields(self):
            value = getattr(self, option.name)
            if option.name == "forget" and value is None:
                continue  # the experiment "own" (Part 2) makes it a fifth of the training rows
            check_type(option.name, value, option.type)
            limits = option.metadata["limits"]
            if limits:
                check_range(option.name, value, *limits, option.metadata["meaning"])
        if self.format not in FORMATS:
            raise SettingsError(f"--format {self.format}: choose png, svg or pdf")

    @property
    def dose(self):
        """How much ascent in all: epochs x step size, in learning rates."""
        return self.unlearn_epochs * self.multiplier


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
    group_sizes = {"Healthy": n_healthy, "Diabetic": n_patients - n_healthy}

    # Age and glucose have a bell curve each; within a group they are independent
    groups = []
    for diagnosis, n in group_sizes.items():
        age_mean, age_deviation = GROUPS[diagnosis]["age"]
        glucose_mean, glucose_deviation = GROUPS[diagnosis]["glucose"]
        age = rng.normal(age_mean, age_deviation, n)
        glucose = rng.normal(glucose_mean, glucose_deviation, n)
        groups.append(pd.DataFrame({"age": age, "glucose": glucose, "diagnosis": diagnosis}))
    patients = pd.concat(groups, ignore_index=True)

    # From 1000, so that an id does not look like a position
    patient_id = 1000 + np.arange(n_patients)
    patients.insert(0, "patient_id", patient_id)
    return patients


def labels_of(patients):
    """Labels y (n,): 1 for every diabetic, 0 for every healthy patient."""
    return (patients["diagnosis"] == "Diabetic").to_numpy(int)


class Cohort(NamedTuple):
    """Everybody, before the split into training and test rows."""

    features: pd.DataFrame  # (n, d) in real units, the columns named as on the axes of the figures
    y: np.ndarray  # (n,)  labels
    classes: tuple  # what label 0 and label 1 mean
    scaler: object  # not fitted yet: features -> X
    source: str = "rows"  # whose rows they are, as the figures put it
    asks: np.ndarray = None  # (n,)  True for those who ask to be forgotten; None: drawn at random


def hospital(settings, rng):
    """The demo's Cohort."""
    patients = make_patients(settings.patients, rng)
    features = patients.set_index("patient_id")[["age", "glucose"]]
    features.columns = ["Age (years)", "Glucose (mg/dL)"]
    y = labels_of(patients)
    scaler = StandardScaler()  # so that years and mg/dL count equally
    return Cohort(features, y, ("Healthy", "Diabetic"), scaler, "synthetic patients")


class Rows(NamedTuple):
    """Rows of a data set, as the network sees them."""

    X: np.ndarray  # (n, d)  features
    y: np.ndarray  # (n,)  labels 0 and 1

    def at(self, which):
        """Some of the rows; which is an array of positions, a mask or a slice."""
        return Rows(self.X[which], self.y[which])


class Data(NamedTuple):
    """A training set, the request to forget some of its rows, and a test set."""

    features: pd.DataFrame  # the training rows in real units, columns named as on the axes
    classes: tuple  # what label 0 and label 1 mean
    scaler: object  # features -> X
    source: str  # whose rows they are
    asked: np.ndarray  # positions of the forget set in the training set, in the order of asking
    train: Rows
    forget: Rows
    retain: Rows
    test: Rows


# ---- Who is trained on, and who asks ------------------------------------------------------------


def divide(cohort, in_train, in_test, asked):
    """The Data of a cohort.

    in_train, in_test: positions of rows in the cohort. asked: positions in in_train, not in the
    cohort. Raises SettingsError if the retain set would lack a class.
    """
    # A simplification: the scaler is fitted on everybody, test rows too, and not refitted after the
    # request. Strictly, it would have to forget as well
    X = np.asarray(cohort.scaler.fit_transform(cohort.features))
    everybody = Rows(X, cohort.y)
    train = everybody.at(in_train)
    test = everybody.at(in_test)

    # Of the training rows, those who ask are to be forgotten, and all others are kept
    kept = np.setdiff1d(np.arange(len(in_train)), asked)  # in the order of training
    forget = train.at(asked)
    retain = train.at(kept)
    if len(np.unique(retain.y)) < 2:
        who = f"{len(asked)} of {len(in_train)} training rows ask to be forgotten"
        raise SettingsError(f"{who}: both classes must remain among the others")

    features = cohort.features.iloc[in_train]
    names = cohort.classes
    return Data(features, names, cohort.scaler, cohort.source, asked, train, forget, retain, test)


def split(cohort, settings, rng):
    """Divide a cohort into 80% training and 20% test rows, and draw who asks to be forgotten."""
    everybody = np.arange(len(cohort.y))

    # 20% are never trained on, so accuracy on them measures generalisation. By the seed, not rng:
    # the same rows, whatever rng has drawn before
    in_train, in_test = train_test_split(everybody, test_size=0.2, random_state=settings.seed)
    check_type("forget", settings.forget, int)
    check_range("forget", settings.forget, 1, len(in_train) - 2, "two classes must remain")

    asked = rng.permutation(len(in_train))[: settings.forget]
    return divide(cohort, in_train, in_test, asked)


# ---- The network --------------------------------------------------------------------------------


class Weights(NamedTuple):
    """All weights of a network with d inputs and h hidden units."""

    W1: np.ndarray  # (d, h)  from the inputs to the hidden units
    b1: np.ndarray  # (h,)
    W2: np.ndarray  # (h,)  from the hidden units to the output
    b2: np.ndarray  # (1,)


class Layers(NamedTuple):
    """What the two layers compute for n rows."""

    A: np.ndarray  # (n, h)  hidden layer
    z: np.ndarray  # (n,)  logits


def check_finite(name, value):
    """Raise TypeError or ValueError unless a parameter is a number, neither NaN nor infinite."""
    check_scalar(value, name, Real)
    if not np.isfinite(value):
        raise ValueError(f"{name} == {value}, must be finite.")


class TwoLayerMLP(ClassifierMixin, BaseEstimator):
    """A binary classifier: d inputs -> h tanh units -> one sigmoid unit.

        A = tanh(X W1 + b1)     (n, h)  hidden layer
        z = A W2 + b2           (n,)    logit
        p = 1 / (1 + exp(-z))   (n,)    probability of classes_[1]
        loss = -mean(y log p + (1 - y) log(1 - p)) + l2 / 2 |all weights|^2

    hidden_size     h
    learning_rate   step size of gradient descent
    epochs          number of steps; each one uses all rows
    init_scale      standard deviation of the initial weights: small, so that every unit starts in
                    the linear part of tanh; not 0, or all units would stay alike
    l2              weight of the penalty; 0 in the demo
    random_state    an int, a RandomState (which fit advances) or None

    Learned: classes_ (2,) and weights_ (P,), which holds W1, b1, W2 and b2 one after the other.
    """

    BLOCK = 2048  # rows at a time: their hidden layer (2048 x 20 floats) fits a core's cache

    def __init__(
        self,
        hidden_size=20,
        learning_rate=0.1,
        epochs=200,
        init_scale=0.01,
        l2=0.0,
        random_state=None,
    ):
        self.hidden_size = hidden_size
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.init_scale = init_scale
        self.l2 = l2
        self.random_state = random_state

    def initialise(self):
        """Draw new weights at random; the biases start at 0."""
        d = self.n_features_in_
        h = self.hidden_size
        rng = check_random_state(self.random_state)
        W1 = self.init_scale * rng.randn(d, h)
        b1 = np.zeros(h)
        W2 = self.init_scale * rng.randn(h)
        b2 = np.zeros(1)
        self.weights_ = np.concatenate([W1.ravel(), b1, W2, b2])

    def unpack(self):
        """The Weights as views into weights_: writing into them changes the network."""
        d = self.n_features_in_
        h = self.hidden_size
        W1 = self.weights_[: d * h].reshape(d, h)
        b1 = self.weights_[d * h : d * h + h]
        W2 = self.weights_[d * h + h : d * h + 2 * h]
        b2 = self.weights_[d * h + 2 * h :]
        return Weights(W1, b1, W2, b2)

    def forward(self, X):
        """The Layers for X (n, d): hidden layer A (n, h) and logits z (n,)."""
        W1, b1, W2, b2 = self.unpack()
        A = X @ W1  # (n, h)
        A += b1  # in place: with many rows, new arrays cost more time than the sums
        np.tanh(A, out=A)
        z = A @ W2 + b2  # (n,)
        return Layers(A, z)

    def encode(self, X, y):
        """The labels y (n,) of X (n, d) as 0 and 1, by classes_.

        Raises NotFittedError before fit, ValueError if X and y differ in length, or for a label
        that fit has not seen.
        """
        check_is_fitted(self)
        y = np.asarray(y)
        if y.shape != (len(X),):
            raise ValueError(
                f"X has {len(X)} rows, so y must have shape ({len(X)},), not {y.shape}"
            )
        is_class_0 = y == self.classes_[0]
        is_class_1 = y == self.classes_[1]
        if not (is_class_0 | is_class_1).all():
            raise ValueError(f"y may hold {self.classes_} only, it holds {np.unique(y)}")
        return is_class_1.astype(int)

    def losses(self, X, y):
        """Cross-entropy (n,) of each row: -log p where y is 1, -log(1 - p) where y is 0.

        In terms of the logit that is log(1 + exp(-z)) and log(1 + exp(z)), which stay finite even
        where p is rounded to 0 or 1.
        """
        y = self.encode(X, y)
        # What is too small for a float becomes 0, even if the caller has told NumPy to raise an
        # error; so in all methods below
        with np.errstate(under="ignore"):
            z = self.forward(X).z
            exponents = np.where(y == 1, -z, z)  # (n,)
            return np.logaddexp(0, exponents)  # log(exp(0) + exp(exponents))

    def objective(self, X, y):
        """Mean cross-entropy of X (n, d), y (n,), plus the penalty: what training lowers."""
        mean_loss = self.losses(X, y).mean()
        penalty = self.l2 / 2 * (self.weights_ @ self.weights_)
        return mean_loss + penalty

    def backpropagate(self, X, y):
        """Gradient (P,) of the summed losses of X (n, d), y (n,) of 0 and 1: the chain rule."""
        W2 = self.unpack().W2
        A, z = self.forward(X)

        # Back from the loss to the logit: sigmoid and logarithm together leave p - y
        dz = sigmoid(z) - y  # (n,)
        dW2 = A.T @ dz  # (h,)
        db2 = dz.sum(keepdims=True)  # (1,)

        # Back through the hidden layer, to U = X W1 + b1, of which A is the tanh
        dU = 1 - A**2  # (n, h)  so far the slope, tanh' = 1 - tanh^2
        dU *= W2  # in place, too: times (h,)
        dU *= dz[:, None]  # times (n, 1)
        dW1 = X.T @ dU  # (d, h)
        db1 = np.ones(len(X)) @ dU  # (h,)  dU.sum(axis=0), but faster

        return np.concatenate([dW1.ravel(), db1, dW2, db2])

    def mean_gradient(self, X, y):
        """Gradient (P,) of the objective on X (n, d), y (n,) of 0 and 1.

        Many rows are taken block by block: a block's hidden layer stays in the cache, and threads
        share the blocks. Their gradients are added up in order, so that the sum is the same to the
        last bit for any number of threads.
        """
        if len(X) <= self.BLOCK:
            total = self.backpropagate(X, y)
        else:
            starts = range(0, len(X), self.BLOCK)
            X_blocks = [X[start : start + self.BLOCK] for start in starts]
            y_blocks = [y[start : start + self.BLOCK] for start in starts]
            with ThreadPoolExecutor(os.cpu_count()) as threads:
                total = sum(threads.map(self.backpropagate, X_blocks, y_blocks))
        return total / len(X) + self.l2 * self.weights_

    def gradient(self, X, y):
        """mean_gradient, for labels as the caller has them, not yet 0 and 1."""
        y = self.encode(X, y)
        with np.errstate(under="ignore"):
            return self.mean_gradient(X, y)

    def move(self, X, y, rate, epochs):
        """Move all weights against the gradient, downhill, or uphill if rate < 0; in place."""
        y = self.encode(X, y)
        with np.errstate(under="ignore"):
            for _ in range(epochs):
                self.weights_ -= rate * self.mean_gradient(X, y)
        self.warn_if_diverged()

    def descend(self, X, y, epochs):
        """Continue training on X (n, d), y (n,), in place; returns self."""
        self.move(X, y, self.learning_rate, epochs)
        return self

    def fit(self, X, y):
        """Train from scratch on X (n, d), y (n,) by full-batch gradient descent; returns self.

        Raises ValueError for NaN, infinity, unequal lengths, not exactly two classes, and TypeError
        or ValueError for parameters that are not numbers, or out of range.
        """
        X, y = self.check_fit_input(X, y)
        self.initialise()
        self.move(X, y, self.learning_rate, self.epochs)
        return self

    def unlearn(self, X_forget, y_forget, epochs=145, multiplier=0.7):
        """Gradient ascent on the loss of X_forget (m, d), y_forget (m,); in place, returns self.

        Each step is multiplier times as long as one of descent. Nothing holds the predictions for
        other rows in place; with l2 > 0, ascent increases the penalty, too. Known as NegGrad:
        Golatkar et al., CVPR 2020, arXiv 1911.04933. Raises NotFittedError before fit, ValueError
        for NaN, infinity, unequal lengths and labels that fit has not seen, and TypeError or
        ValueError if epochs is not a whole number or negative, or multiplier not a finite number.
        """
        check_scalar(epochs, "epochs", Integral, min_val=0)
        check_finite("multiplier", multiplier)
        X, y = validate_data(self, X_forget, y_forget, dtype=np.float64, reset=False)
        uphill = -self.learning_rate * multiplier
        self.move(X, y, uphill, epochs)
        return self

    # What scikit-learn expects of a classifier, so that clone, score and pipelines work

    def decision_function(self, X):
        """Logits (n,) of X (n, d).

        Raises NotFittedError before fit, ValueError for NaN, if X has another number of columns, or
        if training diverged.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        if not np.isfinite(self.weights_).all():
            raise ValueError("the weights are not finite, since training diverged: no predictions")
        with np.errstate(under="ignore"):
            return self.forward(X).z

    def predict_proba(self, X):
        """Probabilities (n, 2) of classes_[0] and classes_[1] for X (n, d)."""
        z = self.decision_function(X)
        with np.errstate(under="ignore"):
            return np.column_stack([sigmoid(-z), sigmoid(z)])

    def predict(self, X):
        """The more probable class (n,) of each row of X (n, d)."""
        z = self.decision_function(X)
        return self.classes_[(z > 0).astype(int)]

    def loss(self, X, y):
        """The objective on X (n, d), y (n,), which are checked first; raises as unlearn does."""
        X, y = validate_data(self, X, y, dtype=np.float64, reset=False)
        return self.objective(X, y)

    def check_fit_input(self, X, y):
        """X as floats, and y; sets classes_ and n_features_in_. Raises the errors of fit."""
        # Parameters that are numbers, rows without gaps
        check_scalar(self.hidden_size, "hidden_size", Integral, min_val=1)
        check_scalar(self.epochs, "epochs", Integral, min_val=0)
        check_finite("learning_rate", self.learning_rate)
        check_finite("init_scale", self.init_scale)
        check_finite("l2", self.l2)
        X, y = validate_data(self, X, y, dtype=np.float64)

        # At most two classes; scikit-learn's checks look for these very words
        check_classification_targets(y)
        kind = type_of_target(y)
        if kind != "binary":
            raise ValueError(
                f"Only binary classification is supported. The type of the target is {kind}."
            )

        # And not one alone
        self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise ValueError(f"y must hold two classes, it holds one class: {self.classes_[0]}")
        return X, y

    def warn_if_diverged(self):
        """A ConvergenceWarning if the weights are not finite."""
        if not np.isfinite(self.weights_).all():
            message = "the weights are not finite any more: a smaller step size may help"
            # 4: this method, move, then fit, descend or unlearn, then their caller, who is told
            warnings.warn(message, ConvergenceWarning, stacklevel=4)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False  # two classes only
        return tags


# ---- Three answers to a request -----------------------------------------------------------------
# The lecture in two lines. All that matters is what an answer starts from:
#
#     clone(original)            the settings WITHOUT the weights: it has never seen anybody
#     copy.deepcopy(original)    the settings AND the weights: all that was learned is still in it
#
# A method gets a request and a RandomState, even if it draws nothing, and returns a new network.
# The request is not modified.


class Request(NamedTuple):
    """A trained network, and which of its training rows it should forget."""

    original: TwoLayerMLP  # trained on both sets
    retain: Rows
    forget: Rows
    settings: Settings


def full_retrain(request, rng):
    """The same training from new random weights, on the retain set alone."""
    model = clone(request.original)  # WITHOUT the weights
    # clone has copied random_state, too: without this line, all retrains would start alike
    model.set_params(random_state=rng)
    return model.fit(request.retain.X, request.retain.y)


def naive_deletion(request, rng):
    """The rows are deleted, the weights stay."""
    return copy.deepcopy(request.original)  # WITH the weights


def gradient_ascent(request, rng):
    """Climb back up the loss of the forget set, from where training ended."""
    model = copy.deepcopy(request.original)  # WITH the weights
    forget = request.forget
    settings = request.settings
    return model.unlearn(forget.X, forget.y, settings.unlearn_epochs, settings.multiplier)


ORIGINAL = "Original Model"
RETRAIN = "Full Retrain"
NAIVE = "Naive Deletion"
ASCENT = "Gradient Ascent"
ANSWERS = {RETRAIN: full_retrain, NAIVE: naive_deletion, ASCENT: gradient_ascent}


# ---- How close does each one come? --------------------------------------------------------------
# The target of every metric is the value of the retrained model: not 50%, and not 0.


def gap_per_row(model, retrained, X):
    """|p - p_retrained| (n,) of each row of X (n, d): 0 where the two agree."""
    p = model.predict_proba(X)[:, 1]
    p_retrained = retrained.predict_proba(X)[:, 1]
    return np.abs(p - p_retrained)


def gap_to_retrained(model, retrained, X):
    """Mean |p - p_retrained| over the rows of X (n, d): 0 where the two agree on all of them."""
    return gap_per_row(model, retrained, X).mean()


def attack_auc(model, forget, test):
    """Loss attack: do forget rows have lower losses than test rows? 0.5: no difference.

    The area under the ROC curve: the chance that a random forget row has a lower loss than a
    random test row. Yeom et al., CSF 2018, arXiv 1709.01604.
    """
    forget_losses = model.losses(forget.X, forget.y)
    test_losses = model.losses(test.X, test.y)
    losses = np.concatenate([forget_losses, test_losses])
    was_trained_on = np.repeat([1, 0], [len(forget.y), len(test.y)])
    return roc_auc_score(was_trained_on, -losses)  # the lower the loss, the more suspect


def evaluate(model, original, retrained, data):
    """The metrics of one model, by name. The target of each is the retrained model's value."""
    forget = data.forget
    retain = data.retain
    test = data.test

    # Whose prediction has changed, and who was right before?
    before = original.predict(forget.X)
    after = model.predict(forget.X)
    changed = after != before
    was_right = before == forget.y

    gaps = gap_per_row(model, retrained, forget.X)
    return {
        "test_accuracy": model.score(test.X, test.y),
        "retain_accuracy": model.score(retain.X, retain.y),
        "forget_accuracy": model.score(forget.X, forget.y),
        "predictions_changed": changed.sum(),  # on the forget set
        "gap_to_retrained": gaps.mean(),
        "attack_auc": attack_auc(model, forget, test),
        "newly_wrong": (changed & was_right).sum(),
        "largest_gap": gaps.max(),  # of the patient on whom the two differ most
    }


def report(what, seconds):
    """Log how long a step took, if it took more than a second; main shows it on stderr."""
    if seconds > 1:
        log.info("%s: %.1f s", what, seconds)


def timed(function, *arguments, rng, repeats=3):
    """(result, median seconds) of function(*arguments, rng).

    Every run starts from the same state of rng, so all of them give the same result. One run is
    enough if it takes half a second, since then a disturbance of some milliseconds does not matter.
    """
    state = rng.get_state()
    seconds = []
    while len(seconds) < repeats:
        rng.set_state(state)
        start = time.perf_counter()
        result = function(*arguments, rng)
        seconds.append(time.perf_counter() - start)
        if seconds[-1] > 0.5:
            break
    return result, np.median(seconds)


def train_original(rows, settings, rng):
    """The network before any request, trained on rows from random weights."""
    model = TwoLayerMLP(
        hidden_size=settings.hidden,
        learning_rate=settings.learning_rate,
        epochs=settings.epochs,
        random_state=rng,
    )
    return model.fit(rows.X, rows.y)


# Hidden units computed in one training (rows x units x epochs): about one second's worth. Trainings
# that take longer are shared among processes, which take a second or two to start
MUCH_WORK = 10**8


def more_retrains(request, n, rng):
    """The yardstick: n more networks, the same as n calls of full_retrain.

    How far apart are two retrained models? They differ in nothing but their initial weights, and no
    answer needs to come closer to the target than another retrained model does. Long trainings run
    on all cores.
    """
    retain = request.retain
    epochs = request.original.epochs

    # Draw the initial weights of all models, one after the other, as full_retrain would
    models = []
    for _ in range(n):
        model = clone(request.original)
        model.set_params(random_state=rng, epochs=0)
        model.fit(retain.X, retain.y)  # 0 epochs: nothing but the draw
        model.set_params(epochs=epochs)
        models.append(model)

    # Then train them, which draws nothing any more
    work = len(retain.y) * request.original.hidden_size * epochs
    n_jobs = -1 if work > MUCH_WORK else 1
    # delayed only notes a call, and Parallel makes it. Another process trains a copy of a model, so
    # what Parallel returns is returned here, not models
    calls = [delayed(model.descend)(retain.X, retain.y, epochs) for model in models]
    return Parallel(n_jobs)(calls)


class Comparison(NamedTuple):
    """All that is known about one request; every figure and every sentence is made from it."""

    data: Data
    models: dict  # name -> network
    results: pd.DataFrame  # a row per model: seconds, and the metrics of evaluate
    others: list  # the yardstick: more retrained networks
    settings: Settings


def answer_and_measure(data, settings, rng, repeats=3, n_others=10):
    """Train the original, answer the request in each way, measure; returns a Comparison.

    Every training is timed repeats times; n_others more retrained models are the yardstick, without
    which there are no figures and no page. Raises TypeError or ValueError unless repeats >= 1 and
    n_others >= 0.
    """
    check_scalar(repeats, "repeats", Integral, min_val=1)
    check_scalar(n_others, "n_others", Integral, min_val=0)
    models = {}
    seconds = {}

    # The original has seen all training rows, including those of the patients who will ask
    original, seconds[ORIGINAL] = timed(
        train_original, data.train, settings, rng=rng, repeats=repeats
    )
    models[ORIGINAL] = original
    report(ORIGINAL, seconds[ORIGINAL])

    # Each method answers the request
    request = Request(original, data.retain, data.forget, settings)
    for name, method in ANSWERS.items():
        models[name], seconds[name] = timed(method, request, rng=rng, repeats=repeats)
        report(name, seconds[name])

    # How close does each answer come to the model that never saw them?
    metrics = {}
    for name, model in models.items():
        metrics[name] = evaluate(model, original, models[RETRAIN], data)
    results = pd.DataFrame.from_dict(metrics, orient="index").rename_axis("method")
    results.insert(0, "seconds", pd.Series(seconds))

    # The yardstick
    start = time.perf_counter()
    others = more_retrains(request, n_others, rng)
    report(f"{n_others} other retrains", time.perf_counter() - start)

    return Comparison(data, models, results, others, settings)


def gaps_to_others(model, comparison):
    """The gap of a model to each of the other retrains. For the retrained model: the yardstick."""
    if not comparison.others:
        raise ValueError("n_others == 0, must be >= 1: without other retrains, no yardstick")
    X = comparison.data.forget.X
    gaps = [gap_to_retrained(model, other, X) for other in comparison.others]
    return np.array(gaps)


def ascent_path(comparison, settings):
    """Where gradient ascent passes on its way: a DataFrame by epoch, from 0, where nothing is done.

    Columns: test_accuracy, forget_accuracy, gap_to_retrained. The last epoch is
    settings.unlearn_epochs, and the last row what gradient_ascent ends with.
    """
    forget = comparison.data.forget
    test = comparison.data.test
    p_retrained = comparison.models[RETRAIN].predict_proba(forget.X)[:, 1]
    model = copy.deepcopy(comparison.models[ORIGINAL])
    path = []

    for epoch in range(settings.unlearn_epochs + 1):
        if epoch > 0:
            model.unlearn(forget.X, forget.y, epochs=1, multiplier=settings.multiplier)
        z_test = model.decision_function(test.X)
        z_forget = model.decision_function(forget.X)
        path.append({
            "test_accuracy": np.mean((z_test > 0) == test.y),
            "forget_accuracy": np.mean((z_forget > 0) == forget.y),
            "gap_to_retrained": np.mean(np.abs(sigmoid(z_forget) - p_retrained)),
        })  # fmt: skip

    return pd.DataFrame(path).rename_axis("epoch")


def has_learned(comparison):
    """Have the original and the target learned anything? If not, there is nothing to judge.

    Both must be right more often on the test set than always guessing the larger class. An
    untrained network can be that by luck. But its p is about 0.5 for everybody, which is a loss of
    log 2. So the loss on the retain set, which both have seen, must be at least 1% below log 2.
    """
    retain = comparison.data.retain
    share_of_class_1 = comparison.data.test.y.mean()
    share_of_larger_class = max(share_of_class_1, 1 - share_of_class_1)

    for name in (ORIGINAL, RETRAIN):
        accuracy = comparison.results.test_accuracy[name]
        loss = comparison.models[name].losses(retain.X, retain.y).mean()
        if accuracy <= share_of_larger_class or loss > 0.99 * np.log(2):
            return False
    return True


def standard_error_of_difference(model, other, rows):
    """Standard error of the difference in accuracy between two models on the same n rows.

    On each of the k rows where they disagree, exactly one of them is right, so the row moves the
    difference by 1 / n, up or down. If both are equally good, up and down are equally likely: k
    coin tosses, whose sum has a standard deviation of sqrt(k) / n. McNemar, Psychometrika 12, 1947.
    """
    k = np.sum(model.predict(rows.X) != other.predict(rows.X))
    return np.sqrt(k) / len(rows.y)


def check_answers(comparison):
    """Four questions: a DataFrame with value, low, high and holds (low <= value <= high).

    useful     is ascent as accurate as the target on the test set, up to two standard errors?
    close      is its gap at most the largest gap of another retrain, or at most half the naive one?
    coin toss  is its forget accuracy near 50%? Often asked for, but the target is another one
    naive      is the gap of naive deletion at most the largest gap of another retrain?
    """
    results = comparison.results
    ascent = comparison.models[ASCENT]
    retrained = comparison.models[RETRAIN]
    standard_error = standard_error_of_difference(ascent, retrained, comparison.data.test)
    lowest_accuracy = max(results.test_accuracy[RETRAIN] - 2 * standard_error, 0)
    naive_gap = results.gap_to_retrained[NAIVE]
    gap_of_others = gaps_to_others(retrained, comparison).max()

    checks = {
        "useful": (results.test_accuracy[ASCENT], lowest_accuracy, 1),
        "close": (results.gap_to_retrained[ASCENT], 0, max(gap_of_others, naive_gap / 2)),
        "coin toss": (results.forget_accuracy[ASCENT], 0.4, 0.6),
        "naive": (naive_gap, 0, gap_of_others),
    }
    table = pd.DataFrame.from_dict(checks, orient="index", columns=["value", "low", "high"])
    table["holds"] = table.value.between(table.low, table.high)
    return table


# ---- How it is shown: the language of all figures -----------------------------------------------
# You have seen the whole demo; the rest of Part 1 draws and prints it.
#
# The title of a figure says what was found; one or two grey lines below it say on which data, and
# how to read the picture. Green is retraining, red is gradient ascent; in tables, they are a good
# and a bad verdict. A dashed green line is the target, a dotted one 50%. Blue circles and orange
# triangles are the two classes. A ring is a patient who asked to be forgotten, a large mark one
# whom a model and the target judge differently, and a cross is a wrong prediction.

INK = "#222222"
GREY = "#666666"
PALE = "#aaaaaa"
PALEST = "#f2f2f2"
GREEN = "#006450"  # retraining, the target
GREEN_TINT = "#cfe6df"  # on target, not caught
RED = "#cc3311"  # gradient ascent
RED_TINT = "#f6d2ca"  # off target, caught
PURPLE = "#5b2a86"  # the certificate
COLORS = {RETRAIN: GREEN, "Newton Retrain": GREEN, ASCENT: RED}  # of methods; others have none
CLASS_LOOKS = ({"color": "#1f83c4", "marker": "o"}, {"color": "#e69f00", "marker": "^"})
SHADES = sns.blend_palette(["#bbdaef", "white", "#fae3b4"], as_cmap=True)  # of p, from 0 to 1
VERDICTS = ListedColormap([GREEN_TINT, PALEST, RED_TINT])  # of 0, 0.5 and 1

# Lines
TARGET_LINE = {"color": GREEN, "linestyle": "--", "linewidth": 1.8}  # the retrained model's
HALF_LINE = {"color": INK, "linestyle": ":", "linewidth": 1.8}  # 50%, a coin toss
BORDER_LINE = {"color": INK, "linestyle": "-", "linewidth": 1.8}  # where a model's p is 0.5

# Patients on a map, and their marks in the key. With n marks, each has an area of s / sqrt(n)
# square points, within limits: see size_for
SMALL = {"s": 160, "alpha": 0.6, "linewidth": 0}
RINGED = {"s": 380, "linewidth": 0.9, "edgecolor": INK, "zorder": 3}
LARGE = {"s": 420, "linewidth": 0.8, "edgecolor": "white", "zorder": 3}  # judged differently
CROSS = {"s": 260, "linewidth": 0.8, "color": INK, "edgecolor": "white", "marker": "X", "zorder": 4}
RING_KEY = {"color": INK, "marker": "o", "markerfacecolor": "none"}
LARGE_KEY = {"color": GREY, "marker": "o", "markersize": 9}
CROSS_KEY = {"color": INK, "marker": "X", "markeredgewidth": 0}

WIDTH = 10  # inches, 1,500 pixels; GitHub shrinks them to 838, so no text is below 11 points
TEXT_WIDTH = 9.7  # what the margins leave of it
STYLE = {
    "font.size": 12,
    "figure.titlesize": 15,
    "figure.titleweight": "bold",
    "text.color": INK,
    "text.parse_math": False,  # a $ in the name of a column is a $
    "svg.hashsalt": "machine_unlearning",  # names in an SVG file that do not change
    "axes.labelcolor": INK,
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.handlelength": 1.7,
    "legend.handletextpad": 0.4,
    "legend.columnspacing": 1.2,
}
FONTS = ("font.family", "font.sans-serif", "font.serif", "font.monospace")
STYLE_LOCK = RLock()  # two threads that draw at once would restore each other's rcParams


@contextmanager
def in_our_style():
    """The look of all figures, in a with block or as a decorator; restores rcParams afterwards.

    Only the reader's fonts are kept: they may have letters that Matplotlib's own font lacks.
    """
    with STYLE_LOCK:
        fonts = {name: rcParams[name] for name in FONTS}
        with style.context(["default", STYLE, fonts]):
            yield


class NotebookFigure(Figure):
    """A figure made without pyplot, so that a notebook shows it once, by calling _repr_png_.

    A notebook would show a figure of pyplot's twice: as a figure, and as the value of the cell.
    """

    @in_our_style()
    def savefig(self, *arguments, **options):
        """As matplotlib's, but in our style: savefig asks rcParams for the background."""
        super().savefig(*arguments, **options)

    def _repr_png_(self):
        picture = BytesIO()
        self.savefig(picture, format="png")
        return picture.getvalue()


# Words


def percent(fraction, digits=1):
    """0.95 as "95.0%"."""
    return f"{100 * fraction:.{digits}f}%"


def points(gap):
    """A gap of 0.0083 as "0.83" points of probability; a small one keeps two digits."""
    value = 100 * gap
    return f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.2g}"


def wrapped(words, width=79):
    """Lines of at most this width."""
    return fill(words, width)


def width_of(words, size=12, weight="normal"):
    """Inches that the longest line of a text takes, in the reader's own font."""
    fig = Figure()
    renderer = FigureCanvasAgg(fig).get_renderer()
    text = fig.text(0, 0, words, size=size, weight=weight)
    return text.get_window_extent(renderer).width / fig.dpi


def in_lines(words, inches, size=12, weight="normal"):
    """The words in as few lines as fit into a width, all about equally long."""
    text = words
    n_lines = 1
    while width_of(text, size, weight) > inches:
        n_lines += 1
        letters = 1.1 * len(words) / n_lines  # 1.1: room for the rest of a word
        text = fill(words, math.ceil(letters))
    return text


def example(comparison):
    """Which data a figure shows: "80 of 400 synthetic patients ask to be forgotten (seed 42)"."""
    data = comparison.data
    n_asked = len(data.asked)
    ask = "asks" if n_asked == 1 else "ask"
    return (
        f"{n_asked:,} of {len(data.train.y):,} {data.source} {ask} to be forgotten (seed "
        f"{comparison.settings.seed})"
    )


# Panels


def new_page(height, finding, explanation):
    """A figure of 10 x height inches with its title and grey lines, and the space below them.

    Three boxes, one inside the other: Matplotlib gives each only one title, and the third holds the
    panels with their legend. Constrained layout makes room for all texts.
    """
    # The outer box, with the finding as its title
    outer = NotebookFigure(figsize=(WIDTH, height), layout="constrained")
    outer.get_layout_engine().set(w_pad=0.06, h_pad=0.07)  # inches between panels
    outer.suptitle(in_lines(finding, TEXT_WIDTH, 15, "bold"), x=0.008, ha="left")

    # The inner box fills the rest; its title is the explanation
    inner = outer.subfigures()
    grey = {"color": GREY, "size": 12, "weight": "normal", "linespacing": 1.3}
    inner.suptitle(in_lines(explanation, TEXT_WIDTH), x=0.008, ha="left", **grey)

    # And the space for panels fills what that leaves
    space = inner.subfigures()
    return outer, space


def new_figure(height, finding, explanation, n_rows=1, n_columns=1, **grid):
    """A figure of 10 x height inches, and its axes: the finding, how to read it, the panels.

    grid: what else Matplotlib's subplots takes.
    """
    fig, space = new_page(height, finding, explanation)
    return fig, space.subplots(n_rows, n_columns, **grid)


def write_number(ax, row, number, color):
    """A number, in words, right of a row."""
    place = ax.get_yaxis_transform()  # x in widths of the panel, 1 at its right; y in rows
    ax.text(1.06, row, number, transform=place, color=color, va="center")


def name_rows(ax, numbers):
    """Write names at the left of a panel, numbers at its right; numbers: a Series by name."""
    ax.set_yticks(range(len(numbers)), numbers.index)
    ax.set_ylim(len(numbers) - 0.4, -0.6)  # the first row on top, some room above and below
    ax.tick_params(axis="y", length=0)

    for row, (name, number) in enumerate(numbers.items()):
        write_number(ax, row, number, COLORS.get(name, INK))


def draw_bars(ax, title, values, lines):
    """A bar per row of values, fractions; lines: "target" for one at Full Retrain's, and "50%"."""
    colors = [COLORS.get(name, PALE) for name in values.index]
    ax.barh(range(len(values)), values, height=0.7, color=colors)
    name_rows(ax, values.map("{:.0%}".format))
    ax.set(xlim=(0, 1), xticks=[])
    ax.set_title(title)
    if "target" in lines:
        ax.axvline(values[RETRAIN], **TARGET_LINE)
    if "50%" in lines:
        ax.axvline(0.5, **HALF_LINE)
        ax.set_xticks([0.5], ["50%\ncoin toss"])


class Column(NamedTuple):
    """A column of a table; the lists have an entry per row."""

    heading: str
    words: list
    tints: list  # from 0 to 1, in the colours of the table; NaN: an empty cell
    framed: tuple = ()  # rows whose cell has a frame


def draw_grid(ax, names, columns, colormap):
    """A table of tinted cells, made of Columns; names are those of its rows, or empty."""
    sns.heatmap(
        np.column_stack([column.tints for column in columns]),
        annot=np.column_stack([column.words for column in columns]),
        xticklabels=[column.heading for column in columns],
        yticklabels=names,
        fmt="",  # the words as they are
        annot_kws={"color": INK, "size": 12},
        cmap=colormap,
        vmin=0,
        vmax=1,
        linewidths=2.5,  # white gaps
        cbar=False,
        ax=ax,
    )
    ax.tick_params(length=0, labelrotation=0, labelbottom=False, labeltop=True)

    frame = {"fill": False, "edgecolor": INK, "linewidth": 1.6, "clip_on": False}
    for k, column in enumerate(columns):
        for row in column.framed:
            ax.add_patch(Rectangle((k, row), 1, 1, **frame))


# Maps of two features


def size_for(n, look):
    """A look for n marks: the more there are, the smaller is each, down to that of 1,600 marks."""
    size = min(look["s"] / np.sqrt(np.clip(n, 1, 1600)), 80)  # square points
    linewidth = look["linewidth"] * min(size / 40, 1)  # thin around small marks: colour remains
    return {**look, "s": size, "linewidth": linewidth}


def draw_patients(ax, data, positions, look):
    """Training rows at these positions, in the colours and shapes of their classes."""
    look = size_for(len(positions), look)
    labels = data.train.y[positions]
    for label, class_look in enumerate(CLASS_LOOKS):
        places = data.features.iloc[positions[labels == label]].to_numpy()  # (m, 2)
        ax.scatter(places[:, 0], places[:, 1], **class_look, **look)


def draw_marks(ax, data, positions, look):
    """Marks on training rows at these positions, alike for both classes; returns them."""
    places = data.features.iloc[positions].to_numpy()  # (m, 2)
    return ax.scatter(places[:, 0], places[:, 1], **size_for(len(positions), look))


def draw_map(ax, comparison, model=None):
    """A model's p, shaded; a line where p = 0.5, a dashed green one where the retrained model's is.

    Without a model, just the frame. Returns what a film must remove before it draws the next
    model. Raises ValueError unless the data have two features.
    """
    data = comparison.data
    names = data.features.columns
    if len(names) != 2:
        raise ValueError(f"a map needs two features, there are {len(names)}")

    # The frame: all training rows, with a margin
    low = data.features.min().to_numpy()
    high = data.features.max().to_numpy()
    margin = 0.02 * (high - low)
    sides = np.linspace(low - margin, high + margin, 60)  # (60, 2)  a column per feature
    x = sides[:, 0]
    y = sides[:, 1]
    ax.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]), xlabel=names[0], ylabel=names[1])
    ax.locator_params(nbins=5)
    if model is None:
        return []

    # Both models' logits at 60 x 60 points
    across, up = np.meshgrid(x, y)
    points_on_map = pd.DataFrame(np.column_stack([across.ravel(), up.ravel()]), columns=names)
    X = np.asarray(data.scaler.transform(points_on_map))  # (3600, 2)
    z = model.decision_function(X).reshape(60, 60)
    z_target = comparison.models[RETRAIN].decision_function(X).reshape(60, 60)

    # The shades, and the borders, where z = 0; a model that predicts one class has none
    drawn = [ax.contourf(x, y, sigmoid(z), levels=np.linspace(0, 1, 11), cmap=SHADES, zorder=0)]
    for logits, line in ((z, BORDER_LINE), (z_target, TARGET_LINE)):
        if logits.min() < 0 < logits.max():
            look = {f"{name}s": value for name, value in line.items()}  # contour has plural names
            drawn.append(ax.contour(x, y, logits, levels=[0], **look))
    return drawn


def add_legend(ax, handles):
    """What marks and lines mean, above all panels."""
    ax.figure.legend(handles=handles, loc="outside upper left", ncols=3)


def add_key(ax, data, marks):
    """The legend of all maps: classes, marks as (label, look), the two borders."""
    classes = [(f"actually {name}", look) for name, look in zip(data.classes, CLASS_LOOKS)]
    handles = []
    for label, look in classes + marks:
        handles.append(Line2D([], [], linestyle="", label=label, **look))
    handles.append(Line2D([], [], **BORDER_LINE, label="the model's border"))
    handles.append(Line2D([], [], **TARGET_LINE, label="the target's border"))
    add_legend(ax, handles)


# ---- The demo's four figures --------------------------------------------------------------------


def the_asked(data):
    """ "the 80", or "the one who asked"."""
    n = len(data.asked)
    return "the one who asked" if n == 1 else f"the {n:,}"


def aim_of_forgetting(comparison):
    """The forget accuracy that forgetting should lead to, in words: "95%, not 50%"."""
    target = comparison.results.forget_accuracy[RETRAIN]
    if 0.45 < target < 0.55:
        return f"{target:.0%}"
    return f"{target:.0%}, not 50%"


# A title where there is nothing to judge, see has_learned
NO_VERDICT = "No verdict: the original or the retrained model has learned nothing"


def times_the_gap(results):
    """The gap that ascent leaves, in multiples of the gap that doing nothing leaves; in words."""
    nothing = max(results.gap_to_retrained[NAIVE], 1e-12)  # not 0
    times = results.gap_to_retrained[ASCENT] / nothing
    return f"{times:,.0f}" if times >= 10 else f"{times:.2g}"


def breaks_the_model(results):
    """Does ascent cost 20 points of test accuracy: a wrong answer more for every five patients?"""
    return results.test_accuracy[ASCENT] <= results.test_accuracy[RETRAIN] - 0.2


def what_ascent_does(comparison):
    """What gradient ascent does to the model: "breaks the model: 71% right, not 94%".

    That is on the test set. If it has not lost accuracy there, the gap says what ascent does.
    """
    results = comparison.results
    right = results.test_accuracy[ASCENT]
    target = results.test_accuracy[RETRAIN]

    if comparison.settings.dose == 0:
        return "without a step leaves the model as it was"
    if check_answers(comparison).holds["useful"]:
        times = times_the_gap(results)
        return f"is {times} times as far from the target as deletion"
    verb = "breaks" if breaks_the_model(results) else "harms"
    return f"{verb} the model: {right:.0%} right, not {target:.0%}"


def performance_headline(comparison):
    """What the figure of the accuracies and gaps shows of deletion and ascent."""
    if not has_learned(comparison):
        return NO_VERDICT
    does = what_ascent_does(comparison)
    if check_answers(comparison).holds["useful"]:
        return f"Gradient ascent {does}"
    return f"Naive deletion forgets nothing; ascent {does}"


def what_accuracy_shows(results):
    """If the accuracies, as drawn, do not tell naive deletion from the target: a sentence more."""
    accuracies = results[["test_accuracy", "forget_accuracy"]].map("{:.0%}".format)
    if accuracies.loc[NAIVE].equals(accuracies.loc[RETRAIN]):
        return " Accuracy cannot tell deletion from the target."
    return ""


# In the panels
DOT = {"s": 40, "edgecolor": "white", "linewidth": 0.5, "clip_on": False}
WORDS_ABOVE = -0.85  # where words above the first row stand, in rows
SMALLEST = 0.01  # points: what is drawn for smaller gaps, since 0 has no place on a log scale
HARDLY_LARGER = 1.5  # up to so many times their largest gap, a gap is just outside other retrains'


def as_drawn(gaps):
    """Gaps as they are drawn, in points of probability."""
    return np.maximum(100 * gaps, SMALLEST)


def beside_the_band(gap, largest):
    """Where a gap is, in words. The band, in a figure, ends with other retrains' largest gap."""
    if gap <= largest:
        return "inside"
    if gap < HARDLY_LARGER * largest:
        return "just outside"
    return "outside" if gap < 10 * largest else "far outside"


def write_beside(ax, x, row, words, color):
    """Words right of a place in a panel of gaps; left of it where it is far right."""
    is_far_right = x > 5  # points
    shift = -12 if is_far_right else 12  # typographic points
    ax.annotate(
        words,
        (x, row),
        xytext=(shift, 0),
        textcoords="offset points",
        color=color,
        size=11,
        ha="right" if is_far_right else "left",
        va="center",
    )


def draw_gaps(ax, gaps, largest, n_asked):
    """A dot for the gap of each model, a Series by name: the mean over n_asked rows.

    A band goes as far as the largest gap of other retrains; words say where the models are.
    """
    x = as_drawn(gaps)
    rows = dict(zip(gaps.index, range(len(gaps))))
    for name, row in rows.items():
        ax.scatter(x[name], row, **DOT, facecolor=COLORS.get(name, GREY))
    name_rows(ax, gaps.map(points))

    # The band, and its meaning, above the first row
    end = as_drawn(largest)
    ax.axvspan(SMALLEST, end, color=GREEN_TINT, zorder=0)
    middle = np.sqrt(SMALLEST * end)  # on a log scale
    middle = max(middle, 0.04)  # so that the words fit
    look = {"color": GREEN, "size": 11, "ha": "center", "va": "center"}
    ax.text(middle, WORDS_ABOVE, "could be\na retrain", **look)

    # Where the models are. Naive deletion is the original: the words stand between the two
    where_old = beside_the_band(gaps[NAIVE], largest)
    but = ", yet" if where_old == "inside" else ":"
    between = (rows[ORIGINAL] + rows[NAIVE]) / 2
    place = max(x[NAIVE], end)  # not across the end of the band
    write_beside(ax, place, between, f"{where_old}{but} still\nthe old model", GREY)
    where_ascent = beside_the_band(gaps[ASCENT], largest)
    write_beside(ax, x[ASCENT], rows[ASCENT], where_ascent, COLORS[ASCENT])

    ax.set(xscale="log", xlim=(SMALLEST, 100))
    ax.set_xticks([0.01, 0.1, 1, 10, 100], ["≤ 0.01", "0.1", "1", "10", "100"])
    ax.minorticks_off()
    ax.set_title("Gap: how far from the target")
    meaning = f"mean difference in probability\nfor {n_asked:,} who asked, in percentage"
    ax.set_xlabel(f"{meaning}\npoints; each tick 10 times more", loc="left")


def draw_others(ax, row, x, values, form):
    """Other retrains in a row of their own: dots at x (k,), the range of values (k,) in words."""
    # Neighbours on three lines, so that none hides another; on one, if all are the same dot anyhow
    shifts = [-0.15, 0, 0.15] if np.ptp(x) > 0 else [0]
    y = row + np.resize(shifts, len(x))
    ax.scatter(np.sort(x), y, **DOT, facecolor=GREEN)

    low = form(values.min())
    high = form(values.max())
    words = f"{low}\neach" if low == high else f"{low} to\n{high}"
    write_number(ax, row, words, GREEN)


@in_our_style()
def performance_figure(comparison):
    """Three panels: the two accuracies, and the gap; other retrains stand below the models."""
    data = comparison.data
    n_others = len(comparison.others)

    # Deletion stands below the model that it leaves as it is, the target above other retrains
    results = comparison.results.loc[[ORIGINAL, NAIVE, ASCENT, RETRAIN]]
    n_models = len(results)

    # What was found, and how to read it
    finding = performance_headline(comparison)
    explanation = f"{example(comparison)}. The target (dashed) is retrained without them."
    if has_learned(comparison):
        explanation += what_accuracy_shows(results)

    widths = [1, 1, 1.8]
    fig, axes = new_figure(5.6, finding, explanation, 1, 3, sharey=True, width_ratios=widths)
    test_panel, forget_panel, gap_panel = axes

    # The models: accuracies
    draw_bars(test_panel, "Test accuracy", results.test_accuracy, lines=["target"])
    test_panel.set_xlabel(f"right, of\n{len(data.test.y):,} never seen", loc="left")
    draw_bars(forget_panel, "Forget accuracy", results.forget_accuracy, lines=["target", "50%"])
    aim = aim_of_forgetting(comparison)
    meaning = f"right, of {len(data.asked):,} who asked;\na model without\nthem: {aim}"
    forget_panel.set_xlabel(meaning, loc="left")

    # What the dashed lines are
    for ax, column in ((test_panel, "test_accuracy"), (forget_panel, "forget_accuracy")):
        target = results.loc[RETRAIN, column]
        ax.text(target, WORDS_ABOVE, " goal", color=GREEN, va="center")

    # The models: gaps
    gaps_of_others = gaps_to_others(comparison.models[RETRAIN], comparison)
    draw_gaps(gap_panel, results.gap_to_retrained, gaps_of_others.max(), len(data.asked))

    # Other retrains, below the models
    for ax, part in ((test_panel, data.test), (forget_panel, data.forget)):
        accuracies = np.array([other.score(part.X, part.y) for other in comparison.others])
        draw_others(ax, n_models, accuracies, accuracies, "{:.0%}".format)
    draw_others(gap_panel, n_models, as_drawn(gaps_of_others), gaps_of_others, points)

    # What each model is, below its name
    meanings = {
        ORIGINAL: "before the request",
        NAIVE: "rows gone, weights kept",
        ASCENT: "trained to fail on them",
        RETRAIN: "the target: never saw them",
    }
    names = []
    for name, seconds in results.seconds.items():
        time = "" if name == ORIGINAL else f", {1000 * seconds:,.1f} ms"
        names.append(f"{name}{time}\n{meanings[name]}")
    names.append(f"{n_others} other retrains\nfrom other random weights")
    test_panel.set_yticks(range(len(names)), names, linespacing=1.3)
    test_panel.set_ylim(n_models + 0.6, -1.3)  # room for WORDS_ABOVE
    test_panel.figure.align_xlabels()
    return fig


@in_our_style()
def boundaries_figure(comparison):
    """Four maps, one per model, of two features; large: rows on which it and the target differ."""
    data = comparison.data
    models = comparison.models
    n = len(data.train.y)

    # On whom does each model differ from the target?
    target = models[RETRAIN].predict(data.train.X)
    differs = {}
    for name, model in models.items():
        differs[name] = np.flatnonzero(model.predict(data.train.X) != target)

    # What was found, and how to read it
    n_differ = len(differs[ASCENT])
    whose = data.source.partition(" (")[0]  # in the title, without what stands in brackets
    finding = f"Gradient ascent disagrees with retraining on {n_differ:,} of {n:,} {whose}"
    class_0, class_1 = data.classes
    explanation = (
        f"{example(comparison)}. Shaded: how sure a model is of {class_0} (blue) or {class_1} "
        f"(orange). The target is retrained without {the_asked(data)}."
    )
    fig, axes = new_figure(8.1, finding, explanation, 2, 2, sharex=True, sharey=True)
    add_key(axes[0, 0], data, [("large: differs from the target", LARGE_KEY)])

    # What each map shows
    verdicts = {name: f"differs on {len(rows):,}" for name, rows in differs.items()}
    verdicts[RETRAIN] = "the target"
    verdicts[NAIVE] = "unchanged: forgets nothing"
    # A model that predicts one class only has no sides to swap
    has_both_sides = len(np.unique(models[ASCENT].predict(data.train.X))) == 2
    if not has_both_sides:
        verdicts[ASCENT] += ": one class"
    elif n_differ > n / 2:
        verdicts[ASCENT] += ": sides swapped"

    for ax, name in zip(axes.flat, models):
        draw_map(ax, comparison, models[name])
        draw_patients(ax, data, np.arange(n), SMALL)
        draw_patients(ax, data, differs[name], LARGE)
        color = COLORS.get(name, INK)
        ax.set_title(name, color=color)
        ax.set_title(verdicts[name], color=color, loc="right", weight="normal")
        ax.label_outer()
    return fig


@in_our_style()
def concrete_figure(comparison):
    """Four panels: who asked; right and wrong before; the same after ascent; the accuracies."""
    data = comparison.data
    models = comparison.models
    accuracy = comparison.results.forget_accuracy
    asked = data.asked
    whom = the_asked(data)

    # What was found, and how to read it
    if has_learned(comparison):
        right = accuracy.map("{:.0%}".format)
        finding = (
            f"A model that never saw {whom} gets {right[RETRAIN]} of them right; gradient ascent "
            f"gets {right[ASCENT]}"
        )
    else:
        finding = NO_VERDICT
    explanation = (
        f"{example(comparison)}. The target of forgetting is what a model retrained without "
        f"{whom} gets right: {aim_of_forgetting(comparison)}."
    )
    fig, axes = new_figure(8.5, finding, explanation, 2, 2)
    who, before, after, bars = axes.flat
    add_key(who, data, [("outlined: asked to be forgotten", RING_KEY), ("wrong", CROSS_KEY)])

    # Who asked?
    draw_map(who, comparison)
    draw_patients(who, data, np.arange(len(data.train.y)), SMALL)
    draw_patients(who, data, asked, RINGED)
    who.set_title(f"Who asks to be forgotten:\n{len(asked):,} of {len(data.train.y):,}")

    # Right and wrong, before and after
    panels = {
        ORIGINAL: (before, f"Before (it saw {whom})"),
        ASCENT: (after, "After gradient ascent"),
    }
    for name, (ax, when) in panels.items():
        wrong = models[name].predict(data.forget.X) != data.forget.y
        draw_map(ax, comparison, models[name])
        draw_patients(ax, data, asked, RINGED)
        draw_marks(ax, data, asked[wrong], CROSS)
        ax.set_title(f"{when}:\n{(~wrong).sum():,} right, {wrong.sum():,} wrong")

    # The accuracies
    in_order = accuracy[[ORIGINAL, ASCENT, RETRAIN]]
    draw_bars(bars, f"Accuracy\non {whom}", in_order, lines=["target", "50%"])
    bars.set_yticks(range(3), ["before", "after\ngradient\nascent", "target"])
    return fig


def feature_column(name, values):
    """A column of the table of patients: a feature, in words, without a tint."""
    # The largest value decides for the column: above 10, no decimals (80); above 1, one (5.0);
    # below, two or more (0.50, 0.050)
    largest = max(values.abs().max(), 1e-9)
    decimals = int(np.clip(2 - np.log10(largest), 0, 6))
    words = [f"{value:.{decimals}f}" for value in values]
    white = np.full(len(words), 0.5)
    return Column(in_lines(name, 1.2, weight="bold"), words, white)


def answer_column(name, models, rows):
    """A column of the table of patients: a model's p; × where it is wrong, framed where flipped."""
    p = models[name].predict_proba(rows.X)[:, 1]
    before = models[ORIGINAL].predict(rows.X)
    after = models[name].predict(rows.X)
    flipped = np.flatnonzero(after != before)

    words = []
    for probability, is_right in zip(p, after == rows.y):
        cross = "" if is_right else " ×"
        words.append(f"{probability:.0%}{cross}")
    return Column(name.replace(" ", "\n"), words, p, flipped)


@in_our_style()
def patients_figure(comparison, n_rows=15):
    """A table of the first patients who asked: p of three models, where wrong, where changed."""
    data = comparison.data
    models = comparison.models
    asked = data.asked[:n_rows]
    rows = data.train.at(asked)

    # The columns: what a patient has (there is room for two features), what is true, three answers
    features = data.features.iloc[asked, :2]
    described = [feature_column(name, values) for name, values in features.items()]
    actual = Column("Actual", [data.classes[label] for label in rows.y], rows.y)
    answers = [answer_column(name, models, rows) for name in (ORIGINAL, RETRAIN, ASCENT)]

    # What was found, and how to read it
    flipped = comparison.results.predictions_changed
    harmed = comparison.results.newly_wrong[ASCENT]
    by_ascent = f"{flipped[ASCENT]:,} of {len(data.asked):,} predictions"
    by_retraining = f"{flipped[RETRAIN]:,}" if flipped[RETRAIN] else "none"
    finding = f"Gradient ascent flips {by_ascent}; retraining flips {by_retraining}"
    flipped_here = len(answers[-1].framed)
    first = f": the first {len(asked)} who asked" if len(asked) < len(data.asked) else ""
    explanation = (
        f"{example(comparison)}{first}. Framed: unlike the original (ascent: {flipped_here} of "
        f"these {len(asked)}); ×: wrong. New errors among all flips: {harmed:,} of "
        f"{flipped[ASCENT]:,}."
    )
    n_features = data.features.shape[1]
    if n_features > 2:
        explanation += f" Shown are 2 of {n_features} features."

    # The table; one more heading over the answers, its last three columns
    fig, ax = new_figure(0.31 * len(asked) + 2, finding, explanation)
    names = [f"Patient {patient}" for patient in features.index]
    draw_grid(ax, names, [*described, actual, *answers], SHADES)
    heading = f"probability of {data.classes[1]} according to each model"
    ax.set_title(heading, loc="right", weight="normal", size=12)
    for label in ax.get_xticklabels():
        name = label.get_text().replace("\n", " ")
        label.set(weight="bold", color=COLORS.get(name, INK))
    return fig


# ---- The demo's page ----------------------------------------------------------------------------


def path_in_words(path, results):
    """Where on its way ascent is closest to the target, and what it does then.

    path: see ascent_path; results: the table of metrics, which judges the end of the path.
    """
    closest = path.gap_to_retrained.idxmin()
    last = path.index[-1]
    epochs = "1 epoch" if closest == 1 else f"{closest:,} epochs"
    if last == 0:
        return "Without an epoch of ascent, the model stays as it was"
    if closest == 0:
        return "Gradient ascent never comes closer to the target than it was at the start"
    if closest == last:
        return f"Gradient ascent is closest to the target at the end, after {epochs}"
    then = "breaks the model" if breaks_the_model(results) else "moves away"
    return f"Gradient ascent is closest to the target after {epochs}, then {then}"


def demo_finding(comparison):
    """What the experiment found, in a few sentences; computed, so that they hold for any data."""
    if not has_learned(comparison):
        return (
            f"{NO_VERDICT}. On the test set it is no better than always guessing the larger class, "
            "or it is right by luck, with probabilities near 50% for everybody. Try more --epochs, "
            "a larger --learning-rate, fewer who ask, or features scaled to a standard deviation "
            "of 1."
        )
    results = comparison.results

    # What has ascent done to the model, and what should forget accuracy be?
    right = percent(results.forget_accuracy[ASCENT])
    target = percent(results.forget_accuracy[RETRAIN])
    sentences = [
        f"Gradient ascent {what_ascent_does(comparison)}.",
        f"On the forget set it ends at {right}; the target is {target}, what a model that never "
        "saw these rows gets right.",
    ]

    # How close did it come on its way?
    path = ascent_path(comparison, comparison.settings)
    gaps = path.gap_to_retrained
    if len(path) > 1:
        sentences.append(
            f"{path_in_words(path, results)} (a gap of {points(gaps.iloc[0])} points before, "
            f"{points(gaps.min())} at its smallest, {points(gaps.iloc[-1])} at the end), and "
            "nothing in the method says where to stop."
        )

    # Has doing nothing forgotten?
    n = len(comparison.others)
    if check_answers(comparison).holds["naive"]:
        size = "no larger than that of a retrained model, so the gap does not show it"
    else:
        # By luck? A perfect answer would be one more retrained model. Its gap and the gaps of the n
        # others would be n + 1 draws from one distribution, and each of them is the largest with
        # probability 1 / (n + 1)
        size = (
            f"larger than that of {n} other retrains, which happens to a perfect answer 1 time in "
            f"{n + 1}"
        )
    sentences.append(
        f"Naive deletion has changed no weight and forgotten nothing; its gap is {size}."
    )
    return " ".join(sentences)


DEMO_LEGEND = """
ms       time to answer the request, or to train the original (median)
test     accuracy on rows never trained on; retain, forget: on those sets
changed  predictions on the forget set that differ from the original model's;
         harmed: those of them that were right before
gap      mean |p - p of Full Retrain| on the forget set, in points (hundredths);
         {n} other retrains: {low} to {high}. p: probability of {class_1}
AUC      loss attack: how often a forget row has a lower loss than a test row
The target of all columns but ms is the row Full Retrain.
"""


def results_in_words(results):
    """The demo's table as it is printed: a DataFrame of words."""
    return pd.DataFrame({
        "ms": (1000 * results.seconds).map("{:.1f}".format),
        "test": results.test_accuracy.map(percent),
        "retain": results.retain_accuracy.map(percent),
        "forget": results.forget_accuracy.map(percent),
        "changed": results.predictions_changed.map(str),
        "harmed": results.newly_wrong.map(str),
        "gap": results.gap_to_retrained.map(points),
        "AUC": results.attack_auc.map("{:.3f}".format),
    }).rename_axis(None)  # fmt: skip


def checks_in_words(checks):
    """The four questions as they are printed: a DataFrame of words."""
    questions = {  # and how their numbers are written
        "useful": ("test accuracy as good as Full Retrain's?", percent),
        "close": ("gap like a retrain's, or half the naive?", points),
        "coin toss": ("forget accuracy near 50%?", percent),
        "naive": ("naive deletion: gap like a retrain's?", points),
    }
    words = pd.DataFrame(index=checks.index)
    for column in ("value", "low", "high"):
        words[column] = [questions[name][1](value) for name, value in checks[column].items()]
    words["answer"] = np.where(checks.holds, "yes", "no")
    return words.rename(index=lambda name: questions[name][0])


def demo_page(comparison):
    """The printed page, at most 80 columns wide: finding, table, legend; if learned, checks."""
    others = gaps_to_others(comparison.models[RETRAIN], comparison)
    table = results_in_words(comparison.results)
    legend = DEMO_LEGEND.format(
        class_1=comparison.data.classes[1][:16],  # or the line would be too long
        n=len(others),
        low=points(others.min()),
        high=points(others.max()),
    )
    paragraphs = [wrapped(demo_finding(comparison)), table.to_string(), legend.strip()]
    if has_learned(comparison):
        checks = checks_in_words(check_answers(comparison))
        paragraphs.append(checks.to_string())
    return "\n\n".join(paragraphs)


class Output(NamedTuple):
    """What an experiment leaves to be printed and written."""

    page: str
    table: pd.DataFrame  # for --csv
    figures: dict  # name of a file -> figure; --format replaces the ending


def demo(settings):
    """80 of 400 patients ask to be forgotten."""
    rng = np.random.RandomState(settings.seed)
    cohort = hospital(settings, rng)
    data = split(cohort, settings, rng)
    comparison = answer_and_measure(data, settings, rng)

    figures = {
        "performance_metrics.png": performance_figure(comparison),
        "decision_boundaries.png": boundaries_figure(comparison),
        "concrete_demonstration.png": concrete_figure(comparison),
        "patient_level_view.png": patients_figure(comparison),
    }
    return Output(demo_page(comparison), comparison.results, figures)


class Experiment(NamedTuple):
    """What a name on the command line stands for."""

    function: Callable  # settings -> Output
    meaning: str  # a line of --help
    defaults: dict  # settings that have another default here
    unused: tuple  # settings that have no effect


TABLE = ("data", "label", "features", "asked")  # settings of a table of your own, see Part 2

DEMO = {
    "demo": Experiment(
        function=demo,
        meaning="80 of 400 patients ask to be forgotten",
        defaults={},
        unused=("trials", *TABLE),
    )
}


# =================================================================================================
# Part 2: The same elsewhere
# =================================================================================================

# ---- The same on any rows of two classes --------------------------------------------------------


def compare(make_cohort, settings, repeats=3, n_others=10):
    """The demo's Comparison, on any rows of two classes.

    make_cohort(settings, rng) returns a Cohort, or its first four parts: features, labels, the
    names of the two classes, an unfitted scaler. Where nothing is drawn, these may stand in its
    place. Long names are shortened, to what the figures have room for. repeats, n_others: see
    answer_and_measure. Raises ValueError for a cohort that cannot be read, SettingsError if the
    retain set would lack a class.
    """
    rng = np.random.RandomState(settings.seed)
    cohort = make_cohort(settings, rng) if callable(make_cohort) else make_cohort
    cohort = with_short_names(read_cohort(cohort))
    if cohort.asks is None:
        data = split(cohort, settings, rng)
    else:
        data = split_around(cohort, settings, rng)
    return answer_and_measure(data, settings, rng, repeats, n_others)


def split_around(cohort, settings, rng):
    """Divide a cohort that says who asks: train on all of them, draw the test set from the others.

    Raises SettingsError if nobody asks, or the others are too few.
    """
    askers = np.flatnonzero(cohort.asks)
    others = np.flatnonzero(~cohort.asks)
    n_test = math.ceil(0.2 * len(cohort.y))
    if len(askers) == 0 or len(others) <= n_test:
        raise SettingsError(
            f"--asked: {len(askers)} of {len(cohort.y)} rows ask to be forgotten. At least one "
            f"must, and more than {n_test} must not, since the test set is drawn from these"
        )

    others_in_train, in_test = train_test_split(
        others, test_size=n_test, random_state=settings.seed
    )
    in_train = np.concatenate([askers, others_in_train])

    # Where the askers stand in in_train: at its beginning. The order in which they ask is random
    asked = rng.permutation(len(askers))
    return divide(cohort, in_train, in_test, asked)


def demo_output(comparison, prefix):
    """The demo's Output: its page, a figure, and maps if there are two features."""
    figures = {f"{prefix}performance_metrics.png": performance_figure(comparison)}
    if comparison.data.features.shape[1] == 2:
        figures[f"{prefix}decision_boundaries.png"] = boundaries_figure(comparison)
    return Output(demo_page(comparison), comparison.results, figures)


# Rows come in many shapes. They become numbers, and labels 0 and 1, or it is said what is wrong


def read_cohort(parts):
    """A Cohort, checked: features as floats, labels as 0 and 1, asks as a mask or None.

    parts may be a tuple of the first four. ValueError names the part, or the column, at fault.
    """
    try:
        cohort = Cohort(*parts)
    except TypeError:
        needed = "features, labels, the names of the two classes, a scaler"
        raise ValueError(f"a cohort has four parts: {needed}") from None

    # A scaler: an object, not its class
    is_scaler = hasattr(cohort.scaler, "fit_transform")
    if not is_scaler or isinstance(cohort.scaler, type):
        raise ValueError(f"the scaler must be an object like StandardScaler(), not {cohort.scaler}")

    # Features and labels, row by row
    features = as_numbers(cohort.features)
    y = as_zero_and_one(cohort.y, cohort.classes)
    if len(y) != len(features):
        raise ValueError(f"there are {len(y)} labels for {len(features)} rows of features")

    # Who asks, if it is said
    asks = cohort.asks
    if asks is not None:
        asks = np.asarray(asks)
        if asks.shape != y.shape or asks.dtype != bool:
            raise ValueError(f"asks must be a mask of {len(y)} True or False values, or None")

    return cohort._replace(features=features, y=y, asks=asks)


def as_numbers(features):
    """Anybody's features (n, d) as a DataFrame of floats; ValueError names a column at fault."""
    features = pd.DataFrame(features)
    if features.shape[1] == 0 or features.columns.nlevels > 1:
        raise ValueError("the features need columns, and one name for each of them")
    if features.columns.duplicated().any():
        name = features.columns[features.columns.duplicated()][0]
        raise ValueError(f"two columns are named {name}")

    columns = [as_floats(name, column) for name, column in features.items()]
    table = pd.concat(columns, axis=1)
    table.columns = features.columns.astype(str)
    return table


def as_floats(name, column):
    """A column as floats; ValueError if it has missing values, words, dates, or too large ones."""
    # Missing values first: pandas would turn a missing date into the number -9.2e18
    if column.isna().any():
        raise ValueError(f"missing values in {name}")
    if column.dtype.kind == "c":
        raise ValueError(f"complex numbers in {name}")
    if column.dtype.kind in "mM":  # durations and dates
        raise ValueError(f"dates in {name}: turn them into numbers, of days for example")

    # Numbers that are written as words are fine
    if not pd.api.types.is_numeric_dtype(column):
        objects = column.astype(object)  # otherwise a period, such as May 2024, becomes a number
        column = pd.to_numeric(objects, errors="coerce")  # a word becomes NaN
    if column.isna().any():
        raise ValueError(f"words or dates among numbers in {name}")

    numbers = column.astype(float)
    if np.isinf(numbers).any():
        raise ValueError(f"infinite values in {name}")
    if numbers.abs().max() > 1e100:  # their squares, in a variance, would be infinite
        raise ValueError(f"values beyond 1e100 in {name}")
    if 0 < numbers.abs().max() < 1e-100:  # their squares would be 0
        raise ValueError(f"values below 1e-100 in {name}")
    return numbers


def as_zero_and_one(y, classes):
    """Anybody's labels (n,) as an array of 0 and 1; ValueError if there are not two classes.

    classes are the names of class 0 and of class 1. If both labels are numbers, the larger one is
    class 1. If not, the labels must be the names.
    """
    if np.shape(classes) != (2,) or classes[0] == classes[1]:
        raise ValueError(f"two different names of classes are needed, not {classes!r}")
    if np.ndim(y) != 1:
        raise ValueError(f"the labels must be of shape (n,), they are of shape {np.shape(y)}")
    y = pd.Series(y)
    if y.isna().any():
        raise ValueError("missing values in labels")

    # Which two labels are there?
    y = y.map(lambda label: label.decode() if isinstance(label, bytes) else label)
    found = sorted(y.unique().tolist(), key=str)  # by str: words and numbers may be mixed
    if len(found) != 2:
        more = " and more" if len(found) > 5 else ""
        raise ValueError(f"the labels must be of two classes; they are {found[:5]}{more}")

    # Unless both are numbers, they must be the names, and the second name is class 1
    are_numbers = all(isinstance(label, Real) for label in found)
    if not are_numbers:
        if set(found) != set(classes):
            raise ValueError(f"the labels must be the names {classes}; they are {found}")
        return (y == classes[1]).to_numpy(int)

    # Of two numbers, the larger one is class 1. Names that are numbers must be these two, in this
    # order: ("1", "0") for labels 0 and 1 would name every class wrongly
    smaller, larger = sorted(found)
    names = pd.Series(classes).astype(str)
    # Labels may be False and True, which in Python equal 0 and 1. To be compared with them, the
    # names "False" and "True" are written as "0" and "1"
    names = names.replace({"False": "0", "True": "1"})
    names = pd.to_numeric(names, errors="coerce")  # a word becomes NaN
    if names.notna().all() and names.tolist() != [smaller, larger]:
        reason = f"the names are {classes}, the labels {smaller} and {larger}"
        raise ValueError(f"{reason}, of which the larger is class 1")
    return (y == larger).to_numpy(int)


# Names may be long, and the figures are ten inches wide


def shortened(words, inches):
    """The words, or as many of their letters as there is room for, and three dots."""
    words = str(words)
    if width_of(words) <= inches:
        return words

    # About as many letters as fit, then fewer until they do
    n_letters = int(len(words) * inches / width_of(words))
    while width_of(words[:n_letters] + "...") > inches:
        n_letters -= 1
    return words[:n_letters] + "..."


def with_short_names(cohort):
    """The cohort with names that the figures have room for, measured in the reader's own font."""
    with in_our_style():
        source = shortened(cohort.source, 4)  # a part of the grey line below a title
        classes = tuple(shortened(name, 1.7) for name in cohort.classes)  # a third of a legend
        if classes[0] == classes[1]:  # they differed in what was cut off
            classes = ("Class 0", "Class 1")

        # A name may be written upwards along a map, 2.5 inches high: in two lines, and 4.5 inches
        # in all, since lines do not fill up evenly
        names = []
        for name in cohort.features.columns:
            name = shortened(name, 4.5)
            names.append(in_lines(name, 2.5))

    features = cohort.features.set_axis(names, axis=1)
    return cohort._replace(features=features, classes=classes, source=source)


# ---- Abstract data, and real patients -----------------------------------------------------------


def abstract(settings, rng):
    """A cohort: two overlapping clouds, one label in ten drawn at random; features as they are."""
    X, y = make_classification(
        settings.patients,
        n_features=2,
        n_redundant=0,
        n_clusters_per_class=1,
        flip_y=0.1,
        random_state=settings.seed,  # not rng: the same rows as any other call with this seed
    )
    features = pd.DataFrame(X, columns=["Feature 1", "Feature 2"])
    as_they_are = StandardScaler(with_mean=False, with_std=False)
    return Cohort(features, y, ("Class 0", "Class 1"), as_they_are, "abstract rows")


def wisconsin(settings, rng):
    """569 real patients with a breast mass: two features of its cell nuclei, and the diagnosis.

    Street, Wolberg, Mangasarian 1993, UCI repository; scikit-learn's own copy. Neither UCI nor
    scikit-learn gives units.
    """
    bunch = load_breast_cancer(as_frame=True)
    features = bunch.data[["worst area", "worst smoothness"]]
    features.columns = ["Area (mean of 3 largest)", "Smoothness (mean of 3 largest)"]
    y = (bunch.target == 0).to_numpy(int)  # there, 0 is malignant
    classes = ("Benign", "Malignant")
    return Cohort(
        features, y, classes, StandardScaler(), "real patients (Wisconsin breast cancer data)"
    )


def basic(settings):
    """The demo on abstract data."""
    return demo_output(compare(abstract, settings), "basic_")


def clinical(settings):
    """The demo on real patients."""
    return demo_output(compare(wisconsin, settings), "clinical_")


# ---- Your own table -----------------------------------------------------------------------------
# The demo on a CSV file: which columns to learn from, what to predict, who asks to be forgotten. A
# file is full of surprises, and none of them may become a wrong number: what does not fit is named.


# What people write for a missing value, in any column
MISSING = ["", "?", "NA", "N/A", "n/a", "<NA>", "#N/A", "NaN", "nan", "null", "NULL"]
# These, in capitals or not, in columns of numbers only: in a column of words they may be classes
MISSING_NUMBER = ["-", "--", ".", "na", "none", "unknown", "missing"]


def text_of(source):
    """The text of a path or of an open file, read once: a pipe has nothing to read twice."""
    if hasattr(source, "read"):
        content = source.read()
    else:
        path = Path(source).expanduser()
        content = path.read_bytes()

    if isinstance(content, bytes):
        content = content.decode("utf-8-sig")  # Excel starts a file with an invisible mark
    return content


def find_separator(text):
    """(separator, the text of the table): a comma, a semicolon or a tab.

    Raises ValueError if none of them makes two columns of the first line.
    """
    # Excel may say it in a line of its own, "sep=;"
    first_line, _, rest = text.partition("\n")
    if re.match("sep=[^\r]", first_line):  # \r, the end of a line in Windows, is no separator
        separator = first_line[len("sep=")]  # one letter
        return separator, rest

    # The right one makes the most columns
    n_columns = {}
    for separator in [",", ";", "\t"]:
        header = pd.read_csv(StringIO(text), sep=separator, nrows=0)
        n_columns[separator] = len(header.columns)
    separator = max(n_columns, key=n_columns.get)
    if n_columns[separator] == 1:
        reason = f"the first line must name two columns or more; it is: {first_line[:60]}"
        raise ValueError(reason)
    return separator, text


def read_table(source):
    """A CSV file as a DataFrame; what is listed in MISSING is a missing value.

    source is a path or an open file; values are separated by commas, semicolons or tabs. Raises
    OSError if there is no such file, and SettingsError if it is not a table.
    """
    try:
        separator, text = find_separator(text_of(source))

        # With index_col=False, pandas drops values beyond the last column and only warns. We turn
        # that warning into an error
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(
                StringIO(text),
                sep=separator,
                index_col=False,
                keep_default_na=False,  # by default, "None" would be missing; it may be a class
                na_values=MISSING,
                skipinitialspace=True,
                low_memory=False,  # one type for the whole of a column
            )
    except UnicodeDecodeError as error:
        raise SettingsError(f"--data {source}: not in UTF-8; save it as CSV UTF-8") from error
    except pd.errors.ParserWarning as error:
        reason = "rows have more values than the first line (decimal commas? no header?)"
        raise SettingsError(f"--data {source}: {reason}") from error
    except ValueError as error:
        raise SettingsError(f"--data {source}: {error}") from error

    # To pandas, a column without a name is "Unnamed: 0". It holds row numbers, which are no data,
    # or nothing at all, if lines end with a comma
    nameless = table.columns.str.startswith("Unnamed:")
    return table.loc[:, ~nameless]


def stripped(name):
    """A name without blanks around it; a column may also be named by a number."""
    return name.strip() if isinstance(name, str) else name


def tidied(table):
    """A table without blanks around the names of its columns, and with numbers as numbers.

    Raises SettingsError for a name that occurs twice.
    """
    table = table.rename(columns=stripped)
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        raise SettingsError(f"--data: two columns are named {twice[0]}")
    return table.apply(numbers_if_possible)


def is_text(column):
    """Does a column hold words, or words and numbers?"""
    return column.dtype == object or isinstance(column.dtype, pd.StringDtype)


def numbers_if_possible(column):
    """A column of numbers, some of them "-" or "unknown", as floats; any other one as it is."""
    if not is_text(column):
        return column
    words = column.astype(str).str.strip().str.casefold()
    is_missing = column.isna() | words.isin(MISSING_NUMBER)
    numbers = pd.to_numeric(words, errors="coerce")  # a word becomes NaN

    # If another value is not a number, or if there is none, the column stays as it is
    is_number = numbers[~is_missing].notna()
    if len(is_number) == 0 or not is_number.all():
        return column
    return numbers


def check_columns(names, table, flag):
    """Raise SettingsError for a name that is no column of the table."""
    for name in names:
        if name not in table.columns:
            there_are = ", ".join(str(column) for column in table.columns)
            raise SettingsError(f"{flag} {name}: no such column; there are {there_are}")


def feature_names(table, label, features):
    """Which columns to learn from: "age,blood sugar", or a list; if empty, the two with numbers."""
    if isinstance(features, str):
        features = features.split(",")
    names = [stripped(name) for name in features]
    names = [name for name in names if name != ""]
    if len(names) == 0:
        return the_two_with_numbers(table.drop(columns=label))

    check_columns(names, table, "--features")
    if label in names:
        raise SettingsError(f"--features {label}: this is the label")
    if len(set(names)) < len(names):
        raise SettingsError("--features: a column is named twice")
    return names


def the_two_with_numbers(table):
    """The only two columns with numbers; SettingsError unless there is no doubt about them.

    An id or a code must not become a feature unnoticed, nor a third column be overlooked.
    """
    numeric = table.select_dtypes("number").columns.tolist()
    doubts = [f"{name} looks like an id" for name in numeric if looks_like_an_id(table[name])]
    hint = not_quite_numbers(table)
    if hint:
        doubts.append(hint)

    if len(numeric) != 2 or doubts:
        found = ", ".join(str(name) for name in numeric) or "none"
        reason = f"name the columns to learn from (with numbers: {found})"
        raise SettingsError(f"--features: {'; '.join([reason, *doubts])}")
    return numeric


def looks_like_an_id(column):
    """Are these whole numbers, nearly all of them different?

    An id may be missing, or occur twice by mistake. In fewer than 20 rows, chance can do that.
    """
    numbers = column.dropna()
    are_whole = (numbers % 1 == 0).all()
    nearly_all_differ = numbers.nunique() >= 0.95 * len(numbers)
    return len(numbers) >= 20 and are_whole and nearly_all_differ


def not_quite_numbers(table):
    """A hint at the first column that is meant to hold numbers, but holds something else as well.

    That is, half of the values or more look like numbers (3.5, or 3,5), but not all of them are.
    Returns "" if there is no such column.
    """
    for name, column in table.items():
        if not is_text(column):
            continue

        words = column.dropna().astype(str).str.strip()
        is_number = pd.to_numeric(words, errors="coerce").notna()
        if is_number.all():
            continue  # nothing is wrong with it

        has_comma = words.str.fullmatch(r"[-+]?\d+,\d+")
        looks_numeric = is_number | has_comma
        if looks_numeric.mean() < 0.5:
            continue  # a column of words

        if has_comma.any():
            return f"in {name} a comma should be a point: {words[has_comma].iloc[0]}"
        return f"in {name} this is not a number: {words[~is_number].iloc[0]}"
    return ""


def read_features(columns):
    """Numbers (n, d) from columns without missing values; SettingsError names a column at fault."""
    try:
        numbers = as_numbers(columns)
    except ValueError as error:
        reason = not_quite_numbers(columns) or error
        raise SettingsError(f"--features: {reason}") from error

    for name, column in numbers.items():
        if column.nunique() == 1:
            raise SettingsError(f"--features: in all rows, {name} is {column.iloc[0]:g}")
    return numbers


def alphabetically(word):
    """A key to sort words by: "b" before "C", although capitals have the lower codes."""
    return word.casefold(), word


def read_label(column):
    """Labels y (n,) and the names of both classes from a column without missing values.

    Of two numbers the larger is class 1, of two words the later one in the alphabet.
    """
    # Its values, class 1 last
    are_numbers = pd.api.types.is_numeric_dtype(column)  # or True and False
    if are_numbers:
        # A gap had turned the whole column into floats: make 1.0 a 1 again, so that the class is
        # named "1"
        column = pd.to_numeric(column, downcast="integer")
        found = sorted(column.unique().tolist())
    else:
        column = column.astype(str).str.strip()
        found = sorted(column.unique().tolist(), key=alphabetically)

    if len(found) != 2:
        some = ", ".join(str(value) for value in found[:5])
        more = ", ..." if len(found) > 5 else ""
        what_it_has = f"it has {len(found):,}: {some}{more}"
        raise SettingsError(f"--label {column.name}: a label needs two values, {what_it_has}")

    class_0, class_1 = found
    y = (column == class_1).to_numpy(int)
    if are_numbers:
        return y, (f"{class_0} ({column.name})", f"{class_1} ({column.name})")
    return y, (class_0, class_1)


# Single quotes, since a shell would run what stands between backticks
EXAMPLES_OF_ASKED = "write 'clinic == 3', '`blood sugar` > 200' or 'name == \"Anna\"'"


def who_asks(table, query):
    """Mask (n,) of the rows for which a query is true, such as "clinic == 3"."""
    # Is it true or false for each row? With empty dicts, it sees the columns, not our variables
    flag = f"--asked {query}"
    try:
        asked = table.eval(query, local_dict={}, global_dict={})
    except Exception as error:  # pandas raises a dozen kinds
        hint = not_quite_numbers(table[columns_in(query, table)])
        reason = f"not understood ({error}); {hint or EXAMPLES_OF_ASKED}"
        raise SettingsError(f"{flag}: {reason}") from error
    is_mask = isinstance(asked, pd.Series) and pd.api.types.is_bool_dtype(asked)
    if not is_mask or not asked.index.equals(table.index):
        reason = "must be true or false for each row; write clinic == 3"
        raise SettingsError(f"{flag}: {reason}")

    # Does anybody ask? Often 3 was written where the column holds "3", so show what it holds
    if not asked.any():
        first_row = []
        for name in columns_in(query, table):
            value = table[name].tolist()[0]  # Python's 3, not np.int64(3)
            first_row.append(f"{name} is {value!r}")
        reason = f"this is true of no row; in the first one, {', '.join(first_row)}"
        raise SettingsError(f"{flag}: {reason}")
    return asked.to_numpy(bool)


def columns_in(query, table):
    """The columns that a query mentions."""
    # Remove text in quotes, which names no column, but not the quote in `mother's age`. Group 1 is
    # a name in backticks, which is put back; for quoted text it is empty, so the text vanishes
    in_backticks = r"(`[^`]*`)"
    in_quotes = r"'[^']*'|\"[^\"]*\""
    query = re.sub(f"{in_backticks}|{in_quotes}", r"\1", query)

    names = []
    for name in table.columns:
        as_a_word = rf"(?<!\w){re.escape(str(name))}(?!\w)"  # "age" is not mentioned by "stage"
        if re.search(as_a_word, query):
            names.append(name)
    return names


def own_cohort(table, label, features="", asked=""):
    """A cohort for compare from a DataFrame, such as read_table makes from a CSV file.

    label is the column to predict, features the columns to learn from ("age,blood sugar", or a
    list; if empty, the only two with numbers). asked is a pandas query: the rows for which it is
    true ask to be forgotten; if empty, rows are drawn at random. Rows with missing values in these
    columns are left out. Raises SettingsError for what does not fit.
    """
    table = tidied(table)
    label = stripped(label)
    check_columns([label], table, "--label")
    names = feature_names(table, label, features)

    # Leave out rows with a gap in any column that is used
    needed = [label, *names]
    if asked:
        needed += columns_in(asked, table)
    complete = table.dropna(subset=needed)
    complete = complete.infer_objects()  # a column of True, False and gaps becomes bool
    if len(complete) < 10:
        reason = f"{len(complete)} rows without missing values; 10 are needed"
        raise SettingsError(f"--data: {reason}")

    y, classes = read_label(complete[label])
    numbers = read_features(complete[names])
    mask = who_asks(complete, asked) if asked else None
    return Cohort(numbers, y, classes, StandardScaler(), "rows of your own", mask)


def own_headline(comparison, cohort, settings, n_read):
    """What was read, which class is which, and who asks."""
    n_used = len(cohort.y)
    n_asked = len(comparison.data.asked)
    n_train = len(comparison.data.train.y)
    names = ", ".join(cohort.features.columns)
    size_1 = cohort.y.sum()
    size_0 = n_used - size_1
    who = f": those where {settings.asked}" if settings.asked else ", drawn at random"
    no_map = " A map needs two features, so none is drawn."
    if len(cohort.features.columns) == 2:
        no_map = ""

    return wrapped(
        f"{settings.data}: {n_read:,} rows read, {n_read - n_used:,} left out because values are "
        f"missing. Features: {names}. Class 0 is {cohort.classes[0]}, {size_0:,} rows; class 1 is "
        f"{cohort.classes[1]}, {size_1:,} rows. {n_asked:,} of the {n_train:,} training rows ask "
        f"to be forgotten{who}.{no_map}"
    )


def own(settings):
    """The demo on your own CSV file."""
    # What must be given, and what must not be given together
    for flag in ["data", "label"]:
        if not getattr(settings, flag):
            raise SettingsError(f"--{flag} is needed: own --data FILE --label COLUMN")
    # Here forget is None unless it is given: the default of this experiment, see ELSEWHERE
    if settings.asked and settings.forget:
        raise SettingsError("--forget and --asked: give one of them, both say who asks")

    # The table becomes a cohort, named after its file
    table = read_table(settings.data)
    cohort = own_cohort(table, settings.label, settings.features, settings.asked)
    cohort = cohort._replace(source=f"rows of {os.path.basename(settings.data)}")

    # Unless you say who, or how many, a fifth of the training rows ask
    if settings.forget is None and not settings.asked:
        n_train = 4 * len(cohort.y) // 5
        settings = replace(settings, forget=n_train // 5)

    comparison = compare(cohort, settings)
    output = demo_output(comparison, "own_")
    headline = own_headline(comparison, cohort, settings, len(table))
    return output._replace(page=f"{headline}\n\n{output.page}")


# ---- Other doses of ascent, and other seeds -----------------------------------------------------

# What is tried; 145 x 0.7 is our example
EPOCHS = [25, 50, 75, 100, 145, 200, 300]
MULTIPLIERS = [0.1, 0.3, 0.5, 0.7, 1.0, 1.5]
SEEDS = range(30)


def try_doses(comparison, settings):
    """The metrics of ascent (a DataFrame) for every pair of epochs and multiplier.

    dose is epochs x multiplier, the sum of all step sizes in learning rates.
    """
    data = comparison.data
    original = comparison.models[ORIGINAL]
    retrained = comparison.models[RETRAIN]

    # The grid, and the reader's own setting
    epochs = sorted({*EPOCHS, settings.unlearn_epochs})
    multipliers = sorted({*MULTIPLIERS, settings.multiplier})

    metrics = {}
    for n_epochs, multiplier in product(epochs, multipliers):
        chosen = replace(settings, unlearn_epochs=n_epochs, multiplier=multiplier)
        request = Request(original, data.retain, data.forget, chosen)
        model = gradient_ascent(request, rng=None)
        row = evaluate(model, original, retrained, data)
        row["dose"] = n_epochs * multiplier
        metrics[n_epochs, multiplier] = row
    return pd.DataFrame.from_dict(metrics, orient="index").rename_axis(["epochs", "multiplier"])


def try_seeds(settings):
    """Forget accuracies (a DataFrame): a row per seed but our own, columns retrained and ascent."""
    accuracies = {}
    for seed in SEEDS:
        if seed == settings.seed:
            continue
        with_seed = replace(settings, seed=seed)
        comparison = compare(hospital, with_seed, repeats=1, n_others=0)  # only accuracy is needed
        accuracies[seed] = comparison.results.forget_accuracy[[RETRAIN, ASCENT]]
    return pd.DataFrame.from_dict(accuracies, orient="index")


def sweep_headline(doses, comparison):
    """Does a small dose of ascent come nearer than doing nothing, and what does a large one do?"""
    nothing = comparison.results.gap_to_retrained[NAIVE]
    at_largest_dose = doses.loc[doses.dose.idxmax()]
    if not has_learned(comparison):
        return NO_VERDICT
    if doses.gap_to_retrained.min() >= nothing:
        return "No dose of gradient ascent that was tried is better than doing nothing"
    if at_largest_dose.gap_to_retrained <= nothing:
        return "Even the largest dose of gradient ascent is better than doing nothing"

    effect = "leads away again"
    if at_largest_dose.test_accuracy < 0.5:
        effect = "breaks the model"
    return f"A little gradient ascent nears the target, a lot {effect}"


# How both figures of this part name their lines: directly, so that nobody has to look up a key


class LineName(NamedTuple):
    """The name of a line."""

    y: float  # where the line ends
    words: str
    color: str


def pushed_apart(heights, room):
    """Heights (n,) of names in a panel from 0 to 1, moved until each has room for itself."""
    order = np.argsort(heights)
    placed = np.array(heights, float)

    # From below: what is too near to the one below it moves up
    lowest = room / 2
    for k in order:
        placed[k] = max(placed[k], lowest)
        lowest = placed[k] + room

    # From above: what has left the panel at the top moves down again
    highest = 1 - room / 2
    for k in order[::-1]:
        placed[k] = min(placed[k], highest)
        highest = placed[k] - room
    return placed


def name_lines(ax, names):
    """Write names at the right of a panel, each joined to the end of its line."""
    to_panel = ax.transScale + ax.transLimits  # data -> widths and heights of the panel
    heights = []
    for name in names:
        height = to_panel.transform((1, name.y))[1]  # any x > 0: a log scale has no 0
        heights.append(height)

    line_of_text = 0.13  # in heights of a panel
    look = {"transform": ax.transAxes, "clip_on": False}
    for name, height, placed in zip(names, heights, pushed_apart(heights, line_of_text)):
        ax.plot([1.01, 1.06], [height, placed], color=name.color, linewidth=0.8, **look)
        ax.text(1.08, placed, name.words, color=name.color, va="center", **look)


def mark_above(ax, x, words, color, ha="center"):
    """A vertical line through a panel, and its name above, where the title has left room."""
    ax.axvline(x, color=color, linewidth=1.2, zorder=0)
    above = ax.get_xaxis_transform()  # x in data, y in heights of the panel
    ax.text(x, 1.03, words, color=color, ha=ha, va="bottom", transform=above)


ROOM_ABOVE = 24  # points between a panel and its title: for the name of a mark


def set_percent_axis(ax):
    """A vertical axis from 0 to 100%, with the line of 50%."""
    ax.axhline(0.5, **HALF_LINE, zorder=0)
    ax.set(ylim=(0, 1.03), yticks=[0, 0.5, 1], yticklabels=["0%", "50%", "100%"])


def draw_targets(ax, comparison):
    """What the retrained model gets right: of the test set, and of the forget set."""
    results = comparison.results
    for accuracy in (results.test_accuracy, results.forget_accuracy):
        ax.axhline(accuracy[RETRAIN], **TARGET_LINE, zorder=0)


def draw_yardsticks(ax, comparison):
    """A panel for gaps: its axis, a line for doing nothing, a band up to other retrains' largest.

    Returns their names.
    """
    ax.set(yscale="log", ylim=(SMALLEST, 110), yticks=[0.01, 0.1, 1, 10, 100])
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_locator(NullLocator())

    nothing = as_drawn(comparison.results.gap_to_retrained[NAIVE])
    ax.axhline(nothing, color=GREY, linewidth=1.2)

    largest = as_drawn(gaps_to_others(comparison.models[RETRAIN], comparison)).max()
    ax.axhspan(SMALLEST, largest, color=GREEN_TINT, zorder=0)
    middle = np.sqrt(SMALLEST * largest)  # halfway on a log scale
    return [LineName(nothing, "doing nothing", GREY), LineName(middle, "could be a retrain", GREEN)]


# The figure of the sweep

DIAMOND = {  # our example
    "marker": "D",
    "s": 60,
    "facecolor": "none",
    "edgecolor": INK,
    "linewidth": 1.6,
    "zorder": 5,
    "clip_on": False,
}


def draw_dose_axis(ax, title, doses, comparison):
    """A horizontal axis for the dose, up to the largest; on it our example's, and the best one."""
    seen = pd.Series([*doses.dose, comparison.settings.dose])
    seen = seen[seen > 0]  # 0 has no place on a log scale
    low = 10 ** np.floor(np.log10(seen.min()))  # a power of ten
    ax.set_title(title, pad=ROOM_ABOVE)
    ax.set(xscale="log", xlim=(low, seen.max()))
    ax.locator_params(axis="x", numticks=10)  # or a narrow panel would leave out powers of ten
    ax.set_xlabel("dose, each tick 10 times more", loc="left")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(NullLocator())

    # Our example's dose, and the best one, if it is better than doing nothing
    marks = {}
    if comparison.settings.dose > 0:
        marks[comparison.settings.dose] = "our example"
    if doses.gap_to_retrained.min() < comparison.results.gap_to_retrained[NAIVE]:
        best_dose = doses.dose[doses.gap_to_retrained.idxmin()]
        marks[best_dose] = f"best: {best_dose:g}"

    # The name of the smaller dose ends at its line, that of the larger one starts at its own
    for dose, ha in zip(sorted(marks), ("right", "left")):
        mark_above(ax, dose, marks[dose], INK, ha)


def draw_gap_over_dose(ax, doses, comparison):
    """The gap in points of probability, beside other retrains and doing nothing."""
    gaps = as_drawn(doses.gap_to_retrained)
    gap_at_largest_dose = gaps[doses.dose.idxmax()]
    gap_of_ours = as_drawn(comparison.results.gap_to_retrained[ASCENT])

    names = draw_yardsticks(ax, comparison)
    ax.scatter(doses.dose, gaps, color=RED, s=24, clip_on=False)
    ax.scatter(comparison.settings.dose, gap_of_ours, **DIAMOND)
    draw_dose_axis(ax, "Gap to the target, in points", doses, comparison)
    name_lines(ax, [*names, LineName(gap_at_largest_dose, "gradient ascent", RED)])


def draw_accuracy_over_dose(ax, doses, comparison):
    """Both accuracies after ascent, and what the retrained model gets right of the forget set."""
    forget_accuracy = comparison.results.forget_accuracy

    ax.scatter(doses.dose, doses.forget_accuracy, color=RED, s=24, clip_on=False)
    ax.scatter(doses.dose, doses.test_accuracy, color=INK, s=10, clip_on=False)  # on top of them
    ax.scatter(comparison.settings.dose, forget_accuracy[ASCENT], **DIAMOND)
    ax.axhline(forget_accuracy[RETRAIN], **TARGET_LINE, zorder=0)

    set_percent_axis(ax)
    draw_dose_axis(ax, "Accuracy after ascent", doses, comparison)
    at_largest_dose = doses.loc[doses.dose.idxmax()]
    whom = in_lines(the_asked(comparison.data), 1)
    name_lines(ax, [
        LineName(forget_accuracy[RETRAIN], "the target", GREEN),
        LineName(at_largest_dose.test_accuracy, "test set", INK),
        LineName(at_largest_dose.forget_accuracy, whom, RED),
    ])  # fmt: skip


def seeds_headline(accuracies, comparison):
    """How our example compares with other seeds, in two lines."""
    of_ascent = accuracies[ASCENT]
    of_ours = comparison.results.forget_accuracy[ASCENT]
    headline = f"{len(of_ascent)} seeds, same dose"
    if not has_learned(comparison):
        return headline
    if of_ours > of_ascent.max():
        return f"{headline}:\nours is the mildest"
    if of_ours < of_ascent.min():
        return f"{headline}:\nours is the harshest"
    return f"{headline}:\nours is like them"


def draw_accuracy_over_seeds(ax, accuracies, comparison):
    """The accuracy on the forget set, retrained and after ascent: a dot per seed."""
    names = [RETRAIN, ASCENT]
    of_ours = comparison.results.forget_accuracy[names]

    # A column of dots for each of the two, with our example
    sns.swarmplot(
        accuracies[names],
        ax=ax,
        size=5,
        palette=[COLORS[name] for name in names],
        warn_thresh=1,  # no warning if some dots have no room
    )
    ax.scatter(1, of_ours[ASCENT], **DIAMOND)
    ax.set_xlim(-0.6, 1.6)  # room for the dots at both sides
    ax.set_xticks(range(2), ["target", "ascent"])
    for label, name in zip(ax.get_xticklabels(), names):
        label.set_color(COLORS[name])
    ax.tick_params(axis="x", length=0)
    ax.set_title(seeds_headline(accuracies, comparison))
    ax.set_ylabel(f"accuracy on {the_asked(comparison.data)}")

    # The lines of the panel at the left go on
    ax.axhline(of_ours[RETRAIN], **TARGET_LINE, zorder=0)
    set_percent_axis(ax)
    name_lines(ax, [
        LineName(of_ours[RETRAIN], "the target", GREEN),
        LineName(0.5, "coin toss", INK),
    ])  # fmt: skip


@in_our_style()
def sweep_figure(doses, accuracies, comparison):
    """The gap and both accuracies over the dose; at our dose, the accuracy over the seed."""
    settings = comparison.settings

    # What was found, and how to read it
    finding = sweep_headline(doses, comparison)
    explanation = (
        f"{example(comparison)}. The target is a model retrained without them. Dose: epochs of "
        f"ascent × step size; ◇ is our example, {settings.unlearn_epochs} × "
        f"{settings.multiplier:g}."
    )
    widths = [1.3, 1.3, 1.2]
    fig, axes = new_figure(4.9, finding, explanation, 1, 3, width_ratios=widths)
    gap_panel, accuracy_panel, seeds_panel = axes
    draw_gap_over_dose(gap_panel, doses, comparison)
    draw_accuracy_over_dose(accuracy_panel, doses, comparison)
    draw_accuracy_over_seeds(seeds_panel, accuracies, comparison)
    return fig


def doses_in_words(doses, comparison):
    """Over which doses does ascent come nearer to the target than doing nothing?"""
    nothing = comparison.results.gap_to_retrained[NAIVE]
    nearer = doses[doses.gap_to_retrained < nothing]
    n = len(doses)
    if nearer.empty:
        return (
            f"The nearest of {n} settings leaves a gap of {points(doses.gap_to_retrained.min())} "
            f"points, doing nothing {points(nothing)}."
        )

    nearest = nearer.loc[nearer.gap_to_retrained.idxmin()]
    return (
        f"{len(nearer)} of {n} settings end nearer to the target than doing nothing (a gap of "
        f"{points(nothing)} points), with doses of {nearer.dose.min():g} to "
        f"{nearer.dose.max():g}; the nearest, at a dose of {nearest.dose:g}, leaves "
        f"{points(nearest.gap_to_retrained)}. But only somebody who has retrained models can "
        "tell which ones."
    )


def seeds_in_words(accuracies, comparison):
    """How different is forget accuracy with other seeds?"""
    settings = comparison.settings
    of_ours = comparison.results.forget_accuracy
    of_ascent = accuracies[ASCENT]
    return (
        f"With {settings.unlearn_epochs} x {settings.multiplier:g}, forget accuracy is "
        f"{percent(of_ours[ASCENT])} with seed {settings.seed}, and {percent(of_ascent.min())} to "
        f"{percent(of_ascent.max())} (mean {percent(of_ascent.mean())}) with {len(of_ascent)} "
        f"others. The target is {percent(of_ours[RETRAIN])}."
    )


def sweep_page(doses, accuracies, comparison):
    """The sweep in words, then forget accuracy and gap for every setting."""
    words = f"{NO_VERDICT}."
    if has_learned(comparison):
        headline = sweep_headline(doses, comparison)
        by_dose = doses_in_words(doses, comparison)
        by_seed = seeds_in_words(accuracies, comparison)
        words = f"{headline}. {by_dose} {by_seed}"

    accuracy_table = (100 * doses.forget_accuracy).map("{:.0f}".format).unstack()
    gap_table = doses.gap_to_retrained.map(points).unstack()
    lines = [
        wrapped(words),
        "",
        "Forget accuracy in %, by epochs (down) and multiplier (across)",
        accuracy_table.to_string(),
        "",
        "Gap to the target in points of probability",
        gap_table.to_string(),
    ]
    return "\n".join(lines)


def sweep(settings):
    """The dose of ascent, and other seeds."""
    comparison = compare(hospital, settings)
    doses = try_doses(comparison, settings)
    accuracies = try_seeds(settings)
    page = sweep_page(doses, accuracies, comparison)
    table = doses[["test_accuracy", "forget_accuracy", "gap_to_retrained"]]
    figure = sweep_figure(doses, accuracies, comparison)
    return Output(page, table, {"parameter_sweep.png": figure})


# ---- The film -----------------------------------------------------------------------------------
# Gradient ascent, epoch by epoch: it passes the target, and does not notice.


class Film(NamedTuple):
    """An animated GIF: its pictures, and how long each is shown (ms)."""

    pictures: list
    milliseconds: list

    def save(self, file):
        """Write it to a path or an open file; it loops."""
        first = self.pictures[0]
        rest = self.pictures[1:]
        first.save(
            file,
            format="GIF",
            save_all=True,
            append_images=rest,
            duration=self.milliseconds,
            loop=0,
        )


def epochs_shown(last, nearest, n_frames=90):
    """The epochs of a film: slow motion until twice the nearest epoch, then faster.

    If the nearest epoch is 0, or too late for that, one speed throughout.
    """
    turn = 2 * nearest
    n_slow = n_frames // 3

    # A third of the frames for less than a third of the epochs is slow motion
    if 0 < turn < last / 3:
        before = np.linspace(0, turn, n_slow)
        after = np.linspace(turn, last, n_frames - n_slow)
        epochs = np.concatenate([before, after])
    else:
        epochs = np.linspace(0, last, n_frames)

    # Whole numbers, each one once
    return np.unique([*epochs.round().astype(int), nearest])


def film_headline(path, comparison):
    """What the film shows, in a sentence."""
    return path_in_words(path, comparison.results) if has_learned(comparison) else NO_VERDICT


class Curve:
    """A line of the film, as far as it has come, with a dot at its end.

    What is animated is not drawn by Matplotlib with the rest of the figure, but by the film.
    """

    def __init__(self, ax, values, color):
        self.values = values  # a Series, by epoch
        start = values[0]
        (self.line,) = ax.plot(0, start, linewidth=2.4, color=color, animated=True)
        (self.dot,) = ax.plot(0, start, "o", color=color, clip_on=False, animated=True)

    def show(self, epoch):
        """Bring it to an epoch; returns its parts, to be drawn."""
        so_far = self.values.loc[:epoch]
        self.line.set_data(so_far.index, so_far)
        self.dot.set_data([epoch], [so_far[epoch]])
        return [self.line, self.dot]


def draw_curves(axes, path, comparison):
    """The panels of the gap and of both accuracies, over the epochs; returns their Curves."""
    nearest = path.gap_to_retrained.idxmin()
    last = path.index[-1]
    end = path.loc[last]
    gaps = as_drawn(path.gap_to_retrained)
    gap_panel = axes["gap"]
    accuracy_panel = axes["accuracy"]

    # The epochs, and the nearest of them
    for ax in (gap_panel, accuracy_panel):
        ax.set_xlim(0, max(last, 1))  # room for an axis even without any ascent
    mark_above(gap_panel, nearest, "closest", GREEN)
    accuracy_panel.axvline(nearest, color=GREEN, linewidth=1.2, zorder=0)
    gap_panel.set_xticklabels([])
    accuracy_panel.set_xlabel("epochs of ascent")

    # The gap, and both accuracies with their targets
    names = draw_yardsticks(gap_panel, comparison)
    name_lines(gap_panel, [*names, LineName(gaps[last], "ascent", RED)])
    set_percent_axis(accuracy_panel)
    draw_targets(accuracy_panel, comparison)
    name_lines(accuracy_panel, [
        LineName(comparison.results.forget_accuracy[RETRAIN], "the target", GREEN),
        LineName(0.5, "coin toss", INK),
        LineName(end.test_accuracy, "test set", INK),
        LineName(end.forget_accuracy, "who asked", RED),
    ])  # fmt: skip

    return [
        Curve(gap_panel, gaps, RED),
        Curve(accuracy_panel, path.test_accuracy, INK),
        Curve(accuracy_panel, path.forget_accuracy, RED),
    ]


def codes_of(picture):
    """The colours of a picture (height, width), red, green and blue in one number."""
    return np.asarray(picture).astype(int) @ [65536, 256, 1]


def colors_of(codes):
    """Red, green and blue (n, 3) of such numbers (n,)."""
    return np.column_stack([codes // 65536, codes // 256 % 256, codes % 256])


def common_palette(pictures):
    """Up to 255 colours (k, 3): the most frequent ones, near-duplicates left out.

    They are counted in at most eight of the pictures.
    """
    step = len(pictures) // 8 + 1
    some = [codes_of(picture) for picture in pictures[::step]]
    codes, counts = np.unique(np.stack(some), return_counts=True)
    codes = codes[np.argsort(-counts)]

    # Of colours that are nearly alike, in steps of 8, the most frequent one is enough
    coarse = pd.DataFrame(colors_of(codes) // 8)
    chosen = codes[~coarse.duplicated().to_numpy()]  # keeps the first, the most frequent
    return colors_of(chosen[:255])  # the 256th is Pillow's mark for "no change"


def in_palette(picture, palette):
    """The picture with each colour replaced by the nearest one of a palette (k, 3)."""
    # Each colour once, and which of them each pixel has
    codes, which = np.unique(codes_of(picture), return_inverse=True)
    nearest = cdist(colors_of(codes), palette).argmin(axis=1)

    # A GIF holds, for each pixel, the place of its colour in the palette
    places = nearest[which].reshape(picture.height, picture.width)
    image = Image.fromarray(places.astype(np.uint8))
    image.putpalette(palette.ravel().tolist())
    return image


def film_frame(comparison, path):
    """What does not move in the film: a figure, and its three panels by name."""
    data = comparison.data
    finding = film_headline(path, comparison)
    explanation = (
        f"{example(comparison)}. The target is a model retrained without {the_asked(data)}. "
        "Nothing in gradient ascent says where to stop."
    )
    fig, panels = new_page(6, finding, explanation)
    axes = panels.subplot_mosaic([["map", "gap"], ["map", "accuracy"]], width_ratios=[4, 3])

    # The map, still without a model
    marks = [("outlined: asked to be forgotten", RING_KEY), ("wrong", CROSS_KEY)]
    add_key(axes["map"], data, marks)
    draw_map(axes["map"], comparison)
    draw_patients(axes["map"], data, data.asked, RINGED)
    return fig, axes


def titles_at(epoch, path, n_asked):
    """What the three panels of the film show at an epoch, in words."""
    now = path.loc[epoch]
    n_wrong = round(n_asked * (1 - now.forget_accuracy))
    return {
        "map": f"Epoch {epoch:,} of {path.index[-1]:,}: {n_wrong:,} of {n_asked:,} wrong",
        "gap": f"Gap to the target: {points(now.gap_to_retrained)} points",
        "accuracy": (
            f"Accuracy: test set {now.test_accuracy:.0%}, who asked {now.forget_accuracy:.0%}"
        ),
    }


def climb(comparison, epochs):
    """The network at each of these epochs of ascent in turn; it is one network, which moves on."""
    forget = comparison.data.forget
    model = copy.deepcopy(comparison.models[ORIGINAL])
    reached = 0
    for epoch in epochs:
        steps = epoch - reached
        model.unlearn(forget.X, forget.y, steps, comparison.settings.multiplier)
        reached = epoch
        yield model


def draw_model_and_errors(ax, comparison, model):
    """A model's map, with a cross on each patient of the forget set whom it gets wrong.

    Returns what a film must remove before it draws the next model.
    """
    data = comparison.data
    wrong = model.predict(data.forget.X) != data.forget.y
    drawn = draw_map(ax, comparison, model)
    drawn.append(draw_marks(ax, data, data.asked[wrong], CROSS))
    return drawn


def picture_of(canvas, background, artists):
    """The background of a canvas with artists drawn on it, in this order: an Image."""
    canvas.restore_region(background)
    for artist in artists:
        artist.draw(canvas.get_renderer())
    pixels = np.asarray(canvas.buffer_rgba())[:, :, :3]  # red, green, blue
    return Image.fromarray(pixels)


def moving_parts(axes, curves, titles, epoch):
    """What is painted over the background for a picture of the film, in this order."""
    # The new shading would hide the patients of the background, so everything on the map is drawn
    # again, from back to front
    moving = sorted(axes["map"].collections, key=Artist.get_zorder)

    for curve in curves:
        moving += curve.show(epoch)
    moving += titles.values()
    return moving


@in_our_style()
def film_of_ascent(comparison, path):
    """The map of the network and three curves, epoch by epoch of ascent. path: see ascent_path."""
    nearest = path.gap_to_retrained.idxmin()
    last = path.index[-1]
    n_asked = len(comparison.data.asked)
    epochs = epochs_shown(last, nearest)
    pauses = {0: 1500, nearest: 2500, last: 4000}  # milliseconds

    # What does not move is drawn once. Titles are a blank, which keeps their place in the layout;
    # curves are animated=True, so draw() skips them
    fig, axes = film_frame(comparison, path)
    curves = draw_curves(axes, path, comparison)
    titles = {
        "map": axes["map"].set_title(" "),
        "gap": axes["gap"].set_title(" ", pad=ROOM_ABOVE),  # above the name of a mark
        "accuracy": axes["accuracy"].set_title(" "),
    }
    canvas = FigureCanvasAgg(fig)
    fig.set_dpi(90)  # 900 pixels wide: GitHub shows 838; with many more, the GIF would exceed 1 MB
    canvas.draw()
    background = canvas.copy_from_bbox(fig.bbox)

    drawn = []
    pictures = []
    for epoch, model in zip(epochs, climb(comparison, epochs)):
        # The map of this epoch instead of the last one
        for artist in drawn:
            artist.remove()
        drawn = draw_model_and_errors(axes["map"], comparison, model)

        for name, words in titles_at(epoch, path, n_asked).items():
            titles[name].set_text(words)
        moving = moving_parts(axes, curves, titles, epoch)
        pictures.append(picture_of(canvas, background, moving))

    # With a palette for each picture, the film would flicker
    palette = common_palette(pictures)
    pictures = [in_palette(picture, palette) for picture in pictures]
    milliseconds = [pauses.get(epoch, 80) for epoch in epochs]  # 80: about 12 a second
    return Film(pictures, milliseconds)


def milestones(path):
    """Up to four epochs that tell the story: start, nearest, halfway from there, end."""
    nearest = path.gap_to_retrained.idxmin()
    last = path.index[-1]
    return sorted({0, nearest, (nearest + last) // 2, last})


@in_our_style()
def stills_figure(comparison, path):
    """The film for print: its map at the milestones, side by side."""
    data = comparison.data
    gaps = path.gap_to_retrained
    epochs = milestones(path)

    # What was found, and how to read it
    finding = film_headline(path, comparison)
    explanation = (
        f"{example(comparison)}. The target is a model retrained without {the_asked(data)}; the "
        "gap is the distance to it, in percentage points of probability."
    )
    fig, axes = new_figure(4.2, finding, explanation, 1, 4, sharex=True, sharey=True)
    add_key(axes[0], data, [("outlined: asked to be forgotten", RING_KEY), ("wrong", CROSS_KEY)])

    for ax, epoch, model in zip(axes, epochs, climb(comparison, epochs)):
        draw_model_and_errors(ax, comparison, model)
        draw_patients(ax, data, data.asked, RINGED)
        ax.label_outer()

        # Its title; that of the nearest one is green
        when = f"Epoch {epoch}" if epoch > 0 else "The original"
        color = INK
        if epoch == gaps.idxmin():
            when += ", closest"
            color = GREEN
        ax.set_title(f"{when}:\ngap {points(gaps[epoch])}", color=color)

    # If the nearest epoch is the first or the last, there are fewer than four maps
    for ax in axes[len(epochs) :]:
        ax.set_visible(False)
    return fig


def film_page(path, comparison):
    """What the film shows, in words and in a few of its epochs."""
    gaps = path.gap_to_retrained
    others = gaps_to_others(comparison.models[RETRAIN], comparison)
    words = f"{NO_VERDICT}."
    if has_learned(comparison):
        words = (
            f"{film_headline(path, comparison)}. The gap is {points(gaps[0])} points of "
            f"probability at the start, {points(gaps.min())} at its smallest and "
            f"{points(gaps.iloc[-1])} at the end; between retrained models it is "
            f"{points(others.min())} to {points(others.max())}. Nothing in the method says where "
            "to stop: only somebody who has retrained models can tell."
        )

    some = path.loc[milestones(path)]
    table = pd.DataFrame({
        "test accuracy": some.test_accuracy.map(percent),
        "forget accuracy": some.forget_accuracy.map(percent),
        "gap, in points": some.gap_to_retrained.map(points),
    })  # fmt: skip
    return "\n".join([wrapped(words), "", table.to_string()])


def film(settings):
    """Gradient ascent, epoch by epoch."""
    comparison = compare(hospital, settings)
    path = ascent_path(comparison, settings)
    start = time.perf_counter()
    animation = film_of_ascent(comparison, path)
    report("film", time.perf_counter() - start)
    stills = stills_figure(comparison, path)
    files = {"ascent.gif": animation, "ascent_stills.png": stills}
    return Output(film_page(path, comparison), path, files)


# As in the demo, a fifth of the training rows ask: 160 of 800, and 91 of 455
ELSEWHERE = {
    "basic": Experiment(
        function=basic,
        meaning="the same on abstract data",
        defaults={"patients": 1000, "forget": 160},
        unused=("trials", *TABLE),
    ),
    "clinical": Experiment(
        function=clinical,
        meaning="the same on 569 real patients",
        defaults={"patients": 569, "forget": 91},
        unused=("trials", "patients", *TABLE),
    ),
    "own": Experiment(
        function=own,
        meaning="the same on your own CSV file: --data FILE --label COLUMN",
        defaults={"forget": None},  # a fifth of the training rows, however many there are
        unused=("trials", "patients"),
    ),
    "sweep": Experiment(
        function=sweep,
        meaning="the dose of ascent, and other seeds",
        defaults={},
        unused=("trials", *TABLE),
    ),
    "film": Experiment(
        function=film,
        meaning="gradient ascent, epoch by epoch: an animated GIF",
        defaults={},
        unused=("trials", *TABLE),
    ),
}


# =================================================================================================
# Part 3: What really forgets
# =================================================================================================
# Definition: a method has forgotten the rows F of a training set D if its models are distributed
# like models trained on D without F (Ginart et al., NeurIPS 2019, arXiv 1907.05012). D and F are
# fixed. What varies is the algorithm's own randomness: here, the initial weights and nothing else.
#
# Words of Parts 3 and 4, besides those at the front:
#
#     kind          of a request: random, clinic or atypical
#     trial         the same request again, with networks that start from other weights; T in all
#     m             the number of patients who ask to be forgotten
#     score  (m,)   the logit, times -1 for the healthy: positive where the network is right

# ---- Three requests -----------------------------------------------------------------------------

RANDOM = "random"
CLINIC = "clinic"
ATYPICAL = "atypical"
REQUESTS = {  # kind -> who asks
    RANDOM: "like everybody else",
    CLINIC: "unlike anybody else",
    ATYPICAL: "like people with the other diagnosis",
}
KINDS = list(REQUESTS)  # the position of a kind is part of the seed of its random numbers

# To scale age (years) and glucose (mg/dL). A scaler fitted on the patients would remember those who
# leave. Constants remember nobody, and need only be near the means and the deviations
MEANS = np.array([47.5, 125])
DEVIATIONS = np.array([13.3, 30.7])


def standardised(patients):
    """Rows of a DataFrame of patients."""
    features = patients[["age", "glucose"]].to_numpy()
    return Rows((features - MEANS) / DEVIATIONS, labels_of(patients))


def in_units(rows):
    """The way back: age, glucose and diagnosis (1: diabetic) of standardised rows."""
    people = pd.DataFrame(rows.X * DEVIATIONS + MEANS, columns=["age", "glucose"])
    people["diagnosis"] = rows.y
    return people


def stack(*parts):
    """Rows one after the other."""
    X = np.concatenate([part.X for part in parts])
    y = np.concatenate([part.y for part in parts])
    return Rows(X, y)


def draw_clinic(n, rng):
    """n early-onset diabetics, young and low in glucose: a clinic that withdraws as a whole."""
    age = rng.normal(22, 4, n)
    glucose = rng.normal(85, 8, n)
    return standardised(pd.DataFrame({"age": age, "glucose": glucose, "diagnosis": "Diabetic"}))


def most_atypical(rows, n):
    """The n rows that look most like the other diagnosis, the most atypical one first."""
    # The typical patient of either diagnosis
    typical = []
    for group in GROUPS.values():  # label 0, then label 1
        mean_age = group["age"][0]
        mean_glucose = group["glucose"][0]
        typical.append([mean_age, mean_glucose])
    typical = (np.array(typical) - MEANS) / DEVIATIONS  # (2, 2)

    # How much farther is everybody from the other diagnosis than from their own?
    distances = cdist(rows.X, typical)  # (rows, 2)
    everybody = np.arange(len(rows.y))
    to_own = distances[everybody, rows.y]
    to_other = distances[everybody, 1 - rows.y]
    order = np.argsort(to_other - to_own)

    return rows.at(order[:n])


def draw_leavers(kind, n, rng):
    """The rows of those who ask: n patients, or n / 4 if they are atypical, which is rare."""
    if kind == CLINIC:
        return draw_clinic(n, rng)

    if kind == ATYPICAL:
        n_atypical = n // 4
        patients = make_patients(10 * n_atypical, rng)  # a tenth of all counts as atypical
        return most_atypical(standardised(patients), n_atypical)

    patients = make_patients(n, rng)
    shuffled = patients.sample(frac=1, random_state=rng)  # the healthy do not ask first
    return standardised(shuffled)


def n_training(settings):
    """How many patients the hospital trains on: four fifths of all."""
    return settings.patients * 4 // 5


class RequestRows(NamedTuple):
    """The rows of a request."""

    forget: Rows
    retain: Rows
    test: Rows


def make_request(kind, settings):
    """The RequestRows of a kind of request; the same in all trials.

    Raises SettingsError if a request or the retain set would be too small.
    """
    check_range("patients", settings.patients, 40, 10**6)
    n_train = n_training(settings)
    check_range("forget", settings.forget, 8, n_train - 20)  # some must ask, and some remain

    rng = np.random.RandomState([settings.seed, KINDS.index(kind)])
    forget = draw_leavers(kind, settings.forget, rng)
    test = standardised(make_patients(1000, rng))

    # The retain set has the same size for every kind of request. Only a quarter as many atypical
    # patients leave, so there the training set, which is leavers and retain set, is smaller
    retain = standardised(make_patients(n_train - settings.forget, rng))
    return RequestRows(forget, retain, test)


# ---- Better answers, by gradient descent --------------------------------------------------------
# All networks of Parts 3 and 4 have one objective, the mean cross-entropy + l2 / 2 |all weights|^2.
# They are trained longer than the demo's, with larger steps. Ascent keeps the demo's step, which
# is learning rate x multiplier: 1.0 x 0.07 here, 0.1 x 0.7 there.

STUDY = {"learning_rate": 1.0, "epochs": 400, "multiplier": 0.07}  # defaults of Parts 3 and 4


def new_network(settings, rng, epochs):
    """A network of Parts 3 and 4, untrained."""
    return TwoLayerMLP(
        hidden_size=settings.hidden,
        learning_rate=settings.learning_rate,
        epochs=epochs,
        init_scale=0.5,  # large: initial weights are all that differs between two trials
        # With l2 = 0.01 the objective has one optimum for nearly every request (116 of 120 that
        # were tried, with 40 seeds); with 0.003 it often has several
        l2=0.01,
        random_state=rng,
    )


def train_by_descent(rows, settings, rng):
    """An original that keeps a copy of itself half-way through training, from which to rewind."""
    half = settings.epochs // 2
    checkpoint = new_network(settings, rng, epochs=half)
    checkpoint.fit(rows.X, rows.y)

    model = copy.deepcopy(checkpoint)
    model.set_params(epochs=settings.epochs)
    model.descend(rows.X, rows.y, settings.epochs - half)
    model.checkpoint_ = checkpoint
    return model


def neg_grad_plus(request, rng):
    """NegGrad+: descend 0.95 L(retain) - 0.05 L(forget), ascent held in place by the retain set.

    L is the objective on these rows, penalty included. Kurmanji et al., NeurIPS 2023, arXiv
    2302.09880. The weight 0.05 is a compromise: a smaller one needs more than 40 epochs for the
    clinic, a larger one harms other requests.
    """
    retain = request.retain
    forget = request.forget
    model = copy.deepcopy(request.original)
    for _ in range(40):
        down = model.gradient(retain.X, retain.y)
        up = model.gradient(forget.X, forget.y)
        model.weights_ -= model.learning_rate * (0.95 * down - 0.05 * up)
    return model


def fine_tune(request, rng):
    """Continue training on the retain set alone, 50 epochs, and hope that the rest fades."""
    model = copy.deepcopy(request.original)
    return model.descend(request.retain.X, request.retain.y, 50)  # an eighth of 400, the default


def rewind(request, rng):
    """Go back to the checkpoint and replay the second half of training on the retain set alone.

    The first half has seen the forget set. Mu & Klabjan, NeurIPS 2025, arXiv 2409.09778, add noise
    and prove a certificate; as run here it has none.
    """
    checkpoint = request.original.checkpoint_
    second_half = request.original.epochs - checkpoint.epochs
    model = copy.deepcopy(checkpoint)
    return model.descend(request.retain.X, request.retain.y, second_half)


# ---- Newton: to the optimum itself --------------------------------------------------------------
# Suppose that training always ends in the same minimum, whatever the weights to start from. Then
# the old weights are as good a start as new ones, and what comes out is the retrained model:
# forgetting without retraining. Two things are needed: an objective with one minimum (up to the
# order and the signs of hidden units; optima_apart, below, checks this), and a method that really
# arrives, as 400 epochs of descent do not.
#
# Newton's method arrives in a few steps. It fits a bowl to the objective, with its slope and its
# curvature, and jumps to the bottom of the bowl:
#
#     w <- w - H^-1 g        g (P,) gradient and H (P, P) Hessian of the objective
#
# At these optima the 20 hidden units are copies of one: with this penalty, the data ask for no
# more. In originals that have seen the clinic, they are copies of three or four.


def gradient_and_hessian(model, X, y):
    """Gradient g (P,) and Hessian H (P, P) of the objective with respect to all weights w.

    The chain rule, through the logits z. J (n, P) holds the derivatives of the n logits. For each
    row, the loss has the derivative p - y with respect to its logit, and p (1 - p) as the second
    derivative. With e = (p - y) / n, since the objective is a mean,

        g = J^T e + l2 w
        H = J^T diag(p (1 - p) / n) J + l2 I + sum over rows of e d2z/dw dw^T

    For J, take one hidden unit: v are its weights for the inputs (a column of W1, then its b1), and
    c is its weight in W2. It adds c tanh(u) to the logit, where u = sum_i v_i x_i and x = 1 for the
    bias:

        dz/dv_i = c tanh'(u) x_i        dz/dc = tanh(u)
    """
    n = X.shape[0]
    W2 = model.unpack().W2  # (h,)  the c of all units
    inputs = np.column_stack([X, np.ones(n)])  # (n, d + 1)  a bias is the weight of a constant 1

    # Forward, and back to the logits
    A, z = model.forward(X)  # (n, h) and (n,)
    p = sigmoid(z)
    e = (p - model.encode(X, y)) / n  # (n,)

    # First derivatives of the logits
    slope = 1 - A**2  # (n, h)  tanh'
    dz_du = slope * W2  # (n, h)
    dz_dv = inputs[:, :, None] * dz_du[:, None, :]  # (n, d + 1, h)
    dz_dc = A  # (n, h)
    dz_db2 = np.ones(n)

    # In the order of weights_: W1 row by row and b1, which together are all v, then W2 and b2
    J = np.column_stack([dz_dv.reshape(n, -1), dz_dc, dz_db2])  # (n, P)

    g = e @ J + model.l2 * model.weights_

    # The first term of H as M^T M, with each row of J times the root of p (1 - p) / n: such a
    # product is exactly symmetric
    root = np.sqrt(p * (1 - p) / n)  # (n,)
    M = root[:, None] * J  # (n, P)
    H = M.T @ M + model.l2 * np.eye(len(g))
    H += bend_of_logits(inputs, A, W2, e)

    return g, H


def bend_of_logits(inputs, A, W2, e):
    """Sum over rows of e d2z/dw dw^T (P, P), the last term of H; inputs (n, d + 1), e (n,).

    Named as in gradient_and_hessian, a hidden unit has the second derivatives

        d2z/dv_i dv_j = c tanh''(u) x_i x_j        d2z/dv_i dc = tanh'(u) x_i

    All others are 0: z is linear in W2 and b2, and contains no product of weights of two units.
    """
    n = inputs.shape[0]
    n_inputs = inputs.shape[1]  # d + 1
    h = len(W2)

    # For each row and unit: e c tanh''(u), the factor of x_i x_j, and e tanh'(u), the factor of x_i
    slope = 1 - A**2  # (n, h)  tanh'
    bend = -2 * A * slope  # (n, h)  tanh'' = -2 tanh tanh'
    factor_v_v = e[:, None] * W2 * bend  # (n, h)  W2 holds the c of all units
    factor_v_c = e[:, None] * slope  # (n, h)

    # A product of matrices sums over the rows, for all units at once
    x_x = inputs[:, :, None] * inputs[:, None, :]  # (n, d + 1, d + 1)
    v_v = x_x.reshape(n, -1).T @ factor_v_v  # ((d + 1)^2, h)
    v_v = v_v.reshape(n_inputs, n_inputs, h)
    v_c = inputs.T @ factor_v_c  # (d + 1, h)

    # Each unit's values go to the rows and columns of its own weights
    n_weights = n_inputs * h + h + 1
    total = np.zeros((n_weights, n_weights))
    for unit in range(h):
        v = slice(unit, n_inputs * h, h)  # where v stands in w: in W1 and b1, every h-th weight
        c = n_inputs * h + unit
        total[v, v] = v_v[:, :, unit]
        total[v, c] = v_c[:, unit]
        total[c, v] = v_c[:, unit]
    return total


def newton_step(g, H, damping=0.0):
    """(H + damping I)^-1 g by Cholesky; None if the matrix is not positive definite."""
    damped = H + damping * np.eye(len(g))
    try:
        factor = cho_factor(damped, check_finite=False)
    except LinAlgError:
        return None
    return cho_solve(factor, g)


def dampings(g, H):
    """How much damping to try: first none, then more and more, until a step is next to nothing."""
    yield 0.0

    # Then from 1e-4 upwards. But where the slope is almost 0, near an optimum or a saddle, 1e-4 may
    # be far more than the curvature, and steps would be tiny. There, start from the size of the
    # smallest eigenvalue of H: if that is negative, a little more makes H + damping I positive
    # definite. But not from less than 1e-9
    first = 1e-4
    if np.linalg.norm(g) < 1e-6:
        smallest = np.linalg.eigvalsh(H)[0]
        first = np.clip(abs(smallest), 1e-9, 1e-4)

    damping = first
    while damping < 1e6:  # by then a step is a millionth of the gradient
        yield damping
        damping = 3 * damping + first  # 1, 4, 13, 40, ... times the first: about three times more


def move_downhill(model, rows, g, H):
    """Take a Newton step that does not lead up; in place, returns whether there was one.

    Far from the optimum, a full step may overshoot, or H may not be positive definite: no bowl.
    Damping shortens the step and turns it towards -g, the steepest way down: (H + damping I)^-1 g
    is close to g / damping if damping is large.
    """
    start = model.weights_  # no copy: from here on, weights_ is replaced and never written into
    value = model.objective(rows.X, rows.y)

    for damping in dampings(g, H):
        step = newton_step(g, H, damping)
        if step is None:
            continue  # still no bowl
        model.weights_ = start - step
        if model.objective(rows.X, rows.y) <= value + 1e-13:  # a rise by less is rounding
            return True

    # Nothing helped: the weights stay
    model.weights_ = start
    return False


def to_canonical_form(model):
    """Round the weights of a model at an optimum and make its W2 positive; in place.

    This is for a reader who compares the weights of two networks to the last decimal; the attacks
    below read only 4 decimals and do not need it. Two networks at the same optimum are the same
    function, but not yet the same numbers:

    1. Newton's method stops about 1e-14 away from the optimum. So the weights are rounded to 10
       decimals. After that, a few weights in 10,000 still differ, by 1e-10: they are so close to
       half-way between two rounded values that one is rounded up and the other down.
    2. With tanh, all weights of a hidden unit can change their signs without effect. So its weight
       in W2 is made positive.
    3. The units can change places. Their order is left as it is; where all units are copies of one,
       it makes no difference.

    Retrained models get the same treatment. In 90 runs it moved no logit by more than 2e-9, and
    changed no prediction.
    """
    model.weights_ = np.round(model.weights_, 10)

    weights = model.unpack()  # views into weights_
    sign = np.where(weights.W2 < 0, -1, 1)  # (h,)
    weights.W1[:] *= sign
    weights.b1[:] *= sign
    weights.W2[:] *= sign


def go_to_optimum(model, rows):
    """Newton's method from the model's weights to an optimum; in place, returns the model.

    Warns (ConvergenceWarning) if it finds none; the model is then where the search has ended.
    """
    # With the default settings and 40 seeds, 3 to 34 steps are needed where there is one optimum
    for _ in range(200):
        g, H = gradient_and_hessian(model, rows.X, rows.y)
        is_flat = np.linalg.norm(g) <= 1e-10

        if is_flat:
            last_step = newton_step(g, H)
            if last_step is not None:  # H is positive definite: an optimum
                model.weights_ = model.weights_ - last_step  # leaves nothing but rounding
                to_canonical_form(model)
                return model

            # A saddle: no slope, but a direction in which the objective curves down. Pretend that
            # there is a small slope along it, so that the next step takes it; either way is down
            downwards = np.linalg.eigh(H).eigenvectors[:, 0]
            g = 1e-4 * downwards

        has_moved = move_downhill(model, rows, g, H)
        if not has_moved:
            break

    warnings.warn("Newton's method has found no optimum", ConvergenceWarning, stacklevel=2)
    return model


def train_by_newton(rows, settings, rng):
    """New random weights, and from there to the optimum."""
    model = new_network(settings, rng, epochs=0)
    model.fit(rows.X, rows.y)  # 0 epochs: draws the weights
    return go_to_optimum(model, rows)


def newton_retrain(request, rng):
    """To the optimum of the retain set from new random weights."""
    return train_by_newton(request.retain, request.settings, rng)


def influence_function(request, rng):
    """A single Newton step on the retain set, with a Hessian from before the request.

    It estimates where retraining would end. L is the objective of all N rows, and w its optimum,
    where the request starts. m rows leave:

        N L = (N - m) L_retain + m L_forget

    Solved for L_retain, with eps = m / (N - m):

        L_retain = L + eps (L - L_forget)

    Now let eps be a variable that grows from 0, where nobody has left, to this value. On the way,
    the optimum w(eps) is where grad L + eps grad(L - L_forget) = 0. Differentiate with respect to
    eps, and set eps = 0, where grad L = 0:

        H dw/deps - grad L_forget = 0            with H the Hessian of L at w

    The influence function assumes that this rate, dw/deps = H^-1 grad L_forget, stays the same all
    the way. Then w moves by eps H^-1 grad L_forget. The gradient of the second formula, at w, where
    grad L = 0, is grad L_retain = -eps grad L_forget. So the move is -H^-1 grad L_retain: the step
    below. Koh & Liang, ICML 2017, arXiv 1703.04730, for one row; for networks, Bae et al., NeurIPS
    2022, arXiv 2209.05364.
    """
    retain = request.retain
    everybody = stack(request.forget, retain)
    model = copy.deepcopy(request.original)
    g = model.gradient(retain.X, retain.y)
    _, H = gradient_and_hessian(model, everybody.X, everybody.y)
    model.weights_ -= np.linalg.solve(H, g)
    return model


def one_newton_step(request, rng):
    """The same step with the Hessian of the retain set; exact if the objective were quadratic.

    As a rule it ends nearer to the retrained model than the influence function (Rubinstein &
    Hopkins, ICML 2026, arXiv 2512.12572, prove it for convex losses), but still far from it where
    many similar rows leave, like our clinic (Guo & Cao, arXiv 2601.06967: biased requests).
    """
    retain = request.retain
    model = copy.deepcopy(request.original)
    g, H = gradient_and_hessian(model, retain.X, retain.y)
    model.weights_ -= np.linalg.solve(H, g)
    return model


def newton(request, rng):
    """Newton steps from the old weights until the optimum.

    If there is only one, retraining ends there, too. Guo & Cao, arXiv 2601.06967, also find that
    more steps help.
    """
    return go_to_optimum(copy.deepcopy(request.original), request.retain)


# ---- Ten methods, two optimisers ----------------------------------------------------------------
# Two optimisers end at different models for the same rows, so a method is compared with its own
# kind: it starts from an original that was trained with its optimiser, and its target is retrained
# with that optimiser. The two retrainings are methods, too; they show what a perfect answer scores.

PLUS = "Ascent + Descent"
TUNE = "Fine-Tuning"
REWIND = "Rewind"
NEWTON_RETRAIN = "Newton Retrain"
INFLUENCE = "Influence Function"
ONE_STEP = "One Newton Step"
NEWTON = "Newton"

BY_DESCENT = {
    RETRAIN: full_retrain,  # the target of these six
    NAIVE: naive_deletion,
    ASCENT: gradient_ascent,
    PLUS: neg_grad_plus,
    TUNE: fine_tune,
    REWIND: rewind,
}
BY_NEWTON = {
    NEWTON_RETRAIN: newton_retrain,  # the target of these four
    INFLUENCE: influence_function,
    ONE_STEP: one_newton_step,
    NEWTON: newton,
}
METHODS = BY_DESCENT | BY_NEWTON

READS = {  # the rows that a method needs
    RETRAIN: "retain",
    NAIVE: "none",
    ASCENT: "forget",
    PLUS: "both",
    TUNE: "retain",
    REWIND: "retain",  # and a checkpoint
    NEWTON_RETRAIN: "retain",
    INFLUENCE: "both",
    ONE_STEP: "retain",
    NEWTON: "retain",
}

# By the name of its retraining, the target: how each optimiser trains an original, and the methods
# that use it. All methods but the two retrainings are shortcuts
TRAINING = {RETRAIN: train_by_descent, NEWTON_RETRAIN: train_by_newton}
ANSWERS_OF = {RETRAIN: BY_DESCENT, NEWTON_RETRAIN: BY_NEWTON}


def retraining_of(name):
    """The retraining that a method is compared with: the one with the same optimiser."""
    return RETRAIN if name in BY_DESCENT else NEWTON_RETRAIN


# ---- What an attacker sees ----------------------------------------------------------------------


class Seen(NamedTuple):
    """What an attacker sees of a model. Stacked, with T in front: what is seen of T models."""

    scores: np.ndarray  # (m,)  of the forget set
    invariants: np.ndarray  # (k,)  from the weights


def weight_invariants(model):
    """Numbers (k,) from the weights that depend on neither order nor signs of the hidden units.

    Somebody who holds the whole model can read its weights. But to compare two networks weight by
    weight would compare unrelated units: the same function can have them in any order and, with
    tanh, flipped. So every unit is turned to W2 >= 0, and what is read are means over all units: of
    each weight of a unit, and of the products of every two of them, squares included. With b2, this
    makes 15 numbers for two features: 1 + 4 + 10.
    """
    weights = model.unpack()
    sign = np.where(weights.W2 < 0, -1, 1)  # (h,)
    units = sign * np.vstack([weights.W1, weights.b1, weights.W2])  # (d + 2, h)

    means = units.mean(axis=1)  # (d + 2,)
    products = units @ units.T / units.shape[1]  # (d + 2, d + 2)  symmetric
    each_pair_once = np.triu_indices(len(units))
    return np.concatenate([weights.b2, means, products[each_pair_once]])


def look_at(model, forget):
    """What an attacker sees of a model."""
    sign = 2 * forget.y - 1  # -1 healthy, +1 diabetic
    with np.errstate(all="ignore"):  # it may have diverged
        scores = sign * model.forward(forget.X).z
        return Seen(scores, weight_invariants(model))


# ---- Two attacks --------------------------------------------------------------------------------
# Each of T trials has two models, an unlearned and a retrained one. An attacker is told for some
# of the trials which model is which. It learns how the two kinds differ, and classifies the models
# of the other trials. An accuracy of 0.5 is a coin toss.
#
# How much more than 0.5 is more than luck? Lie to the attacker: swap the two models of a trial, or
# not, at random and in all trials. What the attack scores then is luck. An array labels (L, T)
# holds L such labellings, 1 where a trial is as it is, -1 where it is swapped: the truth first, all
# 1, then lies. Each labelling divides the 2 T models into a first and a second kind, T of each. By
# the truth, these are the unlearned and the retrained models.

DECIMALS = 4  # of each number that an attacker sees; with 8, no verdict changes (seeds 42, 7, 1, 2)
SWAPS = 199  # lies: with the truth, 200 labellings

# Caught: the truth is among the 1 in 100 labellings with which the attack does best. Even a
# perfect attack needs about 8 trials for this: with all trials swapped, it does just as well. Of
# the 2^8 labellings of 8 trials, these two are 0.8%; of 2^7 they would be 1.6%
LEVEL = 0.01


def in_last_decimals(unlearned, retrained):
    """Numbers (2, T, k) in units of the last decimal, counted from the unlearned model of trial 0.

    So rounding noise of 1e-13 hardly ever decides an attack: these are whole numbers, their sums
    are exact, and a number that never varies is exactly 0.
    """
    numbers = np.stack([unlearned, retrained])
    numbers = np.rint(10**DECIMALS * numbers)
    return numbers - numbers[0, 0]


class Gaussian(NamedTuple):
    """A bell curve for each labelling and patient."""

    mean: np.ndarray  # (L, m)
    variance: np.ndarray  # (L, m)


def fit_gaussian(scores, takes_unlearned):
    """Bell curves of one kind of models, from scores (2, T, m): unlearned, then retrained models.

    Each labelling assigns one of a trial's two models to this kind: the unlearned one where
    takes_unlearned (L, T) is True, otherwise the retrained one.
    """
    of_unlearned, of_retrained = scores
    takes_retrained = ~takes_unlearned

    # Sums over the models of this kind, for all labellings at once
    sums = takes_unlearned @ of_unlearned + takes_retrained @ of_retrained  # (L, m)
    squares = takes_unlearned @ of_unlearned**2 + takes_retrained @ of_retrained**2

    # The sum of (x - mean)^2 is that of x^2, less n mean^2
    n = scores.shape[1]
    mean = sums / n
    variance = np.maximum(squares - sums * mean, 0) / (n - 1)  # not below 0 by rounding
    # Where a score never varies, a deviation of 0.01 of its last decimal instead of 0
    return Gaussian(mean, variance + 1e-4)


class Parabola(NamedTuple):
    """a x^2 + b x + c for each labelling and patient, all (L, m)."""

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray


def log_ratio(first, second):
    """Twice the logarithm of first / second, two Gaussians at a score x: a Parabola in x.

    Twice the logarithm of a Gaussian is -(x - mean)^2 / variance - log(variance), up to a constant.
    """
    a = 1 / second.variance - 1 / first.variance
    b = 2 * (first.mean / first.variance - second.mean / second.variance)
    c = (
        second.mean**2 / second.variance
        - first.mean**2 / first.variance
        + np.log(second.variance / first.variance)
    )
    return Parabola(a, b, c)


def votes_for_first(x, ratio, k):
    """By labelling k: votes (2, T) that a model is of the first kind, less those for the second.

    Each patient has one vote, for the curve that is higher at the model's score x (2, T, m).
    """
    a = ratio.a[k]  # (m,)
    b = ratio.b[k]
    c = ratio.c[k]
    value = (a * x + b) * x + c
    return np.sign(value).sum(axis=2)


def lira_attack(unlearned, retrained, labels, n_splits=8):
    """U-LiRA, a likelihood-ratio attack on scores (T, m): accuracies (L, T).

    For each patient, a Gaussian is fitted to the scores of either kind on one half of the trials.
    The two decide the patient's vote on each model of the other half. Then the halves change
    places. The accuracy is the share of right votes, over several random splits. Hayes et al.,
    SaTML 2025, arXiv 2403.01218.
    """
    scores = in_last_decimals(unlearned, retrained)  # (2, T, m)
    n_trials = scores.shape[1]
    n_patients = scores.shape[2]
    rng = np.random.RandomState(0)
    margin = np.zeros(labels.shape)  # right votes, less the wrong ones

    for _ in range(n_splits):
        half = rng.permutation(n_trials) < n_trials // 2
        for known in (half, ~half):
            held_out = ~known

            # Learn: a bell curve for each kind. With label 1, a trial's unlearned model is of the
            # first kind; with label -1, it is of the second
            unlearned_is_first = labels[:, known] == 1  # (L, T/2)
            first = fit_gaussian(scores[:, known], unlearned_is_first)
            second = fit_gaussian(scores[:, known], ~unlearned_is_first)
            ratio = log_ratio(first, second)

            # Classify. With label 1, the unlearned model should get votes for the first kind, and
            # the retrained one against; with label -1, the other way round
            x = scores[:, held_out]  # (2, T/2, m)
            for k in range(len(labels)):
                votes = votes_for_first(x, ratio, k)  # (2, T/2)
                margin[k, held_out] += labels[k, held_out] * (votes[0] - votes[1])

    # Each split holds out every trial once. Then all patients vote on both of its models, so margin
    # is n_votes if all votes are right, -n_votes if all are wrong
    n_votes = 2 * n_splits * n_patients
    return 0.5 + margin / (2 * n_votes)


def best_directions(X, labels):
    """For each labelling, the direction (k, L) that best separates the two kinds of models.

    X (2, T, k) are all models' numbers, scaled to a mean of 0. The best direction is C^-1 v, where
    v is the difference of the two kinds' means and C the covariance within the kinds (Fisher,
    Annals of Eugenics 7, 1936).
    """
    n_trials = X.shape[1]
    v = labels @ (X[0] - X[1]) / n_trials  # (L, k)  a difference of means for each labelling

    # Each labelling has its own C. One matrix serves them all, by two facts:
    #
    # A. For any number t >= 0, (C + t v v^T)^-1 v is the same direction as C^-1 v:
    #
    #        (C + t v v^T) C^-1 v = v + t v (v^T C^-1 v) = (1 + t v^T C^-1 v) v
    #
    #    so C^-1 v is (C + t v v^T)^-1 v times the last bracket, a positive number.
    #
    # B. S, the covariance of the models of both kinds together, is the same for all labellings. The
    #    kinds are equally frequent, so their means lie at v/2 and -v/2, and S = C + v v^T / 4.
    #
    # So S^-1 v is the direction: fact A, with t = 1/4. But S, from few models, is not precise.
    # ledoit_wolf returns a mixture with the identity, (1 - a) S + b I, with a and b from the data
    # (Ledoit & Wolf, J. Multivariate Analysis 88, 2004), again the same for all labellings. With
    # fact B it is
    #
    #     (1 - a) (C + v v^T / 4) + b I = M + t v v^T    with M = (1 - a) C + b I, t = (1 - a) / 4
    #
    # By fact A, with M for C, its inverse times v has the direction of M^-1 v: Fisher's, with a
    # mixture of C and the identity instead of C
    all_models = np.concatenate(X)  # (2 T, k)
    shrunk = ledoit_wolf(all_models, assume_centered=True)[0]  # (k, k)
    shrunk += 1e-9 * np.eye(len(shrunk))  # invertible even where nothing varies

    return np.linalg.solve(shrunk, v.T)


def vector_attack(unlearned, retrained, labels, n_folds=8):
    """Linear discriminant analysis of vectors (T, k), all numbers at once: accuracies (L, T).

    The attack looks for the direction along which the two kinds of models differ most. A model is
    then classified by the side on which it lies. The trials are divided into n_folds folds, and
    each fold is classified by what all others show.
    """
    numbers = in_last_decimals(unlearned, retrained)  # (2, T, k)
    n_trials = numbers.shape[1]
    accuracies = np.empty(labels.shape)

    for fold in range(n_folds):
        held_out = np.arange(n_trials) % n_folds == fold
        known = ~held_out

        # Scale each number to a mean of 0. Under any labelling the kinds are equally frequent, so 0
        # lies half-way between their means: the sign tells on which side a model is
        mean = numbers[:, known].mean(axis=(0, 1))  # (k,)
        deviation = numbers[:, known].std(axis=(0, 1)) + 1e-5  # not 0
        X = (numbers - mean) / deviation  # (2, T, k)

        # Learn from the known trials
        directions = best_directions(X[:, known], labels[:, known])  # (k, L)

        # Classify the models that were held out: +1 is of the first kind, -1 of the second
        side = np.sign(X[:, held_out] @ directions)  # (2, T/8, L)
        margin = labels[:, held_out] * (side[0] - side[1]).T  # (L, T/8)  2: both right, -2: none
        accuracies[:, held_out] = 0.5 + margin / 4

    return accuracies


class Verdict(NamedTuple):
    """How well an attack does."""

    accuracies: np.ndarray  # (T,) by trial, with the true labelling
    limit: float  # what chance reaches: beyond it, p <= LEVEL
    p: float  # how often chance does as well; see judge


def judge(accuracies):
    """The Verdict on an attack with accuracies (L, T): is it better with the truth than with lies?

    p is the share of all labellings with which the attack is at least as accurate as with the
    truth, the truth included. p <= 0.01 means at most 2 of 200: the truth itself and one lie. So a
    method is caught if the attack does better with the truth than with every lie but the best one.
    """
    by_labelling = accuracies.mean(axis=1)  # (L,)
    by_labelling = by_labelling.round(12)  # what is equal but for rounding is equal
    with_truth = by_labelling[0]
    with_lies = np.sort(by_labelling[1:])

    p = np.mean(by_labelling >= with_truth)

    # p <= LEVEL allows n_allowed labellings, 2 of 200: the truth and the best lie. So the truth
    # must beat the next lie, the second best
    n_allowed = int(LEVEL * len(by_labelling))
    limit = with_lies[-n_allowed]  # the n_allowed-th best lie
    return Verdict(accuracies[0], limit, p)


def attack_both(unlearned, retrained):
    """{"attack": Verdict of U-LiRA, "vector": Verdict of linear discriminant analysis}.

    They are given what is Seen of T unlearned and T retrained models, U-LiRA the scores only. The
    names are those of their columns in the table: attack_accuracy, vector_accuracy, ...
    """
    n_trials = len(unlearned.scores)

    # It takes no attack to recognise a model that has diverged
    unlearned_numbers = np.hstack([unlearned.scores, unlearned.invariants])  # (T, m + k)
    retrained_numbers = np.hstack([retrained.scores, retrained.invariants])
    largest = np.abs([unlearned_numbers, retrained_numbers]).max()
    if not largest < 1e100:  # larger, infinite or not a number
        obvious = Verdict(np.ones(n_trials), limit=0.5, p=1 / (1 + SWAPS))
        return {"attack": obvious, "vector": obvious}

    # The truth, and random swaps: the same lies for every method
    rng = np.random.RandomState(0)
    truth = np.ones((1, n_trials))
    swapped = rng.choice([-1.0, 1.0], (SWAPS, n_trials))
    labels = np.concatenate([truth, swapped])  # (L, T)

    return {
        "attack": judge(lira_attack(unlearned.scores, retrained.scores, labels)),
        "vector": judge(vector_attack(unlearned_numbers, retrained_numbers, labels)),
    }


# ---- The study ----------------------------------------------------------------------------------

METRICS = ["test_accuracy", "retain_accuracy", "forget_accuracy", "gap_to_retrained"]


def measure(model, target, rows):
    """{name: value} of METRICS for a model, given RequestRows; NaN if its weights have diverged."""
    if not np.isfinite(model.weights_).all():
        return dict.fromkeys(METRICS, np.nan)

    return {
        "test_accuracy": model.score(rows.test.X, rows.test.y),
        "retain_accuracy": model.score(rows.retain.X, rows.retain.y),
        "forget_accuracy": model.score(rows.forget.X, rows.forget.y),
        "gap_to_retrained": gap_to_retrained(model, target, rows.forget.X),
    }


def timed_answer(method, request, rng):
    """(model, seconds) of a method, without warnings: the page says which methods diverged."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the weights are not finite")
        return timed(method, request, rng=rng, repeats=1)


def study_trial(settings, kind, trial):
    """One trial of a request: a dict per method, with its metrics and what an attacker sees.

    The rows are the same in all trials, only the initial weights differ. Raises SettingsError if
    the retrained model diverges, since there is nothing to compare with then.
    """
    rows = make_request(kind, settings)
    everybody = stack(rows.forget, rows.retain)
    rng = np.random.RandomState([settings.seed, KINDS.index(kind), trial])
    records = []

    for retraining, train in TRAINING.items():
        # One original and one target for all methods that share an optimiser
        with np.errstate(all="ignore"):  # with very large steps, weights overflow
            original = train(everybody, settings, rng)
            request = Request(original, rows.retain, rows.forget, settings)
            target = METHODS[retraining](request, rng)
        if not np.isfinite(target.weights_).all():
            raise SettingsError("retraining diverges; try a smaller --learning-rate")
        target_seen = look_at(target, rows.forget)

        # The retraining is one of the methods: run again here, it starts from other weights
        for name, method in ANSWERS_OF[retraining].items():
            model, seconds = timed_answer(method, request, rng)
            record = {"request": kind, "method": name, "seconds": seconds}
            record.update(measure(model, target, rows))
            record["seen"] = look_at(model, rows.forget)
            record["target_seen"] = target_seen
            records.append(record)

    return records


def on_all_cores(function, cases, quiet):
    """[function(*case) for case in cases], in parallel.

    How and where is joblib's business: on all cores of this machine, or of a cluster with
    joblib.parallel_config("dask") or ("ray"); one after the other with ("sequential").
    """
    parallel = Parallel(n_jobs=-1, verbose=0 if quiet else 1)
    return parallel(delayed(function)(*case) for case in cases)


def run_trials(settings):
    """All trials of all requests: a DataFrame with a row per record of study_trial."""
    cases = list(product([settings], KINDS, range(settings.trials)))  # arguments of study_trial
    records_by_trial = on_all_cores(study_trial, cases, settings.quiet)
    return pd.DataFrame(chain.from_iterable(records_by_trial))


def estimate(name, values):
    """{name: mean, name_low: ..., name_high: ...} of values (T,), with the 95% interval.

    Student's t treats the trials as independent, although an attack on one has learned from others.
    """
    values = np.asarray(values)
    mean = values.mean()  # NaN if one is NaN
    standard_error = values.std(ddof=1) / np.sqrt(len(values))
    margin = stdtrit(len(values) - 1, 0.975) * standard_error
    return {name: mean, f"{name}_low": mean - margin, f"{name}_high": mean + margin}


def stack_seen(column):
    """Stack a column of T Seen, one per model, into one Seen with T in front."""
    scores = np.stack([seen.scores for seen in column])  # (T, m)
    invariants = np.stack([seen.invariants for seen in column])  # (T, k)
    return Seen(scores, invariants)


def attack_all(trials):
    """The study's table: a row per request and method, means and intervals, limits, verdicts."""
    groups = trials.groupby(["request", "method"], sort=False)

    # What the attacks make of all trials of a method together
    cases = []  # arguments of attack_both
    for _, group in groups:
        cases.append((stack_seen(group.seen), stack_seen(group.target_seen)))
    verdicts_by_case = on_all_cores(attack_both, cases, quiet=True)

    rows = {}
    for (key, group), verdicts in zip(groups, verdicts_by_case):
        row = {}

        # What was measured in each trial
        for metric in ["seconds", *METRICS]:
            row.update(estimate(metric, group[metric]))

        # How well the attacks do
        for name, verdict in verdicts.items():
            row.update(estimate(f"{name}_accuracy", verdict.accuracies))
            row[f"{name}_limit"] = verdict.limit
            row[f"{name}_p"] = verdict.p

        # One attack is enough. Two of them, at 1% each, catch a perfect method in up to 2% of
        # cases. A run has three requests: in up to 6% of runs it is caught on one of them
        smallest_p = min(verdict.p for verdict in verdicts.values())
        row["caught"] = smallest_p <= LEVEL
        rows[key] = row

    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["request", "method"])


SAME_OPTIMUM = 1e-6  # models that differ by less, in p or in logits, differ only by rounding


def optima_apart(trials):
    """By request, how far apart any two Newton runs are: the largest difference in a forget logit.

    If it is below SAME_OPTIMUM, all runs, from old and from new weights, have most likely found the
    same optimum. There may still be another one. Each trial starts twice from new weights, for its
    target and for Newton Retrain: 128 starts in the 64 trials of the default. An optimum that 1 in
    100 starts reach is missed by all of them with a probability of 0.99^128 = 28%.
    """
    newton_runs = trials[trials.method.isin([NEWTON_RETRAIN, NEWTON])]
    apart = {}
    for kind, group in newton_runs.groupby("request", sort=False):
        models = stack_seen(group.seen)
        targets = stack_seen(group.target_seen)
        scores = np.concatenate([models.scores, targets.scores])  # (runs, m)
        apart[kind] = np.ptp(scores, axis=0).max()
    return apart


# ---- How the study is shown ---------------------------------------------------------------------

ON_TARGET = 0.05  # how near to the target is near enough: one of the 20 atypical patients


def beside_retraining(table):
    """How each row of the table compares with its retraining, the one with the same optimiser.

    target_accuracy  the retraining's forget accuracy
    on_target        forget accuracy is within ON_TARGET of target_accuracy; False if it diverged
    time             relative to the retraining's
    points_lost      points of test accuracy by which the retraining is better; 0 if it is not
    diverged         its weights were not finite, in some trial
    """
    # The row of its retraining, for each row
    keys = [(kind, retraining_of(name)) for kind, name in table.index]
    target = table.loc[keys]
    target.index = table.index

    off = (table.forget_accuracy - target.forget_accuracy).abs()
    off = off.round(9)  # one patient of 20 is 0.05, not a little more
    lost = target.test_accuracy - table.test_accuracy
    columns = {
        "target_accuracy": target.forget_accuracy,
        "on_target": off <= ON_TARGET,
        "time": table.seconds / target.seconds,
        "points_lost": 100 * lost.clip(lower=0),
        "diverged": table.gap_to_retrained.isna(),
    }
    return pd.DataFrame(columns)


def percent_range(low, high):
    """0.35 and 0.94 as "35 to 94%", or one number if the two are written alike."""
    from_low = f"{100 * low:.0f}"
    to_high = f"{100 * high:.0f}"
    return f"{to_high}%" if from_low == to_high else f"{from_low} to {to_high}%"


def never_caught(table):
    """The shortcuts, methods that do not retrain, that no attack has caught on any request."""
    was_caught = table.caught.groupby("method", sort=False).any()
    was_caught = was_caught.drop(list(TRAINING))
    return list(was_caught.index[~was_caught])


def descent_has_learned(table):
    """Are the originals trained by descent surely better on the test set than guessing?

    Naive Deletion leaves an original as it is, so its rows have their accuracy. Guessing is right
    in 50%: half of the test set is diabetic. The whole 95% interval must lie above that.
    """
    originals = table.xs(NAIVE, level="method")
    return (originals.test_accuracy_low > 0.5).all()


MORE_TRAINING = "Try more --epochs or a larger --learning-rate."


def study_headline(table):
    """The finding: how many shortcuts to retraining are never caught; if it is one, which."""
    if not descent_has_learned(table):
        accuracies = table.test_accuracy.xs(NAIVE, level="method")  # by request
        right = percent_range(accuracies.min(), accuracies.max())
        return f"No verdict: the original models, {right} right, do not clearly beat guessing"

    never = never_caught(table)
    n_shortcuts = len(METHODS) - len(TRAINING)
    if not never:
        return f"All {n_shortcuts} shortcuts to retraining are caught"
    if len(never) == 1:
        times = beside_retraining(table).time.xs(never[0], level="method")
        cost = f"{percent_range(times.min(), times.max())} of its target's time"
        return f"Of {n_shortcuts} shortcuts only {never[0]} is never caught, at {cost}"
    return f"{len(never)} of {n_shortcuts} shortcuts to retraining are never caught"


def limits_of_chance(table):
    """In words, what chance reaches: from the lowest limit of an attack to the highest.

    Only those above 50%: where all models are equal, as Newton's and Newton Retrain's are,
    an attack has nothing to go by.
    """
    limits = table[["attack_limit", "vector_limit"]].to_numpy()
    limits = limits[limits > 0.5]
    return percent_range(limits.min(), limits.max())


def in_words(values, form):
    """A Series of numbers in a form like "{:.0%}"; "none" where there is no number."""
    return values.map(form.format).where(values.notna(), "none")


def forget_words(table, beside):
    """Each row's forget accuracy in words; "95%, not 0%" where it is off target."""
    words = in_words(table.forget_accuracy, "{:.0%}")
    targets = in_words(beside.target_accuracy, "{:.0%}")
    return words.where(beside.on_target, words + ", not " + targets)


def columns_by_request(words, is_bad, names, headings):
    """A Column per kind of request, with the named methods from top to bottom.

    words and is_bad are Series by request and method. A name that is no method has empty cells.
    """
    columns = []
    for kind in KINDS:
        words_by_method = words[kind].reindex(names)
        tints = is_bad[kind].astype(float).reindex(names)  # 0: green, 1: red; see VERDICTS
        columns.append(Column(headings[kind], words_by_method, tints))
    return columns


def caught_column(table, names):
    """A Column: on which requests a method is caught."""
    words = {}
    for name in METHODS:
        caught = table.caught.xs(name, level="method")  # by request
        kinds = list(caught.index[caught])
        if len(kinds) == len(KINDS):
            words[name] = "in all three"
        else:
            words[name] = " and ".join(kinds) or "never"
    words = pd.Series(words)
    tints = (words != "never").astype(float)  # 0: green, 1: red; see VERDICTS
    return Column("by an attack,\nthree requests", words.reindex(names), tints.reindex(names))


def time_column(beside, names):
    """A Column: the time relative to retraining, from the fastest request to the slowest."""
    by_method = beside.time.groupby("method")
    least = by_method.min()
    most = by_method.max()

    times = {}
    for name in METHODS:
        times[name] = percent_range(least[name], most[name])
    words = pd.Series(times)
    neutral = pd.Series(0.5, index=words.index)
    return Column("share of\nits target's", words.reindex(names), neutral.reindex(names))


def frame_row(ax, row):
    """A frame around a whole row of a table."""
    left, right = ax.get_xlim()
    corner = (left + 0.01, row + 0.03)
    look = {"fill": False, "edgecolor": INK, "linewidth": 2, "clip_on": False, "zorder": 3}
    ax.add_patch(Rectangle(corner, right - left - 0.02, 0.94, **look))


def who_leaves(settings):
    """{kind: heading} of the columns of a grid: how many leave, of how many trained on."""
    n_train = n_training(settings)
    n_stay = n_train - settings.forget
    n_atypical = settings.forget // 4  # they are fewer, so fewer are trained on
    usual = wrapped(f"{settings.forget:,} of {n_train:,}", 12)
    fewer = wrapped(f"{n_atypical:,} of {n_stay + n_atypical:,}", 12)
    return {
        RANDOM: f"random\n{usual}",
        CLINIC: f"a clinic\n{usual}",
        ATYPICAL: f"atypical\n{fewer}",
    }


def name_methods(ax, names):
    """Name the rows of a grid: the targets in green, and as targets."""
    shown = []
    for name in names:
        if name in TRAINING:
            name = f"Target: {name}"
        if name == NEWTON:
            name = "Newton (all steps)"
        shown.append(name)
    ax.set_yticklabels(shown)

    for name, label in zip(names, ax.get_yticklabels()):
        if name in TRAINING:
            label.set_color(GREEN)


@in_our_style()
def study_figure(table, settings):
    """A grid, methods by request: is the model caught, is forget accuracy on target; the time."""
    beside = beside_retraining(table)

    # What was found, how to read it, and which rows to frame
    finding = study_headline(table)
    explanation = f"Synthetic patients (seed {settings.seed}, {settings.trials:,} trials). "
    if descent_has_learned(table):
        framed = never_caught(table)
        of_clinic = table.forget_accuracy[CLINIC, RETRAIN]
        explanation += (
            "Caught: an attack can tell a model from its target, retrained without those who left "
            f"(at the {LEVEL:.0%} level). Nobody who stays is like the clinic's patients: "
            f"{of_clinic:.0%} is on target there."
        )
    else:
        framed = []
        explanation += MORE_TRAINING

    # The rows: two groups, with an empty row above each for its heading
    # (two different empty names, so that each can be found)
    names = ["", *BY_DESCENT, " ", *BY_NEWTON]
    groups = {
        "": "Trained by gradient descent; compared with Full Retrain",
        " ": "Trained by Newton's method; compared with Newton Retrain, time too",
    }

    # The cells
    headings = who_leaves(settings)
    attacks = [caught_column(table, names)]
    forget = forget_words(table, beside)
    accuracies = columns_by_request(forget, ~beside.on_target, names, headings)
    times = [time_column(beside, names)]

    # Draw
    widths = [1.25, 3.7, 1.15]
    fig, axes = new_figure(7.3, finding, explanation, 1, 3, sharey=True, width_ratios=widths)
    near = f"Forget accuracy (within {100 * ON_TARGET:.0f} points: green)"
    panels = {"Caught?": attacks, near: accuracies, "Time": times}
    for ax, (title, columns) in zip(axes, panels.items()):
        draw_grid(ax, names, columns, VERDICTS)
        ax.set_title(title, pad=10)

    # Names of the rows; what is never caught is bold, and framed
    name_methods(axes[0], names)
    for name in framed:
        row = names.index(name)
        axes[0].get_yticklabels()[row].set_weight("bold")
        for ax in axes:
            frame_row(ax, row)

    # Headings of the groups: they reach into the next panel, so they are drawn on top of it
    for name, heading in groups.items():
        row = names.index(name)
        text = axes[0].text(0, row + 0.6, heading, va="center", style="italic")
        text.set_in_layout(False)
    axes[0].set_zorder(1)

    return fig


STUDY_LEGEND = """
reads     the rows it needs: retain (who stay), forget (who leave), or both
one, all  accuracy of an attack in %, 50 is a coin toss: U-LiRA, on one logit at
          a time; linear discriminant analysis, on all logits and 15 numbers
          from the weights
*         caught: it does better than chance, whose limit is {}.
          A perfect method is caught by one of the attacks in up to {:.0%} of cases
lost      points of test accuracy lost against retraining by the same optimiser
time      relative to that retraining (both: on the worst of the requests)
"""


def starred(accuracies, p):
    """Accuracies of an attack in percent, with a star where p says that the method is caught."""
    star = np.where(p <= LEVEL, "*", " ")
    return (100 * accuracies).map("{:.0f}".format) + star


def study_finding(table):
    """The headline; how often forget accuracy is on target in cases that are caught; Newton's time.

    If the originals have learned nothing: the headline, and what to change.
    """
    if not descent_has_learned(table):
        return (
            f"{study_headline(table)}. Trained by gradient descent, they have learned nothing that "
            f"could be forgotten. {MORE_TRAINING}"
        )

    # What does forget accuracy say about those that are caught?
    beside = beside_retraining(table)
    n_caught = table.caught.sum()
    n_on_target = (table.caught & beside.on_target).sum()

    # What does Newton save?
    times = beside.time.xs(NEWTON, level="method")  # by request
    time = percent_range(times.min(), times.max())

    return (
        f"{study_headline(table)}. Of the {n_caught} cases that are caught, forget accuracy is on "
        f"target in {n_on_target}. Newton takes {time} of Newton Retrain's time."
    )


def study_page(table, apart):
    """The study in tables; apart: see optima_apart."""
    beside = beside_retraining(table)
    by_method = beside.groupby("method", sort=False)

    # A row per method
    methods = {("", "reads"): pd.Series(READS)}
    for kind in KINDS:
        part = table.loc[kind]
        methods[kind, "one"] = starred(part.attack_accuracy, part.attack_p)
        methods[kind, "all"] = starred(part.vector_accuracy, part.vector_p)
    methods["", "lost"] = in_words(by_method.points_lost.max(), "{:.1f}")
    methods["", "time"] = by_method.time.max().map("{:.2f}".format)
    methods = pd.DataFrame(methods)

    # A row per request
    requests = {}
    for kind in KINDS:
        accuracy = in_words(table.forget_accuracy[kind], "{:.0%}")
        seconds = table.seconds[kind]
        newton_time = seconds[NEWTON] / seconds[NEWTON_RETRAIN]
        newton_retrain_time = seconds[NEWTON_RETRAIN] / seconds[RETRAIN]
        requests[kind] = {
            "forget accuracy before the request": accuracy[NAIVE],
            "  after Full Retrain": accuracy[RETRAIN],
            "  after Gradient Ascent": accuracy[ASCENT],
            "time, Newton / Newton Retrain": f"{newton_time:.2f}",
            "time, Newton Retrain / Full Retrain": f"{newton_retrain_time:.2f}",
            "optima that all Newton runs found": "one" if apart[kind] < SAME_OPTIMUM else "several",
            "largest difference of their logits": f"{apart[kind]:.1g}",
        }
    requests = pd.DataFrame(requests)
    requests.index = requests.index.str.ljust(36)

    false_alarms = 2 * LEVEL  # at most: each attack has its own
    legend = STUDY_LEGEND.format(limits_of_chance(table), false_alarms)
    lines = [wrapped(study_finding(table)), "", methods.to_string(), legend, requests.to_string()]
    for name, has_diverged in by_method.diverged.any().items():
        if has_diverged:
            lines.append(f"{name} diverged.")
    return "\n".join(lines)


def study(settings):
    """Three requests, all methods, many trials, two attacks."""
    make_request(RANDOM, settings)  # raises SettingsError before the work
    trials = run_trials(settings)
    table = attack_all(trials)
    page = study_page(table, optima_apart(trials))
    return Output(page, table, {"method_study.png": study_figure(table, settings)})


FORGETTING = {
    "study": Experiment(
        function=study,
        meaning="what really forgets: ten methods, two attacks",
        defaults=STUDY,
        unused=TABLE,
    )
}


# =================================================================================================
# Part 4: One by one
# =================================================================================================
# Requests seldom come in batches of 80. Here the same patients ask one after the other, and each
# request is answered before the next one arrives.
#
# One condition holds for every answer, retraining included: who asks next must not depend on the
# models that were published before. Otherwise, the choice of those who leave can give away somebody
# who left earlier (Gupta et al., NeurIPS 2021, arXiv 2106.04378; Chourasia & Shah, ICML 2023, arXiv
# 2210.08911).

# ---- SISA: an ensemble built for deletion -------------------------------------------------------


class Shard(NamedTuple):
    """A part of the rows, divided into slices, and the networks that were trained on it."""

    slices: list  # positions of rows, an array per slice
    stages: list  # stages[r] has seen slices 0 to r - 1; stages[0] has its initial weights only


class Sisa:
    """SHARDS networks, each trained on rows of its own; the prediction is the mean probability.

    A network learns slice by slice, and every stage is kept. To delete a row, its shard goes back
    to the last stage that has not seen it, and goes on from there without the row. That equals
    retraining on these shards, always. Bourtoule et al., IEEE S&P 2021, arXiv 1912.03817.
    """

    SHARDS = 5
    SLICES = 2

    def __init__(self, rows, settings, rng):
        """Train on rows; the shards are drawn at random."""
        self.rows = rows
        # The first slice is trained on in all SLICES stages, the last slice in one: on average, a
        # row is trained on in (SLICES + 1) / 2 stages. With the epochs divided by that, it is seen
        # as often as it would be without slices
        mean_stages = (self.SLICES + 1) / 2
        self.stage_epochs = round(settings.epochs / mean_stages)

        self.shards = []
        order = rng.permutation(len(rows.y))
        for positions in np.array_split(order, self.SHARDS):
            slices = np.array_split(positions, self.SLICES)
            untrained = new_network(settings, rng, epochs=0)
            untrained.fit(rows.X, rows.y)  # only draws the weights
            self.shards.append(Shard(slices, [untrained]))

        self.train()

    def train(self):
        """Train the stages that are missing; returns self."""
        for shard in self.shards:
            first_missing = len(shard.stages)
            for stage in range(first_missing, self.SLICES + 1):
                # Go on from the stage before, with one slice more: stage r has seen r slices
                network = copy.deepcopy(shard.stages[-1])
                positions = np.concatenate(shard.slices[:stage])
                if len(positions) > 0:  # not everybody has left
                    part = self.rows.at(positions)
                    network.descend(part.X, part.y, self.stage_epochs)
                shard.stages.append(network)
        return self

    def remove(self, position, rng):
        """Forget the row at a position, in place; returns self. Nothing random: rng is not used."""
        for shard in self.shards:
            for k, positions in enumerate(shard.slices):
                if position in positions:
                    shard.slices[k] = positions[positions != position]
                    del shard.stages[k + 1 :]  # stage k + 1 is the first that has seen slice k
        return self.train()

    def target(self):
        """Another ensemble: the same initial weights, retrained on what remains of the shards."""
        fresh = copy.copy(self)
        fresh.shards = [Shard(shard.slices, shard.stages[:1]) for shard in self.shards]
        return fresh.train()

    def predict_proba(self, X):
        """Mean probabilities (n, 2) of the networks' two classes for X (n, d)."""
        probabilities = [shard.stages[-1].predict_proba(X) for shard in self.shards]
        return np.mean(probabilities, axis=0)


# ---- Certified removal, for a convex objective --------------------------------------------------


class CertifiedHead:
    """Logistic regression w (h,) on h random features, trained with noise b.

        w = argmin sum log(1 + exp(-s x.w)) + LAMBDA n / 2 |w|^2 + b.w,    b ~ N(0, SIGMA^2 I)

    The sum is over n rows, with features x (h,), and s = 1 for the diabetic, -1 for the healthy. w
    is the last layer of a network, its head. The hidden layer that makes the features is random and
    never trained: nobody has shaped it, and the objective is convex. The noise is a random vector,
    drawn once, before training.

    A removal is one Newton step. It leaves a trace: the gradient, at w, of the objective of those
    who stay, which retraining would bring to 0. spent is an upper bound on the norm of all traces
    together; residual measures that norm. While spent <= allowed, the noise hides them, and w is
    certified: except with probability DELTA, whatever is seen of w is at most e^EPSILON (2.7) times
    as likely as after retraining, and at least 1 / 2.7 times as likely. A removal that would exceed
    the limit forces a retrain, with new noise. Guo, Goldstein, Hannun, van der Maaten, ICML 2020,
    arXiv 1911.03030.

    The promise has three conditions:

    1. One version is seen, not two: they have the same noise, and in their difference it cancels.
    2. Nobody leaves because of what an earlier version has shown.
    3. The noise does not decide when to retrain. Here it does: spent is computed from w, and w from
       b, so each noise forces its first retrain at a request of its own. 1,600 noises, drawn with
       seed 42, did so between requests 45 and 58 of the clinic. So whoever sees that no retrain has
       happened yet learns that b is none of the noises that would have forced one. The proof
       assumes that none is ruled out: the promise ends at request 45, or earlier, with a noise that
       was not drawn. A remedy is to fix the times of retraining before the noise is drawn.
    """

    EPSILON = 1.0
    DELTA = 1e-4
    LAMBDA = 1e-2
    SIGMA = 1.5  # by trial: enough noise for 80 random requests; more costs accuracy
    GAMMA = 1 / (6 * np.sqrt(3))  # largest third derivative of log(1 + exp); the paper takes 1/4
    # The largest trace that this noise hides, by the paper's theorem on Gaussian noise
    allowed = SIGMA * EPSILON / np.sqrt(2 * np.log(1.5 / DELTA))

    def __init__(self, rows, settings, rng):
        """Draw the features and the noise, and train on rows."""
        n_features = rows.X.shape[1]
        self.W1 = rng.randn(n_features, settings.hidden)
        self.b1 = rng.randn(settings.hidden)
        self.was_retrained = False
        self.fit(rows, self.draw_noise(rng))

    def draw_noise(self, rng):
        """New noise b (h,)."""
        return self.SIGMA * rng.randn(len(self.b1))

    def features(self, X):
        """Features x (n, h) of X (n, d), of norm at most 1."""
        return np.tanh(X @ self.W1 + self.b1) / np.sqrt(len(self.b1))

    def signed_features(self, rows):
        """V (n, h): the features of rows, times s."""
        s = 2 * rows.y - 1
        return s[:, None] * self.features(rows.X)

    def gradient(self, V):
        """Gradient (h,) of the objective without noise on signed features V (n, h)."""
        p_wrong = sigmoid(-V @ self.w)  # (n,)
        return self.LAMBDA * len(V) * self.w - p_wrong @ V

    def hessian(self, V):
        """Hessian (h, h) of the objective on signed features V (n, h)."""
        p = sigmoid(V @ self.w)  # (n,)
        return (V.T * (p * (1 - p))) @ V + self.LAMBDA * len(V) * np.eye(len(self.w))

    def residual(self, rows):
        """The norm of the trace of all removals, measured: 0 if trained on exactly these rows."""
        V = self.signed_features(rows)
        return np.linalg.norm(self.gradient(V) + self.b)

    def fit(self, rows, b):
        """Train with noise b (h,) to the optimum; in place, returns self."""
        V = self.signed_features(rows)
        self.b = b
        self.w = np.zeros(len(b))
        for _ in range(10):  # Newton steps: more change nothing
            g = self.gradient(V) + b
            step = -np.linalg.solve(self.hessian(V), g)
            self.w = self.w + step
        self.spent = self.residual(rows)  # 0, up to rounding
        return self

    def remove(self, leavers, remaining, rng):
        """A new head without the leavers: one Newton step or, where it costs too much, a retrain.

        leavers and remaining are Rows.
        """
        # The gradient is a sum over rows, with LAMBDA w for each. So without the leavers,
        #     gradient(remaining) + b = [gradient(leavers and remaining) + b] - gradient(leavers)
        # The bracket is 0 after training; later, it is the traces of earlier removals. The rest,
        # g = -gradient(leavers), is new. The step cancels g as far as a Newton step can. What it
        # leaves of g is the trace of this removal
        V = self.signed_features(remaining)
        g = -self.gradient(self.signed_features(leavers))
        step = -np.linalg.solve(self.hessian(V), g)
        spent = self.spent + self.largest_trace(V, step)

        head = copy.copy(self)
        head.was_retrained = spent > self.allowed
        if head.was_retrained:
            head.fit(remaining, self.draw_noise(rng))
        else:
            head.w = self.w + step
            head.spent = spent
        return head

    def largest_trace(self, V, step):
        """The norm of the trace that a Newton step (h,) leaves, at most; V (n, h): those who stay.

        The step was made to change the gradient by H step, with H the Hessian at w. In truth it
        changes it by (mean of the Hessians along the step) step, and the trace is the difference.
        The Hessian is V.T diag(p (1 - p)) V plus a constant, which cancels. So

            trace = V.T D V step

        where D is diagonal. For each row it has

            (mean of p (1 - p) along the step) - (p (1 - p) at w)

        The row's logit moves by |x.step|, and GAMMA is the steepest slope of p (1 - p). So no entry
        of D is larger than GAMMA |x.step|, which is at most GAMMA |step|, since |x| <= 1. Hence

            |trace| <= |V| |D| |V step| <= GAMMA |V| |step| |V step|

        The norm of a matrix is its largest singular value; of D, its largest entry.
        The trace is even at most half of that, as the changes begin at 0 and grow along the step.
        The paper does not use this, and neither do we.
        """
        norm = np.linalg.norm
        return self.GAMMA * norm(V, 2) * norm(step) * norm(V @ step)

    def target(self, remaining):
        """Another head, retrained on the remaining rows with the same noise."""
        return copy.copy(self).fit(remaining, self.b)

    def predict_proba(self, X):
        """Probabilities (n, 2) of healthy and diabetic for X (n, d)."""
        z = self.features(X) @ self.w
        return np.column_stack([sigmoid(-z), sigmoid(z)])


# ---- Five strategies ----------------------------------------------------------------------------

SISA = "SISA"
HEAD = "Certified Head"
STRATEGIES = [RETRAIN, SISA, NEWTON_RETRAIN, NEWTON, HEAD]
SEQUENCES = {RANDOM: "random patients", CLINIC: "patients of one clinic"}  # who leaves, by kind


class Entry(NamedTuple):
    """A row of the ledger: a request, and how a strategy has answered it."""

    request: str  # kind
    method: str  # strategy
    asked: int  # how many have asked, this one included
    seconds: float  # for this request alone
    gap_to_retrained: float = np.nan  # on all who have asked
    # What an auditor of the certificate would ask for
    spent: float = np.nan
    allowed: float = np.nan
    residual: float = np.nan
    retrained: float = np.nan  # 1 if a retrain was forced, or 0


def one_by_one(kind, settings):
    """The patients of a request ask one after the other; returns (ledger, heads).

    The ledger is a DataFrame of Entries, by request and strategy. heads are the versions of the
    certified head, the one before all requests first.
    """
    request_rows = make_request(kind, settings)
    forget = request_rows.forget
    retain = request_rows.retain
    everybody = stack(forget, retain)  # those who ask come first, in the order of asking
    rng = np.random.RandomState([settings.seed, KINDS.index(kind), 0])

    # The three shortcuts start from a model of everybody
    sisa = Sisa(everybody, settings, rng)
    newton_model = train_by_newton(everybody, settings, rng)
    head = CertifiedHead(everybody, settings, rng)

    # A result and its seconds; timed hands rng to the function as its last argument
    def answer(function, *arguments):
        return timed(function, *arguments, rng=rng, repeats=1)

    entries = []
    heads = [head]
    for asked in range(1, len(forget.y) + 1):
        leaver = everybody.at(slice(asked - 1, asked))
        remaining = everybody.at(slice(asked, None))

        # Two retrainings start anew; three shortcuts go on from their answer to the request before
        seconds = {}
        full_retrained, seconds[RETRAIN] = answer(train_by_descent, remaining, settings)
        sisa, seconds[SISA] = answer(sisa.remove, asked - 1)
        newton_retrained, seconds[NEWTON_RETRAIN] = answer(train_by_newton, remaining, settings)
        to_newton = Request(newton_model, remaining, leaver, settings)
        newton_model, seconds[NEWTON] = answer(newton, to_newton)
        head, seconds[HEAD] = answer(head.remove, leaver, remaining)
        heads.append(head)

        # How far is each one from its target, a model of its own kind that is retrained now?
        gone = forget.X[:asked]
        another_newton = train_by_newton(remaining, settings, rng)
        gaps = {
            NEWTON_RETRAIN: gap_to_retrained(newton_retrained, another_newton, gone),
            NEWTON: gap_to_retrained(newton_model, newton_retrained, gone),
            HEAD: gap_to_retrained(head, head.target(remaining), gone),
        }
        if asked % 4 == 0:  # these two are checked less often, since their targets take long
            another_descent = train_by_descent(remaining, settings, rng)
            gaps[RETRAIN] = gap_to_retrained(full_retrained, another_descent, gone)
            gaps[SISA] = gap_to_retrained(sisa, sisa.target(), gone)

        # An entry per strategy; only the head has a certificate to audit
        for name in STRATEGIES:
            entry = Entry(kind, name, asked, seconds[name], gaps.get(name, np.nan))
            if name == HEAD:
                entry = entry._replace(
                    spent=head.spent,
                    allowed=head.allowed,
                    residual=head.residual(remaining),
                    retrained=int(head.was_retrained),
                )
            entries.append(entry)

    return pd.DataFrame(entries), heads


ONE_POINT = 0.01  # of probability: a larger gap is off target


def summarise_ledger(ledger):
    """A row per request and strategy.

    time         of all requests, relative to Full Retrain's
    largest_gap  to the target
    measured     the number of checks, that is, of requests at which the gap was measured
    elsewhere    in how many checks the model is not its target, beyond rounding
    off_target   in how many it is even more than ONE_POINT away from it
    """
    ledger = ledger.assign(
        elsewhere=ledger.gap_to_retrained > SAME_OPTIMUM,
        off_target=ledger.gap_to_retrained > ONE_POINT,
    )
    groups = ledger.groupby(["request", "method"], sort=False)
    seconds = groups.seconds.sum()
    retrain_seconds = seconds.xs(RETRAIN, level="method")  # by request
    columns = {
        "time": seconds / retrain_seconds,
        "largest_gap": groups.gap_to_retrained.max(),
        "measured": groups.gap_to_retrained.count(),
        "elsewhere": groups.elsewhere.sum(),
        "off_target": groups.off_target.sum(),
    }
    return pd.DataFrame(columns)


# ---- The certificate, and other noise -----------------------------------------------------------


def try_other_noise(kind, settings, head, n_others=20):
    """How much of its limit the head would have spent, had it been trained with other noise.

    An array per noise: spent / allowed, before all requests and after each one. If a request forces
    a retrain, the array ends before it. Of head, only the features are used.
    """
    request_rows = make_request(kind, settings)
    n_asked = len(request_rows.forget.y)
    everybody = stack(request_rows.forget, request_rows.retain)  # those who ask come first
    # 98, where other generators have the position of a kind (0, 1 or 2): random numbers of its own
    rng = np.random.RandomState([settings.seed, 98])

    other_shares = []
    for _ in range(n_others):
        other = copy.copy(head).fit(everybody, head.draw_noise(rng))
        shares = [0]
        for asked in range(1, n_asked + 1):
            leaver = everybody.at(slice(asked - 1, asked))
            remaining = everybody.at(slice(asked, None))
            other = other.remove(leaver, remaining, rng)
            if other.was_retrained:
                break
            shares.append(other.spent / other.allowed)
        other_shares.append(np.array(shares))
    return other_shares


class Certificate(NamedTuple):
    """What a sequence of removals has cost a certified head."""

    forced: list  # the requests at which a retrain was forced
    n_within: int  # removals within the limit
    largest_share: float  # largest residual / spent of these; NaN if n_within is 0
    n_certified: int  # removals before the first at which some noise forces a retrain


def check_certificate(ledger, other_shares, kind):
    """The Certificate of a kind of request; other_shares[kind] is what try_other_noise returns."""
    entries = ledger[(ledger.request == kind) & (ledger.method == HEAD)]
    forced = list(entries.asked[entries.retrained == 1])
    within = entries[entries.retrained == 0]
    measured = within.residual / within.spent

    # How many removals does each noise hide, until it forces a retrain?
    n_hidden = [len(shares) - 1 for shares in other_shares[kind]]  # shares[0]: before all removals
    n_hidden.append(forced[0] - 1 if forced else len(entries))  # the head's own noise
    return Certificate(forced, len(within), measured.max(), min(n_hidden))


# ---- What a removal gives away ------------------------------------------------------------------
# Each removal makes a new version of the head. The certificate is about an observer of one version.
# Here somebody holds two, from before and after a removal, and computes who has left. Both have the
# same noise, so it cancels in their difference. Bertran et al., NeurIPS 2024, arXiv 2405.20272.
#
# The observer has public rows, of other people than the hospital's, but as many as it has patients
# left: people like the leavers who are still to come, and people like those who stay. The guess to
# compare with sees people like the leavers, but no head.
#
# Two things defeat this observer: publishing only one version, or drawing new noise for each. But
# new noise means a retrain each time, and the mean of many such versions has hardly any noise. With
# several leavers between two versions, the observer finds them less accurately.

# Leavers between two versions if only every fifth version is published. With seed 42, this blurs
# what is revealed of random patients; of a clinic's, the observer learns no more than a guess says
BATCH = 5
AGES = np.arange(101)  # where the observer searches, in years
GLUCOSES = np.arange(40, 221)  # in mg/dL


def possible_patients():
    """Everybody who might have left: a row for each age, glucose and diagnosis."""
    ages, glucoses, diagnoses = np.meshgrid(AGES, GLUCOSES, [0, 1], indexing="ij")
    people = np.column_stack([ages.ravel(), glucoses.ravel()])
    return Rows((people - MEANS) / DEVIATIONS, diagnoses.ravel())


def nearest_row(rows, point):
    """The position of the row of rows (N, h) that is nearest to a point (h,)."""
    squared_distances = ((rows - point) ** 2).sum(axis=1)  # (N,)
    return np.argmin(squared_distances)


def recover(before, after, public, n_leavers):
    """The n_leavers of possible_patients() whose removal explains best how a head has changed.

    before and after are two versions of the head. No row of the hospital is read.

    1. A removal moves w by H^-1 (LAMBDA w + gradient of the leaver's loss): see
       CertifiedHead.remove. The observer lacks H, but the public rows have nearly the same. For
       several leavers, it hardly changes from one to the next.
    2. So the move of each candidate can be computed. Those that add up to the change are chosen,
       one after the other.
    3. Then each is chosen again, given the others, twice (coordinate descent).
    """
    # How would the removal of each of N candidates move w?
    candidates = possible_patients()
    V = before.signed_features(candidates)  # (N, h)
    p_wrong = sigmoid(-V @ before.w)  # (N,)
    gradients = before.LAMBDA * before.w - p_wrong[:, None] * V  # (N, h)
    H = before.hessian(before.signed_features(public))  # (h, h)
    moves = np.linalg.solve(H, gradients.T).T  # (N, h)

    # Choose one after the other: the move nearest to what those before leave unexplained
    unexplained = after.w - before.w
    chosen = []
    for _ in range(n_leavers):
        nearest = nearest_row(moves, unexplained)
        chosen.append(nearest)
        unexplained = unexplained - moves[nearest]

    # Choose each again, given the others: twice. A single one has no others
    n_rounds = 2 if n_leavers > 1 else 0
    for _ in range(n_rounds):
        for k in range(n_leavers):
            unexplained = unexplained + moves[chosen[k]]
            chosen[k] = nearest_row(moves, unexplained)
            unexplained = unexplained - moves[chosen[k]]

    return candidates.at(chosen)


def guess_leavers(similar, n_leavers, rng):
    """Who has left, guessed without a head, from people who are like those who leave.

    One leaver: the average person, which is the guess with the smallest mean squared error, though
    not always the smallest median error, which the page reports. Several leavers: as many people as
    have left, drawn at random; the caller matches them with the leavers they fit best. That is
    nearer to random leavers than the average is, but not to a clinic's, who are all alike.
    """
    positions = rng.choice(len(similar.y), n_leavers, replace=False)
    drawn = similar.at(positions)
    if n_leavers > 1:
        return drawn

    # Rows must have a diagnosis, but an average has none: take the one of the person drawn
    average = similar.X.mean(axis=0, keepdims=True)  # (1, 2)
    return Rows(average, drawn.y)


def matched(rows, leavers):
    """The rows in the order in which they fit the leavers best."""
    # Pairs with the smallest sum of distances: the positions of the leavers, then of their rows
    pairs = linear_sum_assignment(cdist(leavers.X, rows.X))
    return rows.at(pairs[1])


# Columns of what the observer achieves; a diagnosis is 1 if diabetic. That of a guess is not shown:
# the average person, who is the guess for a single leaver, has none
OBSERVED = [
    "age", "glucose", "diagnosis",
    "found_age", "found_glucose", "found_diagnosis",
    "guess_age", "guess_glucose", "guess_diagnosis",
]  # fmt: skip


def observe(kind, settings, heads, n_leavers):
    """Who left, whom the observer finds and whom a guess names: a row of OBSERVED per leaver.

    heads are all versions of the head. Two of them are compared at a time, n_leavers apart; if a
    retrain with new noise lies between them, the observer does not try.
    """
    request_rows = make_request(kind, settings)
    forget = request_rows.forget
    n_asked = len(forget.y)
    n_retain = len(request_rows.retain.y)

    # Public rows: people like those who leave, and people like those who stay
    rng = np.random.RandomState([settings.seed, 99])  # the observer's own
    like_retain = standardised(make_patients(n_retain, rng))
    like_forget = draw_leavers(kind, n_asked, rng)
    public = stack(like_forget, like_retain)

    tables = []
    for end in range(n_leavers, n_asked + 1, n_leavers):
        start = end - n_leavers
        new_heads = heads[start + 1 : end + 1]
        if any(head.was_retrained for head in new_heads):
            continue

        leavers = forget.at(slice(start, end))
        # By now, the first patients up to end have left the hospital. Those in the same places of
        # public, who are like them, leave as well, so that it stays like the hospital
        public_rows = public.at(slice(end, None))
        found = recover(heads[start], heads[end], public_rows, n_leavers)
        guess = guess_leavers(like_forget, n_leavers, rng)

        # A row per leaver, with all three side by side
        parts = [leavers, matched(found, leavers), matched(guess, leavers)]
        table = pd.concat([in_units(part) for part in parts], axis=1)
        table.columns = OBSERVED
        tables.append(table)

    if not tables:
        return pd.DataFrame(columns=OBSERVED, dtype=float)
    return pd.concat(tables, ignore_index=True)


def median_error(observed, prefix, column):
    """Median error (years, mg/dL): prefix is "found_" for the observer, "guess_" for a guess."""
    errors = observed[prefix + column] - observed[column]
    return errors.abs().median()


def closer_than_a_guess(observed):
    """Is the observer closer than the guess, in both age and glucose?"""
    for column in ("age", "glucose"):
        found = median_error(observed, "found_", column)
        guess = median_error(observed, "guess_", column)
        if not found < guess:  # also if nobody was observed: both are NaN then
            return False
    return True


def run_sequence(kind, settings):
    """One kind of request: (ledger, observed, shares).

    observed[n_leavers] is what observe returns, shares what try_other_noise returns.
    """
    ledger, heads = one_by_one(kind, settings)
    observed = {}
    for n_leavers in (1, BATCH):
        observed[n_leavers] = observe(kind, settings, heads, n_leavers)
    return ledger, observed, try_other_noise(kind, settings, heads[0])


def run_sequences(settings):
    """Both kinds of request, in parallel: (ledger, observed, other_shares).

    observed[kind, n_leavers] is what observe returns, other_shares[kind] what try_other_noise does.
    """
    start = time.perf_counter()
    cases = [(kind, settings) for kind in SEQUENCES]
    results = on_all_cores(run_sequence, cases, settings.quiet)
    report("one by one", time.perf_counter() - start)

    ledgers = []
    observed = {}
    other_shares = {}
    for kind, (ledger, by_n_leavers, shares) in zip(SEQUENCES, results):
        ledgers.append(ledger)
        other_shares[kind] = shares
        for n_leavers, people in by_n_leavers.items():
            observed[kind, n_leavers] = people
    return pd.concat(ledgers, ignore_index=True), observed, other_shares


# ---- How the sequence is shown ------------------------------------------------------------------


def whose_data(settings):
    """The data and the seed of a figure, in words."""
    return f"{n_training(settings):,} synthetic patients, seed {settings.seed}"


def how_many(n, things):
    """No thing, 1 thing, 2 things."""
    if n == 0:
        return f"no {things}"
    return f"{n} {things}" if n == 1 else f"{n} {things}s"


def in_points(gap):
    """A gap in points of probability; 0 if the two models are one up to rounding."""
    return "0" if gap <= SAME_OPTIMUM else points(gap)


SHORTCUTS = [SISA, NEWTON, HEAD]
HOW_IT_ANSWERS = {  # how each strategy answers a request, for the figure
    RETRAIN: "from scratch, by descent",
    NEWTON_RETRAIN: "from scratch, by Newton",
    SISA: "retrains one part of five",
    NEWTON: "goes on from old weights",
    HEAD: "last layer only, with noise",
}
ITS_TARGET = {  # what a strategy is compared with: a model of its own kind, retrained
    RETRAIN: "is a target",
    NEWTON_RETRAIN: "is a target",
    SISA: "a retrained\nSISA",
    NEWTON: "Newton\nRetrain",
    HEAD: "a retrained\nhead",
}


def mean_time(summary):
    """The time of each strategy as a share of Full Retrain's, a Series: mean of both requests."""
    return summary.time.groupby("method").mean()


def sequential_finding(summary):
    """What the shortcuts save, and which of them are ever off target."""
    time = mean_time(summary)[SHORTCUTS]
    times = percent_range(time.min(), time.max())

    of_shortcuts = summary.index.get_level_values("method").isin(SHORTCUTS)
    off = summary[of_shortcuts & (summary.off_target > 0)]  # a row per kind and shortcut
    names = off.index.unique("method")
    if off.empty:
        verdict = "all stay on target"
    elif len(names) > 1:
        verdict = f"{len(names)} of {len(SHORTCUTS)} go off target"
    else:
        who = "a head" if names[0] == HEAD else names[0]
        kinds = off.index.unique("request")
        checks = f"{kinds[0]} checks" if len(kinds) == 1 else "checks"
        # "Newton fails 8 of 80 clinic checks", or, on both kinds, "9 of 160 checks"
        verdict = f"{who} fails {off.off_target.sum()} of {off.measured.sum()} {checks}"
    return f"Shortcuts take {times} of retraining's time; {verdict}"


def draw_times(ax, time, names):
    """A bar per strategy: its time, a Series, as a share of Full Retrain's."""
    # The bars. name_rows writes the words at the right; the names it writes are replaced below
    colors = [COLORS.get(name, PALE) for name in names]
    ax.barh(range(len(names)), time[names], height=0.6, color=colors)
    name_rows(ax, time[names].map("{:.0%}".format))
    ax.set_xlim(0, time.max())
    ax.set_ylim(len(names) - 0.5, -0.5)  # as tall as the grid beside it

    # A caption above the bars, centred: a tick label, for want of numbers on this axis
    ax.set_xticks([time.max() / 2], ["share of\nFull Retrain's"])
    ax.tick_params(axis="x", length=0, labelbottom=False, labeltop=True)
    ax.spines["bottom"].set_visible(False)

    # A name, and how it answers below it
    rows = np.arange(len(names))
    ax.set_yticks(rows - 0.18, names)
    answers = [HOW_IT_ANSWERS[name] for name in names]
    ax.set_yticks(rows + 0.18, answers, minor=True, color=GREY, size=11)
    ax.tick_params(axis="y", which="both", length=0)


def target_column(names):
    """What each strategy is compared with."""
    neutral = np.full(len(names), 0.5)
    return Column("a model of\nits own kind", [ITS_TARGET[name] for name in names], neutral)


def off_target_column(heading, summary, names):
    """In how many checks each shortcut is off target; a retraining is a target itself."""
    words = []
    tints = []  # positions in the colormap VERDICTS: 0 green, 0.5 grey, 1 red
    for name in names:
        n_off = summary.off_target[name]
        if name in TRAINING:
            words.append("-")
            tints.append(0.5)
        else:
            words.append(f"{n_off} of {summary.measured[name]}")
            tints.append(float(n_off > 0))
    return Column(heading, words, tints)


@in_our_style()
def sequential_figure(summary, settings):
    """What each strategy costs, and how often it is off its own target."""
    names = list(HOW_IT_ANSWERS)
    finding = sequential_finding(summary)
    explanation = (
        f"{whose_data(settings)}; {settings.forget:,} ask one by one, and SISA is checked after "
        "every fourth. Off: predictions for those who have asked differ from the target's by more "
        "than 1 percentage point on average."
    )
    widths = [1, 0.65, 1.3]
    fig, axes = new_figure(5.2, finding, explanation, 1, 3, width_ratios=widths)

    draw_times(axes[0], mean_time(summary), names)
    axes[0].set_title("Time for all requests", pad=10)

    draw_grid(axes[1], [], [target_column(names)], VERDICTS)
    axes[1].set_title("Its target", pad=10)

    columns = []
    for kind, who in SEQUENCES.items():
        columns.append(off_target_column(in_lines(who, 1.2), summary.loc[kind], names))
    draw_grid(axes[2], [], columns, VERDICTS)
    axes[2].set_title("How often off target", pad=10)
    return fig


def certificate_finding(ledger, other_shares):
    """How many removals of each kind are hidden by every noise tried?"""
    n_removals = ledger.asked.max()
    n_random = check_certificate(ledger, other_shares, RANDOM).n_certified
    n_clinic = check_certificate(ledger, other_shares, CLINIC).n_certified

    # "at most": each noise that was tried hides that many, but another one may hide fewer
    if n_random == n_removals == n_clinic:
        hidden = f"all {n_removals} random removals and all {n_removals} of a clinic's"
    elif n_random == n_removals:
        hidden = f"all {n_removals} random removals, but at most {n_clinic} of a clinic's"
    elif n_clinic == n_removals:
        hidden = f"at most {n_random} random removals, but all {n_removals} of a clinic's"
    else:
        hidden = f"at most {n_random} of {n_removals} random removals, and {n_clinic} of a clinic's"
    return f"Noise can hide {hidden}"


def draw_spent(ax, entries, other_shares, n_certified):
    """What is spent, and the traces that are measured, in shares of the limit.

    entries are the head's in the ledger; other_shares is what try_other_noise returns. Returns the
    names of the curves.
    """
    n_removals = len(entries)
    limit = entries.allowed.iloc[0]
    ax.axhline(1, color=INK, linewidth=1.8)

    # Before the first request, a row of zeros: nothing is spent
    columns = ["spent", "residual", "retrained"]
    start = pd.DataFrame(0.0, index=[0], columns=columns)
    by_asked = pd.concat([start, entries.set_index("asked")[columns]])

    # Until the first retrain, with which the certificate ends
    shares = by_asked[by_asked.retrained.cumsum() == 0] / limit
    ax.plot(shares.spent, color=PURPLE, linewidth=2.5)
    ax.plot(shares.residual, color=GREY, linewidth=2)  # what removals really leave

    # With other noise, until its first retrain is forced
    thin = {"color": PURPLE, "linewidth": 0.8, "alpha": 0.4, "zorder": 1}
    for other in other_shares:
        ax.plot(other, **thin)

    # Retrains, at the requests whose removal would have crossed the limit
    forced = by_asked.index[by_asked.retrained == 1]
    triangle = {"marker": "v", "color": RED, "clip_on": False, "s": 90, "zorder": 3}
    ax.scatter(forced, np.ones(len(forced)), **triangle)

    # How far the certificate reaches; above the panel in words, where there is room for them
    ax.axvspan(n_certified, n_removals, color=RED_TINT, zorder=0, linewidth=0)
    above = ax.get_xaxis_transform()  # x in data, y in heights of the panel
    bold = {"y": 1.03, "weight": "bold", "ha": "right", "transform": above}
    if n_certified > n_removals / 2:
        which = f"all {n_removals}" if n_certified == n_removals else f"at most {n_certified}"
        ax.text(n_certified, s=f"certified: {which}", color=PURPLE, **bold)
    if n_certified < 2 * n_removals / 3:
        ax.text(n_removals, s="not certified", color=RED, **bold)

    # The names of the curves, where they end
    last = shares.iloc[-1]
    highest = max(other[-1] for other in other_shares)
    return [
        LineName(highest, f"{len(other_shares)} other noises", PURPLE),
        LineName(last.spent, "trace, at most", PURPLE),
        LineName(last.residual, "trace, measured", GREY),
    ]


@in_our_style()
def certificate_figure(ledger, other_shares, settings):
    """For each kind of request: how much of its limit the head spends, and the measured trace."""
    explanation = (
        f"{whose_data(settings)}. Removals leave traces, which noise hides up to a limit. Where "
        f"the first of {1 + len(other_shares[CLINIC])} noises reaches it, the certificate ends "
        "(red); a forced retrain does not restore it."
    )
    finding = certificate_finding(ledger, other_shares)
    fig, axes = new_figure(5.2, finding, explanation, 1, 2, sharey=True)

    for kind, ax in zip(SEQUENCES, axes):
        entries = ledger[(ledger.request == kind) & (ledger.method == HEAD)]
        certificate = check_certificate(ledger, other_shares, kind)
        names = draw_spent(ax, entries, other_shares[kind], certificate.n_certified)
        n_forced = how_many(len(certificate.forced), "forced retrain")
        mark = " ▼" if certificate.forced else ""
        ax.set_title(f"{kind.capitalize()}: {n_forced}{mark}", pad=ROOM_ABOVE)
        ax.set_xlabel("patients removed")
        ax.set_xlim(-len(entries) / 40, len(entries))
        ax.locator_params(axis="x", nbins=5, integer=True)
        ax.set_ylim(0, 1.05)
        ax.set_yticks(
            [0, 0.5, 1], ["no trace", "half of it", "limit: the\nmost that noise\ncan hide"]
        )
        if kind == RANDOM:
            name_lines(ax, names)
    return fig


def reveals_finding(observed):
    """Do two versions of the head show who left, one by one, and how precisely?"""
    singles = [observed[kind, 1] for kind in SEQUENCES]
    if not all(closer_than_a_guess(people) for people in singles):
        return "Two versions of a model do not always reveal the data of who left"

    years = max(median_error(people, "found_", "age") for people in singles)
    return (
        f"Two versions of a model reveal the data of who left: age typically to {years:.1f} years"
    )


SEARCHED = {"age": AGES, "glucose": GLUCOSES}
UNITS = {"age": "years", "glucose": "mg/dL"}
ALIKE = {RANDOM: "Random patients", CLINIC: "A clinic, all alike"}
REVEALED = "computed from two versions of the model"
GUESSED = "guess: the average of similar people"


def draw_revealed(ax, people, column):
    """Age or glucose of all who left: true values on the x axis, computed and guessed on the y."""
    truth = people[column]
    limits = (SEARCHED[column][0], SEARCHED[column][-1])
    ax.plot(limits, limits, color=GREY, linewidth=0.8, zorder=1, label="the truth")
    dots = {"s": 22, "color": PURPLE, "zorder": 3}
    squares = {"s": 14, "color": PALE, "marker": "s", "linewidth": 0, "zorder": 2}
    ax.scatter(truth, people["found_" + column], label=REVEALED, **dots)
    ax.scatter(truth, people["guess_" + column], label=GUESSED, **squares)

    errors = "nobody observed"
    if len(people) > 0:
        found = median_error(people, "found_", column)
        guess = median_error(people, "guess_", column)
        errors = f"median error: {found:.1f}\n(of guesses: {guess:.1f})"
    ax.set_xlabel(f"true {column} ({UNITS[column]})\n{errors}")
    ax.set(xlim=limits, ylim=limits)
    ax.locator_params(nbins=4)


@in_our_style()
def reveals_figure(observed, settings):
    """What two versions of the head reveal of each who left, beside the truth and a guess."""
    explanation = (
        f"{whose_data(settings)}. Computed from the certified head before and after each removal, "
        "and data of similar people. The certificate covers one version only."
    )
    finding = reveals_finding(observed)
    fig, axes = new_figure(5, finding, explanation, 1, 4)

    panels = product(SEQUENCES, UNITS)
    for ax, (kind, column) in zip(axes, panels):
        draw_revealed(ax, observed[kind, 1], column)
        ax.set_title(f"{ALIKE[kind]}:\n{column}")
    axes[0].set_ylabel("computed, or guessed")

    marks = axes[0].get_legend_handles_labels()[0]
    add_legend(axes[0], marks)
    return fig


# ---- The page of the sequence -------------------------------------------------------------------

STRATEGIES_LEGEND = """
time     of all requests; Full Retrain's is 1
gap      to its target, the largest in any check: the mean difference of
         predictions for all who have asked so far, in points of probability
other    checks in which it is another model than its target, beyond rounding
off      checks in which it is off target: the gap is more than 1 point
of       checks, after each request or each fourth
Its target is retrained at that request: SISA for SISA, Newton Retrain for
Newton, a head with the same noise for the head, another one for a retraining
"""

CERTIFICATE_LEGEND = """
The head is the last layer of a network. Noise, a random vector, is drawn once,
before training, to hide the trace of removals.
certified  at most: the removals before the first at which this noise, or one
           of {} others, forces a retrain. Later, the absence of a retrain rules
           out some noise; the certificate assumes that none is ruled out
within     removals that did not exceed the limit; a retrain starts at 0 again
forced     retrains, where a removal would have exceeded it
measured   the measured trace, in % of the upper bound; the largest
"""

OBSERVER_LEGEND = """
Each removal makes a new version of the head. The certificate is about one.
found      who left, computed from two versions of the head with the same noise:
           median errors in years / mg/dL, and how many diagnoses are right
guess      median errors of a guess that sees no head
New noise in each version would hide who left. But that is a retrain each time,
and the average of many versions has hardly any noise.
"""


def strategies_table(summary):
    """A row per strategy, with the columns of STRATEGIES_LEGEND for each kind of request."""
    columns = {}
    for kind in SEQUENCES:
        part = summary.loc[kind]
        columns[kind, "time"] = part.time.map("{:.2g}".format)
        columns[kind, "gap"] = part.largest_gap.map(in_points)
        columns[kind, "other"] = part.elsewhere
        columns[kind, "off"] = part.off_target
    columns["", "of"] = summary.loc[RANDOM].measured  # the same for both kinds
    return pd.DataFrame(columns).rename_axis(None)


def certificate_table(ledger, other_shares):
    """A row per kind of request, with the columns of CERTIFICATE_LEGEND."""
    n_removals = ledger.asked.max()
    rows = {}
    for kind in SEQUENCES:
        certificate = check_certificate(ledger, other_shares, kind)
        forced = "none"
        if certificate.forced:
            forced = f"{len(certificate.forced)}, the first at request {certificate.forced[0]}"
        measured = "-"
        if certificate.n_within > 0:
            measured = percent(certificate.largest_share, 0)
        rows[kind] = {
            "certified": f"{certificate.n_certified} of {n_removals}",
            "within": certificate.n_within,
            "forced": forced,
            "measured": measured,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def observer_table(observed):
    """A row per kind of request and batch, with the columns of OBSERVER_LEGEND."""
    rows = {}
    for (kind, n_leavers), people in observed.items():
        row = {"found": "nobody", "diagnosis": "-", "guess": "-"}
        if len(people) > 0:  # nobody is observed if a retrain lies between every two versions
            n_right = (people.diagnosis == people.found_diagnosis).sum()
            row["found"] = errors_in_words(people, "found_")
            row["diagnosis"] = f"{n_right} of {len(people)}"
            row["guess"] = errors_in_words(people, "guess_")
        rows[f"{kind}, {n_leavers} at a time"] = row
    return pd.DataFrame.from_dict(rows, orient="index")


def errors_in_words(people, prefix):
    """Median errors in years / mg/dL."""
    years = median_error(people, prefix, "age")
    mg = median_error(people, prefix, "glucose")
    return f"{years:.1f} / {mg:.1f}"


def sequential_page(ledger, summary, observed, other_shares):
    """One by one in three tables: the strategies, the certificate, and what it does not cover."""
    findings = [
        sequential_finding(summary),
        certificate_finding(ledger, other_shares),
        reveals_finding(observed),
    ]
    headline = wrapped(". ".join(findings) + ".")
    n_others = len(other_shares[RANDOM])
    return "\n".join([
        headline,
        "",
        strategies_table(summary).to_string(),
        STRATEGIES_LEGEND,
        certificate_table(ledger, other_shares).to_string(),
        CERTIFICATE_LEGEND.format(n_others),
        observer_table(observed).to_string(),
        OBSERVER_LEGEND.rstrip(),
    ])  # fmt: skip


def sequential(settings):
    """The same patients ask one by one; five strategies, and what a removal gives away."""
    make_request(RANDOM, settings)  # raises SettingsError before the work
    ledger, observed, other_shares = run_sequences(settings)
    summary = summarise_ledger(ledger)
    figures = {
        "sequential_requests.png": sequential_figure(summary, settings),
        "certificate_budget.png": certificate_figure(ledger, other_shares, settings),
        "removal_reveals.png": reveals_figure(observed, settings),
    }
    page = sequential_page(ledger, summary, observed, other_shares)
    table = ledger.set_index(["request", "method", "asked"])
    return Output(page, table, figures)


SEQUENCE = {
    "sequential": Experiment(
        function=sequential,
        meaning="one by one; what removals give away",
        defaults=STUDY,
        unused=("trials", "unlearn_epochs", "multiplier", *TABLE),
    )
}


# =================================================================================================
# Part 5: Running it
# =================================================================================================

# ---- The experiments ----------------------------------------------------------------------------

EXPERIMENTS = dict(DEMO)
EXPERIMENTS.update(ELSEWHERE)  # Part 2
EXPERIMENTS.update(FORGETTING)  # Part 3
EXPERIMENTS.update(SEQUENCE)  # Part 4


def settings_for(experiment, **given):
    """The settings of an experiment, as the command line makes them: settings_for("study", seed=7).

    What is not given has the experiment's own default. Raises SettingsError for an experiment or a
    setting that does not exist, is out of range, or has no effect on this experiment.
    """
    if experiment not in EXPERIMENTS:
        choices = ", ".join(EXPERIMENTS)
        raise SettingsError(f"there is no experiment {experiment!r}; choose from {choices}")

    names = [option.name for option in fields(Settings)]
    for name in given:
        if name not in names:
            choices = ", ".join(names)
            raise SettingsError(f"there is no setting {name!r}; choose from {choices}")
        if name in EXPERIMENTS[experiment].unused:
            raise SettingsError(f"{flag_of(name)} has no effect on {experiment}")

    chosen = dict(EXPERIMENTS[experiment].defaults)
    chosen.update(given)
    return Settings(**chosen)


# ---- Printing -----------------------------------------------------------------------------------


def say(text, end="\n"):
    """Print. If the reader is gone (| head), go on in silence; raises OSError if a disk is full."""
    try:
        print(text, end=end, flush=True)
    except OSError as error:
        # What could not be written is still in a buffer, which Python writes again when it ends.
        # That second attempt must not fail either: from now on, all output goes nowhere
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())

        reader_is_gone = error.errno in (errno.EPIPE, errno.EINVAL)  # the latter on Windows
        if not reader_is_gone:
            # main prints "the page" in place of a file name
            raise OSError(error.errno, error.strerror, "the page") from error


# ---- The command line ---------------------------------------------------------------------------

VERSIONS = (
    f"machine_unlearning.py {__version__}, Python {platform.python_version()}, "
    f"numpy {np.__version__}, scikit-learn {sklearn.__version__}"
)

METAVARS = {  # what stands behind a flag, if it is not a number
    "output": "DIR",
    "csv": "FILE",
    "format": "png|svg|pdf",
    "data": "FILE",
    "label": "COLUMN",
    "features": "COLUMNS",
    "asked": "QUERY",
}


def help_on(option):
    """What a field of Settings means, and its default: everywhere, then in some experiments."""
    defaults = []
    if option.default:  # an empty text needs no mention
        defaults.append(f"default {option.default}")

    for name, experiment in EXPERIMENTS.items():
        if option.name in experiment.unused:
            continue
        if option.name in experiment.defaults:
            value = experiment.defaults[option.name]
            words = "a fifth" if value is None else value  # own: a fifth of the rows ask
            defaults.append(f"{name} {words}")

    meaning = option.metadata["meaning"]
    if not defaults:
        return meaning
    return f"{meaning} ({', '.join(defaults)})"


def make_parser():
    """The command line: the name of an experiment, and a flag for each field of Settings."""
    description = ["What does it take to make a trained model forget?", ""]
    for name, experiment in EXPERIMENTS.items():
        description.append(f"  {name:12}{experiment.meaning}")

    parser = argparse.ArgumentParser(
        prog="machine_unlearning.py",
        usage="%(prog)s [experiment] [flags]",
        description="\n".join(description),
        epilog="example: machine_unlearning.py study --seed 7 --csv study.csv",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,  # a flag that is not given is not in the result
        allow_abbrev=False,
    )
    parser.add_argument(
        "experiment",
        nargs="?",
        default="demo",
        choices=EXPERIMENTS,
        metavar="experiment",
        help="one of the above (default demo)",
    )
    for option in fields(Settings):
        flag = flag_of(option.name)
        if option.type is bool:
            parser.add_argument(flag, action="store_true", help=help_on(option))
        else:
            metavar = METAVARS.get(option.name, "N")
            parser.add_argument(flag, type=option.type, metavar=metavar, help=help_on(option))
    parser.add_argument("--version", action="version", version=VERSIONS)
    return parser


def did_you_mean(word):
    """The flag that is most like a word, as a question: "; did you mean --forget?"; or ""."""
    flags = [flag_of(option.name) for option in fields(Settings)]
    similar = get_close_matches(word.partition("=")[0], flags, 1)
    return f"; did you mean {similar[0]}?" if similar else ""


def parse(argv):
    """(experiment, settings) from a command line; argparse exits where it makes no sense."""
    parser = make_parser()
    try:
        given, unknown = parser.parse_known_args(argv)
        if unknown:
            parser.error(f"{unknown[0]}: unknown, see --help{did_you_mean(unknown[0])}")
        given = vars(given)
    except SystemExit:  # argparse has said what there is to say, perhaps a long --help
        say("", end="")  # flush now: if the reader is gone (--help | head), say deals with it
        raise

    experiment = given.pop("experiment")
    try:
        settings = settings_for(experiment, **given)
    except SettingsError as error:
        parser.error(error)  # it exits
    return experiment, settings


# ---- Running an experiment ----------------------------------------------------------------------


def make_folder(folder):
    """Make a folder, unless it is there; raises OSError if it cannot be made."""
    if folder.exists() and not folder.is_dir():
        # Otherwise mkdir would say "File exists"
        raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(folder))
    folder.mkdir(parents=True, exist_ok=True)


def place_for_figures(settings):
    """The folder of the figures; it is made. Raises OSError."""
    folder = Path(settings.output).expanduser()
    make_folder(folder)
    return folder


def place_for_table(settings):
    """The path of the CSV file, or None; its folder is made. Raises OSError, SettingsError."""
    if not settings.csv:
        return None
    csv = Path(settings.csv).expanduser()
    make_folder(csv.parent)
    if csv.is_dir():
        raise IsADirectoryError(errno.EISDIR, "a folder, not a file", str(csv))
    if settings.data and csv.resolve() == Path(settings.data).resolve():
        raise SettingsError(f"--csv {csv}: this is the file of --data")
    if csv.suffix[1:] in (*FORMATS, "gif"):
        raise SettingsError(f"--csv {csv}: this is the name of a figure, not of a table")
    return csv


def how_it_was_made(experiment, settings):
    """Versions, seed, and the settings that are not the experiment's own: a citation needs them."""
    words = [f"{VERSIONS}: {experiment}", f"seed {settings.seed}"]
    defaults = settings_for(experiment)
    for option in fields(Settings):
        if option.name in ("seed", "output", "csv", "dpi", "quiet", "format"):
            continue  # named already, or without effect on the numbers
        value = getattr(settings, option.name)
        if value != getattr(defaults, option.name):
            words.append(f"{option.name} {value}")
    return ", ".join(words)


# How a figure is saved. Files of two equal runs are equal: without date, and without the version of
# Matplotlib. PNG files that are compressed less are a tenth larger and written three times as fast
SAVING = {
    "png": {"metadata": {"Software": None}, "pil_kwargs": {"compress_level": 1}},
    "svg": {"metadata": {"Date": None, "Creator": None}},
    "pdf": {"metadata": {"CreationDate": None, "Creator": None, "Producer": None}},
}


@contextmanager
def written_beside(path):
    """A temporary path to write to, which becomes path at the end.

    Whatever happens in between, the file at path is whole, or as it was before. Raises OSError.
    """
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary  # now the caller writes; an error of the caller is raised here
        temporary.replace(path)
    except OSError as error:
        # Name the user's path, not the temporary one
        reason = error.strerror or str(error)
        raise OSError(error.errno, reason, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)  # it is still there if something went wrong


def write_figure(figure, path, settings):
    """Write a figure, or a film, which is a GIF whatever --format says; returns its path."""
    # Not isinstance: Part 2, with Film, may have been deleted
    is_film = not hasattr(figure, "savefig")
    if not is_film:
        path = path.with_suffix("." + settings.format)

    with written_beside(path) as temporary:
        if is_film:
            figure.save(temporary)
        else:
            options = SAVING[settings.format]
            figure.savefig(temporary, format=settings.format, dpi=settings.dpi, **options)
    return path


def write_table(table, path):
    """Write a table as CSV.

    Renaming a file onto a device such as /dev/null would replace it, so a device is written to
    directly.
    """
    if path.exists() and not path.is_file():
        table.to_csv(path)
        return
    with written_beside(path) as temporary:
        table.to_csv(temporary)


def run(experiment, settings):
    """Run an experiment, print what it found, write its files. Raises OSError, SettingsError."""
    # If there is no place for the results, it is better to know before the work
    folder = place_for_figures(settings)
    csv = place_for_table(settings)

    output = EXPERIMENTS[experiment].function(settings)

    # What was found is printed before anything can go wrong with a file
    if not settings.quiet:
        say(output.page)
        say("")
        say(wrapped(how_it_was_made(experiment, settings)))

    written = []
    for name, figure in output.figures.items():
        path = write_figure(figure, folder / name, settings)
        written.append(path)

    if csv is not None:
        if settings.csv == "/dev/stdout":
            # With "> file", opening it again would truncate the file, and lose the page
            say(output.table.to_csv(), end="")
        else:
            write_table(output.table, csv)
        written.append(csv)

    if not settings.quiet:
        for path in written:
            say(f"wrote {path}")


def main(argv=None):
    """Run the command line; returns the exit status: 0 done, 1 failed, 2 usage, 130 Ctrl-C."""
    progress = logging.StreamHandler()  # to stderr
    level_before = log.level
    log.addHandler(progress)
    try:
        experiment, settings = parse(argv)
        log.setLevel(logging.WARNING if settings.quiet else logging.INFO)
        run(experiment, settings)
        return 0
    except SystemExit as stop:  # from argparse
        return stop.code
    except SettingsError as error:
        status = 2
        message = error
    except OSError as error:
        status = 1
        message = f"{error.filename}: {error.strerror}" if error.filename else error
    except (BrokenExecutor, MemoryError):
        status = 1
        message = "out of memory, or a worker process died"
    except KeyboardInterrupt:
        status = 130
        message = "interrupted"
    finally:
        log.removeHandler(progress)
        log.setLevel(level_before)

    one_line = " ".join(str(message).split())
    print(f"machine_unlearning.py: error: {one_line}", file=sys.stderr)
    return status


if __name__ == "__main__":
    # An IDE may replace stdout by an object without this method
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a console may lack a folder's letters
    sys.exit(main())
