"""Predict the labels of many texts on a cluster, with Ray Data: each worker holds one model.

    pip install "ray[data]"
    python examples/predict_ray.py runs/wimbert-demo "texts/*.parquet" labels --workers 4 --gpus_per_worker 1

The output is a folder of Parquet files with the columns of the input and, for each head, `predicted_<head>` and
`predicted_<head>_score`, as with `multihead-hf predict`. On one machine that command is simpler and can resume.
"""

import argparse
import glob
from typing import Any

import pyarrow as pa

from multihead_hf import MultiHeadPredictor


class Labeller:
    """A worker, which loads the model once and is called with a block of rows at a time."""

    def __init__(self, model: str, text_column: str) -> None:
        self.predictor = MultiHeadPredictor.from_pretrained(model)
        self.text_column = text_column

    def __call__(self, rows: pa.Table) -> pa.Table:
        found = self.predictor.predict(rows[self.text_column].to_pylist())
        for name, own in found.items():
            labels: list[Any] = own.labels
            scores: list[Any] = own.scores
            names, numbers = pa.list_(pa.string()), pa.list_(pa.float32())
            if not self.predictor.model.config.heads[name].multi_label:  # one label per row
                labels, scores = [each[0] for each in labels], [each[0] for each in scores]
                names, numbers = pa.string(), pa.float32()
            rows = rows.append_column(f"predicted_{name}", pa.array(labels, names))
            rows = rows.append_column(f"predicted_{name}_score", pa.array(scores, numbers))
        return rows


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or Hub id of a saved model; on a cluster every machine has to reach it")
    parser.add_argument("data", help="Parquet files")
    parser.add_argument("output", help="folder")
    parser.add_argument("--text_column", default="text")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--gpus_per_worker", type=float, default=0)
    parser.add_argument("--block_rows", type=int, default=4096, help="rows that a worker sorts by length at a time")
    options = parser.parse_args(argv)
    import ray  # --help works without it

    rows = ray.data.read_parquet(sorted(glob.glob(options.data)))
    rows.map_batches(
        Labeller,
        fn_constructor_args=[options.model, options.text_column],
        batch_size=options.block_rows,
        batch_format="pyarrow",
        concurrency=options.workers,
        num_gpus=options.gpus_per_worker,
    ).write_parquet(options.output)


if __name__ == "__main__":
    main()
