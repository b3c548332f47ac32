"""Objectives as a recipe names them: each reads what it needs of a batch and calls a pure function of its family.

What an objective learns itself (a regressor, a discriminator, a fusion) lives in its module and is thrown away with
it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from streamkd.distill.objectives import adaptive, adversarial, classes, cross_modal, features, few_shot, quantised
from streamkd.distill.objectives import sparse as sparse_labels
from streamkd.distill.objectives.decoupled import decoupled_kd
from streamkd.distill.objectives.logits import logit_matching
from streamkd.distill.objectives.response import response_kd, soft_cross_entropy
from streamkd.distill.objectives.unlabelled import consistency, pseudo_label_loss

if TYPE_CHECKING:
    from streamkd.distill.signals import Signals, Sizes


class Options(BaseModel):
    """An objective without keys of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Term(nn.Module, ABC):
    """One objective of a recipe.

    Attributes:
        name: In recipes.
        family: File of its pure function.
        formula: For the reference.
        needs: Fields of `Signals` that must not be missing.
        on: Frames that it is computed on unless the recipe says otherwise.
        dense: It looks at logits and targets alone, so that the forecast can be trained with it as well.
        task: What it belongs to when tasks are weighted against each other.
    """

    name: ClassVar[str]
    family: ClassVar[str]
    formula: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset({"teacher"})
    on: ClassVar[Literal["all", "labelled", "unlabelled"]] = "all"
    dense: ClassVar[bool] = False
    task: ClassVar[str] = "action"
    Options: ClassVar[type[BaseModel]] = Options

    def __init__(self, options: BaseModel, sizes: Sizes) -> None:  # noqa: ARG002 - for those that need them
        super().__init__()
        self.options = options

    @abstractmethod
    def forward(self, s: Signals) -> Tensor:
        """Loss per frame `[M]`, or a scalar for relations within the batch."""


def known(value: Tensor | None) -> Tensor:
    """What `needs` has asked for."""
    assert value is not None
    return value


class Labels(Term):
    name, family, formula = "labels", "response", "-Σ_c y_c ln p_c"
    needs, on, dense = frozenset[str](), "labelled", True

    def forward(self, s: Signals) -> Tensor:
        return soft_cross_entropy(s.logits, s.targets)


class Response(Term):
    name, family, formula, dense = "response", "response", "T² KL(p_T ‖ p_S)", True

    def forward(self, s: Signals) -> Tensor:
        return response_kd(s.logits, known(s.teacher), s.temperature)


class Logits(Term):
    name, family, formula, dense = "logits", "logits", "λ ‖f_S - f_T‖²", True

    class Options(Options):
        centred: bool = True

    def forward(self, s: Signals) -> Tensor:
        assert isinstance(self.options, Logits.Options)
        return logit_matching(s.logits, known(s.teacher), centred=self.options.centred)


class Decoupled(Term):
    name, family, formula = "decoupled", "decoupled", "T² (a TCKD + b NCKD)"
    on, dense = "labelled", True

    class Options(Options):
        alpha: float = Field(default=1.0, ge=0)
        beta: float = Field(default=8.0, ge=0)

    def forward(self, s: Signals) -> Tensor:
        assert isinstance(self.options, Decoupled.Options)
        alpha, beta = self.options.alpha, self.options.beta
        return decoupled_kd(s.logits, known(s.teacher), s.labels, temperature=s.temperature, alpha=alpha, beta=beta)


class Annealed(Term):
    name, family, formula, dense = "annealed", "adaptive", "‖f_S - φ(t) f_T‖²", True

    class Options(Options):
        steps: int = Field(default=10, ge=1)
        share: float = Field(default=0.7, gt=0, le=1)  # of the training, after which the target has its full size

    def forward(self, s: Signals) -> Tensor:
        assert isinstance(self.options, Annealed.Options)
        teacher = known(s.teacher)
        teacher = teacher - teacher.mean(dim=-1, keepdim=True)
        logits = s.logits - s.logits.mean(dim=-1, keepdim=True)
        return adaptive.annealed_match(logits, teacher, s.done / self.options.share, steps=self.options.steps)


class Sparse(Term):
    name, family, formula, dense = "sparse", "sparse", "KL over the teacher's k likeliest classes and the rest", True

    class Options(Options):
        k: int = Field(default=1, ge=1)

    def forward(self, s: Signals) -> Tensor:
        assert isinstance(self.options, Sparse.Options)
        return sparse_labels.topk_kd(s.logits, *sparse_labels.to_topk(known(s.teacher), self.options.k))


class Dist(Term):
    name, family, formula = (
        "dist",
        "classes",
        "T² (b (1 - r between classes) + g (1 - r between clips)), r: correlation",
    )

    class Options(Options):
        inter: float = Field(default=1.0, ge=0)
        intra: float = Field(default=1.0, ge=0)

    def forward(self, s: Signals) -> Tensor:
        assert isinstance(self.options, Dist.Options)
        student, teacher = s.by_stretch(s.logits), s.by_stretch(known(s.teacher))
        inter, intra = self.options.inter, self.options.intra
        return classes.dist(student, teacher, temperature=s.temperature, inter=inter, intra=intra)


class ClassCorrelation(Term):
    name, family, formula = "class-correlation", "classes", "‖P_SᵀP_S - P_TᵀP_T‖²_F / (B C)"

    def forward(self, s: Signals) -> Tensor:
        student, teacher = s.by_stretch(s.logits), s.by_stretch(known(s.teacher))
        return classes.class_correlation(student, teacher, temperature=s.temperature)


class Hints(Term):
    name, family, formula = "hints", "features", "mean (r(h_S) - h_T)²"
    needs = frozenset({"teacher_features"})

    def __init__(self, options: BaseModel, sizes: Sizes) -> None:
        super().__init__(options, sizes)
        self.regressor = features.Regressor(sizes.hidden, sizes.teacher_features)

    def forward(self, s: Signals) -> Tensor:
        return features.hint(self.regressor(s.hidden), known(s.teacher_features))


class Attention(Term):
    """Where in time the student is stirred, against where the teacher is."""

    name, family, formula = "attention", "features", "mean (Q_S / ‖Q_S‖ - Q_T / ‖Q_T‖)², Q: energy at each frame"
    needs = frozenset({"frame_features"})

    def forward(self, s: Signals) -> Tensor:
        teacher = known(s.frame_features)
        losses: list[Tensor] = []
        for stretch in torch.unique(s.stretch):
            inside = s.stretch == stretch
            if int(inside.sum()) > 1:  # of one frame alone, the map is always 1
                maps = (x[inside].T[None] for x in (s.hidden, teacher))
                losses.append(features.attention_transfer(*maps))
        return torch.cat(losses).mean() if losses else s.logits.sum() * 0.0


class Similarity(Term):
    name, family, formula = "similarity", "features", "‖G_S - G_T‖²_F / B²"
    needs = frozenset({"teacher_features"})

    def forward(self, s: Signals) -> Tensor:
        return features.similarity_preserving(s.by_stretch(s.hidden), s.by_stretch(known(s.teacher_features)))


class CrossModal(Term):
    name, family, formula = "cross-modal", "cross_modal", "1 - cos(r(h_S), fused(flow, audio, …)) + CE of the fusion"
    needs, on, task = frozenset({"modalities"}), "labelled", "motion"

    class Options(Options):
        width: int = Field(default=32, ge=2)

    def __init__(self, options: BaseModel, sizes: Sizes) -> None:
        super().__init__(options, sizes)
        assert isinstance(options, CrossModal.Options)
        self.fusion = cross_modal.Fusion(sizes.modalities, options.width, sizes.classes)
        self.regressor = features.Regressor(sizes.hidden, options.width)

    def forward(self, s: Signals) -> Tensor:
        fused = self.fusion(s.modalities)
        own = soft_cross_entropy(self.fusion.classify(fused), s.targets)
        return cross_modal.cosine_distance(self.regressor(s.hidden), fused.detach()) + own


class Motion(Term):
    name, family, formula = "motion", "cross_modal", "mean (r(h_S) - h_flow)²"
    needs, task = frozenset({"modalities"}), "motion"

    class Options(Options):
        modality: str = "flow"

    def __init__(self, options: BaseModel, sizes: Sizes) -> None:
        super().__init__(options, sizes)
        assert isinstance(options, Motion.Options)
        if options.modality not in sizes.modalities:
            there = ", ".join(sizes.modalities) or "none"
            raise KeyError(f"objective 'motion' wants the modality {options.modality!r}; there is {there}")
        self.regressor = features.Regressor(sizes.hidden, sizes.modalities[options.modality])

    def forward(self, s: Signals) -> Tensor:
        assert isinstance(self.options, Motion.Options)
        target = s.modalities[self.options.modality]
        present = torch.isfinite(target).all(dim=-1)
        return features.hint(self.regressor(s.hidden), torch.nan_to_num(target)) * present


class AdversarialFeatures(Term):
    name, family, formula = "discriminator", "adversarial", "-ln D(h_T) - ln(1 - D(r(h_S))), gradient reversed"
    needs = frozenset({"teacher_features"})

    class Options(Options):
        strength: float = Field(default=0.1, ge=0)  # of the reversed gradient

    def __init__(self, options: BaseModel, sizes: Sizes) -> None:
        super().__init__(options, sizes)
        self.regressor = features.Regressor(sizes.hidden, sizes.teacher_features)
        self.discriminator = adversarial.Discriminator(sizes.teacher_features)

    def forward(self, s: Signals) -> Tensor:
        assert isinstance(self.options, AdversarialFeatures.Options)
        student = adversarial.reverse_gradient(self.regressor(s.hidden), self.options.strength)
        teacher = known(s.teacher_features)
        return adversarial.discriminator_loss(self.discriminator(teacher), self.discriminator(student))


class Attacked(Term):
    name, family, formula = "attacked", "adversarial", "T² KL(p_T(x) ‖ p_S(x + δ)), δ by PGD; one step is FGSM"

    class Options(Options):
        size: float = Field(default=0.05, gt=0)  # in deviations of the input
        steps: int = Field(default=1, ge=1)

    def forward(self, s: Signals) -> Tensor:
        assert isinstance(self.options, Attacked.Options)
        teacher = known(s.teacher)

        def loss(x: Tensor) -> Tensor:
            return response_kd(s.again(x * s.spread)[s.row], teacher, s.temperature).sum()

        attacked = adversarial.pgd(s.front / s.spread, loss, self.options.size, steps=self.options.steps)
        return response_kd(s.again(attacked * s.spread)[s.row], teacher, s.temperature)


class Consistency(Term):
    name, family, formula = "consistency", "unlabelled", "‖p_S(x') - p_EMA(x)‖² where the guide is sure"
    needs = frozenset({"guide"})

    class Options(Options):
        threshold: float = Field(default=0.0, ge=0, lt=1)

    def forward(self, s: Signals) -> Tensor:
        assert isinstance(self.options, Consistency.Options)
        return consistency(s.logits, known(s.guide), self.options.threshold)


class PseudoLabels(Term):
    name, family, formula = "pseudo-labels", "unlabelled", "-ln p_S(argmax p_T) where max p_T ≥ τ"
    on, dense = "unlabelled", True

    class Options(Options):
        threshold: float = Field(default=0.8, ge=0, lt=1)

    def forward(self, s: Signals) -> Tensor:
        assert isinstance(self.options, PseudoLabels.Options)
        return pseudo_label_loss(s.logits, known(s.teacher), self.options.threshold)


class Prototypes(Term):
    name, family, formula = "prototypes", "few_shot", "CE of -‖h - c_k‖² / F, c_k: class means of the other clips"
    needs, on = frozenset[str](), "labelled"

    def forward(self, s: Signals) -> Tensor:
        mean = s.by_stretch(s.hidden)
        labels = s.by_stretch(s.labels[:, None].to(mean.dtype))[:, 0].long()
        rows: list[Tensor] = []
        for query in range(len(mean)):  # each clip against the centres of the rest, as in an episode
            rest = torch.arange(len(mean)) != query
            logits = few_shot.prototype_logits(
                mean[query][None], few_shot.prototypes(mean[rest], labels[rest], s.logits.shape[-1])
            )
            if bool(torch.isfinite(logits[0, labels[query]])):
                rows.append(F.cross_entropy(logits, labels[query][None]))
        return torch.stack(rows).mean() if rows else s.logits.sum() * 0.0


class Statistics(Term):
    name, family, formula = "statistics", "few_shot", "mean over channels (mean_S - mean_T)² + (dev_S - dev_T)²"
    needs = frozenset({"teacher_features"})

    def __init__(self, options: BaseModel, sizes: Sizes) -> None:
        super().__init__(options, sizes)
        self.regressor = features.Regressor(sizes.hidden, sizes.teacher_features)

    def forward(self, s: Signals) -> Tensor:
        student = s.by_stretch(self.regressor(s.hidden))
        return few_shot.statistics_match(student, s.by_stretch(known(s.teacher_features)))


class Quantised(Term):
    name, family = "quantised", "quantised"
    formula = "T² (a KL(p_T ‖ p_int8) + (1 - a) KL(p_S ‖ p_int8)), int8 simulated on what the head sees"

    class Options(Options):
        bits: int = Field(default=8, ge=2, le=16)
        share: float = Field(default=0.5, ge=0, le=1)

    def forward(self, s: Signals) -> Tensor:
        assert isinstance(self.options, Quantised.Options)
        low, high = quantised.observed_range(s.front.flatten())
        logits = s.again(quantised.fake_quantise(s.front, low, high, self.options.bits))[s.row]
        return quantised.apprentice(
            logits, s.logits, known(s.teacher), temperature=s.temperature, share=self.options.share
        )


TERMS: tuple[type[Term], ...] = (
    Labels,
    Response,
    Logits,
    Decoupled,
    Annealed,
    Sparse,
    Dist,
    ClassCorrelation,
    Hints,
    Attention,
    Similarity,
    CrossModal,
    Motion,
    AdversarialFeatures,
    Attacked,
    Consistency,
    PseudoLabels,
    Prototypes,
    Statistics,
    Quantised,
)
REGISTRY: dict[str, type[Term]] = {term.name: term for term in TERMS}

__all__ = ["REGISTRY", "TERMS", "Options", "Term"]
