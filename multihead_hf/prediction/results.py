"""Results of predictions: of all heads for several texts, and of a file."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from ..model.decoding_multihead import HeadPrediction
from ..utils.messages import counted


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

    def __missing__(self, name: object) -> HeadPrediction:
        raise KeyError(f"there is no head {name!r}; the heads are {list(self)}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self), self.one_label)


@dataclass
class PredictionReport:
    """Result of `predict_files`.

    Args:
        output: File of predictions.
        rows: Number of its rows.
        bad_rows: Number of rows that could not be predicted; they are in the file `errors`.
        errors: File of these rows, or `None` if there are no bad rows.
        resumed: Number of rows of the input, good and bad, that an earlier run had done.
        texts: Number of texts that the model has read in this run; a text that is repeated soon is read once.
        truncated: Number of these texts that were truncated.
        seconds: Seconds of this run, without loading the model.
        precision: Precision of the model.
        backend: Runtime that computed the logits.
        undecoded: Number of bad rows whose bytes have another encoding than was expected.
        precision_reason: Why this precision was chosen, or `None` if it was not chosen by this predictor: it was given,
            or there were fewer than 512 texts.
        first_error: Place of the first bad row, and what is wrong with it.

    Example:
        >>> from multihead_hf import MultiHeadPredictor, predict_files
        >>> predictor = MultiHeadPredictor.from_pretrained("complaints")
        >>> predict_files(predictor, "complaints.csv", "predictions.csv", overwrite=True).rows
        40
    """

    output: str
    rows: int
    bad_rows: int
    errors: str | None
    resumed: int
    texts: int
    truncated: int
    seconds: float
    precision: str
    backend: str
    undecoded: int = 0
    precision_reason: str | None = None
    first_error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields.

        Returns:
            A dict field → plain value.
        """
        return asdict(self)

    def __str__(self) -> str:
        done = self.rows + self.bad_rows - self.resumed
        speed = f"; {done / max(self.seconds, 1e-9):,.0f} rows/s" if done else ""
        lines = [f"{self.output}: {counted(self.rows, 'row')}{speed} ({self.backend}, {self.precision})"]
        if self.resumed:
            lines.append(f"{counted(self.resumed, 'row')} of the input had already been predicted")
        if self.truncated:
            lines.append(f"{self.truncated:,} of {self.texts:,} texts were truncated to the length the model reads")
        if self.bad_rows:
            first = f" (the first: {_shortened(self.first_error)})" if self.first_error else ""
            lines.append(f"{counted(self.bad_rows, 'row')} could not be predicted: {self.errors}{first}")
        if self.undecoded:
            lines.append(
                f"{self.undecoded:,} of them are in another encoding: name it, such as --encoding cp1252 "
                "(encoding='cp1252')"
            )
        return "\n".join(lines)


def _shortened(text: str) -> str:
    """Return a text in one line, without its middle if it is long."""
    line = " ".join(text.split())
    return line if len(line) <= 300 else f"{line[:100]} … {line[-200:]}"
