"""Predict the labels of texts with an exported model. Needs onnxruntime, tokenizers and numpy only:

python examples/onnx_predict.py runs/wimbert-onnx "Het grofvuil is niet opgehaald"

The folder was written by `multihead-hf export MODEL -o FOLDER`. All facts about the model come from the graph's
metadata. This program supports every kind of truncation and decision; a program for one model needs only a part of it.
"""

import argparse
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Encoding, Tokenizer


def read_places(encoding: Encoding, text: dict[str, Any]) -> list[list[int]]:
    """Return the positions of the tokens that are read, for each window (only one unless truncation="windows")."""
    special, limit, tokens = encoding.special_tokens_mask, text["max_length"], len(encoding.ids)
    if limit is None or tokens <= limit or text["truncation"] == "tail":  # the tokenizer has truncated the tail
        return [list(range(tokens))]
    before, after = special.index(0), special[::-1].index(0)  # special tokens on both sides are kept
    room, end, stride = limit - before - after, tokens - after, text["stride"]
    if text["truncation"] == "head+tail":
        return [[*range(before + (room + 1) // 2), *range(end - room // 2, tokens)]]
    begins = [before, *range(before + room - stride, end - stride, room - stride)][: text["max_windows"]]
    return [[*range(before), *range(begin, min(begin + room, end)), *range(end, tokens)] for begin in begins]


def encode(tokenizer: Tokenizer, texts: Sequence[Sequence[str]], text: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the graph's inputs: (texts, length), or (texts, windows, length) with truncation="windows"."""
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if text["truncation"] == "tail" and text["max_length"] is not None:
        tokenizer.enable_truncation(text["max_length"], direction=text["truncation_side"])
    encodings = [tokenizer.encode(text["text_prefix"] + each[0], each[1] if each[1:] else None) for each in texts]
    places = [read_places(encoding, text) for encoding in encodings]
    shape = len(texts), max(map(len, places)), max(1, *(len(own) for each in places for own in each))
    ids, types = np.full(shape, text["pad_token_id"]), np.full(shape, text["pad_token_type_id"])
    mask = np.zeros(shape, dtype=np.int64)
    for row, (encoding, each) in enumerate(zip(encodings, places, strict=True)):
        for window, own in enumerate(each):
            used = [encoding.ids[place] for place in own] or [text["empty_token_id"]]
            begin = shape[2] - len(used) if text["padding_side"] == "left" else 0
            at = row, window, slice(begin, begin + len(used))
            ids[at], types[at], mask[at] = used, [encoding.type_ids[place] for place in own] or 0, 1
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    return inputs if text["truncation"] == "windows" else {name: own[:, 0] for name, own in inputs.items()}


def decide(head: dict[str, Any], logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities, and whether each label is predicted, both (texts, labels)."""
    logits = logits / np.array(head["calibration_temperature"], dtype=np.float32)
    if head["problem_type"] == "single_label_classification":
        scores = np.exp(logits - logits.max(1, keepdims=True))
        return scores / scores.sum(1, keepdims=True), np.eye(len(head["labels"]), dtype=bool)[scores.argmax(1)]
    with np.errstate(over="ignore"):
        scores = 1 / (1 + np.exp(-logits))
    thresholds = np.array(head["thresholds"], dtype=np.float32)
    low = np.clip(thresholds.astype(np.float64), 1e-15, 1 - 1e-15)
    margins = logits.astype(np.float64) - np.log(low / (1 - low))
    ranks = np.argsort(np.argsort(-margins, axis=1, kind="stable"), axis=1)
    return scores, ((scores >= thresholds) | (ranks < head["min_labels"])) & (ranks < head["max_labels"])


class Classifier:
    """An exported model: `classifier(texts)` gives for each text head → [(label, score), …], the best first."""

    def __init__(self, folder: str) -> None:
        self.session = onnxruntime.InferenceSession(f"{folder}/model.onnx")
        self.tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
        metadata = self.session.get_modelmeta().custom_metadata_map
        self.heads, self.text = json.loads(metadata["multihead_hf.heads"]), json.loads(metadata["multihead_hf.text"])

    def __call__(self, texts: Sequence[Sequence[str]]) -> list[dict[str, list[tuple[str, float]]]]:
        """`texts`: a tuple of one string each, or of the two of a pair."""
        inputs = encode(self.tokenizer, texts, self.text)
        feed = {each.name: inputs[each.name] for each in self.session.get_inputs()}
        found: list[dict[str, list[tuple[str, float]]]] = [{} for _ in texts]
        for head, logits in zip(
            self.heads, self.session.run([head["output"] for head in self.heads], feed), strict=True
        ):
            for row, scores, decisions in zip(found, *decide(head, logits), strict=True):
                best = [label for label in np.argsort(-scores, kind="stable") if decisions[label]]
                row[head["name"]] = [(head["labels"][label], float(scores[label])) for label in best]
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="what multihead-hf export wrote, in the format onnx")
    parser.add_argument("text", nargs="+", help="a text to classify; of a model of text pairs first and second in turn")
    arguments = parser.parse_args()
    if not os.path.isfile(f"{arguments.folder}/model.onnx"):
        parser.error(f"{arguments.folder} holds no model.onnx: multihead-hf export MODEL -o {arguments.folder}")
    classifier, given = Classifier(arguments.folder), iter(arguments.text)
    if len(arguments.text) % len(classifier.text["text_columns"]):
        parser.error(f"the model reads texts by {len(classifier.text['text_columns'])}")
    for row in classifier(list(zip(*[given] * len(classifier.text["text_columns"]), strict=True))):
        for head, labels in row.items():
            print(head, *(f"  {score:.3f}  {label}" for label, score in labels), sep="\n")


if __name__ == "__main__":
    main()
