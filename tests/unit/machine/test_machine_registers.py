import pytest

from hostwalk.errors import WalkError
from hostwalk.machine.registers import Registers, parse_info_registers
from hostwalk.target import Arch

HMP = """CPU#0
RAX=0000000000000000 RBX=0000000000000005 RCX=ffff888004e36df8 RDX=ffff888004e36df8
RSI=ffff888004e35000 RDI=ffff888004e36cc0 RBP=ffff888004e36c00 RSP=ffffc90000013d30
R8 =0000000000000400 R9 =0000000000000002 R10=0000000000000001 R11=0000000000000000
R12=0000000000000000 R13=ffff888004e35005 R14=0000000000000005 R15=ffff888004b9a9c0
RIP=ffffffff818c4b1e RFL=00000246 [---Z-P-] CPL=3 II=0 A20=1 SMM=0 HLT=0
ES =0000 0000000000000000 ffffffff 00c00000
CS =0010 0000000000000000 ffffffff 00a09b00 DPL=0 CS64 [-RA]
FS =0000 0000000025c1d380 ffffffff 00c00000
GS =0000 ffff88800f800000 ffffffff 00c00000
LDT=0000 0000000000000000 00000000 00000000
TR =0040 fffffe0000003000 00004087 00008900 DPL=0 TSS64-avl
GDT=     fffffe0000001000 0000007f
IDT=     fffffe0000000000 00000fff
CR0=80050033 CR2=00000000004c61b0 CR3=0000000005470000 CR4=00750ef0
DR0=0000000000000000 DR1=0000000000000000 DR2=0000000000000000 DR3=0000000000000000
DR6=00000000ffff0ff0 DR7=0000000000000400
EFER=0000000000000d01
FCW=037f FSW=0000 [ST=0] FTW=00 MXCSR=00001f80
FPR0=0000000000000000 0000 FPR1=0000000000000000 0000
YMM00=0000000000000000 0000000000000000 0000000000000000 0000000000000000
"""


def test_control_registers_and_bases() -> None:
    values = parse_info_registers(HMP)
    assert (values["cr0"], values["cr3"], values["cr4"]) == (0x80050033, 0x5470000, 0x750EF0)
    assert (values["efer"], values["rip"], values["r8"]) == (0xD01, 0xFFFFFFFF818C4B1E, 0x400)
    assert (values["gs_base"], values["fs_base"], values["cpl"]) == (0xFFFF88800F800000, 0x25C1D380, 3)
    assert not [name for name in values if name.startswith(("ymm", "fpr"))]


def test_an_answer_without_cr3_is_an_error() -> None:
    with pytest.raises(WalkError, match="no CR3"):
        parse_info_registers("No CPU available on this machine")


def test_a_register_that_was_not_read_is_an_error_that_lists_the_others() -> None:
    registers = Registers(Arch.ARM64, {"pc": 4, "cpsr": 0x80})
    assert (registers["pc"], registers.pc, "pc" in registers, "cr3" in registers) == (4, 4, True, False)
    with pytest.raises(WalkError, match="ttbr0_el1") as caught:
        registers["ttbr0_el1"]
    assert "pc, cpsr" in caught.value.remedy


def test_interrupts() -> None:
    assert Registers(Arch.X86_64, {"rfl": 0x246}).interrupts
    assert not Registers(Arch.X86_64, {"rfl": 0x46}).interrupts
    assert Registers(Arch.ARM64, {"cpsr": 0x60000005}).interrupts
    assert not Registers(Arch.ARM64, {"cpsr": 0x604000C5}).interrupts
