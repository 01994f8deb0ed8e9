"""The command that shows a saved model as a page."""

import os
import signal
import sys
import tempfile
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer
from transformers import pipeline

from ..inference.loading import load_model, saved_config
from ..model.modeling_multihead import TASK
from ..publishing.card import CardFacts, read_facts
from .options import NAME, ModelArgument, app

if TYPE_CHECKING:
    from ..inference.demo import DemoSettings

HERE = ("127.0.0.1", "localhost", "::1")


@app.command("demo", short_help="Show a model as a page in a browser.")
def demo_command(
    model: ModelArgument,
    host: Annotated[
        str, typer.Option(help="Address to listen at. 0.0.0.0 shows the page to everyone who can reach this machine.")
    ] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Default: the first free one from 7860.", min=1, max=65535)] = None,
    title: Annotated[str | None, typer.Option(help="Of the page. Default: the model's name.")] = None,
    example: Annotated[
        list[str] | None, typer.Option(help="A text to try; also several. Default: the widget texts of the card.")
    ] = None,
    max_rows: Annotated[int, typer.Option(help="Rows of an uploaded file, at most.", min=1)] = 1_000,
    max_file_mb: Annotated[float, typer.Option(help="Size of an uploaded file, at most.", min=0.001)] = 5,
    max_chars: Annotated[int, typer.Option(help="Characters of a text, at most.", min=1)] = 20_000,
    space: Annotated[
        str | None, typer.Option(help="Start nothing; write the page into this folder, as a Hugging Face Space.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Also write a Space into a folder that holds something.")
    ] = False,
) -> None:
    """Show a saved model as a page for a browser: labels and probabilities of a text, and files of texts."""
    if find_spec("gradio") is None:
        raise ImportError('the demo page needs gradio: pip install "multihead-hf[demo]"')
    from ..inference.demo import DemoSettings

    pairs = len(saved_config(model).text_columns or ["text"]) > 1
    if pairs and example:
        raise typer.BadParameter("the model reads pairs of texts, and an example is one text", param_hint="--example")
    here = os.path.isdir(model)
    facts = read_facts(model) if here else CardFacts()
    settings = DemoSettings(
        title=title or os.path.basename(os.path.abspath(model) if here else model),
        examples=example or ([] if pairs else facts.widget_texts),
        max_rows=max_rows,
        max_file_mb=max_file_mb,
        max_chars=max_chars,
    )
    if space is not None:
        from ..inference.space import write_space

        write_space(space, model, settings, facts.license, overwrite)
        print(f"The Space is {space}: look at it with python {os.path.join(space, 'app.py')}")
        return
    if host not in HERE:
        print(f"{NAME}: everyone who can reach {host} can use this page, without a password", file=sys.stderr)
    _serve(model, settings, host, port)


def _serve(model: str, settings: "DemoSettings", host: str, port: int | None) -> None:
    """Show the page until Ctrl+C."""
    from ..inference.demo import Demo
    from ..inference.explanation import explain

    loaded, tokenizer = load_model(model)
    demo = Demo(pipeline(TASK, model=loaded, tokenizer=tokenizer), settings, explain)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the page as Ctrl+C does
    with tempfile.TemporaryDirectory(prefix="multihead-demo-") as uploads:
        # uploads are for this user's eyes only, and go with the page; gradio asks for the folder when it is imported
        os.environ["GRADIO_TEMP_DIR"] = uploads
        from ..inference.demo_page import build_page, launch_page

        page = build_page(demo)
        try:
            launch_page(page, demo, host, port)
        except OSError as error:
            place = f"{host}, port {port or '7860 to 7959'}"
            raise ValueError(f"the page cannot listen at {place}: give another --port or --host") from error
        print(f"The page is {page.local_url} (Ctrl+C ends it)", flush=True)
        page.block_thread()
