"""`multihead-hf card`: update the model card."""

import os
from typing import Annotated, Any

import typer

from .expansion import library
from .options import check_folder


def command(
    model: Annotated[str, typer.Argument(help="Folder of a saved multi-head model.")],
    known: Annotated[
        dict[str, Any],
        library(
            "publishing.card_facts.CardFacts",
            *("model_id", "base_model", "language", "license", "datasets", "tags", "widget_texts", "limits"),
        ),
    ],
    report: Annotated[
        str | None, typer.Option(help="Folder of a report: its metrics, intervals and pictures go into the card.")
    ] = None,
    rows_name: Annotated[str | None, typer.Option(help="Name of the report's rows in the card.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Also replace a card that was edited by hand.")] = False,
) -> None:
    """Write the model card again (README.md, model_card.json), from the stored facts and the options given."""
    from ..prediction.loading import check_weights, saved_config
    from ..publishing.card import CARD, add_report_folder, read_facts, write_card
    from ..publishing.card_facts import check_given, shown_path

    config = saved_config(model)
    check_folder(model)
    check_weights(model)
    facts = read_facts(model)
    options = {name: value for name, value in known.items() if value and name != "model_id"}
    if "tags" in options:
        options["tags"] = [*facts.tags, *(tag for tag in options["tags"] if tag not in facts.tags)]
    for name, value in check_given(options).items():
        setattr(facts, name, value)
    facts.model_id = known["model_id"] or facts.model_id or shown_path(model)
    pictures = {} if report is None else add_report_folder(facts, config, report, rows_name)
    if not write_card(model, config, facts, pictures, replace):
        raise ValueError(f"{os.path.join(model, CARD)} was written or edited by hand: --replace overwrites it")
    print(f"The card is {os.path.join(model, CARD)}")
