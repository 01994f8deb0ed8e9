"""Make `report.png`, the picture in README.md, from a report of this library.

    make train
    .venv/bin/python docs/images/make_report.py runs/wimbert-demo/_report --head beleving

It shows the main score of each head with its interval, beside the linear baseline, and four pictures of one head as
they are in the report.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from PIL import Image

WANTED = ("labels", "precision_recall", "thresholds", "reliability")
TITLES = ("F1 by label", "Precision and recall", "Scores at a common threshold", "Reliability of the probabilities")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="folder of a report")
    parser.add_argument("--head", required=True, help="the head whose pictures are shown")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_name("report.png"))
    options = parser.parse_args()
    report = json.loads((options.report / "report.json").read_text(encoding="utf-8"))
    draw(report, options.report, options.head, options.output)
    print(f"{options.output}: {options.output.stat().st_size:,} bytes")


def draw(report: dict[str, Any], folder: Path, head: str, output: Path) -> None:
    """The scores of all heads above the pictures of one."""
    figure, axes = plt.subplot_mosaic(
        [["heads", "heads"], *[list(WANTED[:2]), list(WANTED[2:])]], figsize=(9, 7.6), height_ratios=[0.45, 2, 2]
    )
    draw_heads(axes["heads"], report)
    for kind, title in zip(WANTED, TITLES, strict=True):
        axes[kind].imshow(plt.imread(picture_of(report, folder, head, kind)))
        axes[kind].set_title(f"{head}: {title}", fontsize=9, loc="left")
        axes[kind].set_anchor("N")
        axes[kind].axis("off")
    figure.tight_layout()
    figure.savefig(output, dpi=110, pil_kwargs={"optimize": True})
    quantise(output)


def draw_heads(axis: Any, report: dict[str, Any]) -> None:
    """A line for each head: its main score with the interval, and that of the linear baseline."""
    names = list(report["heads"])
    for place, name in enumerate(reversed(names)):
        own = report["heads"][name]
        metric = own["main_score"]
        value, interval = own["figures"][metric], own["intervals"][metric]
        axis.plot([interval["low"], interval["high"]], [place, place], color="#1f5fa8", linewidth=2)
        axis.plot(value, place, "o", color="#1f5fa8", label="model" if place == 0 else None)
        baseline = (own["baseline"] or {}).get("figures", {}).get(metric)
        if baseline is not None:
            axis.plot(baseline, place, "s", color="#c0504d", label="linear baseline" if place == 0 else None)
    axis.set_yticks(range(len(names)), [f"{name} ({report['heads'][name]['main_score']})" for name in reversed(names)])
    axis.set_ylim(-0.6, len(names) - 0.4)
    axis.set_title(f"{report['title']}: {report['rows']:,} rows", fontsize=10, loc="left", fontweight="bold")
    axis.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=8, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)


def picture_of(report: dict[str, Any], folder: Path, head: str, kind: str) -> Path:
    """The file of one picture of a head."""
    names = [each["name"] for each in report["pictures"]]
    own = [name for name in names if name.endswith(kind) and name.startswith(head.lower())]
    if len(own) != 1:
        raise SystemExit(f"{folder}: no single picture {kind!r} of head {head!r} among {names}")
    return folder / f"{own[0]}.png"


def quantise(path: Path) -> None:
    """Write a PNG anew with a palette of 256 colours."""

    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(256)
    small.save(path, optimize=True)


if __name__ == "__main__":
    main()
