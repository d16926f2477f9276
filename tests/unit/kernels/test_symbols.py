from pathlib import Path

import pytest

from hostwalk.errors import LayoutError
from hostwalk.kernels.symbols import Symbols, from_system_map

SYSTEM_MAP = """\
0000000000000000 D __per_cpu_start
ffffffff81000000 T _text
ffffffff81000040 t local.isra.0
ffffffff82c10940 D init_task
                 w weak
ffffffffc0000000 t in_a_module\t[virtio]
"""


def test_a_system_map() -> None:
    symbols = from_system_map(SYSTEM_MAP, "System.map")
    assert symbols["init_task"] == 0xFFFFFFFF82C10940
    assert symbols["__per_cpu_start"] == 0
    assert symbols["in_a_module"] == 0xFFFFFFFFC0000000
    assert symbols.nearest(0xFFFFFFFF81000050) == ("local.isra.0", 0x10)
    assert len(symbols) == 5


def test_debians_placeholder_is_no_system_map() -> None:
    text = "ffffffffffffffff B The real System.map is in the linux-image-<version>-dbg package\n"
    with pytest.raises(LayoutError, match=r"no complete System\.map") as caught:
        from_system_map(text, "System.map")
    assert "placeholder" in caught.value.remedy


def test_symbols_are_kept_on_disk(tmp_path: Path) -> None:
    symbols = from_system_map(SYSTEM_MAP, "System.map")
    symbols.save(tmp_path)
    again = Symbols.load(tmp_path)
    assert dict(again) == dict(symbols)
    assert (again.names, again.types, again.source) == (symbols.names, symbols.types, symbols.source)
    assert again.nearest(0xFFFFFFFF81000050) == ("local.isra.0", 0x10)
