"""nginx, if it is installed: serves the workloads from files, without a right or a directory of root's."""

import grp
import os
import pwd
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.doubles.processes import Process, answers, delete, free_port
from tests.evidence.benchmarks.workload import HOME, Workload

_PLACES = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin")
"""Where it may be beside the PATH, which often lacks these."""

_CONFIGURATION = """
daemon off;
worker_processes 1;
{user}
pid {state}/pid;
error_log stderr;
events {{ worker_connections 64; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    default_type application/json;
    client_body_temp_path {state}/body;
    proxy_temp_path {state}/proxy;
    fastcgi_temp_path {state}/fastcgi;
    uwsgi_temp_path {state}/uwsgi;
    scgi_temp_path {state}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root "{root}";
        location = /ready {{ return 200; }}
        location ~ ^/(?<workload>[^/]+)/events$ {{ rewrite ^ /$workload/events.json break; }}
        location ~ ^/(?<workload>[^/]+)/ticket-sales$ {{
            set $page $arg_page;
            if ($page = "") {{ set $page 1; }}
            rewrite ^ /$workload/sales/$page.json break;
        }}
    }}
}}
"""


def find_nginx() -> str | None:
    """The program's path, None where it isn't installed."""
    return shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), *_PLACES]))


class Nginx:
    """Serves `/WORKLOAD/events` and `/WORKLOAD/ticket-sales?page=N` for every workload in HOME."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._state = Path(tempfile.mkdtemp(prefix="veritix-nginx-"))
        self._port = free_port()
        self._process: Process | None = None

    def __enter__(self) -> Self:
        HOME.mkdir(parents=True, exist_ok=True)
        configuration = self._state / "nginx.conf"
        configuration.write_text(_CONFIGURATION.format(user=_user(), state=self._state, port=self._port, root=HOME))
        try:
            self._process = Process(
                "nginx",
                [self._program, "-e", "stderr", "-p", self._state, "-c", configuration],
                log=self._state / "log",
                litter=self._state,
            )
            self._process.wait_until(lambda: answers(f"http://127.0.0.1:{self._port}/ready"))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        if self._process is not None:
            self._process.stop()
        delete(self._state)

    def url(self, workload: Workload) -> str:
        """The upstream's base URL for a workload."""
        return f"http://127.0.0.1:{self._port}/{workload.name}"


def _user() -> str:
    """Root's workers would run as somebody who may not read the files; nobody else may say who they are."""
    if os.geteuid() != 0:
        return ""
    return f"user {pwd.getpwuid(0).pw_name} {grp.getgrgid(os.getgid()).gr_name};"
