"""Fitting the heads of a teacher: logistic regression, trees, small networks. All on frozen features."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from torch.nn import functional as F  # noqa: N812

from streamkd.models.teachers.heads import STANDARD_LIMIT, ForestHead, HiddenHead, LinearHead, TemporalHead

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from streamkd.models.teachers.heads import Head
    from streamkd.models.teachers.spec import TeacherMember

_TREES, _MIN_LEAF, _SHARE_OF_FEATURES = 200, 3, 0.2
_NETWORKS, _HIDDEN, _HIDDEN_DECAY, _HIDDEN_EPOCHS, _HIDDEN_RATE = 5, 32, 3.0, 400, 3e-3
_EPOCHS, _BATCH, _RATE, _DECAY = 60, 32, 1e-3, 0.05
_FRAMES_DROPPED = 0.2
_SMOOTHING = 0.1


def fit_head(
    member: TeacherMember, features: Tensor, labels: NDArray[np.int64], n_classes: int, *, seed: int = 0
) -> Head:
    """Fit what a member asks for.

    Args:
        member: Which kind of head, and how it is regularised.
        features: `[N, V, F]`, or `[N, V, T, D]` of frames; every view counts as a clip of its own.
        labels: `[N]` class indices.
        n_classes: C.
        seed: Of what is random.
    """
    x, y = features.flatten(0, 1), np.repeat(labels, features.shape[1])
    if member.head == "forest":
        return fit_forest(x, y, n_classes, seed=seed)
    if member.head == "hidden":
        return fit_hidden(x, y, n_classes, seed=seed)
    if member.head == "temporal":
        return fit_temporal(x, y, n_classes, seed=seed)
    return fit_linear(x, y, n_classes, member.inverse_penalty)


def fit_linear(features: Tensor, labels: NDArray[np.int64], n_classes: int, inverse_penalty: float) -> LinearHead:
    """Standardise, then logistic regression with an L2 penalty: `[N, F]` and `[N]` to a head."""
    mean, deviation, standard = _standard(features)
    model: Any = LogisticRegression(C=inverse_penalty, max_iter=2000).fit(standard, labels)
    weight, bias = torch.from_numpy(model.coef_).float(), torch.from_numpy(model.intercept_).float()
    if n_classes == 2:  # scikit-learn keeps one row for two classes
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    return LinearHead(mean, deviation, weight, bias)


def fit_hidden(features: Tensor, labels: NDArray[np.int64], n_classes: int, *, seed: int) -> HiddenHead:
    """Standardise, then a few networks with one hidden layer and a strong L2 penalty: `[N, F]` and `[N]` to a head.

    With a hundred clips one such network depends on where it started; a few of them agree on less of that.
    """
    mean, deviation, standard = _standard(features)
    layers: list[list[Tensor]] = []
    for index in range(_NETWORKS):
        model: Any = MLPClassifier(
            (_HIDDEN,),
            alpha=_HIDDEN_DECAY,
            max_iter=_HIDDEN_EPOCHS,
            learning_rate_init=_HIDDEN_RATE,
            random_state=seed * _NETWORKS + index,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # stopped before it knows the clips by heart
            model.fit(standard, labels)
        (first, second), (first_bias, second_bias) = (
            map(torch.from_numpy, each) for each in (model.coefs_, model.intercepts_)
        )
        if n_classes == 2:  # scikit-learn has one output for two classes
            second, second_bias = torch.cat([-second, second], dim=1) / 2, torch.cat([-second_bias, second_bias]) / 2
        layers.append([first.T, first_bias, second.T, second_bias])
    return HiddenHead(mean, deviation, *(torch.stack(several).float() for several in zip(*layers, strict=True)))


def fit_forest(features: Tensor, labels: NDArray[np.int64], n_classes: int, *, seed: int) -> ForestHead:
    """Extremely randomised trees (Geurts et al., Machine Learning 2006): `[N, F]` and `[N]` to a head."""
    model: Any = ExtraTreesClassifier(
        _TREES, min_samples_leaf=_MIN_LEAF, max_features=_SHARE_OF_FEATURES, random_state=seed
    ).fit(features.numpy(), labels)
    first = 0
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in ("roots", "feature", "threshold", "left", "right")}
    values: list[NDArray[np.float32]] = []
    for one in model.estimators_:
        tree = one.tree_
        own = np.arange(tree.node_count)
        leaf = tree.children_left < 0
        parts["roots"].append(np.array([first], np.int32))
        parts["feature"].append(np.where(leaf, -1, tree.feature).astype(np.int32))
        parts["threshold"].append(tree.threshold)
        parts["left"].append((np.where(leaf, own, tree.children_left) + first).astype(np.int32))
        parts["right"].append((np.where(leaf, own, tree.children_right) + first).astype(np.int32))
        share = np.zeros((tree.node_count, n_classes), np.float32)
        counts = tree.value[:, 0, :]
        share[:, model.classes_] = counts / counts.sum(axis=1, keepdims=True)
        values.append(share)
        first += tree.node_count
    stacked = {name: torch.from_numpy(np.concatenate(several)) for name, several in parts.items()}
    depth = max(one.tree_.max_depth for one in model.estimators_)
    return ForestHead(
        **stacked, value=torch.from_numpy(np.concatenate(values)), depth=torch.tensor(depth, dtype=torch.int32)
    )


def _standard(features: Tensor) -> tuple[Tensor, Tensor, NDArray[np.float64]]:
    """Mean and deviation `[F]`, and the features standardised by them as the heads do it."""
    mean, deviation = features.mean(dim=0), features.std(dim=0) + 1e-3
    standard = ((features - mean) / deviation).clamp(-STANDARD_LIMIT, STANDARD_LIMIT)
    return mean, deviation, standard.double().numpy()


def fit_temporal(features: Tensor, labels: NDArray[np.int64], n_classes: int, *, seed: int) -> TemporalHead:
    """A transformer over the principal components of frames `[N, T, D]`, NaN where there is none.

    Frames are dropped at random and the labels smoothed; the rate falls along a half cosine. Reproducible from its seed
    without touching the process's own generator.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = TemporalHead(features.shape[-1], n_classes)
        there = features[~features.isnan().any(dim=-1)]
        head.mean.copy_(there.mean(dim=0))
        deviation = there.std(dim=0) + 1e-3
        width = head.projection.shape[1]
        rank = min(width, *there.shape)
        _, scale, basis = torch.svd_lowrank((there - head.mean) / deviation, q=rank, niter=4)
        unit = scale / max(len(there) - 1, 1) ** 0.5  # standard deviation along each component
        # Half whitened: the strongest components stay the loudest, the weakest are still heard.
        head.projection[:, :rank] = basis / deviation[:, None] / (unit * unit[0]).sqrt()
        _train(head, features, torch.from_numpy(labels), n_classes)
    return head.eval()


def _train(head: TemporalHead, features: Tensor, labels: Tensor, n_classes: int) -> None:
    components, absent = head.project(features), features.isnan().any(dim=-1)
    targets = F.one_hot(labels, n_classes).float() * (1 - _SMOOTHING) + _SMOOTHING / n_classes
    optimiser = torch.optim.AdamW(head.parameters(), lr=_RATE, weight_decay=_DECAY)
    steps = _EPOCHS * -(-len(features) // _BATCH)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    head.train()
    for _ in range(_EPOCHS):
        for rows in torch.split(torch.randperm(len(features)), _BATCH):
            dropped = torch.rand(absent[rows].shape) < _FRAMES_DROPPED
            masked = absent[rows] | dropped
            masked = torch.where(masked.all(dim=1, keepdim=True), absent[rows], masked)  # never all of a clip
            loss = F.cross_entropy(head.head(components[rows], masked), targets[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            falling.step()


__all__ = ["fit_forest", "fit_head", "fit_hidden", "fit_linear", "fit_temporal"]
