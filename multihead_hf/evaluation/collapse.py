"""Heads that predict almost nothing, almost everything, one label or by chance, and heads that need thresholds."""

from collections.abc import Iterator, Mapping

from ..data.label_warnings import EMPTY_ADVICE, ONLY_POSITIVE
from .streaming import StreamingMetrics

ALMOST_NOTHING = 0.05  # share of the labels that apply
ALMOST_EVERYTHING = 0.9  # share of all labels
ENOUGH_ROWS = 20
ENOUGH_LABELS = 10  # minimum number of labels that apply
BY_CHANCE = 0.05  # Cohen's kappa
MUCH_BETTER = 0.05  # difference of micro F1
ENOUGH_FOR_A_THRESHOLD = 100  # minimum number of labels that apply
_MOST_MESSAGES = 5
_MORE_TRAINING = "Tune thresholds (tune_thresholds), raise head_learning_rate, or train longer."
_LESS_WEIGHT = "Tune thresholds (tune_thresholds), check pos_weight and how empty labels are read, or train longer."
_CHECK_ROWS = "Check that its texts and labels belong together, train longer, or label more rows."


def collapsed_heads(metrics: StreamingMetrics) -> dict[str, tuple[str, str]]:
    """Return the heads that have learned nothing, as far as at least 20 labelled rows show it.

    A multi-label head predicts almost nothing if it finds fewer than 5 % of the labels that apply, and almost
    everything if it predicts more than 90 % of all labels while fewer than half as many apply, or finds fewer than 5 %
    of those that do not apply; if all its known cells are 1, its scores show nothing. A single-label head has learned
    nothing if it predicts one label for all rows, or agrees with the true labels hardly more than by chance (Cohen's
    kappa below 0.05; Cohen 1960, https://doi.org/10.1177/001316446002000104); at least 10 rows must have another label
    than the most frequent one, as fewer show little.

    Returns:
        Head → `"nothing"`, `"everything"`, `"negatives"` (there are none) or `"chance"`, and a message with advice.
    """
    checks = {True: _collapse, False: _no_agreement}
    return {name: found for name, head in metrics.heads.items() for found in checks[head.multi_label](metrics, name)}


def heads_with_better_thresholds(metrics: StreamingMetrics) -> dict[str, tuple[str, str]]:
    """Return the multi-label heads whose micro F1 another threshold, the same for all labels, would raise by 0.05.

    At least 100 labels must apply, as with fewer the best threshold of some rows is often that of no others.

    Returns:
        Head → `"threshold"`, and a message with advice.
    """
    found = {}
    for name in metrics.heads:
        counts = metrics.multi_label_counts(name)
        if counts is None or (support := int(counts.support.sum())) < ENOUGH_FOR_A_THRESHOLD:
            continue
        predicted = int(counts.predicted.sum())
        f1 = 2 * int(counts.hits.sum()) / (predicted + support)
        threshold, highest = metrics.best_common_threshold(name)
        if highest - f1 < MUCH_BETTER:
            continue
        found[name] = (
            "threshold",
            f"head {name!r} predicts {predicted:,} labels on {counts.rows:,} labelled rows, and {support:,} apply. Its "
            f"micro F1 is {f1:.3f} ({_limits(metrics, name)}); on these rows it would be {highest:.3f} with a "
            f"threshold of {threshold:.2g}. Tune thresholds on validation rows (tune_thresholds).",
        )
    return found


def weak_heads(metrics: StreamingMetrics) -> dict[str, tuple[str, str]]:
    """Return `collapsed_heads`, and then the other ones of `heads_with_better_thresholds`."""
    collapsed = collapsed_heads(metrics)
    better = heads_with_better_thresholds(metrics)
    return collapsed | {name: found for name, found in better.items() if name not in collapsed}


def messages(found: Mapping[str, tuple[str, str]]) -> list[str]:
    """Return the messages of `weak_heads`, or those of the first five heads and the names of the others."""
    texts = [text for _, text in found.values()]
    if others := list(found)[_MOST_MESSAGES:]:
        texts[_MOST_MESSAGES:] = [
            f"and {len(others)} other heads have learned nothing or need other thresholds: {', '.join(others)}"
        ]
    return texts


def _no_agreement(metrics: StreamingMetrics, name: str) -> Iterator[tuple[str, str]]:
    counts = metrics.single_label_counts(name)
    support, predicted, hits = counts.support, counts.predicted, counts.hits
    rows = int(support.sum())
    if rows < ENOUGH_ROWS or rows - support.max() < ENOUGH_LABELS:
        return
    labels, most = metrics.heads[name].labels, int(support.argmax())
    if predicted.max() == rows:
        always = labels[int(predicted.argmax())]
        accuracy = support[int(predicted.argmax())] / rows
        yield (
            "chance",
            f"head {name!r} predicts {always!r} for all {rows:,} labelled rows, and {accuracy:.1%} have that label. "
            f"{_CHECK_ROWS}",
        )
        return
    accuracy, by_chance = hits.sum() / rows, float(support @ predicted) / rows**2
    if accuracy - by_chance < BY_CHANCE * (1 - by_chance):
        yield (
            "chance",
            f"head {name!r} is hardly better than chance on {rows:,} labelled rows: accuracy {accuracy:.3f}, and "
            f"{support[most] / rows:.3f} by always predicting {labels[most]!r}. {_CHECK_ROWS}",
        )


def _collapse(metrics: StreamingMetrics, name: str) -> Iterator[tuple[str, str]]:
    counts = metrics.multi_label_counts(name)
    if counts is None or counts.rows < ENOUGH_ROWS:
        return
    hits, predicted, support, known = (
        int(values.sum()) for values in (counts.hits, counts.predicted, counts.support, counts.known)
    )
    on_rows = f"on {counts.rows:,} labelled rows"
    if support == known:
        yield (
            "negatives",
            f"head {name!r}: {ONLY_POSITIVE} {on_rows}, so to predict every label is always right and its F1 shows "
            f"nothing. {EMPTY_ADVICE}",
        )
        return
    if support >= ENOUGH_LABELS and hits < ALMOST_NOTHING * support:
        if not predicted:
            description = f"reached no threshold {on_rows}:"
        else:
            description = f"predicts almost nothing {on_rows}: {hits:,} of {support:,} labels that apply, and"
        yield "nothing", f"head {name!r} {description} {_extreme(metrics, name, highest=True)}. {_MORE_TRAINING}"
        return
    others = known - support  # labels that do not apply
    finds_no_others = others >= ENOUGH_LABELS and others - (predicted - hits) < ALMOST_NOTHING * others
    if predicted > ALMOST_EVERYTHING * known and (support < predicted / 2 or finds_no_others):
        description = (
            f"predicts almost everything {on_rows}: {predicted / known:.0%} of its labels, and {support / known:.0%}"
        )
        yield (
            "everything",
            f"head {name!r} {description} apply; {_extreme(metrics, name, highest=False)}. {_LESS_WEIGHT}",
        )


def _extreme(metrics: StreamingMetrics, name: str, highest: bool) -> str:
    """Return the highest or lowest probability and the thresholds, in words."""
    value = metrics.probability_range(name)[1 if highest else 0]
    limits = _limits(metrics, name)
    shown = f"{value:.2g}" if f"{value:.2g}" not in limits.split() else f"{value:.4g}"
    return f"its {'highest' if highest else 'lowest'} probability is {shown} ({limits})"


def _limits(metrics: StreamingMetrics, name: str) -> str:
    """Return the thresholds of a head in words."""
    thresholds = metrics.heads[name].thresholds or [0.5]
    low, high = f"{min(thresholds):.2g}", f"{max(thresholds):.2g}"
    return f"threshold {low}" if low == high else f"thresholds {low} to {high}"
