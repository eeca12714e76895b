"""make readme: run what the pages show, and write into them what it puts out.

The whole of `make test` takes minutes: its last lines are written only if TESTS is set in the
environment (`make readme TESTS=1`).
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Final

import order_service.config
import payment_service.config
from deploy.processes import ROOT, Pair, running
from deploy.transcript import commands_of, masked, play, with_outputs
from service_kit.settings import ServiceSettings

README: Final = ROOT / "README.md"
GRPCURL: Final = ROOT / "docs" / "grpcurl.md"

# Where the services of `make serve` listen, which is where the pages say they do.
ORDERS: Final = "127.0.0.1:50051"
PAYMENTS: Final = "127.0.0.1:50052"

_STEPS_SHOWN: Final = 3
_SNIPPET: Final = re.compile(r"^```python\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
# The coverage and the count, the last that the tests say.
_TEST_RESULTS: Final = re.compile(r"^(?:Required test coverage .*|=+ \d+ passed.*)$", re.MULTILINE)
_SERVICES: Final[Mapping[str, type[ServiceSettings]]] = {
    "ORDER_SERVICE": order_service.config.Settings,
    "PAYMENT_SERVICE": payment_service.config.Settings,
}


def section(page: str, name: str) -> str:
    """Return what stands between the marks of a written section."""
    return _marks(name).search(page)["content"]  # type: ignore[index]


def with_section(page: str, name: str, content: str) -> str:
    """Return the page with this content, if it differs in more than ids, times and ports."""
    if masked(section(page, name)) == masked(content):
        return page
    return _marks(name).sub(lambda found: f"{found['begin']}{content}{found['end']}", page)


def demo_section(output: str) -> str:
    """Show what the demo put out: its first steps and its end at once, the rest on request."""
    first, _, rest = output.partition(f"\n\n{_STEPS_SHOWN + 1:>2}  ")
    end = re.search(r"^✓ .*$", rest, re.MULTILINE)
    assert end is not None
    return (
        f"```console\n$ make demo\n{first}\n\n…\n\n{end[0]}\n```\n\n"
        "<details>\n<summary>All of it</summary>\n\n"
        f"```text\n{output}```\n\n</details>\n"
    )


def tests_section() -> str:
    """Run all tests and show how they end."""
    lines = _TEST_RESULTS.findall(_run(["make", "test"]))
    return "\n".join(["```console", "$ make test", "…", *lines, "```", ""])


def settings_section() -> str:
    """Describe the settings of both services in one table."""
    rows: dict[str, tuple[list[str], str]] = {}
    for prefix, settings in _SERVICES.items():
        for name, field in settings.model_fields.items():
            variable = settings.variable(name)
            if all(name in other.model_fields for other in _SERVICES.values()):
                variable = re.sub(rf"^{prefix}_", "…_", variable)
            extra = field.json_schema_extra
            accepts = extra["accepts"] if isinstance(extra, dict) else ""
            default = _written(field.default)
            defaults, _ = rows.setdefault(variable, ([], f"{field.description} ({accepts})"))
            if default not in defaults:
                defaults.append(default)
    lines = ["| Variable | Default | Meaning (accepts) |", "| --- | --- | --- |"]
    for variable, (defaults, meaning) in rows.items():
        shown = ", ".join(f"`{default}`" for default in defaults if default)
        lines.append(f"| `{variable}` | {shown} | {meaning} |")
    return "\n".join([*lines, ""])


def snippet_section(page: str, pair: Pair) -> str:
    """Run the page's Python client against running services."""
    [source] = _SNIPPET.findall(page)
    output = _run([sys.executable, "-c", source.replace(ORDERS, pair.order.address)])
    return f"```text\n{output}```\n"


def grpcurl_outputs(page: str, pair: Pair) -> list[str]:
    """Run the page's grpcurl commands against running services."""
    addresses = {ORDERS: pair.order.address, PAYMENTS: pair.payment.address}
    return play(commands_of(page), folder=ROOT, addresses=addresses)


def main() -> int:
    """Write both pages anew."""
    readme, grpcurl = README.read_text("utf-8"), GRPCURL.read_text("utf-8")
    readme = with_section(
        readme, "make demo", demo_section(_run([sys.executable, "deploy/demo.py"]))
    )
    readme = with_section(readme, "settings", settings_section())
    with running() as pair:
        readme = with_section(readme, "buy.py", snippet_section(readme, pair))
    # This page begins on empty databases.
    with running() as pair:
        grpcurl = with_outputs(grpcurl, grpcurl_outputs(grpcurl, pair))
    if os.environ.get("TESTS"):
        readme = with_section(readme, "make test", tests_section())
    README.write_text(readme, "utf-8")
    GRPCURL.write_text(grpcurl, "utf-8")
    return 0


def _written(default: object) -> str:
    """Write a default as a variable would hold it."""
    if default is None:
        return ""
    return str(default).lower() if isinstance(default, bool) else str(default)


def _marks(name: str) -> re.Pattern[str]:
    return re.compile(
        rf"(?P<begin>^<!-- {re.escape(name)}: .*? -->\n)(?P<content>.*?)(?P<end>^<!-- end -->$)",
        re.MULTILINE | re.DOTALL,
    )


def _run(command: list[str]) -> str:
    done = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{command} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
