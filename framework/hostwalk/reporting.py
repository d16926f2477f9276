"""The reports of plain pytest: an option for each format, and the files at the end."""

from __future__ import annotations

import pytest

from hostwalk import parallel
from hostwalk.errors import HostwalkError
from hostwalk.report.formats import FORMATS, check_place, write
from hostwalk.report.model import Run


def add_options(group: pytest.OptionGroup) -> None:
    """Add one option for each format."""
    for name, format_ in FORMATS.items():
        group.addoption(f"--hostwalk-{name}", metavar="FILE", help=format_.purpose)


def asked(config: pytest.Config) -> dict[str, str]:
    """Return the reports that are asked for, and where each goes; raises UsageError for an impossible place."""
    options = {name: config.getoption(f"--hostwalk-{name}") for name in FORMATS}
    places = {name: place for name, place in options.items() if place is not None}
    for place in places.values():
        check_place(place)
    return places


def write_all(config: pytest.Config, run: Run) -> None:
    """Write the reports; of a parallel run the controller does, once all results have come."""
    if parallel.is_worker(config):
        return
    try:
        write(run, asked(config).items())
    except HostwalkError as error:
        pytest.exit(str(error), returncode=error.exit_status)
