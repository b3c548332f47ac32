"""The heads of teachers: what is fitted, stored and answered."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sklearn.ensemble import ExtraTreesClassifier
from sklearn.neural_network import MLPClassifier

from streamkd.distill import heads as fitting
from streamkd.distill.heads import fit_forest, fit_hidden, fit_linear, fit_temporal
from streamkd.models.teachers.extract import reverse_frames
from streamkd.models.teachers.heads import HEADS


def two_heaps(count: int = 60, size: int = 6) -> tuple[torch.Tensor, np.ndarray]:
    generator = torch.Generator().manual_seed(0)
    labels = np.arange(count) % 2
    return torch.randn(count, size, generator=generator) + torch.from_numpy(labels)[:, None] * 1.5, labels


def test_a_forest_in_arrays_answers_like_scikit_learns():
    x, y = two_heaps()
    head = fit_forest(x, y, 2, seed=3)
    model = ExtraTreesClassifier(
        fitting._TREES, min_samples_leaf=fitting._MIN_LEAF, max_features=fitting._SHARE_OF_FEATURES, random_state=3
    ).fit(x.numpy(), y)
    expected = torch.from_numpy(np.log(model.predict_proba(x.numpy()) + 1e-3)).float()
    torch.testing.assert_close(head(x), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("classes", [2, 3])
def test_small_networks_in_tensors_answer_like_scikit_learns(classes):
    x, y = two_heaps()
    y = np.where(np.arange(len(y)) % classes == 2, 2, y)
    head = fit_hidden(x, y, classes, seed=1)
    mean, deviation = x.mean(dim=0), x.std(dim=0) + 1e-3
    probs = []
    for index in range(fitting._NETWORKS):
        model = MLPClassifier(
            (fitting._HIDDEN,),
            alpha=fitting._HIDDEN_DECAY,
            max_iter=fitting._HIDDEN_EPOCHS,
            learning_rate_init=fitting._HIDDEN_RATE,
            random_state=fitting._NETWORKS + index,
        ).fit(((x - mean) / deviation).double().numpy(), y)
        probs.append(model.predict_proba(((x - mean) / deviation).double().numpy()))
    expected = torch.from_numpy(np.mean(probs, axis=0)).float().log()
    torch.testing.assert_close(head(x), expected, atol=1e-4, rtol=1e-4)


def test_small_networks_learn_what_no_line_can():
    """Exclusive or: each feature alone says nothing."""
    x = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    labels = (x[:, 0] * x[:, 1] > 0).long().numpy()
    head = fit_hidden(x[:300], labels[:300], 2, seed=0)
    assert float((head(x[300:]).argmax(dim=1).numpy() == labels[300:]).mean()) > 0.85


@pytest.mark.parametrize("kind", ["linear", "forest", "hidden", "temporal"])
def test_a_head_survives_being_stored(kind):
    x, y = two_heaps()
    if kind == "temporal":
        x = torch.stack([x, x * 0.5, x * 2], dim=1)
    fit = {
        "linear": lambda: fit_linear(x, y, 2, 1.0),
        "forest": lambda: fit_forest(x, y, 2, seed=0),
        "hidden": lambda: fit_hidden(x, y, 2, seed=0),
        "temporal": lambda: fit_temporal(x, y, 2, seed=0),
    }
    head = fit[kind]()
    again = HEADS[kind].from_tensors(head.tensors())
    torch.testing.assert_close(again(x), head(x), atol=0.05, rtol=0.01)


def test_the_transformer_learns_an_order_that_means_cannot_see():
    """Rising or falling: the same frames, in another order."""
    generator = torch.Generator().manual_seed(0)
    ramp = torch.linspace(-1, 1, 6)[None, :, None] * torch.ones(80, 1, 4)
    labels = np.arange(80) % 2
    x = torch.where(torch.from_numpy(labels == 1)[:, None, None], ramp, -ramp)
    x = x + 0.3 * torch.randn(x.shape, generator=generator)
    head = fit_temporal(x[:60], labels[:60], 2, seed=0)
    assert float((head(x[60:]).argmax(dim=1).numpy() == labels[60:]).mean()) > 0.9


def test_the_transformer_is_reproducible_and_leaves_the_generator_alone():
    x, y = two_heaps(20)
    x = x[:, None].expand(-1, 3, -1).contiguous()
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = fit_temporal(x, y, 2, seed=1)(x)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.testing.assert_close(fit_temporal(x, y, 2, seed=1)(x), first)


def test_frames_that_are_not_there_do_not_count():
    x, y = two_heaps(20)
    x = x[:, None].expand(-1, 3, -1).contiguous()
    head = fit_temporal(x, y, 2, seed=0)
    padded = torch.cat([x, torch.full((20, 2, x.shape[2]), torch.nan)], dim=1)
    torch.testing.assert_close(head(padded), head(x), atol=1e-5, rtol=0)


def test_frames_in_reverse_keep_each_change_with_its_pair():
    features = torch.zeros(4, 1280 + 1)
    features[:, 0] = torch.arange(4.0)
    features[:, 1280] = torch.tensor([0.0, 10.0, 21.0, 32.0])  # change from 0 to 1, 1 to 2, 2 to 3
    features[3] = torch.nan
    found = reverse_frames(features)
    assert found[:3, 0].tolist() == [2.0, 1.0, 0.0]
    assert found[:3, 1280].tolist() == [0.0, 21.0, 10.0]
