"""What packages say that they have is there."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import hostwalk

PACKAGES = [
    "hostwalk",
    *(found.name for found in pkgutil.walk_packages(hostwalk.__path__, "hostwalk.") if found.ispkg),
]


@pytest.mark.parametrize("name", PACKAGES)
def test_each_name_that_a_package_offers_exists(name: str) -> None:
    package = importlib.import_module(name)
    offered = getattr(package, "__all__", ())
    assert [each for each in offered if not hasattr(package, each)] == []
