"""Other people's programs under pytest, in real guests: each line a result, whatever becomes of the program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from hostwalk.kernels import toolchain
from hostwalk.target import Arch, Target

SECONDS = 300
PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";

	printf("TAP version 13\\n1..%d\\n", strcmp(how, "plan") ? 3 : 5);
	printf("ok 1 maps\\nnot ok 2 unmaps\\nok 3 huge # SKIP no huge pages\\n");
	fflush(stdout);
	if (!strcmp(how, "crash"))
		abort();
	if (!strcmp(how, "hang"))
		pause();
	return 1;
}
"""
FILE = """
directory = "build/{arch}"
timeout = 5
programs = ["./ring", "./ring crash", "./ring hang", "./ring plan"]
[[expect]]
test = "ring / ring / unmaps"
reason = "the driver cannot yet"
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_each_line_is_a_result(target: Target, tmp_path: Path, workers: str) -> None:
    if (target.arch is Arch.ARM64) != (workers == "2"):
        pytest.skip("once each is enough")
    build = tmp_path / "build" / target.arch
    build.mkdir(parents=True)
    (tmp_path / "ring.c").write_text(PROGRAM)
    argv = [toolchain.find(target.arch).cc, "-static", "-o", build / "ring", tmp_path / "ring.c"]
    subprocess.run(argv, check=True, timeout=SECONDS)
    (tmp_path / "ring.hostwalk.toml").write_text(FILE)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", workers, "--junitxml=j.xml", "-p", "no:cacheprovider",
         "--hostwalk-arch", target.arch, "--hostwalk-kernel", target.kernel, "ring.hostwalk.toml"],
        capture_output=True, text=True, check=False, timeout=SECONDS, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    assert "6 failed, 4 passed, 4 skipped, 1 xfailed" in done.stdout
    cases = {
        f"{case.get('classname')} {case.get('name')}": case
        for case in ET.parse(tmp_path / "j.xml").iter("testcase")
    }
    said = {name.partition("[")[0]: case.find("failure") for name, case in cases.items()}
    messages = {name: failure.get("message") for name, failure in said.items() if failure is not None}
    assert messages == {
        "ring.hostwalk.toml.ring crash unmaps": "fail",
        "ring.hostwalk.toml ring crash": "crash: killed by SIGABRT (after huge)",
        "ring.hostwalk.toml.ring hang unmaps": "fail",
        "ring.hostwalk.toml ring hang": "time-out: not ended within 5 s (after huge)",
        "ring.hostwalk.toml.ring plan unmaps": "fail",
        "ring.hostwalk.toml ring plan": "plan mismatch: 5 planned, 3 ran",
    }
