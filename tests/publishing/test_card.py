"""The model card: a pure function of configuration and facts."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from huggingface_hub import ModelCard

from multihead_hf import HeadConfig, MultiHeadConfig
from multihead_hf.publishing.card import CARD, FACTS, read_facts, write_card
from multihead_hf.publishing.card_facts import CardFacts, check_given
from multihead_hf.publishing.card_markdown import MARK, model_card

HEADS = {
    "topic|1": HeadConfig(
        labels=["roads", "<b>waste</b> | noise", "_under_"],
        problem_type="multi_label_classification",
        thresholds=[0.3, 0.5, 0.7],
    ),
    "mood": HeadConfig(labels=["calm", "angry"], positive_label="angry", calibration_temperature=1.5),
}
METRICS = {
    "topic|1_f1_micro": 0.75,
    "topic|1_accuracy": 0.5,
    "mood_f1": 2 / 3,
    "mood_accuracy": 0.9,
    "mood_mcc": 0.1,
}


def config(**settings: Any) -> MultiHeadConfig:
    return MultiHeadConfig(encoder=tiny.bert_config(dropout=0.0), heads=HEADS, **settings)


def full() -> CardFacts:
    return CardFacts(
        model_id="me/complaints",
        base_model="jhu-clsp/mmBERT-base",
        language=["nl", "en"],
        license="apache-2.0",
        datasets=["me/rows"],
        tags=["municipality"],
        widget_texts=['Het "afval" ligt er nog'],
        limits="Not for decisions about people.",
        evaluations=[
            {
                "name": "test",
                "rows": 1234,
                "confidence_level": 0.95,
                "metrics": METRICS,
                "intervals": {"topic|1": {"f1_micro": [0.7, 0.8]}},
            }
        ],
        training={
            "rows": 12000,
            "epochs": 15.0,
            "steps": 11250,
            "labels": {"topic|1": {"roads": 5000, "<b>waste</b> | noise": 3, "_under_": 0}},
            "hyperparameters": {"learning_rate": 8e-5, "optim": "paged_adamw_8bit"},
        },
        versions={"transformers": "5.0"},
        pictures=[{"path": "assets/mood.png", "title": "F1", "alt": "F1 of mood"}],
    )


def test_metadata_is_what_the_hub_reads() -> None:
    card = ModelCard(model_card(config(), full()), ignore_metadata_errors=False)
    data = card.data
    assert data.language == ["nl", "en"]
    assert data.license == "apache-2.0"
    assert data.library_name == "transformers"
    assert data.pipeline_tag == "text-classification"
    assert data.base_model == "jhu-clsp/mmBERT-base"
    assert data.datasets == ["me/rows"]
    assert set(data.metrics) == {"f1"}
    assert {"multihead_hf", "multi-label-classification", "municipality"} <= set(data.tags)
    assert data.widget == [{"text": 'Het "afval" ligt er nog'}]
    results = data.eval_results
    assert {(each.task_name, each.metric_name) for each in results} == {
        ("topic|1", "topic|1_f1_micro"),
        ("topic|1", "topic|1_accuracy"),
        ("mood", "mood_f1"),
        ("mood", "mood_accuracy"),
        ("mood", "mood_mcc"),
    }
    assert {each.dataset_type for each in results} == {"me/rows"}
    assert {each.dataset_name for each in results} == {"test"}
    by_name = {each.metric_name: each for each in results}
    assert by_name["mood_f1"].metric_value == pytest.approx(2 / 3, abs=1e-6)
    assert by_name["mood_mcc"].metric_type == "matthews_correlation"


def test_one_result_for_each_head() -> None:
    metadata = yaml.safe_load(model_card(config(), full()).split("---\n")[1])
    (entry,) = metadata["model-index"]
    assert entry["name"] == "complaints"
    assert [result["task"]["name"] for result in entry["results"]] == ["topic|1", "mood"]


def test_text_says_all_that_is_known() -> None:
    text = model_card(config(max_length=128, truncation="head+tail"), full())
    for part in (
        "| `f1_micro` | 0.750 | 0.700 to 0.800 |",
        "On test, 1,234 rows; intervals are 95 % bootstrap confidence intervals",
        "| roads | 5,000 | 0.300 |",
        r"| &lt;b&gt;waste&lt;/b&gt; \| noise | 3 | 0.500 |",
        r"| \_under\_ | 0 | 0.700 |",
        "12,000 rows, 15 epochs, 11,250 steps",
        "| `learning_rate` | 8e-05 |",
        "![F1 of mood](assets/mood.png)",
        "Not for decisions about people.",
        "longer than 128 tokens are truncated to their beginning and end",
        r"topic\|1: fewer than 10 training rows for &lt;b&gt;waste&lt;/b&gt; \| noise, \_under\_",
        'predict("Het \\"afval\\" ligt er nog")',
        "max_length=128",
    ):
        assert part in text, part
    # tables are whole: no empty line or comment inside
    lines = text.splitlines()
    for place, line in enumerate(lines):
        if line.startswith("|---"):
            assert lines[place - 1].startswith("| ")
            assert lines[place + 1].startswith("| ")
            assert line.count("|") == lines[place - 1].count("|")
    assert "calibrated" not in text  # one head is
    assert "\n\n\n" not in text


def test_a_linear_baseline_has_a_column() -> None:
    facts = full()
    without = model_card(config(), facts)
    assert "baseline" not in without
    figures = {"f1_micro": 0.7, "accuracy": 0.4, "accuracy_cells": 0.9}
    facts.evaluations[0]["baseline"] = {"topic|1": {"rows": 10000, "figures": figures}}
    text = model_card(config(), facts)
    for part in (
        "| Head | Metric | Value | Interval | Linear baseline |",
        "| `f1_micro` | 0.750 | 0.700 to 0.800 | 0.700 |",
        r"| topic\|1 | `accuracy` | 0.500 |  | 0.400 |",
        "| mood | `f1` | 0.667 |  | – |",
        r"with logistic regression, trained on 10,000 rows (topic\|1) and evaluated on the same rows",
    ):
        assert part in text, part
    assert text.split("---\n")[1] == without.split("---\n")[1]  # of the model only
    assert "is ahead of this model" not in text
    figures["f1_micro"] = 0.8
    assert r"- topic\|1: the linear baseline is ahead of this model in `f1_micro`, 0.800 to 0.750." in model_card(
        config(), facts
    )
    facts.evaluations[0]["baseline"]["of a head that went"] = {"rows": 1, "figures": {}}
    assert "of a head that went" not in model_card(config(), facts)


def test_nothing_is_invented() -> None:
    heads = {
        "mood": HeadConfig(labels=["calm", "angry"]),
        "topic": HeadConfig(labels=["a"], problem_type="multi_label_classification"),
    }
    text = model_card(MultiHeadConfig(encoder=tiny.bert_config(dropout=0.0), heads=heads), CardFacts())
    data = ModelCard(text, ignore_metadata_errors=False).data.to_dict()
    assert set(data) == {"library_name", "pipeline_tag", "tags"}
    assert "## Evaluation" not in text
    assert "## Training" not in text
    assert "None" not in text
    assert "No evaluation is recorded." in text
    assert "thresholds were not tuned" in text
    assert "Probabilities are not calibrated" in text


def test_pure_and_deterministic() -> None:
    facts = full()
    before = json.dumps(facts.__dict__, sort_keys=True)
    assert model_card(config(), facts) == model_card(config(), facts)
    assert json.dumps(facts.__dict__, sort_keys=True) == before


def test_stale_figures_are_said_to_be() -> None:
    facts = full()
    facts.evaluations[0]["stale"] = True
    assert "were changed after the metrics above" in model_card(config(), facts)


def test_figures_that_are_none_are_refused() -> None:
    facts = full()
    facts.evaluations[0]["metrics"] = {"mood_f1": float("nan")}
    with pytest.raises(ValueError, match=r"\['mood_f1'\] are not finite"):
        model_card(config(), facts)


def test_a_card_of_somebody_else_stays(tmp_path: Path) -> None:
    assert write_card(tmp_path, config(), CardFacts(model_id="a"))
    assert write_card(tmp_path, config(), full(), {"assets/mood.png": b"png"})
    assert (tmp_path / "assets" / "mood.png").read_bytes() == b"png"
    assert read_facts(tmp_path) == full()
    own = (tmp_path / CARD).read_text().replace(MARK, "") + "\nMy words."
    (tmp_path / CARD).write_text(own)
    assert not write_card(tmp_path, config(), CardFacts(model_id="b"))
    assert (tmp_path / CARD).read_text() == own
    assert read_facts(tmp_path) == CardFacts(model_id="b")  # what is known is kept for a card to come
    assert write_card(tmp_path, config(), CardFacts(), replace=True)
    assert "My words" not in (tmp_path / CARD).read_text()


def test_facts_that_cannot_be_read(tmp_path: Path) -> None:
    assert read_facts(tmp_path) == CardFacts()
    for content in ("{", '{"colour": 1}', "[]"):
        (tmp_path / FACTS).write_text(content)
        with pytest.raises(ValueError, match="delete it, and the card is made without it"):
            read_facts(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pictures": [{"path": "javascript:alert(1)", "title": "x", "alt": "x"}]}, "is not a picture in assets/"),
        ({"pictures": [{"path": "assets/../../etc/passwd.png", "title": "x", "alt": "x"}]}, "is not a picture"),
        ({"pictures": [{"path": "assets/a.png"}]}, "pictures, title is None"),
        ({"pictures": ["assets/a.png"]}, "is 'assets/a.png', not a dict"),
        ({"base_model": "x)](javascript:alert(1)"}, "which is not a valid repository name on the Hub"),
        ({"datasets": ["me/rows](http://evil)"]}, "which is not a valid repository name on the Hub"),
        ({"datasets": [5]}, "give a list of strings"),
        ({"language": "nl"}, "language is 'nl'"),
        ({"license": 5}, "license is 5"),
        ({"model_id": ["me/x"]}, "model_id is"),
        ({"versions": {"torch": None}}, "versions, torch is None"),
        ({"training": {"without_rows": "mood"}}, "without_rows is 'mood', not a list"),
        ({"evaluations": [5]}, "evaluations is 5, not a dict"),
        ({"evaluations": [{"metrics": {"mood_f1": "high"}}]}, "metrics, mood_f1 is 'high'"),
        ({"evaluations": [{"metrics": {}, "heads": {"mood": ["a"]}}]}, "heads, mood is ['a'], not two digests"),
        ({"evaluations": [{}]}, "metrics is None, not a dict"),
        ({"evaluations": [{"metrics": {}, "intervals": {"mood": {"f1": [1]}}}]}, "not two numbers"),
        ({"evaluations": [{"metrics": {}, "baseline": {"mood": {"rows": 1}}}]}, "mood is None, not a dict"),
        ({"training": {"labels": {"mood": [1, 2]}}}, "mood is"),
        ({"training": {"rows": "many"}}, "rows is 'many', not a number"),
        ({"training": {"hyperparameters": {"` [x](y) `": 1}}}, "is not the name of a setting"),
    ],
)
def test_facts_that_somebody_changed_never_reach_a_card(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write_card(tmp_path, config(), full())
    path = tmp_path / FACTS
    assert read_facts(tmp_path) == full()
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        read_facts(tmp_path)
    assert str(path) in str(error.value)


def test_what_is_given() -> None:
    assert check_given({"language": "nl", "license": "mit"}) == {"language": ["nl"], "license": "mit"}
    with pytest.raises(ValueError, match=r"no field 'licence'\. Did you mean 'license'\?"):
        check_given({"licence": "mit"})
    with pytest.raises(ValueError, match="'tags' is 3: give a list of strings"):
        check_given({"tags": 3})
    with pytest.raises(ValueError, match="model_card is 'nl': give a dict"):
        check_given("nl")


def test_few_rows_and_labels_that_do_not_occur_are_said() -> None:
    metrics = {"topic|1_f1_micro": 0.5, "topic|1_f1_macro": 0.286, "topic|1_f1_macro_present": 0.75}
    facts = CardFacts(evaluations=[{"name": "test", "rows": 16, "metrics": metrics}], training={"encoder": "MiniLM"})
    text = model_card(config(), facts)
    assert r"| topic\|1 | `f1_macro` | 0.286 |" in text
    assert r"| topic\|1 | `f1_macro_present` | 0.750 |" in text
    assert "- The metrics on test are of 16 rows only, and may be quite different on other texts." in text
    assert "Encoder: MiniLM, `bert` with" in text
    every = {**metrics, "topic|1_f1_macro_present": 0.286}
    text = model_card(config(), CardFacts(evaluations=[{"name": "test", "rows": 160, "metrics": every}]))
    assert "`f1_macro_present` | 0" not in text
    assert "rows only" not in text
