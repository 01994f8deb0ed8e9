"""Multi-label heads that predict almost nothing, or almost everything."""

from collections.abc import Iterator

from .streaming import StreamingMetrics

ALMOST_NOTHING = 0.05  # share of the labels that apply
ALMOST_EVERYTHING = 0.9  # share of all labels
ENOUGH_ROWS = 20
ENOUGH_LABELS = 10  # minimum number of labels that apply
_MORE_TRAINING = "Tune thresholds (tune_thresholds), raise head_learning_rate, or train longer."
_LESS_WEIGHT = "Tune thresholds (tune_thresholds), check pos_weight and how empty labels are read, or train longer."


def collapsed_heads(metrics: StreamingMetrics) -> dict[str, tuple[str, str]]:
    """Return the multi-label heads that predict almost nothing or almost everything.

    A head predicts almost nothing if it finds fewer than 5 % of the labels that apply, and almost everything if it
    predicts more than 90 % of all labels while fewer than half as many apply. Heads with fewer than 20 labelled rows
    are not checked.

    Returns:
        Head → `"nothing"` or `"everything"`, and a message with advice.
    """
    return {name: collapse for name in metrics.heads for collapse in _collapse(metrics, name)}


def _collapse(metrics: StreamingMetrics, name: str) -> Iterator[tuple[str, str]]:
    counts = metrics.multi_label_counts(name)
    if counts is None or counts.rows < ENOUGH_ROWS:
        return
    hits, predicted, support, known = (
        int(values.sum()) for values in (counts.hits, counts.predicted, counts.support, counts.known)
    )
    on_rows = f"on {counts.rows:,} labelled rows"
    if support >= ENOUGH_LABELS and hits < ALMOST_NOTHING * support:
        if not predicted:
            description = f"reached no threshold {on_rows}:"
        else:
            description = f"predicts almost nothing {on_rows}: {hits:,} of {support:,} labels that apply, and"
        yield "nothing", f"head {name!r} {description} {_extreme(metrics, name, highest=True)}. {_MORE_TRAINING}"
    elif predicted > ALMOST_EVERYTHING * known and support < predicted / 2:
        description = (
            f"predicts almost everything {on_rows}: {predicted / known:.0%} of its labels, but only "
            f"{support / known:.0%}"
        )
        yield (
            "everything",
            f"head {name!r} {description} apply; {_extreme(metrics, name, highest=False)}. {_LESS_WEIGHT}",
        )


def _extreme(metrics: StreamingMetrics, name: str, highest: bool) -> str:
    """Return the highest or lowest probability and the thresholds, in words."""
    value = metrics.probability_range(name)[1 if highest else 0]
    thresholds = metrics.heads[name].thresholds or [0.5]
    low, high = f"{min(thresholds):.2g}", f"{max(thresholds):.2g}"
    limits = f"threshold {low}" if low == high else f"thresholds {low} to {high}"
    shown = f"{value:.2g}" if f"{value:.2g}" not in (low, high) else f"{value:.4g}"
    return f"its {'highest' if highest else 'lowest'} probability is {shown} ({limits})"
