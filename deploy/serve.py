"""make serve: both services, migrated, kept running until Ctrl-C or until one of them ends."""

import argparse
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from ipaddress import IPv4Address
from pathlib import Path
from queue import SimpleQueue
from typing import Final

import order_service.config
import payment_service.config
from deploy import credentials
from deploy.connections import Connections, Plain, Secured
from deploy.processes import ROOT, NotServing, ServiceProcess, free_ports
from service_kit.server import wait_for
from service_kit.settings import ServiceSettings, SettingsError, load

_ANY_ADDRESS: Final = {str(IPv4Address(0)): "127.0.0.1", "::": "::1"}

SETTINGS: Final[Mapping[str, type[ServiceSettings]]] = {
    "payment_service": payment_service.config.Settings,
    "order_service": order_service.config.Settings,
}


def main() -> int:
    """Serve with the settings of the environment. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Keep both services running.")
    parser.add_argument(
        "--secured",
        metavar="FOLDER",
        type=Path,
        nargs="?",
        const=credentials.FOLDER,
        help=f"with the credentials in the folder; default: {credentials.FOLDER}",
    )
    folder: Path | None = parser.parse_args().secured
    connections: Connections = Plain()
    if folder is not None:
        if not (folder / credentials.SETTINGS).exists():
            sys.stderr.write(f"{folder} holds no credentials; first run: make certs\n")
            return 2
        connections = Secured(folder)
        os.environ.update(connections.variables)
    try:
        settings = _load()
    except SettingsError as error:
        sys.stderr.write(f"wrong settings:\n{error}\n")
        return 2
    for module, its in settings.items():
        # The embedded database is migrated by its service as it starts.
        if its.database_url and (code := _migrate(module)):
            return code
    return _keep(_processes(settings, connections))


def _load() -> dict[str, ServiceSettings]:
    settings: dict[str, ServiceSettings] = {}
    mistakes: list[str] = []
    for module, kind in SETTINGS.items():
        try:
            settings[module] = load(kind)
        except SettingsError as error:
            mistakes += error.mistakes
    if mistakes:
        # Each service tells of the settings that both share.
        raise SettingsError(mistakes=dict.fromkeys(mistakes))
    return settings


def _migrate(module: str) -> int:
    return subprocess.run(
        [sys.executable, "-m", module, "migrate"], cwd=ROOT, check=False
    ).returncode


def _processes(
    settings: Mapping[str, ServiceSettings], connections: Connections
) -> list[ServiceProcess]:
    variables, addresses, metrics = dict(os.environ), {}, dict[str, str]()
    free = iter(free_ports(2 * len(settings)))  # drawn together: no two are the same
    for module, its in settings.items():
        port = its.port or next(free)
        variables[its.variable("port")] = str(port)
        host = _ANY_ADDRESS.get(its.host, its.host)
        addresses[module] = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if its.metrics_port is not None:
            port = its.metrics_port or next(free)
            variables[its.variable("metrics_port")] = str(port)
            metrics[module] = f"http://127.0.0.1:{port}/metrics"
    target = order_service.config.Settings.variable("payment_target")
    variables.setdefault(target, addresses["payment_service"])
    return [
        ServiceProcess(
            module,
            address=address,
            variables=variables,
            metrics=metrics.get(module, ""),
            connections=connections,
        )
        for module, address in addresses.items()
    ]


def _keep(processes: list[ServiceProcess]) -> int:
    # What is put: a signal's number, or the process that ended.
    events: SimpleQueue[int | ServiceProcess] = SimpleQueue()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: events.put(received))
    try:
        for process in processes:
            process.start()
            threading.Thread(target=_watch, args=(process, events), daemon=True).start()
        for process in processes:
            process.wait_until_serving()
        for process in processes:
            print(f"{process.module:<16} listens on {process.address}", flush=True)
            if process.metrics:
                print(f"{'':<16} metrics at {process.metrics}", flush=True)
        print("Ctrl-C ends both.", flush=True)
        ended = wait_for(events)
    except NotServing as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        for process in processes:
            process.terminate()
        codes = [process.stop() for process in processes]
    if isinstance(ended, ServiceProcess):
        sys.stderr.write(f"{ended.module} ended by itself\n")
        return 1
    return 0 if codes == [0, 0] else 1


def _watch(process: ServiceProcess, events: "SimpleQueue[int | ServiceProcess]") -> None:
    process.wait()
    events.put(process)


if __name__ == "__main__":
    sys.exit(main())
