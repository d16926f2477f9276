import shutil
import stat
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostwalk.image import cpio

NODES = [
    cpio.directory("dev"),
    cpio.character_device("dev/console", 5, 1),
    cpio.file("init", b"\x7fELF" * 1001, 0o755),
    cpio.file("empty", b""),
    cpio.file("odd", b"x"),
]


def test_what_was_written_is_read() -> None:
    assert cpio.read(cpio.write(NODES)) == NODES


@given(st.lists(st.tuples(st.text("abc/", min_size=1, max_size=20), st.binary(max_size=50))))
def test_any_files_come_back(files: list[tuple[str, bytes]]) -> None:
    nodes = [cpio.file(name, data) for name, data in files]
    archive = cpio.write(nodes)
    assert cpio.read(archive) == nodes
    assert len(archive) % 4 == 0


def test_the_same_nodes_give_the_same_bytes() -> None:
    assert cpio.write(NODES) == cpio.write(list(NODES))


@pytest.mark.parametrize("cut", [0, 50, 110, 200])
def test_a_truncated_archive_is_refused(cut: int) -> None:
    with pytest.raises(ValueError, match="no cpio record"):
        cpio.read(cpio.write(NODES)[:cut])


@pytest.mark.skipif(not shutil.which("cpio"), reason="no cpio on the host")
def test_cpio_lists_it() -> None:
    done = subprocess.run(
        ["cpio", "-tv", "--quiet"], input=cpio.write(NODES), capture_output=True, check=True
    )
    lines = done.stdout.decode().splitlines()
    assert [line.split()[-1] for line in lines] == ["dev", "dev/console", "init", "empty", "odd"]
    assert lines[1].startswith("crw-------")
    assert lines[2].startswith("-rwxr-xr-x")
    assert stat.S_ISDIR(NODES[0].mode)
