"""The student's reading of motion, begun as a teacher's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from streamkd.distill.features import FeatureSet
from streamkd.distill.heads import fit_hidden
from streamkd.distill.inherit import inherit_motion
from streamkd.distill.run import train_head
from streamkd.distill.signals import TeacherSignals
from streamkd.distill.train import set_standardiser
from streamkd.errors import TrainingError
from streamkd.models.motion import STATISTICS
from streamkd.models.student import Student, student_spec
from tests.unit.test_distill_run import CLIPS, LABELS, WIDTH, made_features, made_teacher, recipe


def clip_means(student, features):
    shown = [student.standardise(one[1:].float())[:, student.changes :].mean(dim=0) for one in features.plain]
    return torch.stack(shown)


def made_head(numbers: int = STATISTICS, classes: int = 2):
    x = torch.randn(CLIPS, numbers, generator=torch.Generator().manual_seed(2))
    labels = np.arange(CLIPS) % classes
    return fit_hidden(x, labels, classes, seed=0)


@pytest.fixture
def student():
    made = Student(student_spec("new", ("normal", "fight"), background="normal"))
    set_standardiser(made, made_features())
    return made.eval()


def test_the_student_says_what_the_teachers_network_says_of_the_same_standing(student):
    """A clip as many deviations from the mean clip on the student's side as on the teacher's is read alike."""
    features, head = made_features(), made_head()
    inherit_motion(student, features, head)
    means = clip_means(student, features)
    standing = (means - means.mean(dim=0)) / (means.std(dim=0) + 1e-3)
    hidden = (standing @ head.hidden_weight[0].T + head.hidden_bias[0]).relu()
    expected = hidden @ head.weight[0].T + head.bias[0]
    said = student.moving(means)
    torch.testing.assert_close(said[:, :2], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(said[:, 2:4], expected, atol=1e-4, rtol=1e-4)  # and of what comes next


def test_training_keeps_it_unless_told_otherwise():
    features = made_features()
    teacher = replace(made_teacher(), motion=made_head())
    init = {"motion": True}
    kept = train_head(features, LABELS, teacher, recipe("labels", init=init), 0).student
    again = train_head(features, LABELS, teacher, recipe("labels", init=init), 1).student
    trained = train_head(features, LABELS, teacher, recipe("labels", init=init, train={"moving_rate": 1.0}), 0).student
    assert torch.equal(kept.moving[0].weight, again.moving[0].weight)
    assert not torch.equal(kept.direct.weight, again.direct.weight)
    assert not torch.equal(kept.moving[0].weight, trained.moving[0].weight)


def test_units_are_those_of_the_labelled_clips():
    """Unlabelled footage that stands still does not shift what the teacher's network is shown."""
    labelled, still = made_features(), FeatureSet(tuple(torch.zeros(8, WIDTH).half() for _ in range(CLIPS)), ())
    both = FeatureSet((*labelled.plain, *still.plain), ())
    teacher = TeacherSignals(motion=made_head())
    start = Student(student_spec("new", ("normal", "fight"), background="normal"))
    set_standardiser(start, labelled)
    kept = recipe("labels", init={"motion": True}, train={"epochs": 1})
    alone = train_head(labelled, LABELS, teacher, kept, 0, student=start).student
    beside = train_head(both, [*LABELS, *[-1] * CLIPS], teacher, kept, 0, student=start).student
    assert torch.equal(alone.moving[0].weight, beside.moving[0].weight)


def test_clips_that_are_all_alike_make_nothing_loud(student):
    alike = FeatureSet(tuple(torch.ones(8, WIDTH).half() for _ in range(CLIPS)), ())
    head = made_head()
    inherit_motion(student, alike, head)
    loudest = float(student.moving[0].weight.detach().abs().max())
    assert loudest <= 10.0 * float(head.hidden_weight[0].abs().max()) + 1e-4


def test_who_goes_on_inherits_nothing_anew_and_keeps_what_was_kept():
    later = recipe("labels", init={"motion": True}).going_on(lr_head=1e-4)
    assert (later.inherits, later.fit_config().moving_rate, later.train.lr_head) == (False, 0.0, 1e-4)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (None, "no reading of motion"),
        (made_head(numbers=7), "reads 7 numbers"),
        (made_head(classes=3), "for 3 classes"),
    ],
)
def test_a_reading_that_does_not_fit_is_refused(student, head, said):
    with pytest.raises(TrainingError, match=said):
        inherit_motion(student, made_features(), head)


def test_a_student_without_motion_is_refused():
    plain = Student(student_spec("new", ("normal", "fight"), background="normal", motion=None))
    with pytest.raises(TrainingError, match="measures no motion"):
        inherit_motion(plain, made_features(), made_head())


def test_a_teacher_without_it_is_named():
    with pytest.raises(TrainingError, match=r"init\.motion"):
        train_head(made_features(), LABELS, made_teacher(), recipe("labels", init={"motion": True}), 0)
