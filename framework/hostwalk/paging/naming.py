"""Names for the bits in which two entries differ: the architecture manual's, and Linux's for those left to software."""

from __future__ import annotations

from hostwalk.paging.format import Field, Kind, Match, number
from hostwalk.paging.meaning import LinuxBits
from hostwalk.paging.walk import Step

SOFTWARE = ("special", "soft_dirty", "uffd_wp", "saved_dirty", "devmap")


def differences(before: Step, after: Step, linux: LinuxBits) -> tuple[str, ...]:
    """Say what differs between two entries of the same level: ``RW 1 -> 0``, ``address 0x1000 -> 0x2000``."""
    if before.entry == after.entry:
        return ()
    if not (before.entry and after.entry):
        return ("was empty" if after.entry else "is empty now",)
    said = [] if before.kind is after.kind else [f"{before.kind} -> {after.kind}"]
    changed = before.entry ^ after.entry
    for mask, was, now in _numbers(before, after):
        if changed & mask and was != now:
            said.append(f"{was} -> {now}")
        changed &= ~mask
    names = _bit_names(after, linux)
    bits = (bit for bit in range(64) if changed >> bit & 1)
    said += [
        f"{names.get(bit, f'bit {bit}')} {before.entry >> bit & 1} -> {after.entry >> bit & 1}"
        for bit in bits
    ]
    return tuple(said)


def _numbers(before: Step, after: Step) -> list[tuple[int, str, str]]:
    """Return the parts of an entry that are numbers: their bits, and both values in words.

    What stands in the place of the address of an entry that is not present is none (a swap offset, a page frame
    inverted), so it is told as the bits that it is.
    """
    pair = before.phys_addr, after.phys_addr
    if None in pair:
        bits = [number(after.format.address, step.entry) for step in (before, after)]
        words = (f"address bits {bits[0]:#x}", f"{bits[1]:#x}")
    else:
        words = (f"address {pair[0]:#x}", f"{pair[1]:#x}")
    found = [(_mask(after.format.address), *words)]
    if not after.level.table.holds(after.entry):
        named = sum(flag.when.mask for flag in after.level.leaf_flags)
        found.append((_mask(after.level.memory_index) & ~named, _memory_type(before), _memory_type(after)))
        for value in after.format.values:
            nothing = f"{value.name}=0"
            found.append(
                (_mask(value.fields), value.text(before.entry) or nothing, value.text(after.entry) or nothing)
            )
    return found


def _memory_type(step: Step) -> str:
    return step.format.memory_type(step.level, step.entry)


def _mask(fields: tuple[Field, ...]) -> int:
    return sum(field.mask for field in fields)


def _bit_names(step: Step, linux: LinuxBits) -> dict[int, str]:
    if step.level.table.holds(step.entry):
        return {_only_bit(flag.when): flag.name for flag in step.format.table_flags}
    soft = {name: getattr(linux, name) for name in SOFTWARE} | {
        "dirty": linux.dirty[0] if linux.dirty else None
    }
    named = {_only_bit(match): name for name, match in soft.items() if match}
    named |= {_only_bit(flag.when): flag.name for flag in step.level.leaf_flags}
    # What the hardware does not look at may be Linux's: x86 has PROT_NONE where a present entry has G.
    if step.kind is Kind.NOT_PRESENT and linux.prot_none.value.bit_count() == 1:
        named[linux.prot_none.value.bit_length() - 1] = "prot_none"
    return named


def _only_bit(match: Match) -> int:
    """Return the number of a match's bit; -1 when it has more than one."""
    return match.mask.bit_length() - 1 if match.mask.bit_count() == 1 else -1
