"""A picture of each case: what a call costs the server, and how many there are in a second."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib import pyplot as plt

from bench.cases import Case
from bench.run import Series

_PANELS: Final[Mapping[str, str]] = {
    "cpu_us": "server CPU, µs per call",
    "calls_per_second": "calls per second",
    "p99_ms": "p99, ms",
}
_INCHES: Final = (12, 3.6)
_DOTS_PER_INCH: Final = 110

mpl.use("agg")


def draw(case: Case, result: dict[str, Any], folder: Path) -> Path:
    """Draw a case into a folder; a bar is the median of the rounds, its line their range."""
    series: Sequence[Series] = result["series"]
    names = list(dict.fromkeys(one.subject for one in series))
    places = list(dict.fromkeys(one.concurrency for one in series))
    width = 0.8 / len(names)
    figure, axes = plt.subplots(1, len(_PANELS), figsize=_INCHES, layout="constrained")
    for panel, (measure, heading) in zip(axes, _PANELS.items(), strict=True):
        for number, name in enumerate(names):
            mine = [one for one in series if one.subject == name]
            middles = [one.median(measure) for one in mine]
            panel.bar(
                [places.index(one.concurrency) + number * width for one in mine],
                middles,
                width,
                label=name,
                yerr=_ranges(mine, measure, middles),
                error_kw={"elinewidth": 0.8},
            )
        panel.set_title(heading, fontsize=10)
        panel.set_xticks([place + 0.4 - width / 2 for place in range(len(places))], places)
        panel.set_xlabel("calls at a time")
    axes[0].legend(fontsize=8)
    commit = result["machine"]["commit"]
    figure.suptitle(f"{case.title} ({commit})", fontsize=11)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{case.name}.png"
    figure.savefig(file, dpi=_DOTS_PER_INCH)
    plt.close(figure)
    return file


def _ranges(
    series: Sequence[Series], measure: str, middles: Sequence[float]
) -> tuple[list[float], list[float]]:
    values = [one.values[measure] for one in series]
    below = [middle - min(of) for middle, of in zip(middles, values, strict=True)]
    above = [max(of) - middle for middle, of in zip(middles, values, strict=True)]
    return below, above
