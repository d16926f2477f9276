"""Tables are encoded as scripts/kallsyms.c does, with the first tokens of a greedy compression."""

import struct
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest

from hostwalk.errors import LayoutError
from hostwalk.kernels import kallsyms
from hostwalk.kernels.symbols import Symbols, from_kernel

BASE = 0xFFFFFFFF81000000
IMAGE_START = 0xFFFF800080000000
Row = tuple[int, str, str]


def names_of(count: int) -> list[Row]:
    """Return rows with some long names (two bytes of length), duplicates and every digit."""
    rows: list[Row] = [(BASE, "T", "_text"), (BASE, "T", "_stext")]
    rows += [
        (BASE + 64 * number, "tTdDbB"[number % 6], f"symbol_{number:05}") for number in range(1, count - 4)
    ]
    end = BASE + 64 * count
    rows += [(end, "D", "init_task"), (end + 8, "d", "same"), (end + 16, "d", "same")]
    return [*rows, (end + 32, "B", "x" * 300)]


@dataclass
class Encoder:
    """Lays out the tables of an image."""

    rows: list[Row]
    new_order: bool = True
    percpu: bool = False
    relocated: bool = False
    seqs: bool = False
    tokens: list[bytes] = field(default_factory=list)

    def image(self, before: bytes = b"\x11" * 4096, after: bytes = b"\x22" * 64) -> bytes:
        self.tokens = self.choose_tokens()
        core = self.names_and_markers()
        tokens = self.token_tables()
        offsets = self.offsets()
        seqs = bytes(3 * len(self.rows)) if self.seqs else b""
        parts = [core, tokens, offsets] if self.new_order else [offsets, core + aligned(seqs), tokens]
        data = before + b"".join(parts) + after
        return self.with_relocation(data) if self.relocated else data

    def choose_tokens(self) -> list[bytes]:
        used = {char for _, kind, name in self.rows for char in (kind + name).encode()} | set(b"0123456789")
        pairs = Counter(name[at : at + 2].encode() for _, _, name in self.rows for at in range(len(name) - 1))
        spare = iter([pair for pair, _ in pairs.most_common(256 - len(used))] + [b""] * 256)
        return [bytes([code]) if code in used else next(spare) for code in range(256)]

    def encoded(self, text: bytes) -> bytes:
        codes = {token: code for code, token in enumerate(self.tokens) if token}
        out, at = bytearray(), 0
        while at < len(text):
            size = 2 if text[at : at + 2] in codes and len(text) - at > 1 else 1
            out.append(codes[text[at : at + size]])
            at += size
        return bytes(out)

    def names_and_markers(self) -> bytes:
        names, markers = bytearray(), []
        for number, (_, kind, name) in enumerate(self.rows):
            if number % 256 == 0:
                markers.append(len(names))
            data = self.encoded((kind + name).encode())
            size = len(data)
            names += bytes([size]) if size < 128 else bytes([size & 0x7F | 0x80, size >> 7])
            names += data
        count = aligned(struct.pack("<I", len(self.rows)))
        return count + aligned(bytes(names)) + aligned(np.array(markers, "<u4").tobytes())

    def token_tables(self) -> bytes:
        table = b"".join(token + b"\0" for token in self.tokens)
        starts = np.cumsum([0] + [len(token) + 1 for token in self.tokens[:-1]])
        return aligned(table) + aligned(starts.astype("<u2").tobytes())

    def base(self) -> int:
        return min(address for address, _, _ in self.rows if address >> 63)

    def offsets(self) -> bytes:
        base = self.base()
        values = [address if not address >> 63 else address - base for address, _, _ in self.rows]
        if self.percpu:
            pairs = zip(self.rows, values, strict=True)
            values = [-1 - value if row[0] >> 63 else value for row, value in pairs]
        stored = 0 if self.relocated else base
        return aligned(np.array(values, "<i4").tobytes()) + struct.pack("<Q", stored)

    def with_relocation(self, data: bytes) -> bytes:
        """Append RELA entries for an Image that starts at IMAGE_START; the base's is among decoys."""
        head = len(data) - 64 - 8 if self.new_order else data.index(struct.pack("<II", len(self.rows), 0)) - 8
        wanted = struct.pack("<QQQ", IMAGE_START + head, 1027, self.base())
        decoys = [
            struct.pack("<QQQ", IMAGE_START + at, 1027, IMAGE_START + 3 * at) for at in range(0, 4096, 8)
        ]
        return data + bytes(-len(data) % 8) + b"".join([*decoys, wanted, *decoys])


def aligned(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def rows_of(table: kallsyms.Table) -> list[Row]:
    return list(zip(table.addresses.tolist(), table.types, table.names, strict=True))


@pytest.mark.parametrize("count", [1000, 1280, 1281, 5000])
@pytest.mark.parametrize("new_order", [False, True])
def test_what_was_encoded_is_decoded(count: int, new_order: bool) -> None:
    rows = names_of(count)
    table = kallsyms.decode(Encoder(rows, new_order).image())
    assert table is not None
    assert rows_of(table) == rows


def test_the_order_of_6_2_with_sequence_numbers_between() -> None:
    rows = names_of(3000)
    table = kallsyms.decode(Encoder(rows, new_order=False, seqs=True).image())
    assert table is not None
    assert rows_of(table) == rows


@pytest.mark.parametrize("new_order", [False, True])
def test_per_cpu_symbols_are_absolute(new_order: bool) -> None:
    rows = [(0, "D", "__per_cpu_start"), (0x1FB80, "D", "current_task"), *names_of(2000)]
    table = kallsyms.decode(Encoder(rows, new_order, percpu=True).image())
    assert table is not None
    assert rows_of(table) == rows


@pytest.mark.parametrize("new_order", [False, True])
def test_a_base_that_a_relocation_fills_in(new_order: bool) -> None:
    rows = [(address - BASE + IMAGE_START + 0x10000, kind, name) for address, kind, name in names_of(2000)]
    table = kallsyms.decode(Encoder(rows, new_order, relocated=True).image())
    assert table is not None
    assert rows_of(table) == rows


def test_absolute_addresses() -> None:
    rows = names_of(2000)
    encoder = Encoder(rows, new_order=False)
    encoder.tokens = encoder.choose_tokens()
    addresses = np.array([address for address, _, _ in rows], "<u8").tobytes()
    table = kallsyms.decode(
        bytes(4096) + addresses + encoder.names_and_markers() + encoder.token_tables() + bytes(64)
    )
    assert table is not None
    assert rows_of(table) == rows


@pytest.mark.parametrize("size", [0, 7, 4096])
def test_an_image_without_tables(size: int) -> None:
    assert kallsyms.decode(b"\x11" * size) is None


def test_digits_that_are_no_token_table_are_passed_over() -> None:
    digits = b"".join(b"%d\0" % digit for digit in range(10))
    rows = names_of(1000)
    table = kallsyms.decode(Encoder(rows).image(before=bytes(4096) + aligned(digits * 5)))
    assert table is not None
    assert rows_of(table) == rows


@pytest.mark.parametrize("at", [0.1, 0.3, 0.5, 0.7, 0.97])
def test_a_damaged_table_is_not_believed(at: float) -> None:
    image = bytearray(Encoder(names_of(3000)).image())
    start = int(4096 + (len(image) - 4160) * at)
    image[start : start + 600] = b"\xee" * 600
    assert kallsyms.decode(bytes(image)) is None


def test_a_truncated_image_is_not_believed() -> None:
    image = Encoder(names_of(3000)).image(after=b"")
    for size in range(0, len(image), 997):
        assert kallsyms.decode(image[:size]) is None


def test_symbols_of_an_image() -> None:
    symbols = from_kernel(Encoder(names_of(1000)).image(), "it")
    assert symbols["init_task"] == BASE + 64000
    assert symbols["_text"] == symbols["_stext"] == BASE
    assert symbols["same"] == BASE + 64008
    assert symbols.all("same") == (BASE + 64008, BASE + 64016)


def test_an_image_without_symbols_says_how_to_give_them() -> None:
    with pytest.raises(LayoutError, match="carries no symbols") as caught:
        from_kernel(b"\x11" * 4096, "it")
    assert "--symbols" in caught.value.remedy


def test_an_image_with_functions_only_says_how_to_give_the_rest() -> None:
    rows = [row for row in names_of(1000) if row[2] != "init_task"]
    with pytest.raises(LayoutError, match="functions only") as caught:
        from_kernel(Encoder(rows).image(), "it")
    assert "KALLSYMS_ALL" in caught.value.remedy


def export_table(rows: list[Row], start: int, at: int) -> bytes:
    """Return a __ksymtab and its strings as they lie at an offset of an image that starts at ``start``."""
    strings, places = bytearray(b"\0"), {}
    for _, _, name in rows:
        places[name] = len(strings)
        strings += b"prefix_" * (name == "memstart_addr") + name.encode() + b"\0"
    places["memstart_addr"] += len("prefix_")
    base = at + 12 * len(rows)
    entries = b"".join(
        struct.pack("<iii", address - start - (at + 12 * k), base + places[name] - (at + 12 * k + 4), 0)
        for k, (address, _, name) in enumerate(rows)
    )
    return entries + bytes(strings)


def test_exported_variables_join_the_functions_of_kallsyms() -> None:
    start = BASE - 0x10000
    functions = [row for row in names_of(1000) if row[2] not in ("init_task", "_text")]
    variables = [(BASE + 0x900000, "D", "init_task"), (BASE + 0x900040, "D", "memstart_addr")]
    exported = sorted([*functions[1:300], *variables], key=lambda row: row[2])
    image = Encoder(functions).image()
    image += bytes(-len(image) % 8)
    image += export_table(exported, start, len(image))
    symbols = from_kernel(image, "it")
    assert symbols["init_task"] == BASE + 0x900000
    assert symbols["memstart_addr"] == BASE + 0x900040
    assert symbols["_text"] == start
    assert symbols["symbol_00003"] == BASE + 64 * 3
    assert len(symbols.names) == len(functions) + 3


def test_symbols_are_a_mapping_with_helpful_errors() -> None:
    symbols = Symbols([0x30, 0x10, 0x20, 0x20], ["c", "init_task", "b", "bb"], "TDtt", "it")
    assert symbols.nearest(0x25) == ("b", 5)
    assert symbols.nearest(0x30) == ("c", 0)
    assert symbols.get("nothing") is None
    assert symbols.get("nothing", 7) == 7
    assert "nothing" not in symbols
    assert list(symbols.types) == ["D", "t", "t", "T"]
    with pytest.raises(LayoutError, match="no symbol 'init_tsk'") as caught:
        symbols["init_tsk"]
    assert "init_task" in caught.value.remedy
    with pytest.raises(LayoutError, match="at or below 0xf"):
        symbols.nearest(0xF)
