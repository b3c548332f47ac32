"""Published distillation losses once more, in NumPy and float64, with the conventions of mdistiller and torchdistill.

Written from the papers, independent of the library's code: no torch, no shared helper. Run as a script, it prints
the values that `distillation.json` holds.
"""

from __future__ import annotations

import json

import numpy as np

ROWS, CLASSES, CHANNELS_S, CHANNELS_T, SIDE = 6, 5, 3, 4, 4


def tensors() -> dict[str, np.ndarray]:
    """Fixed inputs, made from sines, so that every library gets the same numbers."""

    def wave(shape: tuple[int, ...], step: float, size: float = 2.0) -> np.ndarray:
        count = int(np.prod(shape))
        return (size * np.sin(step * np.arange(1, count + 1) ** 1.5)).reshape(shape)

    return {
        "student": wave((ROWS, CLASSES), 0.7),
        "teacher": wave((ROWS, CLASSES), 0.3, 3.0),
        "labels": np.arange(ROWS) % CLASSES,
        "maps_student": wave((ROWS, CHANNELS_S, SIDE, SIDE), 0.11),
        "maps_teacher": wave((ROWS, CHANNELS_T, SIDE, SIDE), 0.05),
        "regressed": wave((ROWS, CHANNELS_T, SIDE, SIDE), 0.17),
    }


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return np.where(p > 0, p * np.log(p / q), 0.0).sum(axis=1)


def kd(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    return float(temperature**2 * kl(softmax(teacher / temperature), softmax(student / temperature)).mean())


def kd_with_labels(
    student: np.ndarray, teacher: np.ndarray, labels: np.ndarray, temperature: float, alpha: float
) -> float:
    hard = -np.log(softmax(student)[np.arange(len(labels)), labels]).mean()
    return float(alpha * hard + (1 - alpha) * kd(student, teacher, temperature))


def dkd(
    student: np.ndarray, teacher: np.ndarray, labels: np.ndarray, temperature: float, alpha: float, beta: float
) -> float:
    total = 0.0
    for s, t, y in zip(student / temperature, teacher / temperature, labels, strict=True):
        p, q = softmax(t[None]), softmax(s[None])
        binary = [np.array([[x[0, y], 1 - x[0, y]]]) for x in (p, q)]
        rest = [softmax(np.delete(x, y)[None]) for x in (t, s)]
        total += alpha * kl(*binary)[0] + beta * kl(*rest)[0]
    return float(temperature**2 * total / len(labels))


def fitnet(regressed: np.ndarray, teacher: np.ndarray) -> float:
    return float(((regressed - teacher) ** 2).mean())


def at(student: np.ndarray, teacher: np.ndarray) -> float:
    maps = []
    for x in (student, teacher):
        energy = (x**2).mean(axis=1).reshape(len(x), -1)
        maps.append(energy / np.linalg.norm(energy, axis=1, keepdims=True))
    return float(((maps[0] - maps[1]) ** 2).mean())


def sp(student: np.ndarray, teacher: np.ndarray, order: int) -> float:
    grams = []
    for x in (student, teacher):
        flat = x.reshape(len(x), -1)
        gram = flat @ flat.T
        grams.append(gram / np.linalg.norm(gram, ord=order, axis=1, keepdims=True))
    return float(((grams[0] - grams[1]) ** 2).sum() / len(student) ** 2)


def dist(student: np.ndarray, teacher: np.ndarray, temperature: float, beta: float, gamma: float) -> float:
    p, q = softmax(student / temperature), softmax(teacher / temperature)

    def one_minus(a: np.ndarray, b: np.ndarray) -> float:
        return 1.0 - float(np.mean([np.corrcoef(x, y)[0, 1] for x, y in zip(a, b, strict=True)]))

    return temperature**2 * (beta * one_minus(p, q) + gamma * one_minus(p.T, q.T))


def values() -> dict[str, float]:
    """Every loss on the fixed inputs."""
    t = tensors()
    student, teacher, labels = t["student"], t["teacher"], t["labels"]
    return {
        "kd_t1": kd(student, teacher, 1.0),
        "kd_t4": kd(student, teacher, 4.0),
        "kd_t4_alpha0.3": kd_with_labels(student, teacher, labels, 4.0, 0.3),
        "dkd_t4_a1_b8": dkd(student, teacher, labels, 4.0, 1.0, 8.0),
        "dkd_t1_a2_b0.5": dkd(student, teacher, labels, 1.0, 2.0, 0.5),
        "fitnet": fitnet(t["regressed"], t["maps_teacher"]),
        "at": at(t["maps_student"], t["maps_teacher"]),
        "sp": sp(t["maps_student"], t["maps_teacher"], 2),
        "sp_order1": sp(t["maps_student"], t["maps_teacher"], 1),
        "dist_t1": dist(student, teacher, 1.0, 1.0, 1.0),
        "dist_t2_b2_g0.5": dist(student, teacher, 2.0, 2.0, 0.5),
    }


if __name__ == "__main__":
    print(json.dumps(values(), indent=1))
