"""A picture of each case: what a call costs the server, how many there are, and the slowest."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib import pyplot as plt
from PIL import Image

from bench.cases import Case
from bench.run import Series
from bench.table import told_goals

_PANELS: Final[Mapping[str, str]] = {
    "cpu_us": "server CPU, µs per call",
    "calls_per_second": "calls per second",
    "p99_ms": "p99, ms",
}
_INCHES: Final = (11, 3.9)
_DOTS_PER_INCH: Final = 100
_COLOURS: Final = 64
# So far apart, as a factor, that the ranges of lines do not cover each other.
_BESIDE: Final = 1.06

mpl.use("agg")


def draw(case: Case, result: dict[str, Any], folder: Path) -> Path:
    """Draw a case into a folder: a point is the median of the rounds, its bar their range."""
    series: Sequence[Series] = result["series"]
    figure, axes = plt.subplots(1, len(_PANELS), figsize=_INCHES, layout="constrained")
    for panel, (measure, heading) in zip(axes, _PANELS.items(), strict=True):
        _draw_lines(panel, series, measure)
        panel.set_title(heading, fontsize=10)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8
    )
    commit, rounds = result["machine"]["commit"], result["size"]["rounds"]
    title = f"{case.title} ({commit}, median and range of {rounds} rounds)"
    figure.suptitle("\n".join([title, *told_goals(case, series)]), fontsize=10)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{case.name}.png"
    drawn = BytesIO()
    figure.savefig(drawn, dpi=_DOTS_PER_INCH)
    plt.close(figure)
    # So few colours make a file of a third of the size.
    Image.open(drawn).quantize(_COLOURS).save(file, optimize=True)
    return file


def _draw_lines(panel: Any, series: Sequence[Series], measure: str) -> None:
    for number, name in enumerate(dict.fromkeys(one.subject for one in series)):
        mine = [one for one in series if one.subject == name]
        middles = [one.median(measure) for one in mine]
        panel.errorbar(
            [one.concurrency * _BESIDE**number for one in mine],
            middles,
            yerr=_ranges(mine, measure, middles),
            label=name,
            marker="o",
            markersize=4,
            linewidth=1.2,
            elinewidth=1,
            capsize=2,
        )
    places = sorted({one.concurrency for one in series})
    panel.set_xscale("log", base=2)
    panel.set_xticks(places, [str(place) for place in places])
    panel.set_xlim(places[0] / 2, places[-1] * 2)
    panel.set_xlabel("calls at a time", fontsize=9)
    if measure == "p99_ms" and len(places) > 1:
        # A hundred times as much at 256 at a time as at one.
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter("{x:,g}")
    else:
        panel.set_ymargin(0.1)
        panel.set_ylim(bottom=0)
    panel.tick_params(labelsize=8)
    panel.minorticks_off()
    panel.grid(axis="y", linewidth=0.4)


def _ranges(
    series: Sequence[Series], measure: str, middles: Sequence[float]
) -> tuple[list[float], list[float]]:
    values = [one.values[measure] for one in series]
    below = [middle - min(of) for middle, of in zip(middles, values, strict=True)]
    above = [max(of) - middle for middle, of in zip(middles, values, strict=True)]
    return below, above
