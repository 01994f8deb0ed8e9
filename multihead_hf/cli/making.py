"""Commands that write model cards and models."""

import json
import os
from typing import Annotated, Literal

import typer

from ..inference.loading import saved_config
from ..publishing.card import CARD, add_report_folder, check_given, read_facts, write_card
from .options import app, check_folder


@app.command("card", short_help="Write the model card anew.")
def card_command(
    model: Annotated[str, typer.Argument(help="Folder of a saved multi-head model.")],
    report: Annotated[
        str | None, typer.Option(help="Folder of a report: its figures, intervals and pictures go into the card.")
    ] = None,
    rows_name: Annotated[str | None, typer.Option(help="What to call the rows of the report.")] = None,
    model_id: Annotated[str | None, typer.Option(help="Repository on the Hub, for the code in the card.")] = None,
    base_model: Annotated[str | None, typer.Option(help="The pretrained encoder on the Hub.")] = None,
    language: Annotated[list[str] | None, typer.Option(help="Code of a language, such as nl; also several.")] = None,
    license_id: Annotated[str | None, typer.Option("--license", help="Identifier, such as apache-2.0.")] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="On the Hub, that was trained on; also several.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A further tag; also several.")] = None,
    widget_text: Annotated[
        list[str] | None, typer.Option(help="A text to try the model with; it is published. Also several.")
    ] = None,
    limits: Annotated[str | None, typer.Option(help="What the model is not for, in your words.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Also replace a card that somebody changed.")] = False,
) -> None:
    """Write the model card anew (README.md, model_card.json): what was known when the model was saved, and more."""
    config = saved_config(model)
    check_folder(model)
    facts = read_facts(model)
    said = {
        "base_model": base_model,
        "language": language,
        "license": license_id,
        "datasets": dataset,
        "tags": tag,
        "widget_texts": widget_text,
        "limits": limits,
    }
    said = {name: value for name, value in said.items() if value}
    if tag:
        said["tags"] = [*facts.tags, *(each for each in tag if each not in facts.tags)]
    for name, value in check_given(said).items():
        setattr(facts, name, value)
    facts.model_id = model_id or facts.model_id or os.path.basename(os.path.abspath(model))
    pictures = {} if report is None else add_report_folder(facts, config, report, rows_name)
    if not write_card(model, config, facts, pictures, replace):
        raise ValueError(f"{os.path.join(model, CARD)} was written or changed by somebody: --replace writes it anew")
    print(f"The card is {os.path.join(model, CARD)}")


@app.command("convert", short_help="Make a multi-head model of an older checkpoint.")
def convert_command(
    kind: Annotated[
        Literal["wimbert", "ggu", "sequence-classification"],
        typer.Argument(
            help="wimbert: encoder, label_names.json and dual_head_state.pt. ggu: pretrained/backbone and a *.pth. "
            "sequence-classification: of AutoModelForSequenceClassification (BERT, RoBERTa, XLM-R, CamemBERT, ELECTRA, "
            "DeBERTa, DistilBERT), several if on one encoder."
        ),
    ],
    source: Annotated[
        list[str],
        typer.Argument(help="Folder of the old checkpoint; for sequence-classification also a name on the Hub."),
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="Folder of the new model.")],
    labels: Annotated[
        list[str] | None,
        typer.Option(help="ggu: NAME=LABEL,LABEL,LABEL (or a JSON list) for each head, in the order of its logits."),
    ] = None,
    pooling: Annotated[
        Literal["cls", "mean", "max", "last"] | None,
        typer.Option(help="ggu: as the old model read the encoder. Default: cls."),
    ] = None,
    state_file: Annotated[str | None, typer.Option(help="ggu: which *.pth, where there are several.")] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="sequence-classification: name of the head, one for each folder.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Also write into a folder that holds something.")
    ] = False,
) -> None:
    """Make a multi-head model of an older checkpoint, and compare the logits. Pickles are read as plain data only."""
    from ..publishing import convert

    convert.check_output(output, source, overwrite)
    for option, value, reader in (
        ("--labels", labels, "ggu"),
        ("--pooling", pooling, "ggu"),
        ("--state-file", state_file, "ggu"),
        ("--name", name, "sequence-classification"),
    ):
        if value and kind != reader:
            raise typer.BadParameter(f"{kind} does not read it, {reader} does", param_hint=option)
    if kind != "sequence-classification" and len(source) > 1:
        raise typer.BadParameter("one folder at a time", param_hint="SOURCE")
    if kind == "wimbert":
        found = convert.convert_wimbert(source[0])
    elif kind == "ggu":
        found = convert.convert_ggu(source[0], label_names(labels or []), pooling or "cls", state_file)
    else:
        if len(name or []) != len(source):
            raise typer.BadParameter(f"give a name for each of {len(source)} heads", param_hint="--name")
        pairs = zip(source, name or [], strict=True)
        found = convert.join([convert.convert_sequence_classification(each, head) for each, head in pairs])
    convert.save_converted(found, output)
    print(f"{found}\nThe model is {output}")


def label_names(options: list[str]) -> dict[str, list[str]]:
    """Head → names of its labels, of `NAME=LABEL,LABEL` and `NAME=["LABEL","LABEL"]`.

    Raises:
        BadParameter: none of these, or a head twice.
    """
    found: dict[str, list[str]] = {}
    for option in options:
        head, equals, names = (part.strip() for part in option.partition("="))
        if not equals or head in found:
            raise typer.BadParameter("give NAME=LABEL,LABEL once for each head", param_hint="--labels")
        if not names.startswith("["):
            found[head] = [name.strip() for name in names.split(",")]
            continue
        try:
            found[head] = json.loads(names)
        except ValueError as error:
            raise typer.BadParameter(f"{option!r} is no JSON list of labels: {error}", param_hint="--labels") from None
    return found
