"""Text of a model card, from its facts."""

import html
import json
import math
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import CardData

from ..evaluation.metric_names import main_score_of
from ..evaluation.report import FEW_ROWS
from ..model.configuration_multihead import MultiHeadConfig
from ..model.head_multihead import HeadConfig
from .card_facts import CardFacts

# marks a generated card; users remove it to keep their changes
MARK = "<!-- Written by multihead_hf at every save. To keep your own changes, delete this line. -->"


RARE = 10


# metric → its id on the Hub and in `evaluate`
_HUB_METRICS = {
    "accuracy": "accuracy",
    "f1": "f1",
    "precision": "precision",
    "recall": "recall",
    "mcc": "matthews_correlation",
    "roc_auc": "roc_auc",
}


_PRESENT = "f1_macro_present"  # the mean over the labels that occur, shown if some do not
_SHOWN = {
    True: ("f1_micro", "f1_macro", _PRESENT, "precision_micro", "recall_micro", "accuracy", "average_precision_macro"),
    False: ("f1", "precision", "recall", "accuracy", "f1_macro", _PRESENT, "mcc"),
}


def _output(config: MultiHeadConfig) -> str:
    """Return the form of a prediction, with labels of at most three heads and made-up scores."""
    heads = list(config.heads.items())[:3]
    lines = [f"{name!r}: [{{'label': {head.labels[0]!r}, 'score': 0.9}}]," for name, head in heads]
    lines += ["..."] * (len(config.heads) > len(heads))
    return "\n".join(["[{", *(f"    {line}" for line in lines), "}]"])


def model_card(config: MultiHeadConfig, facts: CardFacts) -> str:
    """Return the card as Markdown with its metadata.

    Raises:
        ValueError: A metric is not finite.
    """
    name = Path(facts.model_id or "").name or "Multi-head model"
    for evaluation in facts.evaluations:
        bad = [key for key, value in evaluation["metrics"].items() if not math.isfinite(value)]
        if bad:
            raise ValueError(f"the metrics {bad} are not finite")
    source = resources.files(__package__).joinpath("card_template.md").read_text(encoding="utf-8")
    # Markdown template, in which `md` and `code` escape values
    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"md": _markdown, "html": _html, "code": _code}
    body = environment.from_string(source).render(
        name=name,
        config=config,
        facts=facts,
        mark=MARK,
        rows=[_head_row(head_name, head, facts) for head_name, head in config.heads.items()],
        tables=[_table(config.heads, evaluation) for evaluation in facts.evaluations],
        limits=_limits(config, facts),
        decides={key: _decides(head) for key, head in config.heads.items()},
        counts=facts.training.get("labels") or {},
        text=_example(config, facts),
        output=_output(config),
        losses={
            key: head.loss or ("bce" if head.multi_label else "cross_entropy") for key, head in config.heads.items()
        },
    )
    return f"---\n{_metadata(config, facts, name).to_yaml(line_break=chr(10))}\n---\n\n{body}"


def _metadata(config: MultiHeadConfig, facts: CardFacts, title: str) -> CardData:
    known = {key for evaluation in facts.evaluations for key in evaluation["metrics"]}
    main = {name: main_score_of(head) for name, head in config.heads.items()}
    mains = [_hub_metric(metric) for name, metric in main.items() if f"{name}_{metric}" in known]
    heads = config.heads.values()
    tags = ["multihead_hf", "multi-head", "text-classification"]
    tags += ["multi-label-classification"] if any(head.multi_label for head in heads) else []
    data: dict[str, Any] = {
        "language": facts.language or None,
        "license": facts.license,
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "base_model": facts.base_model,
        "datasets": facts.datasets or None,
        "metrics": sorted({metric for metric in mains if metric}) or None,
        "tags": list(dict.fromkeys([*tags, *facts.tags])),
        "widget": [{"text": text} for text in facts.widget_texts] or None,
    }
    results = [
        result
        for evaluation in facts.evaluations
        for key, head in config.heads.items()
        if (result := _result(key, head, evaluation, facts)) is not None
    ]
    if results:
        # written directly, because `EvalResult` would merge the results of several heads on one dataset
        data["model-index"] = [{"name": title, "results": results}]
    return CardData(**{key: value for key, value in data.items() if value is not None})


def _result(name: str, head: HeadConfig, evaluation: Mapping[str, Any], facts: CardFacts) -> dict[str, Any] | None:
    """Return one entry of the `model-index`, for a head and a dataset."""
    metrics = []
    for metric in _shown(name, head, evaluation["metrics"]):
        key, kind = f"{name}_{metric}", _hub_metric(metric)
        if kind is not None:
            metrics.append({"type": kind, "name": key, "value": round(evaluation["metrics"][key], 6)})
    if not metrics:
        return None
    known = facts.datasets[0] if len(facts.datasets) == 1 else None
    dataset = {"type": known or "unknown", "name": evaluation.get("name") or known or "unknown"}
    return {"task": {"type": "text-classification", "name": name}, "dataset": dataset, "metrics": metrics}


def _shown(name: str, head: HeadConfig, metrics: Mapping[str, float]) -> list[str]:
    """Return the names of the metrics of a head that the card has."""
    values = {metric: metrics.get(f"{name}_{metric}") for metric in _SHOWN[head.multi_label]}
    if values[_PRESENT] == values["f1_macro"]:
        del values[_PRESENT]
    return [metric for metric, value in values.items() if value is not None]


def _hub_metric(metric: str) -> str | None:
    return next((name for key, name in _HUB_METRICS.items() if metric == key or metric.startswith(f"{key}_")), None)


def _head_row(name: str, head: HeadConfig, facts: CardFacts) -> dict[str, Any]:
    """Return a line of the table of heads."""
    main = main_score_of(head)
    values = [evaluation["metrics"].get(f"{name}_{main}") for evaluation in facts.evaluations]
    known = [value for value in values if value is not None]
    return {"name": name, "head": head, "main": main, "value": known[0] if known else None}


def _table(heads: Mapping[str, HeadConfig], evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics of an evaluation, by head."""
    intervals = evaluation.get("intervals") or {}
    baselines = evaluation.get("baseline") or {}
    lines = [
        {
            "head": name,
            "metric": metric,
            "value": evaluation["metrics"][f"{name}_{metric}"],
            "interval": intervals.get(name, {}).get(metric),
            "baseline": baselines.get(name, {"figures": {}})["figures"].get(metric),
        }
        for name, head in heads.items()
        for metric in _shown(name, head, evaluation["metrics"])
    ]
    return {
        **evaluation,
        "lines": lines,
        "has_intervals": any(line["interval"] for line in lines),
        "baseline_rows": {name: baselines[name]["rows"] for name in heads if name in baselines},
    }


def _limits(config: MultiHeadConfig, facts: CardFacts) -> list[str]:
    """Return limitations that follow from the facts."""
    sentences = []
    if config.truncation == "windows":
        sentences.append(
            f"Texts are read in at most {config.max_windows} windows; the rest of longer texts is not read."
        )
    elif config.max_length is not None:
        part = "their beginning and end" if config.truncation == "head+tail" else "their beginning"
        sentences.append(f"Texts longer than {config.max_length} tokens are truncated to {part}.")
    sentences += [
        f"{_markdown(name)}: no training row had a label of this head, so it learned nothing in this training."
        for name in facts.training.get("without_rows") or []
    ]
    for name, labels in (facts.training.get("labels") or {}).items():
        rare = [label for label, rows in labels.items() if rows < RARE]
        if rare:
            shown = ", ".join(_markdown(label) for label in rare[:20])
            more = f" and {len(rare) - 20} more" if len(rare) > 20 else ""
            sentences.append(
                f"{_markdown(name)}: fewer than {RARE} training rows for {shown}{more}; predictions of these "
                "labels are unreliable."
            )
    for name, head in config.heads.items():
        if head.multi_label and head.thresholds is None and head.min_labels != head.num_labels:
            sentences.append(f"{_markdown(name)}: the threshold of every label is 0.5; thresholds were not tuned.")
    if not any(head.calibration_temperature is not None for head in config.heads.values()):
        sentences.append(
            "Probabilities are not calibrated: use them to rank labels, not as estimates of how often a label is right."
        )
    if not facts.evaluations:
        sentences.append("No evaluation is recorded.")
    for evaluation in facts.evaluations:
        if (evaluated := evaluation.get("rows")) is not None and evaluated < FEW_ROWS:
            rows = f"{evaluated:,} row{'s' if evaluated != 1 else ''}"
            of = f" on {_markdown(evaluation['name'])}" if evaluation.get("name") else ""
            sentences.append(f"The metrics{of} are of {rows} only, and may be quite different on other texts.")
    for step in sorted({evaluation["step"] for evaluation in facts.evaluations if evaluation.get("step") is not None}):
        sentences.append(f"The metrics above were computed at step {step:,}, before training continued.")
    sentences += [warning for evaluation in facts.evaluations for warning in _behind(config.heads, evaluation)]
    if any(evaluation.get("stale") for evaluation in facts.evaluations):
        sentences.append("Labels, thresholds or temperatures were changed after the metrics above were computed.")
    return sentences


def _behind(heads: Mapping[str, HeadConfig], evaluation: Mapping[str, Any]) -> list[str]:
    """Return sentences about heads whose linear baseline has a higher score, at three digits."""
    sentences, baselines = [], evaluation.get("baseline") or {}
    for name, head in heads.items():
        main = main_score_of(head)
        model = evaluation["metrics"].get(f"{name}_{main}")
        other = baselines.get(name, {"figures": {}})["figures"].get(main)
        if model is not None and other is not None and round(other - model, 3) > 0:
            score = f"in `{main}`, {other:.3f} to {model:.3f}"
            sentences.append(f"{_markdown(name)}: the linear baseline is ahead of this model {score}.")
    return sentences


def _decides(head: HeadConfig) -> str:
    """Return a phrase on the number of labels of a row, and the thresholds."""
    if not head.multi_label:
        return "single-label"
    lower, upper = head.min_labels or 0, head.max_labels
    if upper is None:
        number = "multi-label" if not lower else f"multi-label, at least {lower} per row"
    else:
        number = f"multi-label, {upper if lower == upper else f'{lower} to {upper}'} per row"
    values = head.thresholds or [0.5]
    low, high = min(values), max(values)
    return f"{number}; threshold {low:.3g}" if low == high else f"{number}; thresholds {low:.3g} to {high:.3g}"


def _example(config: MultiHeadConfig, facts: CardFacts) -> str | dict[str, str]:
    """Return an example input of the pipeline: a text, or a pair."""
    text = facts.widget_texts[0] if facts.widget_texts else "A text to classify."
    columns = config.text_columns or ["text"]
    return text if len(columns) == 1 else dict.fromkeys(columns, text)


def _markdown(text: object) -> str:
    """Escape a text for a line or table cell of Markdown."""
    # an underscore inside a word has no effect
    return re.sub(r"[\\|*`\[\]#~$]|(?<!\w)_|_(?!\w)", lambda match: f"\\{match.group()}", _html(text))


def _html(text: object) -> str:
    """Escape a text for a line of HTML."""
    return html.escape(" ".join(str(text).split()), quote=False)


def _code(value: object) -> str:
    """Return a text, or a dict of texts, as Python code."""
    return json.dumps(value, ensure_ascii=False)
