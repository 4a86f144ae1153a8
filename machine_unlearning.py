# /// script
# requires-python = ">=3.9"
# dependencies = [
#     "numpy>=1.26",
#     "matplotlib>=3.8",
#     "scikit-learn>=1.6",
#     "seaborn>=0.13.2",
#     "pandas>=2.1",
# ]
# ///
"""Machine unlearning: what does it take to make a trained model forget?

A hospital trains a diabetes classifier on 400 patients. 80 of them ask to be forgotten (GDPR,
article 17). Deleting their rows is easy; the weights that were trained on them stay as they are.
This script answers the request in three ways, measures what each one costs and how close it comes
to a model that never saw the 80, and draws four figures:

    python machine_unlearning.py             the demo: four figures, one table, a reading of it
    python machine_unlearning.py basic       the same on abstract data, where it goes further wrong
    python machine_unlearning.py sweep       how the outcome depends on the two tuning knobs

With the default seed the demo gives

    model                    test accuracy    accuracy on the 80
    Original Model                  94.0 %                95.0 %
    Full Retrain                    94.0 %                95.0 %
    Naive Deletion                  94.0 %                95.0 %
    Approximate Unlearning          71.0 %                70.0 %

Words used throughout
    forget set    the rows to be deleted (80 patients)
    retain set    the rows that are kept (320)
    test set      rows that no model is trained on (100)
    original      the network trained on forget + retain
    retrained     the network trained on retain alone, from scratch. It is what forgetting would
                  give, so ITS value is the target of every metric here
    naive         rows deleted, weights untouched
    ascent        gradient ascent on the forget set's loss, also called NegGrad
    gap           mean |p - p_retrained|, p the predicted probability of "Diabetic"; 0 is ideal
    attack        membership inference: guess from a row's loss whether it was trained on

Read it from top to bottom: settings, data, model, unlearning, evaluation, figures, experiments,
command line. Left out, so that the idea stays visible: mini-batches, momentum, early stopping,
more than two classes, real patients.
"""

import argparse
import copy
import os
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import make_classification
from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state, check_scalar
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

__version__ = "1.0.0"


# ---------------------------------------------------------------------------------------------
# Settings: the only place where a number of the experiment is chosen. Each field is also a flag.
# ---------------------------------------------------------------------------------------------


def setting(default, meaning, low=None, high=None):
    """A field of Settings: its default, what it means, and the allowed range of a number."""
    return field(default=default, metadata={"help": meaning, "low": low, "high": high})


@dataclass(frozen=True)
class Settings:
    """What an experiment is run with. The defaults reproduce the classic result."""

    seed: int = setting(42, "seed of every random draw", 0, 2**32 - 1)
    output: str = setting("output", "folder for the figures")
    patients: int = setting(500, "patients in all; a fifth becomes the test set", 10, 1_000_000)
    forget: int = setting(80, "patients who ask to be forgotten", 1, 1_000_000)
    hidden: int = setting(20, "hidden units: enough for one curved boundary", 1, 10_000)
    learning_rate: float = setting(0.1, "step of gradient descent", 0, 1e6)
    epochs: int = setting(200, "descent steps: the loss has levelled off by then", 0, 10_000_000)
    unlearn_epochs: int = setting(145, "ascent steps: see the sweep", 0, 10_000_000)
    multiplier: float = setting(
        0.7, "ascent step / descent step: less forgets too little, more ruins the model", 0, 1e6
    )
    dpi: int = setting(150, "dots per inch of the figures", 10, 1200)
    csv: Optional[str] = setting(None, "also write the printed table to this CSV file")
    quiet: bool = setting(False, "print nothing but errors; the files are still written")


class SettingsError(ValueError):
    """Settings that are each fine and cannot work together; the command line exits with 2."""


# ---------------------------------------------------------------------------------------------
# Data: synthetic patients, and the split into forget, retain and test
# ---------------------------------------------------------------------------------------------


def make_patients(n_patients=500, random_state=42):
    """Synthetic patients, the healthy half first, as a DataFrame with one row each.

    Columns: patient_id (int, from 1000), age (years), glucose (mg/dL), diagnosis ("Healthy" or
    "Diabetic"). random_state is an int or a RandomState, which is advanced. Raises ValueError or
    TypeError if n_patients is not an integer of at least 2.
    """
    check_scalar(n_patients, "n_patients", (int, np.integer), min_val=2)
    rng = check_random_state(random_state)
    groups = []
    for diagnosis, size, (age_mean, age_std), (glucose_mean, glucose_std) in [
        ("Healthy", n_patients // 2, (40, 10), (100, 15)),
        ("Diabetic", n_patients - n_patients // 2, (55, 12), (150, 20)),  # older, more sugar
    ]:
        age = rng.normal(age_mean, age_std, size)
        glucose = rng.normal(glucose_mean, glucose_std, size)
        groups.append(pd.DataFrame({"age": age, "glucose": glucose, "diagnosis": diagnosis}))
    patients = pd.concat(groups, ignore_index=True)
    patients.insert(0, "patient_id", 1000 + np.arange(n_patients))
    return patients


class Rows(NamedTuple):
    """Some rows of a data set: features X (n, d) and labels y (n,), 0 or 1."""

    X: np.ndarray
    y: np.ndarray


class Data(NamedTuple):
    """A training set of which some rows are to be forgotten, and a test set."""

    features: pd.DataFrame  # the training rows in real units, named as on the axes
    scaler: StandardScaler  # features -> X, what the network sees
    train: Rows
    test: Rows
    asked: np.ndarray  # positions in the training set, in the order of the request
    classes: tuple  # the names of label 0 and label 1

    @property
    def forget(self):
        """The rows to be forgotten, in the order of the request."""
        return Rows(self.train.X[self.asked], self.train.y[self.asked])

    @property
    def retain(self):
        """All other training rows."""
        kept = np.setdiff1d(np.arange(len(self.train.y)), self.asked)
        return Rows(self.train.X[kept], self.train.y[kept])


def split(features, y, scaler, classes, settings, rng):
    """Data from features (n, d) and labels y (n,): 80 % train, 20 % test, and a random request.

    Raises SettingsError if so many rows are to be forgotten that not both classes remain.
    """
    train, test, y_train, y_test = train_test_split(
        features, y, test_size=0.2, random_state=settings.seed
    )
    order = rng.permutation(len(train))  # who would ask first, second, ...
    other = np.flatnonzero(y_train[order] != y_train[order[-1]])
    most = int(other.max()) if len(other) else 0  # after more, one class only would remain
    if settings.forget > most:
        raise SettingsError(
            f"argument --forget: {settings.forget} is too many, the allowed range is 1 to {most}: "
            f"of the {len(train)} training rows, some of both classes must remain"
        )
    rows = Rows(scaler.transform(train), y_train), Rows(scaler.transform(test), y_test)
    return Data(train, scaler, *rows, order[: settings.forget], classes)


def hospital(settings, rng):
    """The patients, standardised. The scaler has seen everybody: it remembers the forgotten too."""
    patients = make_patients(settings.patients, rng).set_index("patient_id")
    features = patients[["age", "glucose"]].set_axis(["Age (years)", "Glucose (mg/dL)"], axis=1)
    y = (patients["diagnosis"] == "Diabetic").to_numpy(int)
    return split(
        features, y, StandardScaler().fit(features), ("Healthy", "Diabetic"), settings, rng
    )


def abstract(settings, rng):
    """Two overlapping clouds without a meaning, one label in ten random; not standardised."""
    X, y = make_classification(
        n_samples=settings.patients,
        n_features=2,
        n_redundant=0,
        n_clusters_per_class=1,
        flip_y=0.1,
        random_state=settings.seed,
    )
    features = pd.DataFrame(X, columns=["Feature 1", "Feature 2"])
    unscaled = StandardScaler(with_mean=False, with_std=False).fit(features)
    return split(features, y, unscaled, ("Class 0", "Class 1"), settings, rng)


# ---------------------------------------------------------------------------------------------
# Model: a two-layer network, its gradient written out
# ---------------------------------------------------------------------------------------------

BLOCK = 2048  # rows whose hidden layer (2048 x 20 floats, 320 KB) still fits a core's cache


class TwoLayerMLP(ClassifierMixin, BaseEstimator):
    """A binary classifier: d inputs -> h tanh units -> one sigmoid unit.

        A = tanh(X W1 + b1)       (n, h)   hidden layer
        z = A W2 + b2             (n, 1)   logit
        p = 1 / (1 + exp(-z))     (n, 1)   probability of classes_[1]
        loss = -mean(y log p + (1 - y) log(1 - p)) + l2/2 (|W1|^2 + |W2|^2)

    A scikit-learn classifier: get_params, clone, score, pipelines and so on work. Learned: W1_
    (d, h), b1_ (h,), W2_ (h, 1), b2_ (1,), classes_ (2,).

    Parameters: hidden_size h; learning_rate, the step of descent; epochs, the number of steps;
    init_scale, the standard deviation of the initial weights (small: all tanh units start in
    their linear part, and not alike); l2, the weight penalty; random_state, an int, a RandomState
    (advanced by fit) or None.
    """

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

    # What it computes

    @property
    def parameters(self):
        """[W1 (d, h), b1 (h,), W2 (h, 1), b2 (1,)], the arrays themselves."""
        return [self.W1_, self.b1_, self.W2_, self.b2_]

    def initialize(self, d):
        """Draw the weights for d features; the biases start at 0."""
        rng = check_random_state(self.random_state)
        self.W1_ = self.init_scale * rng.randn(d, self.hidden_size)
        self.b1_ = np.zeros(self.hidden_size)
        self.W2_ = self.init_scale * rng.randn(self.hidden_size, 1)
        self.b2_ = np.zeros(1)

    def forward(self, X):
        """Hidden layer A (n, h) and logits z (n, 1) of the rows X (n, d)."""
        A = np.tanh(X @ self.W1_ + self.b1_)
        return A, A @ self.W2_ + self.b2_

    def gradient(self, X, y):
        """Slope of the loss in each of the four parameters, for X (n, d) and y (n,) of 0 and 1.

        The loss is a mean over rows, so its slope is a sum, taken block by block: the hidden
        layer of a million patients never has to be in memory at once.
        """
        blocks = [slice(start, start + BLOCK) for start in range(0, len(X), BLOCK)]
        sums = zip(*(self.gradient_sum(X[block], y[block]) for block in blocks))
        W1, b1, W2, b2 = (sum(parts) / len(X) for parts in sums)
        return [W1 + self.l2 * self.W1_, b1, W2 + self.l2 * self.W2_, b2]

    def gradient_sum(self, X, y):
        """The same summed over the rows and without the penalty: the chain rule from z back."""
        A, z = self.forward(X)
        error = expit(z) - y[:, None]  # (n, 1)  d loss / d z, which is simply p - y
        slope = 1 - A**2  # (n, h)  tanh'
        W1 = self.W2_.T * ((X * error).T @ slope)  # (d, h)  W2 is the same for all rows, so it
        b1 = self.W2_[:, 0] * (error.T @ slope)[0]  # (h,)    can wait until they are summed
        return W1, b1, A.T @ error, error.sum(axis=0)  # W2 (h, 1), b2 (1,)

    def step(self, X, y, rate):
        """One step of descent on the loss of all rows at once; a negative rate ascends."""
        for parameter, slope in zip(self.parameters, self.gradient(X, y)):
            parameter -= rate * slope

    def fit(self, X, y):
        """Train from scratch on X (n, d), y (n,) by full-batch gradient descent; returns self.

        Raises ValueError if X or y hold NaN or infinity, differ in length, or y has not exactly
        two classes.
        """
        X, y = self._check_training_rows(X, y)
        self.initialize(X.shape[1])
        for _ in range(self.epochs):
            self.step(X, y, self.learning_rate)
        return self

    def unlearn(self, X_forget, y_forget, epochs=145, multiplier=0.7):
        """Gradient ascent (NegGrad): raise the loss on the rows to forget; in place, returns self.

        The training step backwards, scaled by multiplier, on X_forget (n, d) and y_forget (n,)
        alone (Golatkar et al. 2020, arXiv 1911.04933, among the baselines). Nothing holds the
        other patients' predictions in place. Raises NotFittedError before fit, ValueError for
        rows that fit would refuse or labels that it has not seen.
        """
        check_scalar(epochs, "epochs", (int, np.integer), min_val=0)
        X, y = self._check_rows(X_forget, y_forget)
        for _ in range(epochs):
            self.step(X, y, -self.learning_rate * multiplier)
        return self

    def losses(self, X, y):
        """Cross-entropy of each row (n,): log(1 + exp(-s z)) with s = 2y - 1, stable for any z."""
        X, y = self._check_rows(X, y)
        z = self.forward(X)[1][:, 0]
        return np.logaddexp(0, np.where(y == 1, -z, z))

    def loss(self, X, y):
        """The objective of fit on X (n, d), y (n,): mean cross-entropy plus the penalty."""
        penalty = self.l2 / 2 * sum(np.sum(W**2) for W in (self.W1_, self.W2_))
        return self.losses(X, y).mean() + penalty

    def decision_function(self, X):
        """Logits (n,) of X (n, d): positive where classes_[1] is predicted."""
        return self.forward(self._check_rows(X))[1][:, 0]

    def predict_proba(self, X):
        """Probabilities (n, 2) of classes_[0] and classes_[1]."""
        z = self.decision_function(X)
        return np.column_stack([expit(-z), expit(z)])

    def predict(self, X):
        """The more probable class of each row (n,)."""
        positive = self.decision_function(X) > 0
        return self.classes_[positive.astype(int)]

    # What scikit-learn asks of an estimator (nothing to learn about unlearning here)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def _check_training_rows(self, X, y):
        check_scalar(self.hidden_size, "hidden_size", (int, np.integer), min_val=1)
        check_scalar(self.epochs, "epochs", (int, np.integer), min_val=0)
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        kind = type_of_target(y)
        if kind != "binary":
            raise ValueError(
                f"Only binary classification is supported. The type of the target is {kind}."
            )
        self.classes_, y = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"Two classes are needed, and y holds one class: {self.classes_[0]}")
        return X, y

    def _check_rows(self, X, y=None):
        check_is_fitted(self)
        if y is None:
            return validate_data(self, X, dtype=np.float64, reset=False)
        X, y = validate_data(self, X, y, dtype=np.float64, reset=False)
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(f"y holds {unknown[0]!r}, which is not one of {self.classes_}")
        return X, (y == self.classes_[1]).astype(int)


# ---------------------------------------------------------------------------------------------
# Unlearning: three answers to one request
# ---------------------------------------------------------------------------------------------
# Each takes the original network, the retain and forget rows, the settings and a RandomState, and
# returns a new network; what it is given stays as it was.


def full_retrain(original, retain, forget, settings, rng):
    """The same recipe from fresh random weights on the retain set. Reads no forgotten row."""
    return clone(original).set_params(random_state=rng).fit(*retain)


def naive_deletion(original, retain, forget, settings, rng):
    """Delete the rows and keep the weights. Reads nothing at all."""
    return copy.deepcopy(original)


def gradient_ascent(original, retain, forget, settings, rng):
    """Undo the training on the forgotten rows by climbing their loss. Reads no retained row."""
    return copy.deepcopy(original).unlearn(*forget, settings.unlearn_epochs, settings.multiplier)


ORIGINAL, RETRAIN, NAIVE, ASCENT = (
    "Original Model",
    "Full Retrain",
    "Naive Deletion",
    "Approximate Unlearning",
)
METHODS = {RETRAIN: full_retrain, NAIVE: naive_deletion, ASCENT: gradient_ascent}


# ---------------------------------------------------------------------------------------------
# Evaluation: every metric has the retrained model's value as its target
# ---------------------------------------------------------------------------------------------


def gap_to_retrained(model, retrained, X):
    """Mean |p - p_retrained| over the rows of X (n, d): 0 is indistinguishable, 1 the opposite."""
    return np.abs(model.predict_proba(X)[:, 1] - retrained.predict_proba(X)[:, 1]).mean()


def attack_auc(model, forget, test):
    """Loss attack: how well a low loss tells forget rows ("member") from test rows; AUC, 0.5 = not.

    The area under the ROC curve is the Mann-Whitney statistic of -loss(forget) against
    -loss(test). Yeom et al., CSF 2018, arXiv 1709.01604.
    """
    member = np.r_[np.ones(len(forget.y)), np.zeros(len(test.y))]
    return roc_auc_score(member, -np.r_[model.losses(*forget), model.losses(*test)])


def attack_error(n_forget, n_test):
    """Standard error of the attack's AUC for a model that tells nothing (Mann-Whitney's)."""
    return np.sqrt((n_forget + n_test + 1) / (12 * n_forget * n_test))


def count_changes(model, original, retrained, forget):
    """How the predictions on the forget set differ from the original's and from the retrained's."""
    before, after, target = (m.predict(forget.X) for m in (original, model, retrained))
    changed = before != after
    return {
        "changed": changed.sum(),
        "harmed": (changed & (before == forget.y)).sum(),  # from right to wrong
        "mended": (changed & (after == forget.y)).sum(),  # from wrong to right
        "towards": (changed & (after == target)).sum(),  # to what the retrained model says
        "away": (changed & (before == target)).sum(),
        "disagree": (after != target).sum(),  # with the retrained model
    }


def timed(make_model, rng, repeats=5):
    """(model, median seconds) of make_model(rng); every repeat starts from the same random state."""
    seconds = []
    for state in [copy.deepcopy(rng) for _ in range(repeats - 1)] + [rng]:  # rng advances once
        start = time.perf_counter()
        model = make_model(state)
        seconds.append(time.perf_counter() - start)
    return model, np.median(seconds)


class Comparison(NamedTuple):
    """All that is known about one request; every figure and sentence is made from it."""

    data: Data
    models: dict  # display name -> network
    table: pd.DataFrame  # one row per model: the printed table
    changes: pd.DataFrame  # one row per model: see count_changes
    noise_floor: float  # gap between two retrained networks that differ in initial weights only


def train_original(data, settings, rng):
    """The network before any request: trained on all training rows."""
    network = TwoLayerMLP(
        settings.hidden, settings.learning_rate, settings.epochs, random_state=rng
    )
    return network.fit(*data.train)


def compare(data, settings, rng):
    """Train the original, answer the request with every method, measure; returns a Comparison."""

    original, seconds = timed(partial(train_original, data, settings), rng)
    models, times = {ORIGINAL: original}, {ORIGINAL: seconds}
    request = (original, data.retain, data.forget, settings)
    for name, runner in METHODS.items():
        models[name], times[name] = timed(partial(runner, *request), rng)
    retrained = models[RETRAIN]
    again = full_retrain(*request, rng)
    changes = pd.DataFrame(
        {name: count_changes(m, original, retrained, data.forget) for name, m in models.items()}
    ).T
    table = pd.DataFrame(
        {
            name: {
                "seconds": times[name],
                "test_accuracy": model.score(*data.test),
                "retain_accuracy": model.score(*data.retain),
                "forget_accuracy": model.score(*data.forget),
                "predictions_changed": changes.changed[name],
                "gap_to_retrained": gap_to_retrained(model, retrained, data.forget.X),
                "attack_auc": attack_auc(model, data.forget, data.test),
            }
            for name, model in models.items()
        }
    ).T.astype({"predictions_changed": int})
    floor = gap_to_retrained(again, retrained, data.forget.X)
    return Comparison(data, models, table.rename_axis("method"), changes, floor)


# ---------------------------------------------------------------------------------------------
# Figures: a panel function takes the axes first, a figure function lays out and returns the figure
# ---------------------------------------------------------------------------------------------
# Margins are set by hand: automatic layout would double the time of the whole demo.

PALETTE = sns.color_palette("colorblind")  # told apart by colour-blind readers too
METHOD_COLORS = dict(zip((ORIGINAL, *METHODS), (PALETTE[7], PALETTE[2], PALETTE[4], PALETTE[3])))
CLASS_COLORS, CLASS_MARKERS = (PALETTE[0], PALETTE[1]), ("o", "^")
SHADES = sns.blend_palette(["#8cc0e0", "white", "#f3cd8d"], as_cmap=True)  # of p, from 0 to 1
TARGET_LINE = {"color": "black", "linestyle": "--", "linewidth": 1.8}  # the retrained model's
CLASSIC_LINE = {"color": "black", "linestyle": ":", "linewidth": 1.8}  # 50 %


@contextmanager
def figure_style():
    """The look of all figures, inside this context only."""
    with rc_context({**sns.axes_style("ticks"), **sns.plotting_context("notebook")}):
        yield


def draw_bars(ax, values, title, unit, classic=False):
    """One bar per method from values, a Series; the retrained model's value as a dashed line."""
    names = [name.replace(" ", "\n") for name in values.index]
    bars = ax.barh(names, values, color=[METHOD_COLORS[name] for name in values.index])
    target, word = values[RETRAIN], "Full Retrain, the target" if unit == "%" else RETRAIN
    ax.axvline(target, **TARGET_LINE, label=f"{word}: {target:.1f} {unit}")
    if classic:
        ax.axvline(50, **CLASSIC_LINE, label="50 %: the classic line, not the target")
    backing = {"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.8}
    ax.bar_label(bars, fmt=f"{{:.1f}} {unit}", padding=5, bbox=backing)
    ax.set(title=title, xlim=(0, 125 if unit == "%" else 1.35 * values.max()))
    ax.set_xticks(range(0, 101, 25) if unit == "%" else ax.get_xticks()[:-1])
    ax.invert_yaxis()
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.09), frameon=False)


def draw_rows(ax, data, positions, **style):
    """The training rows at these positions, with a colour and a marker for each class."""
    for label, (color, marker) in enumerate(zip(CLASS_COLORS, CLASS_MARKERS)):
        rows = data.features.iloc[positions[data.train.y[positions] == label]]
        ax.scatter(rows.iloc[:, 0], rows.iloc[:, 1], color=color, marker=marker, **style)


def draw_map(ax, model, data):
    """p over the plane, shaded, and its 0.5 line; returns p and its grid for draw_boundary."""
    display = DecisionBoundaryDisplay.from_estimator(
        make_pipeline(data.scaler, model),  # takes years and mg/dL, so the axes do too
        data.features,
        response_method="predict_proba",
        levels=np.linspace(0, 1, 21),
        cmap=SHADES,
        ax=ax,
    )
    draw_boundary(ax, display, linewidths=2)
    return display


def draw_boundary(ax, display, **line):
    """The line p = 0.5 of a map, where there is one."""
    if display.response.min() < 0.5 < display.response.max():
        grid = display.xx0, display.xx1, display.response
        ax.contour(*grid, levels=[0.5], colors="black", **line)


def legend_of_maps(fig, data, target, **place):
    """One legend for all maps of a figure: the classes, the ring, the 0.5 lines."""
    looks = [
        (data.classes[0], {"color": CLASS_COLORS[0], "marker": CLASS_MARKERS[0], "linestyle": ""}),
        (data.classes[1], {"color": CLASS_COLORS[1], "marker": CLASS_MARKERS[1], "linestyle": ""}),
        (
            "ringed: asked to be forgotten",
            {"color": "black", "marker": "o", "linestyle": "", "mfc": "none"},
        ),
        ("p = 0.5 of this model", {"color": "black", "linewidth": 2}),
        ("p = 0.5 of Full Retrain, the target", TARGET_LINE),
    ][: 5 if target else 4]
    handles = [Line2D([], [], label=label, **look) for label, look in looks]
    fig.legend(handles=handles, loc="lower center", frameon=False, **place)


def draw_verdicts(ax, model, data, when):
    """The forget rows on the model's map, the wrongly predicted ones crossed out."""
    draw_map(ax, model, data)
    wrong = model.predict(data.forget.X) != data.forget.y
    rows = data.features.iloc[data.asked[wrong]]
    ax.scatter(rows.iloc[:, 0], rows.iloc[:, 1], color="black", marker="x", s=110, linewidth=2)
    draw_rows(ax, data, data.asked, s=32, edgecolor="black", linewidth=0.9)
    ax.set_title(f"{when}: {(~wrong).sum()} right, {wrong.sum()} wrong (crossed)")


def performance_figure(comparison):
    """Three panels: what each method costs, and what it does to the two accuracies."""
    table, n_forget = comparison.table, len(comparison.data.asked)
    fig = Figure(figsize=(13, 5))
    axes = fig.subplots(1, 3, sharey=True)
    fig.subplots_adjust(left=0.09, right=0.99, top=0.85, bottom=0.19, wspace=0.06)
    draw_bars(axes[0], 1000 * table.seconds, "Time", "ms")
    draw_bars(axes[1], 100 * table.test_accuracy, "Accuracy on the test set", "%")
    title = f"Accuracy on the {n_forget} to be forgotten"
    draw_bars(axes[2], 100 * table.forget_accuracy, title, "%", classic=True)
    times, misses = table.seconds, 100 * (table.forget_accuracy - table.forget_accuracy[RETRAIN])
    fig.suptitle(
        f"{ASCENT} takes {100 * times[ASCENT] / times[RETRAIN]:.0f} % of a full retrain's time "
        f"and misses its forget accuracy by {abs(misses[ASCENT]):.1f} points"
    )
    return fig


def boundaries_figure(comparison):
    """Four maps, one per model, each with the retrained model's boundary and the forget rows."""
    data, gaps = comparison.data, comparison.table.gap_to_retrained
    fig = Figure(figsize=(10, 9))
    axes = fig.subplots(2, 2, sharex=True, sharey=True).ravel()
    fig.subplots_adjust(left=0.08, right=0.86, top=0.93, bottom=0.14, wspace=0.05, hspace=0.2)
    maps = [draw_map(ax, model, data) for ax, model in zip(axes, comparison.models.values())]
    retrained = maps[list(comparison.models).index(RETRAIN)]
    for ax, name in zip(axes, comparison.models):
        draw_boundary(ax, retrained, linewidths=1.8, linestyles="dashed")
        draw_rows(ax, data, np.arange(len(data.train.y)), s=16, edgecolor="white", linewidth=0.3)
        draw_rows(ax, data, data.asked, s=32, edgecolor="black", linewidth=0.9)
        ax.set_title(f"{name}\ngap to retrained {gaps[name]:.3f}")
        ax.label_outer()
    label = f"p, the probability of {data.classes[1]}"
    bar = fig.add_axes([0.885, 0.14, 0.025, 0.79])
    fig.colorbar(retrained.surface_, cax=bar, label=label, ticks=np.linspace(0, 1, 5))
    legend_of_maps(fig, data, target=True, ncols=3)
    return fig


def concrete_figure(comparison):
    """Four panels: who asked; right and wrong before; the same after ascent; the accuracies."""
    data, models, n_forget = comparison.data, comparison.models, len(comparison.data.asked)
    fig = Figure(figsize=(11, 9))
    (who, before), (after, bars) = fig.subplots(2, 2)
    fig.subplots_adjust(left=0.07, right=0.98, top=0.95, bottom=0.16, wspace=0.3, hspace=0.28)
    draw_verdicts(before, models[ORIGINAL], data, "Before")
    draw_verdicts(after, models[ASCENT], data, "After gradient ascent")
    draw_rows(who, data, np.arange(len(data.train.y)), s=16, alpha=0.4, linewidth=0)
    draw_rows(who, data, data.asked, s=32, edgecolor="black", linewidth=0.9)
    who.set_title(f"{n_forget} of {len(data.train.y)} ask to be forgotten (ringed)")
    labels = dict(zip(("xlabel", "ylabel"), data.features.columns))
    who.set(**labels, xlim=before.get_xlim(), ylim=before.get_ylim())
    accuracies = 100 * comparison.table.forget_accuracy[[ORIGINAL, ASCENT, RETRAIN]]
    draw_bars(bars, accuracies, f"Accuracy on the {n_forget}", "%", classic=True)
    legend_of_maps(fig, data, target=False, ncols=4)
    return fig


def patients_figure(comparison, n_rows=15):
    """A table of the first patients of the request and of what each model says of them."""
    data, asked = comparison.data, comparison.data.asked[:n_rows]
    X, actual = data.train.X[asked], data.train.y[asked]
    original, retrained, ascent = (
        comparison.models[name].predict(X) for name in (ORIGINAL, RETRAIN, ASCENT)
    )
    now = np.where(ascent == actual, "yes, now right", "yes, now wrong")
    names = np.array(data.classes)
    columns = {
        "Patient": data.features.index[asked].astype(str),
        "Age\n(years)": data.features.iloc[asked, 0].map("{:.0f}".format),
        "Glucose\n(mg/dL)": data.features.iloc[asked, 1].map("{:.0f}".format),
        "Actual": names[actual],
        "Original": names[original],
        "Full Retrain": names[retrained],
        "After gradient\nascent": names[ascent],
        "Changed?": np.where(ascent != original, now, "no"),
    }
    fig = Figure(figsize=(12, 8))
    ax = fig.add_axes([0.02, 0.02, 0.96, 0.87])
    ax.axis("off")
    table = ax.table(list(zip(*columns.values())), colLabels=list(columns), bbox=[0, 0, 1, 1])
    table.auto_set_font_size(False)
    for (row, _), cell in table.get_celld().items():
        cell.set(edgecolor="0.8", facecolor="0.9" if row == 0 else "white")
        cell.set_text_props(ha="center", fontsize=12, fontweight="bold" if row == 0 else None)
        if row == 0:
            cell.set_height(1.6 * cell.get_height())
        elif ascent[row - 1] != original[row - 1]:
            cell.set_facecolor((*METHOD_COLORS[ASCENT], 0.25))
    counts = comparison.changes.loc[ASCENT]
    fig.suptitle(
        f"The first {len(asked)} of the {len(data.asked)} patients who asked.  Ascent changes "
        f"{counts.changed} of all {len(data.asked)} predictions:\n{counts.harmed} from right to "
        f"wrong, {counts.mended} from wrong to right; retraining changes "
        f"{comparison.changes.changed[RETRAIN]}"
    )
    return fig


CLASSIC_SETTINGS = {(100, 0.5): "mild", (145, 0.7): "demo", (200, 1.0): "harsh"}


def draw_heatmap(ax, grid, column, target, marked):
    """Accuracy in % over epochs x multiplier, the marked settings framed and named."""
    values = 100 * grid.pivot(index="epochs", columns="multiplier", values=column)
    look = {"vmin": 0, "vmax": 100, "cmap": "cividis", "annot": True, "fmt": ".0f"}
    sns.heatmap(values, ax=ax, cbar=False, linewidths=1, **look)
    for (epochs, multiplier), word in marked.items():
        row, left = values.index.get_loc(epochs), values.columns.get_loc(multiplier)
        ax.add_patch(Rectangle((left, row), 1, 1, fill=False, edgecolor=PALETTE[3], linewidth=4))
        ax.text(left + 0.5, row + 0.9, word, ha="center", va="bottom", fontsize=10)
    ax.set(xlabel="multiplier (ascent step / descent step)", ylabel="ascent epochs")
    ax.set_title(
        f"Accuracy on the {column.split('_')[0]} set, %\ntarget (Full Retrain): {100 * target:.1f}"
    )


def sweep_figure(grid, targets, marked):
    """Two heat maps, of test and of forget accuracy; targets: the retrained model's two values."""
    fig = Figure(figsize=(13, 6.5), layout="constrained")
    for ax, column, target in zip(
        fig.subplots(1, 2), ("test_accuracy", "forget_accuracy"), targets
    ):
        draw_heatmap(ax, grid, column, target, marked)
    return fig


# ---------------------------------------------------------------------------------------------
# Experiments: each returns a table, what to print about it, and its figures
# ---------------------------------------------------------------------------------------------


class Report(NamedTuple):
    """What an experiment found."""

    table: pd.DataFrame
    text: str
    figures: dict  # file name -> Figure


FORMATS = {  # column of a table -> heading and format in print
    "seconds": ("ms", lambda value: f"{1000 * value:.1f}"),
    "test_accuracy": ("test %", lambda value: f"{100 * value:.1f}"),
    "retain_accuracy": ("retain %", lambda value: f"{100 * value:.1f}"),
    "forget_accuracy": ("forget %", lambda value: f"{100 * value:.1f}"),
    "predictions_changed": ("changed", str),
    "gap_to_retrained": ("gap", lambda value: f"{value:.3f}"),
    "attack_auc": ("attack AUC", lambda value: f"{value:.3f}"),
}


def show(table):
    """The table as text, with headings and formats for people."""
    columns = {FORMATS[name][0]: table[name].map(FORMATS[name][1]) for name in table.columns}
    return pd.DataFrame(columns).rename_axis(None).to_string()


def validate(comparison):
    """Was it forgotten? {check: (passed, what was measured and what was wanted)}."""
    table, n_test = comparison.table, len(comparison.data.test.y)
    ascent, retrained, naive = (table.loc[name] for name in (ASCENT, RETRAIN, NAIVE))
    accuracy = retrained.test_accuracy
    useful = accuracy - 2 * np.sqrt(accuracy * (1 - accuracy) / n_test)
    margin = 2 * attack_error(len(comparison.data.asked), n_test)
    return {
        "useful": (
            ascent.test_accuracy >= useful,
            f"test accuracy {100 * ascent.test_accuracy:.1f} %, target at least {100 * useful:.1f} %"
            " (Full Retrain less 2 standard errors)",
        ),
        "forgetting": (
            ascent.gap_to_retrained < naive.gap_to_retrained,
            f"gap to retrained {ascent.gap_to_retrained:.4f}, target below "
            f"{naive.gap_to_retrained:.4f} (doing nothing)",
        ),
        "attack": (
            abs(ascent.attack_auc - retrained.attack_auc) <= margin,
            f"AUC {ascent.attack_auc:.3f}, target {retrained.attack_auc:.3f} +- {margin:.3f}"
            " (Full Retrain, 2 standard errors)",
        ),
        "classic": (
            0.4 <= ascent.forget_accuracy <= 0.6,
            f"forget accuracy {100 * ascent.forget_accuracy:.1f} %, the classic band is 40 to 60 %,"
            f" which Full Retrain's {100 * retrained.forget_accuracy:.1f} % is not in"
            if not 0.4 <= retrained.forget_accuracy <= 0.6
            else " as is Full Retrain's",
        ),
    }


def read(comparison, checks):
    """What the table says, in at most ten sentences, each of them chosen by the numbers."""
    table, n = comparison.table, len(comparison.data.asked)
    ascent, retrained, naive = (table.loc[name] for name in (ASCENT, RETRAIN, NAIVE))
    forget, test = 100 * retrained.forget_accuracy, 100 * retrained.test_accuracy
    counts = comparison.changes.loc[ASCENT]
    times = ascent.gap_to_retrained / naive.gap_to_retrained
    nearer = "nearer to the goal than" if times < 1 else "no nearer to the goal than"
    speed = retrained.seconds / ascent.seconds
    passed = {check: outcome for check, (outcome, _) in checks.items()}
    return [
        f"Full Retrain never saw the {n} and gets {forget:.1f} % of them right ({test:.1f} % of the "
        f"test set): {'it generalises' if abs(test - forget) < 10 else 'they are a special group'}.",
        f"The target of forget accuracy is therefore {forget:.1f} %, not 50 %.",
        f"Naive Deletion has a gap of {naive.gap_to_retrained:.4f}; two retrains that differ in "
        f"their initial weights, {comparison.noise_floor:.4f}.",
        f"Approximate Unlearning has {ascent.gap_to_retrained:.4f}, {times:.2g} x Naive Deletion's: "
        f"{nearer} doing nothing.",
        f"It changes {counts.changed} of {n} predictions: {counts.harmed} from right to wrong, "
        f"{counts.mended} from wrong to right.",
        f"{counts.towards} of these changes go to what Full Retrain says and {counts.away} away from "
        f"it; {counts.disagree} predictions now disagree with it.",
        f"On the test set it is right for {100 * ascent.test_accuracy:.1f} %: "
        + ("still useful." if passed["useful"] else "everybody pays, not only those who asked."),
        f"The loss attack tells it from Full Retrain: {'no' if passed['attack'] else 'yes'} (AUC "
        f"{ascent.attack_auc:.3f} and {retrained.attack_auc:.3f})"
        + ("." if passed["forgetting"] or not passed["attack"] else "; yet its gap does."),
        f"It takes {1000 * ascent.seconds:.1f} ms and Full Retrain {1000 * retrained.seconds:.1f} ms: "
        f"{speed:.1f} times {'faster' if speed >= 1 else 'the speed'}.",
        "Limits: one seed, one small network"
        + (
            ", and a scaler that was fitted on the forgotten rows too."
            if comparison.data.scaler.with_mean
            else "."
        ),
    ]


def report_text(comparison, noun):
    """The tables, the checks and the reading of a comparison, for the terminal."""
    data, checks = comparison.data, validate(comparison)
    verdicts = (
        f"  {'passed' if passed else 'NOT PASSED':10}  {check}: {text}"
        for check, (passed, text) in checks.items()
    )
    return "\n".join(
        [
            f"{len(data.asked)} of {len(data.train.y)} {noun} ask to be forgotten",
            "",
            show(comparison.table),
            "",
            f"Predictions on the {len(data.asked)}: changed from the original's, from right to wrong"
            " (harmed) or wrong to right",
            "(mended), towards or away from Full Retrain's, and in the end in disagreement with it",
            "",
            comparison.changes.to_string(),
            "",
            f"Validation of {ASCENT}",
            *verdicts,
            "",
            "What it means",
            *(f"  {sentence}" for sentence in read(comparison, checks)),
        ]
    )


def demo(settings, rng):
    """400 patients, 80 of whom ask to be forgotten: the four figures."""
    comparison = compare(hospital(settings, rng), settings, rng)
    figures = {
        "performance_metrics.png": performance_figure(comparison),
        "decision_boundaries.png": boundaries_figure(comparison),
        "concrete_demonstration.png": concrete_figure(comparison),
        "patient_level_view.png": patients_figure(comparison),
    }
    return Report(comparison.table, report_text(comparison, "patients"), figures)


def basic(settings, rng):
    """The same on abstract data, where the same ascent goes much further."""
    comparison = compare(abstract(settings, rng), settings, rng)
    figures = {
        "basic_performance_metrics.png": performance_figure(comparison),
        "basic_decision_boundaries.png": boundaries_figure(comparison),
    }
    return Report(comparison.table, report_text(comparison, "rows"), figures)


def ascent_grid(original, retrained, data, epochs_grid, multipliers):
    """Ascent from the same original with every pair of epochs and multiplier: a row for each."""
    rows = []
    for multiplier in sorted(multipliers):
        model, done = copy.deepcopy(original), 0
        for epochs in sorted(epochs_grid):  # go on from the last stop instead of starting again
            model.unlearn(*data.forget, epochs - done, multiplier)
            done = epochs
            rows.append(
                {
                    "epochs": epochs,
                    "multiplier": multiplier,
                    "test_accuracy": model.score(*data.test),
                    "forget_accuracy": model.score(*data.forget),
                    "gap_to_retrained": gap_to_retrained(model, retrained, data.forget.X),
                }
            )
    return pd.DataFrame(rows).sort_values(["epochs", "multiplier"], ignore_index=True)


def sweep_text(grid, marked, targets, doing_nothing):
    """The grid and what it says, for the terminal."""
    percents = 100 * grid[["test_accuracy", "forget_accuracy"]]
    cells = percents.test_accuracy.map("{:.0f}/".format) + percents.forget_accuracy.map(
        "{:.0f}".format
    )
    lines = ["Test / forget accuracy in %, ascent epochs down, multiplier across", ""]
    lines += [
        grid.assign(cell=cells)
        .pivot(index="epochs", columns="multiplier", values="cell")
        .to_string(),
        "",
    ]
    test, forget = (100 * target for target in targets)
    lines.append(f"Target, Full Retrain: {test:.1f} / {forget:.1f}")
    by_setting = grid.set_index(["epochs", "multiplier"])
    for (epochs, multiplier), word in marked.items():
        row = by_setting.loc[(epochs, multiplier)]
        lines.append(
            f"{word}, {epochs} x {multiplier}: {100 * row.test_accuracy:.1f} / {100 * row.forget_accuracy:.1f}"
        )
    dose = grid.epochs * grid.multiplier
    same = percents.forget_accuracy[(dose / (145 * 0.7)).between(0.97, 1.03)]
    nearer = grid[grid.gap_to_retrained < doing_nothing]
    lines += [
        "",
        f"What counts is epochs x multiplier: the {len(same)} settings where it is near 101.5 end at a "
        f"forget accuracy of {same.min():.1f} to {same.max():.1f} %.",
        f"{len(nearer)} of the {len(grid)} settings come nearer to Full Retrain than doing nothing, "
        f"whose gap is {doing_nothing:.4f}; the nearest has {grid.gap_to_retrained.min():.4f}.",
    ]
    return "\n".join(lines)


def sweep(settings, rng):
    """Epochs x multiplier of the ascent: one figure, the classic settings marked."""
    data = hospital(settings, rng)
    original = train_original(data, settings, rng)
    retrained = full_retrain(original, data.retain, data.forget, settings, rng)
    marked = dict(CLASSIC_SETTINGS)
    marked.setdefault((settings.unlearn_epochs, settings.multiplier), "yours")
    epochs_grid = {25, 50, 75, 100, 145, 200, 300} | {epochs for epochs, _ in marked}
    multipliers = {0.1, 0.3, 0.5, 0.7, 1.0, 1.5} | {multiplier for _, multiplier in marked}
    grid = ascent_grid(original, retrained, data, epochs_grid, multipliers)
    targets = retrained.score(*data.test), retrained.score(*data.forget)
    doing_nothing = gap_to_retrained(original, retrained, data.forget.X)
    return Report(
        grid.set_index(["epochs", "multiplier"])[["test_accuracy", "forget_accuracy"]],
        sweep_text(grid, marked, targets, doing_nothing),
        {"parameter_sweep.png": sweep_figure(grid, targets, marked)},
    )


# ---------------------------------------------------------------------------------------------
# Command line
# ---------------------------------------------------------------------------------------------

EXPERIMENTS = {  # name -> function, and the settings whose default is another one there
    "demo": (demo, {}),
    "basic": (basic, {"patients": 1000, "forget": 160}),
    "sweep": (sweep, {}),
}


class Parser(argparse.ArgumentParser):
    """argparse, with an error of one line."""

    def error(self, message):
        """Exit with status 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")


def number(kind, low, high):
    """An argparse type: a number of this kind from low to high; NaN is not one."""

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = np.nan
        if not low <= value <= high:
            word = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{text!r} is not {word} from {low:,} to {high:,}")
        return value

    return parse


def parse_arguments(argv):
    """(experiment, settings) of a command line; the flags are the fields of Settings."""
    summaries = [f"  {name:10} {run.__doc__}" for name, (run, _) in EXPERIMENTS.items()]
    parser = Parser(
        prog="machine_unlearning.py",
        description=__doc__.splitlines()[0],
        epilog="\n".join(["experiments:", *summaries]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,  # so that what was not given is told apart
        allow_abbrev=False,
    )
    parser.add_argument("experiment", nargs="?", choices=list(EXPERIMENTS), default="demo")
    for option in fields(Settings):
        flag, about = "--" + option.name.replace("_", "-"), option.metadata["help"]
        if option.type is bool:
            parser.add_argument(flag, action="store_true", help=about)
            continue
        defaults = [f"default {option.default}"] if option.default is not None else []
        for name, (_, others) in EXPERIMENTS.items():
            defaults += [f"{name} {others[option.name]}"] if option.name in others else []
        if defaults:
            about += f" ({', '.join(defaults)})"
        kind = str
        if option.metadata["low"] is not None:
            kind = number(option.type, option.metadata["low"], option.metadata["high"])
        parser.add_argument(flag, type=kind, metavar=option.name.split("_")[-1].upper(), help=about)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    given = vars(parser.parse_args(argv))
    experiment = given.pop("experiment")
    return experiment, Settings(**{**EXPERIMENTS[experiment][1], **given})


def write(path, save):
    """Call save(path) so that the file is there whole or not at all: write beside it, then rename."""
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():  # a device, or a folder (an error)
        return save(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_all(report, settings):
    """Write the figures and the table; returns the paths."""
    paths = []
    for name, figure in report.figures.items():
        paths.append(os.path.join(settings.output, name))
        look = {"dpi": settings.dpi, "metadata": {"Software": None}}  # the same bytes every time
        quick = {"compress_level": 1}  # a tenth larger, three times as fast to write
        write(paths[-1], partial(figure.savefig, format="png", pil_kwargs=quick, **look))
    if settings.csv is not None:
        paths.append(settings.csv)
        write(settings.csv, report.table.to_csv)
    return paths


def run(experiment, settings):
    """Run one experiment, write its files, print what it found. Raises OSError, SettingsError."""
    os.makedirs(settings.output, exist_ok=True)
    tempfile.TemporaryFile(dir=settings.output).close()  # fail now rather than after the work
    with figure_style():
        report = EXPERIMENTS[experiment][0](settings, np.random.RandomState(settings.seed))
        paths = write_all(report, settings)
    if not settings.quiet:
        print(report.text, "", *(f"wrote {path}" for path in paths), sep="\n", flush=True)


def main(argv=None):
    """Run the command line; returns the exit status: 0, 1 (failed), 2 (usage), 130 (Ctrl-C)."""
    try:
        run(*parse_arguments(argv))
    except SystemExit as stop:  # from argparse, which has printed what there is to say
        return stop.code
    except BrokenPipeError:  # somebody reads only the head; the files are written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return fail("interrupted", 130)
    except SettingsError as error:
        return fail(error, 2)
    except OSError as error:
        return fail(f"cannot write {error.filename or 'the output'}: {error.strerror}", 1)
    return 0


def fail(message, status):
    """One line on stderr; returns the exit status."""
    print(f"machine_unlearning.py: error: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
