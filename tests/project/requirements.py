"""What requirements*.txt pin, and the licences of what is deployed."""

import re
import sys
from dataclasses import dataclass
from importlib.metadata import metadata
from pathlib import Path

from packaging.requirements import Requirement

from tests import ROOT

DEPLOYED = ROOT / "requirements.txt"
SPDX = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "BSD 3-Clause License": "BSD-3-Clause",
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: BSD License": "BSD-3-Clause",
    "License :: OSI Approved :: MIT License": "MIT",
    "https://www.apache.org/licenses/LICENSE-2.0": "Apache-2.0",
}
"""How those write their licence who don't write an SPDX expression; the BSD licences meant have three clauses."""
BY_HAND = {
    "pyasn1-modules": "BSD-2-Clause",  # its metadata says "BSD"; its LICENSE.txt has two clauses
    "python-dateutil": "Apache-2.0 OR BSD-3-Clause",  # "Dual License"
}
_EXPRESSION = re.compile(r"[A-Za-z0-9.-]+( (AND|OR|WITH) [A-Za-z0-9.-]+)*")


@dataclass(frozen=True)
class Pin:
    """One requirement as it stands in a file."""

    requirement: Requirement
    hashes: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.requirement.name

    @property
    def version(self) -> str:
        """Empty unless it is pinned to one."""
        return (re.fullmatch(r"==([^*,]+)", str(self.requirement.specifier)) or ["", ""])[1]

    @property
    def is_installed(self) -> bool:
        """Whether it is for this kind of Python."""
        return self.requirement.marker is None or self.requirement.marker.evaluate()


def pins(path: Path) -> list[Pin]:
    """Every package of a requirements file, with its extras; comments don't count."""
    # One that has extras stands without them too, before.
    return list({(pin.name, str(pin.requirement.marker)): pin for pin in lines(path)}.values())


def lines(path: Path) -> list[Pin]:
    """Every line of a requirements file."""
    text = re.sub(r"\s*#.*", "", path.read_text()).replace("\\\n", " ")
    return [_pin(line) for line in text.splitlines() if line.strip()]


def _pin(line: str) -> Pin:
    requirement, *hashes = re.split(r"\s+--hash=", line.strip())
    return Pin(Requirement(requirement), tuple(hashes))


def licence(name: str) -> str:
    """The licence of an installed distribution, as an SPDX expression; raises ValueError where it names none."""
    told = metadata(name)
    if name in BY_HAND:
        return BY_HAND[name]
    classifiers = [text for text in told.get_all("Classifier") or [] if text.startswith("License")]
    for text in (told["License-Expression"], told["License"], *classifiers):
        if text in SPDX or (text and _EXPRESSION.fullmatch(text)):
            return SPDX.get(text) or str(text)
    raise ValueError(f"{name} names no licence that is known here: {told['License']!r}, {classifiers}")


if __name__ == "__main__":
    sys.stdout.writelines(f"{pin.name} {pin.version} {licence(pin.name)}\n" for pin in pins(DEPLOYED))
