# SPDX-License-Identifier: Apache-2.0
"""COVID-19 from chest X-rays and chest CT on small computers. Research use only.

>>> from covid_edge import Predictor
>>> prediction = Predictor().predict("examples/xray.png")
>>> prediction.modality
'xray'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .many import predict_many
    from .predictor import Prediction, Predictor

__all__ = ["Prediction", "Predictor", "__version__", "predict_many"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # On first use, so that `import covid_edge` alone costs nothing.
    if name in ("Prediction", "Predictor"):
        from . import predictor

        return getattr(predictor, name)
    if name == "predict_many":
        from .many import predict_many

        return predict_many
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
