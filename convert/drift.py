# SPDX-License-Identifier: Apache-2.0
"""How far a quantised file is from full precision, how far it may be, and where that begins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from covid_edge.errors import CovidEdgeError
from covid_edge_convert.calibrate import BALANCED
from covid_edge_convert.clipping import every_tensor


class DriftError(CovidEdgeError):
    """A file that answers too differently from full precision to be shipped."""

    exit_code = 1


@dataclass(frozen=True)
class Budget:
    """How far a file's answers on ``test`` may be from full precision, in each modality.

    Accuracy and AUC may differ either way: better answers by rounding are luck, not quality.
    """

    accuracy: float = 0.005
    auc: float = 0.003
    labels: float = 0.01  # share that turns
    probability: float = 0.02  # mean absolute difference of calibrated probabilities


BUDGET = Budget()


def drift(
    covid: np.ndarray,
    fp32: np.ndarray,
    quantized: np.ndarray,
    fp32_probability: np.ndarray,
    quantized_probability: np.ndarray,
) -> dict[str, float]:
    """How a quantised file's answers differ from full precision.

    Parameters
    ----------
    covid : ndarray, shape (n,)
        The truth, 1 for COVID.
    fp32, quantized : ndarray, shape (n,)
        COVID logits.
    fp32_probability, quantized_probability : ndarray, shape (n,)
        By each file's own calibration. From one half on the label is COVID.
    """
    truth = np.asarray(covid) > 0.5
    labels = [p >= BALANCED for p in (fp32_probability, quantized_probability)]
    accuracy = [float(np.mean(called == truth)) for called in labels]
    auc = [float(roc_auc_score(truth, logits)) for logits in (fp32, quantized)]
    figures = {
        "accuracy_fp32": accuracy[0],
        "accuracy_quantized": accuracy[1],
        "accuracy_difference": abs(accuracy[0] - accuracy[1]),
        "auc_fp32": auc[0],
        "auc_quantized": auc[1],
        "auc_difference": abs(auc[0] - auc[1]),
        "label_agreement": float(np.mean(labels[0] == labels[1])),
        "labels_flipped": float(np.mean(labels[0] != labels[1])),
        "probability_difference": float(np.abs(fp32_probability - quantized_probability).mean()),
        "logit_correlation": float(np.corrcoef(fp32, quantized)[0, 1]),
        "logit_rank_correlation": float(spearmanr(fp32, quantized)[0]),
        "logit_mean_abs_error": float(np.abs(fp32 - quantized).mean()),
    }
    return {"scans": len(truth), **{name: round(value, 5) for name, value in figures.items()}}


def over_budget(figures: dict, budget: Budget = BUDGET) -> bool:
    """Whether figures that `drift` gave exceed the budget. What is no number exceeds it."""
    return not (
        figures["accuracy_difference"] <= budget.accuracy
        and figures["auc_difference"] <= budget.auc
        and figures["labels_flipped"] <= budget.labels
        and figures["probability_difference"] <= budget.probability
    )


def check_drift(what: str, drifts: dict[str, dict], budget: Budget = BUDGET) -> None:
    """Refuse a target, if it is over budget in any modality.

    Parameters
    ----------
    what : str
        The target's name.
    drifts : dict
        Modality → what `drift` gave.

    Raises
    ------
    DriftError
        With the figures of each modality that is over budget.
    """
    over = [
        f"{modality}: accuracy {d['accuracy_fp32']:.4f} → {d['accuracy_quantized']:.4f}, "
        f"AUC {d['auc_fp32']:.4f} → {d['auc_quantized']:.4f}, {d['labels_flipped']:.2%} of labels "
        f"turned, probabilities {d['probability_difference']:.4f} apart"
        for modality, d in drifts.items()
        if over_budget(d, budget)
    ]
    if over:
        raise DriftError(
            f"{what} is too far from fp32 on the test split ({'; '.join(over)}; allowed are "
            f"{budget.accuracy} of accuracy, {budget.auc} of AUC, {budget.labels:.0%} of labels "
            f"and {budget.probability} of probability); retrain, or give --allow-drift."
        )


def layer_noise(
    full: bytes, quantized: bytes, representative: dict[str, np.ndarray]
) -> list[dict[str, object]]:
    """Signal-to-noise ratio of every tensor that both graphs have, the worst first.

    Parameters
    ----------
    full : bytes
        TFLite file in float32.
    quantized : bytes
        The same graph, quantised; inner tensors have kept their names.
    representative : dict of str → ndarray of float32, shape (n, ...)
        By input, what both are run on.

    Returns
    -------
    list of dict
        ``tensor``, by the first of its names; the operation ``op`` that makes it; ``snr_db``, of
        all its values; ``lost_db``, how much lower that is than of the worst tensor that the
        operation reads: where the noise comes in.
    """
    signal: dict[str, float] = {}
    noise: dict[str, float] = {}
    graphs = [_Graph(full), _Graph(quantized)]
    names = [name for name in graphs[0].made if name in graphs[1].made]
    for row in range(len(next(iter(representative.values())))):
        for graph in graphs:
            graph.run({name: values[row : row + 1] for name, values in representative.items()})
        for name in names:
            wanted, given = (graph.values(name) for graph in graphs)
            signal[name] = signal.get(name, 0.0) + float(np.sum(wanted**2))
            noise[name] = noise.get(name, 0.0) + float(np.sum((given - wanted) ** 2))
    # A tensor that is always zero has no signal, one without any difference no noise.
    snr = {
        name: float(10 * np.log10(signal[name] / noise[name]))
        for name in names
        if signal[name] > 0 and noise[name] > 0
    }
    rows = []
    for name in snr:
        op, _, inputs = graphs[0].made[name]
        before = [snr[other] for other in inputs if other in snr]
        rows.append(
            {
                "tensor": name.partition(";")[0],
                "op": op,
                "snr_db": round(snr[name], 2),
                "lost_db": round(min(before) - snr[name], 2) if before else None,
            }
        )
    return sorted(rows, key=lambda row: row["snr_db"])


class _Graph:
    """A TFLite file whose inner tensors can be read by name, as the numbers that they stand for."""

    def __init__(self, content: bytes):
        self.network = every_tensor(content)
        self.entries = self.network.get_signature_runner().get_input_details()
        self.tensors = {detail["index"]: detail for detail in self.network.get_tensor_details()}
        self.names = {detail["name"] for detail in self.tensors.values()}
        # Name of what an operation makes → (operation, tensor, names of what it reads).
        self.made = {}
        for op in self.network._get_ops_details():
            if op["op_name"] in ("QUANTIZE", "DEQUANTIZE"):
                continue
            inputs = [self.name(k) for k in op["inputs"] if k in self.tensors]
            for index in op["outputs"]:
                self.made.setdefault(self.name(index), (op["op_name"], index, inputs))

    def name(self, index: int) -> str:
        """Name of a tensor, less the number that tells it from its operation's own weights."""
        name = self.tensors[index]["name"]
        shorter = name.rstrip("0123456789")
        return shorter if shorter in self.names else name

    def run(self, inputs: dict[str, np.ndarray]) -> None:
        for name, values in inputs.items():
            entry = self.entries[name]
            scale, zero_point = entry["quantization"]
            if scale:
                limits = np.iinfo(entry["dtype"])
                values = np.clip(np.rint(values / scale) + zero_point, limits.min, limits.max)
            self.network.set_tensor(entry["index"], values.astype(entry["dtype"]))
        self.network.invoke()

    def values(self, name: str) -> np.ndarray:
        _, index, _ = self.made[name]
        scale, zero_point = self.tensors[index]["quantization"]
        stored = self.network.get_tensor(index).astype(np.float64)
        return scale * (stored - zero_point) if scale else stored
