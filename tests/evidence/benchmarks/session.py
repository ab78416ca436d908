"""What the rows share: the servers, W1 and W2, each made when the first row asks for it."""

import sys
from contextlib import ExitStack
from functools import cached_property
from time import monotonic

from tests.doubles.postgres import EmbeddedPostgres
from tests.evidence.benchmarks.findings import LeftOutError
from tests.evidence.benchmarks.kinds import W1, W2, Kind
from tests.evidence.benchmarks.nginx import Nginx, find_nginx
from tests.evidence.benchmarks.trial import Trial
from tests.evidence.benchmarks.workload import make_workloads


class Session:
    """One run of the suite. `stack` ends what it starts."""

    def __init__(self, stack: ExitStack, scale: float, pairs: int, *, install_dlt: bool = False) -> None:
        self.stack = stack
        self.scale = scale
        self.pairs = pairs
        self.install_dlt = install_dlt
        self._began = monotonic()
        self._trials: dict[Kind, Trial] = {}

    def tell(self, text: str) -> None:
        """Progress, on stderr: the suite takes minutes."""
        print(f"  {monotonic() - self._began:6.1f} s  {text}", file=sys.stderr, flush=True)

    @cached_property
    def postgres(self) -> EmbeddedPostgres:
        self.tell("starting PostgreSQL")
        return self.stack.enter_context(EmbeddedPostgres())

    @cached_property
    def nginx(self) -> Nginx:
        program = find_nginx()
        if program is None:
            raise LeftOutError(
                "nginx is not installed (Debian: apt-get install nginx-light; macOS: brew install nginx)"
            )
        return self.stack.enter_context(Nginx(program))

    @property
    def w1(self) -> Trial:
        return self.trial(W1)

    @property
    def w2(self) -> Trial:
        return self.trial(W2)

    def trial(self, kind: Kind) -> Trial:
        """Raises LeftOutError where nginx isn't installed."""
        if kind not in self._trials:
            nginx = self.nginx
            self.tell(f"making {kind.name}, if it isn't there yet")
            workloads = make_workloads(kind, self.scale)
            self._trials[kind] = Trial(workloads, nginx, self.postgres, self.pairs, self.tell)
        return self._trials[kind]
