"""The classic check on scikit-learn's digits: response and feature distillation move a small net the way the
literature reports: up, against labels alone, with the same budget. Paired over seeds."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sklearn.datasets import load_digits
from torch import nn

from streamkd.distill.objectives.features import Regressor, hint
from streamkd.distill.objectives.response import response_kd, soft_cross_entropy

SEEDS = range(4)
TRAIN = 150  # few labels: what a teacher knows of the rest is worth something


def _net(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))


def _fit(net, x, loss, epochs, extra=()):
    optimizer = torch.optim.Adam([*net.parameters(), *extra], lr=1e-2)
    for _ in range(epochs):
        for index in torch.randperm(len(x)).split(225):
            optimizer.zero_grad()
            loss(index).backward()
            optimizer.step()
    return net.eval()


@pytest.fixture(scope="module")
def digits():
    """Accuracy on test pictures: the teacher's, and by way and seed the students'."""
    torch.set_num_threads(1)
    data, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(data))
    x, y = torch.tensor(data[order] / 16.0).float(), torch.tensor(labels[order])
    seen, test = slice(0, 900), slice(900, None)
    torch.manual_seed(0)
    teacher = _net(256)
    _fit(teacher, x[seen], lambda i: nn.functional.cross_entropy(teacher(x[i]), y[i]), 30)
    with torch.no_grad():
        said, hidden = teacher(x[seen]), teacher[:4](x[seen])
    one_hot = nn.functional.one_hot(y, 10).float()

    def accuracy(net):
        return float((net(x[test]).argmax(dim=1) == y[test]).float().mean())

    def student(seed, way):
        torch.manual_seed(seed)
        net, regressor = _net(16), Regressor(16, 256)
        labelled = torch.arange(TRAIN)

        def loss(index):
            hard = soft_cross_entropy(net(x[labelled]), one_hot[labelled]).mean()
            if way == "labels":
                return hard
            if way == "response":
                return hard + response_kd(net(x[index]), said[index], 4.0).mean()
            return hard + hint(regressor(net[:4](x[index])), hidden[index]).mean()

        return accuracy(_fit(net, x[seen], loss, 50, regressor.parameters() if way == "features" else ()))

    found = {way: [student(seed, way) for seed in SEEDS] for way in ("labels", "response", "features")}
    return accuracy(teacher), found


def test_the_teacher_is_better_than_any_student(digits):
    teacher, found = digits
    assert teacher > max(max(values) for values in found.values())


@pytest.mark.parametrize("way", ["response", "features"])
def test_distillation_beats_labels_alone(digits, way):
    _, found = digits
    gains = np.array(found[way]) - np.array(found["labels"])
    assert gains.mean() > 0
    # Paired over seeds: the mean gain lies more than two standard errors above nothing.
    assert gains.mean() > 2 * gains.std(ddof=1) / len(gains) ** 0.5, found
