"""Predictions of all heads for several texts, with a short printed form and conversion to a table."""

from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd

from ..model.decoding_multihead import HeadPrediction


class MultiHeadPredictions(dict[str, HeadPrediction]):
    """Predictions of all heads for several texts: a dict head → `HeadPrediction`.

    Args:
        predictions: Head → its predictions, all for the same texts.
        one_label: Names of the heads that predict exactly one label for each text.

    Example:
        >>> from multihead_hf import MultiHeadPredictor
        >>> predictions = MultiHeadPredictor.from_pretrained("complaints").predict(["Late again!", "Thanks!"])
        >>> list(predictions.to_pandas().columns)
        ['topics', 'topics_score', 'mood', 'mood_score']
    """

    def __init__(self, predictions: Mapping[str, HeadPrediction], one_label: Collection[str] = ()) -> None:
        super().__init__(predictions)
        self.one_label = frozenset(one_label)

    def to_pandas(self) -> pd.DataFrame:
        """Return a table with a row for each text, in their order.

        Returns:
            Columns `<head>` and `<head>_score`: a label and its probability if the head predicts one label for each
            text, else a list of labels and a list of their probabilities, best first.

        Raises:
            ValueError: Two columns would have the same name; the message gives it.
        """
        columns: dict[str, list[Any]] = {}
        for name, prediction in self.items():
            cells: tuple[list[Any], list[Any]] = (prediction.labels, prediction.scores)
            if name in self.one_label:
                cells = ([row[0] for row in prediction.labels], [row[0] for row in prediction.scores])
            for column, values in zip((name, f"{name}_score"), cells, strict=True):
                if column in columns:
                    raise ValueError(
                        f"two columns would be called {column!r}: take the heads one by one, or rename one"
                    )
                columns[column] = values
        return pd.DataFrame(columns)

    def __repr__(self) -> str:
        rows = len(next(iter(self.values())).labels) if self else 0
        return "\n".join(
            [
                f"{type(self).__name__} of {rows:,} texts",
                *(f"  {name}: {prediction}" for name, prediction in self.items()),
            ]
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self), self.one_label)
