"""The report from arrays: figures, mistakes, pictures, files."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_curve

from multihead_hf import HeadConfig
from multihead_hf.evaluation import report_pictures as module
from multihead_hf.evaluation.baseline import BaselineReport, HeadBaseline
from multihead_hf.evaluation.bootstrap import Interval
from multihead_hf.evaluation.metric_names import MULTI_LABEL_METRICS, POSITIVE_LABEL_METRICS, SINGLE_LABEL_METRICS
from multihead_hf.evaluation.metrics import single_label_metrics
from multihead_hf.evaluation.report import EvaluationReport, make_report
from multihead_hf.evaluation.report_page import _meaning, save_report
from multihead_hf.evaluation.report_pictures import file_name

ROWS = 120
TOPICS = ["roads", "waste & <b>noise</b>", "parks", "never"]
HEADS = {
    "topic/1": HeadConfig(labels=TOPICS, problem_type="multi_label_classification", thresholds=[0.4, 0.5, 0.6, 0.5]),
    "mood": HeadConfig(labels=["calm", "angry"], positive_label="angry", calibration_temperature=2.0),
    "colour": HeadConfig(labels=["red", "blue"]),
}
HISTORY = [
    {"loss": 1.0, "mood_loss": 0.9, "learning_rate": 1e-3, "learning_rate_heads": 1e-2, "epoch": 1.0},
    {"eval_loss": 1.1, "eval_f1": 0.4, "eval_mood_f1": 0.4, "epoch": 1.0},
    {"loss": 0.8, "mood_loss": 0.7, "learning_rate": 5e-4, "learning_rate_heads": 5e-3, "epoch": 2.0},
    {"eval_loss": 0.9, "eval_f1": 0.5, "eval_mood_f1": 0.5, "epoch": 2.0},
]


@pytest.fixture(scope="module")
def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    topic = (rng.random((ROWS, 4)) < [0.4, 0.3, 0.1, 0.0]).astype(np.float32)
    mood = rng.integers(0, 2, ROWS)
    logits = {
        "topic/1": (topic * 2 - 1 + rng.normal(0, 1.2, topic.shape)).astype(np.float32),
        "mood": (np.eye(2)[mood] * 2 + rng.normal(0, 1.2, (ROWS, 2))).astype(np.float32),
        "colour": np.zeros((ROWS, 2), dtype=np.float32),
    }
    topic[:5] = -100
    topic[5, 2] = -100
    mood[:10] = -100
    references = {"topic/1": topic, "mood": mood, "colour": np.full(ROWS, -100)}
    texts = [f"text {row} <script>alert({row})</script>" for row in range(ROWS)]
    return {"logits": logits, "references": references, "texts": texts}


@pytest.fixture(scope="module")
def report(arrays: dict[str, Any]) -> EvaluationReport:
    return make_report(HEADS, **arrays, title="A & B", history=HISTORY, n_resamples=100)


def test_figures_are_those_of_scikit_learn(report: EvaluationReport, arrays: dict[str, Any]) -> None:
    mood, logits = arrays["references"]["mood"][10:], arrays["logits"]["mood"][10:]
    own = report.heads["mood"]
    assert own.figures["f1"] == pytest.approx(f1_score(mood, logits.argmax(1)))
    assert own.intervals["f1"].value == pytest.approx(own.figures["f1"])
    assert own.rows == ROWS - 10
    shown = pd.DataFrame(confusion_matrix(mood, logits.argmax(1)), ["calm", "angry"], ["calm", "angry"])
    for pair in own.confused.itertuples():
        assert pair.rows == shown.loc[pair.true, pair.predicted]
    assert len(own.mistakes) == (mood != logits.argmax(1)).sum()
    assert report.unlabelled == ["colour"]


def test_a_head_that_predicts_nothing_is_said(arrays: dict[str, Any]) -> None:
    logits = arrays["logits"] | {"topic/1": np.full_like(arrays["logits"]["topic/1"], -9)}
    report = make_report(HEADS, **(arrays | {"logits": logits}), n_resamples=100)
    (text,) = report.warnings
    assert text.startswith("head 'topic/1' reached no threshold on ")
    assert text in str(report)
    assert report.to_dict()["warnings"] == [text]


def test_mistakes_are_the_wrong_rows_the_surest_first(report: EvaluationReport, arrays: dict[str, Any]) -> None:
    mistakes = report.heads["topic/1"].mistakes
    scores = 1 / (1 + np.exp(-arrays["logits"]["topic/1"].astype(float)))
    given = arrays["references"]["topic/1"]
    decided = scores >= np.array([0.4, 0.5, 0.6, 0.5])
    wrong = ((given != -100) & (decided != (given == 1))).any(1)
    assert sorted(mistakes["row"]) == np.flatnonzero(wrong).tolist()
    assert mistakes["score"].is_monotonic_decreasing
    for each in mistakes.itertuples():
        known = given[each.row] != -100
        assert each.true == [label for label, on in zip(TOPICS, given[each.row] == 1, strict=True) if on]
        assert each.predicted == [label for label, on in zip(TOPICS, decided[each.row] & known, strict=True) if on]
        missed = [1 - scores[each.row, TOPICS.index(label)] for label in each.true if label not in each.predicted]
        alarms = [scores[each.row, TOPICS.index(label)] for label in each.predicted if label not in each.true]
        assert each.score == pytest.approx(max(missed + alarms), abs=1e-6)
        assert each.text == arrays["texts"][each.row]
    single = report.heads["mood"].mistakes
    assert (single["score"] >= 0.5).all()
    assert all(each.predicted_scores == [pytest.approx(each.score)] for each in single.itertuples())


def test_curves_are_those_of_scikit_learn(arrays: dict[str, Any]) -> None:
    head = HEADS["topic/1"]
    scores = 1 / (1 + np.exp(-arrays["logits"]["topic/1"]))
    given = arrays["references"]["topic/1"]
    decided = scores >= np.array(head.thresholds)
    view = module.HeadArrays("topic/1", head, scores, scores, decided, given)
    known = given != -100
    precision, recall, thresholds = precision_recall_curve(given[known], scores[known])
    lines, marks = module._precision_recall(view)
    assert np.allclose(lines["all labels together"][0][[0, -1]], recall[[0, -1]])
    assert "never" not in lines  # no row has it
    point = (float(marks["at the saved thresholds"][0][0]), float(marks["at the saved thresholds"][1][0]))
    hits = (decided & (given == 1) & known).sum()
    assert point == pytest.approx((hits / (given == 1).sum(), hits / (decided & known).sum()))
    common = module._threshold_lines(view)
    for place in (0.2, 0.5, 0.8):
        at = int(np.searchsorted(thresholds, place))
        where = int(np.argmin(np.abs(common["recall"][0] - place)))
        assert common["recall"][1][where] == pytest.approx(recall[at])
        assert common["precision"][1][where] == pytest.approx(precision[at])


def test_everything_is_written_and_the_page_is_closed_in_itself(report: EvaluationReport, tmp_path: Path) -> None:
    save_report(report, tmp_path / "new" / "folder", max_mistakes=7)
    folder = tmp_path / "new" / "folder"
    page = (folder / "report.html").read_text()
    assert "A &amp; B" in page
    assert "<script>alert" not in page
    assert "<b>noise" not in page
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", page)
    assert page.count('<tr data-head="') == 14
    assert f"this page shows 7 of the {len(report.heads['mood'].mistakes)}" in page
    assert "no row here has a label for this head" in page
    assert re.search(r"No row here has never:", page)
    assert not re.search(r"\bnan\b", re.sub(r"data:image/png;base64,[^\"]+", "", page), flags=re.I)
    pictures = {path.name for path in folder.glob("*.png")}
    kinds = ("labels", "confusion", "precision_recall", "thresholds", "reliability")
    expected = {f"{head}_{kind}.png" for head in ("topic_1", "mood") for kind in kinds}
    assert pictures == expected | {"training_loss.png", "training_scores.png", "training_rates.png"}
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    saved = json.loads((folder / "report.json").read_text())
    assert saved["heads"]["mood"]["figures"]["f1"] == report.heads["mood"].figures["f1"]
    whole, flat = pd.read_parquet(folder / "mistakes.parquet"), pd.read_csv(folder / "mistakes.csv")
    assert len(whole) == len(flat) == sum(len(own.mistakes) for own in report.heads.values())
    assert list(whole["true"][0]) == (flat["true"].fillna("")[0].split(" | ") if whole["true"][0].size else [])
    assert "The report is" in str(report)
    first = (folder / "report.html").read_bytes()
    save_report(report, folder, max_mistakes=7)
    assert (folder / "report.html").read_bytes() == first


def baselines(arrays: dict[str, Any], right: float) -> BaselineReport:
    """Baselines of which this share of the rows of `mood` is right; `topic/1` has none."""
    given = arrays["references"]["mood"]
    labels = np.where(np.random.default_rng(1).random(ROWS) < right, given, 1 - given) % 2
    figures = single_label_metrics(labels, given, ["calm", "angry"], "angry")
    mood = HeadBaseline("f1", 90, 400, None, figures, np.eye(2, dtype=bool)[labels])
    return BaselineReport({"mood": mood}, {"topic/1": "no training row <i> has a label for this head"})


def test_the_linear_baseline_stands_beside_the_figures(arrays: dict[str, Any], tmp_path: Path) -> None:
    baseline = baselines(arrays, 0.5)
    report = make_report(HEADS, **arrays, n_resamples=200, baseline=baseline)
    own, other = report.heads["mood"], baseline.heads["mood"].figures["f1"]
    assert own.difference is not None
    assert own.difference.model == pytest.approx(own.figures["f1"])
    assert own.difference.difference.value == pytest.approx(own.figures["f1"] - other)
    assert own.difference.difference.low > 0
    assert own.baseline_warning is None
    assert report.heads["topic/1"].baseline is None
    lines = str(report).splitlines()
    assert lines[0].endswith("linear baseline (difference)")
    gap = own.figures["f1"] - other
    assert lines[2].endswith(f"  {other:.3f} ({gap:+.3f})")
    assert lines[1].endswith("  –")
    assert "topic/1 has no linear baseline: no training row <i> has a label for this head." in lines
    page = (save_report(report, tmp_path).folder / "report.html").read_text()
    assert "topic/1 has no linear baseline: no training row &lt;i&gt; has a label for this head." in page
    assert (
        f"Linear baseline (TF-IDF + logistic regression, trained on a sample of 90 of 400 rows): f1 {other:.3f}. The model minus the baseline: {gap:+.3f}"
        in page
    )
    cells = re.search(r"<tr><td>accuracy</td>(.*)</tr>", page[page.index('id="head-2"') :])
    assert cells is not None
    values = re.findall(r'<td class="n">([^<]*)</td>', cells.group(1))
    accuracy = [own.figures["accuracy"], baseline.heads["mood"].figures["accuracy"]]
    assert values == [*(f"{value:.3f}" for value in accuracy), f"{accuracy[0] - accuracy[1]:+.3f}"]
    assert check_tables(page) > 5
    saved = json.loads((tmp_path / "report.json").read_text())
    assert saved["heads"]["mood"]["baseline"]["difference"]["value"] == pytest.approx(gap)
    assert saved["heads"]["mood"]["baseline"]["rows"] == 90
    assert saved["heads"]["topic/1"]["baseline"] is None
    assert saved["baseline"]["left_out"] == baseline.left_out
    assert report.heads["mood"].figures == make_report(HEADS, **arrays, n_resamples=5).heads["mood"].figures


def check_tables(page: str) -> int:
    """Every row of every table has as many cells as its head has; returns the number of tables."""

    class Tables(HTMLParser):
        tables: list[list[int]] = []

        def handle_starttag(self, tag: str, attrs: Any) -> None:
            if tag == "table":
                self.tables.append([])
            elif tag == "tr":
                self.tables[-1].append(0)
            elif tag in ("td", "th"):
                self.tables[-1][-1] += int(dict(attrs).get("colspan", 1))

    parser = Tables()
    parser.tables = []
    parser.feed(page)
    for rows in parser.tables:
        assert len(set(rows)) == 1, rows
    return len(parser.tables)


def test_a_baseline_that_is_ahead_is_said(arrays: dict[str, Any], tmp_path: Path) -> None:
    report = make_report(HEADS, **arrays, n_resamples=200, baseline=baselines(arrays, 1.0))
    warning = report.heads["mood"].baseline_warning
    assert warning is not None
    gap = 1 - report.heads["mood"].figures["f1"]
    assert warning.startswith(
        f"The linear baseline is ahead of this model by {gap:.3f} in f1: the encoder was not worth"
    )
    assert f"mood: {warning}" in str(report)
    page = (save_report(report, tmp_path).folder / "report.html").read_text()
    assert page.count(warning) == 2  # below the summary, and in the section of the head
    close = report.heads["mood"]
    assert close.difference is not None
    close.difference.difference = Interval(-0.01, -0.03, 0.01)
    assert close.baseline_warning == (
        "The linear baseline is ahead of this model by 0.010 in f1, which may be chance: the interval of the "
        "difference contains 0."
    )
    close.difference.difference = Interval(-0.0001, -0.03, 0.01)
    assert close.baseline_warning is None


def test_the_same_rows_give_the_same_pictures(arrays: dict[str, Any]) -> None:
    one, other = (make_report(HEADS, **arrays, n_resamples=5) for _ in range(2))
    assert one.training == []
    assert [each.data for each in one.heads["mood"].pictures] == [each.data for each in other.heads["mood"].pictures]


def test_a_right_model_and_a_head_that_says_nothing() -> None:
    heads = {"mood": HEADS["mood"], "topic": HeadConfig(labels=["a", "b"], problem_type="multi_label_classification")}
    logits = {"mood": np.eye(2)[[0, 1, 1]] * 9, "topic": np.full((3, 2), -9.0)}
    references = {"mood": np.array([0, 1, 1]), "topic": np.zeros((3, 2))}
    report = make_report(heads, logits, references, ["a", "b", "c"], n_resamples=10)
    assert [len(own.mistakes) for own in report.heads.values()] == [0, 0]
    kinds = [picture.name for picture in report.heads["topic"].pictures]
    assert kinds == ["topic_reliability"]  # there is no curve without a positive


def test_many_labels_stay_readable() -> None:
    rng = np.random.default_rng(0)
    heads = {"intent": HeadConfig(labels=[f"label number {place}" for place in range(96)])}
    logits = {"intent": rng.normal(size=(500, 96)).astype(np.float32)}
    report = make_report(heads, logits, {"intent": rng.integers(0, 96, 500)}, ["x"] * 500, n_resamples=5)
    sizes = {
        each.name: (int.from_bytes(each.data[16:20], "big"), int.from_bytes(each.data[20:24], "big"))
        for each in report.heads["intent"].pictures
    }
    # at least 16 pixels for each label
    assert min(sizes["intent_confusion"]) > 96 * 16
    assert sizes["intent_labels"][1] > 96 * 16


def test_no_labelled_row_at_all(arrays: dict[str, Any]) -> None:
    nothing = {name: np.full_like(own, -100) for name, own in arrays["references"].items()}
    with pytest.raises(ValueError, match="no row of the dataset is labelled for any of the heads"):
        make_report(HEADS, arrays["logits"], nothing, arrays["texts"])


def test_names_of_files() -> None:
    taken: dict[str, str] = {}
    assert [file_name(name, taken) for name in ("Topic/1", "topic 1", "情绪", "..")] == [
        "topic_1",
        "topic_1_2",
        "head",
        "head_2",
    ]


def test_without_matplotlib_the_line_to_type_is_said() -> None:
    code = "import sys; sys.modules['matplotlib'] = None\nimport multihead_hf.evaluation.plots"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'pip install "multihead-hf[plots]"' in done.stderr


def test_awkward_names_of_heads_and_labels() -> None:
    labels = ["$5_$", "_hidden", "a very long label that no picture has room for", "<i>"]
    heads = {"h$_$\n": HeadConfig(labels=labels, problem_type="multi_label_classification", positive_label=None)}
    rng = np.random.default_rng(0)
    logits, references = {"h$_$\n": rng.normal(size=(40, 4))}, {"h$_$\n": rng.integers(0, 2, (40, 4))}
    history = [{"h$_$\n_loss": 1.0, "epoch": 1}, {"h$_$\n_loss": 0.5, "epoch": 2}]
    report = make_report(heads, logits, references, ["x"] * 40, history=history, n_resamples=5)
    assert len(report.pictures) == 6


def test_curves_of_several_evaluation_sets(arrays: dict[str, Any]) -> None:
    history = [{"eval_north_mood_f1": value, "eval_north_loss": value, "epoch": value} for value in (1.0, 2.0)]
    report = make_report(HEADS, **arrays, history=history, n_resamples=5)
    assert [picture.name for picture in report.training] == ["training_loss", "training_scores"]


def test_a_resumed_run_has_the_same_pictures(arrays: dict[str, Any]) -> None:
    """A checkpoint keeps the log with its keys sorted."""
    history = [{"topic/1_loss": value, "mood_loss": value + 1, "loss": value, "epoch": value} for value in (1.0, 2.0)]
    resumed = [dict(sorted(entry.items())) for entry in history]
    one, other = (make_report(HEADS, **arrays, history=log, n_resamples=5).training for log in (history, resumed))
    assert [picture.data for picture in one] == [picture.data for picture in other]
    assert len(one) == 1


def test_logits_that_are_no_numbers(arrays: dict[str, Any]) -> None:
    for name in ("mood", "topic/1"):
        logits = {key: own.copy() for key, own in arrays["logits"].items()}
        logits[name][3, 1] = np.nan
        with pytest.raises(
            ValueError,
            match=rf"head '{name}': its logits are not finite \(NaN or infinity\) in 1 rows, the first is row 3",
        ):
            make_report(HEADS, logits, arrays["references"], arrays["texts"])


@pytest.mark.slow
def test_more_labels_than_a_picture_holds() -> None:
    rng = np.random.default_rng(0)
    heads = {"intent": HeadConfig(labels=[f"label {place}" for place in range(600)])}
    report = make_report(
        heads,
        {"intent": rng.normal(size=(900, 600))},
        {"intent": rng.integers(0, 600, 900)},
        ["x"] * 900,
        n_resamples=2,
    )
    widths = {each.name: int.from_bytes(each.data[16:20], "big") for each in report.pictures}
    assert widths["intent_confusion"] < 4000


def test_a_head_without_any_positive_says_why_it_has_no_score() -> None:
    heads = {"topic": HeadConfig(labels=["a", "b"], problem_type="multi_label_classification")}
    nothing = HeadBaseline("f1_micro", 9, 9, None, {"f1_micro": 0.0}, np.zeros((3, 2), dtype=bool))
    references = {"topic": np.zeros((3, 2))}
    options: dict[str, Any] = {"n_resamples": 5, "baseline": BaselineReport({"topic": nothing})}
    report = make_report(heads, {"topic": np.full((3, 2), -9.0)}, references, list("abc"), **options)
    assert not report.has_baselines
    assert "– (no row has any of its labels)" in str(report)


def test_every_metric_of_a_report_is_explained() -> None:
    for metric in (*MULTI_LABEL_METRICS, *SINGLE_LABEL_METRICS, *POSITIVE_LABEL_METRICS):
        assert _meaning(metric, metric in MULTI_LABEL_METRICS), metric
    assert _meaning("accuracy", True) == "share of the rows whose labels are all right"
    assert _meaning("accuracy", False) == "share of the rows that are right"
    assert _meaning("f1_macro_present", True).endswith("; mean over the labels that occur here")
    assert _meaning("roc_auc_micro", True).endswith("; over all labels together")


def test_few_rows_have_no_intervals(arrays: dict[str, Any]) -> None:
    def on(rows: slice, head: str, right: bool = False) -> Any:
        references = arrays["references"][head][rows]
        logits = np.eye(2)[references] if right else arrays["logits"][head][rows]
        given = {"logits": {head: logits}, "references": {head: references}, "texts": arrays["texts"][rows]}
        return make_report({head: HEADS[head]}, **given, n_resamples=100).heads[head]

    four = on(slice(10, 14), "mood")
    assert four.intervals == {}
    assert four.main_interval == f"{four.figures['f1']:.3f} (too few rows)"
    # the same in every bootstrap sample, which is no evidence that it is exact
    twenty = on(slice(10, 30), "mood", right=True)
    assert twenty.intervals == {}
    assert twenty.main_interval == "1.000 (no interval)"
    assert " to " in on(slice(10, 30), "mood").main_interval


def test_a_model_that_never_predicts_a_label_is_worse_than_its_baseline(arrays: dict[str, Any]) -> None:
    calm = np.tile(np.array([9.0, -9.0], dtype=np.float32), (ROWS, 1))
    given = {**arrays, "logits": {**arrays["logits"], "mood": calm}}
    own = make_report(HEADS, **given, n_resamples=100, baseline=baselines(arrays, 1.0)).heads["mood"]
    assert "f1" not in own.intervals  # it is 0 in every sample
    assert own.main_interval == "0.000 (no interval)"
    assert own.baseline_warning is not None
    assert "the encoder was not worth its cost" in own.baseline_warning
