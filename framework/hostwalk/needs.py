"""What a claim needs of its cell: it is had, or the claim is not applicable there and says why."""

from __future__ import annotations

from hostwalk.claim import not_applicable
from hostwalk.guest import Area, Subject
from hostwalk.target import Arch
from hostwalk.witness import Witness


def huge_page(subject: Subject, witness: Witness) -> Area:
    """Return an area that one huge pmd entry maps, as the witness sees it; ends the claim where none is to be had.

    Raises SyscallFailed where mapping it fails for another reason than want of memory.
    """
    area = subject.huge_page()
    if area is None or witness.pages(area[:1]).huge != 1:
        not_applicable("no huge page was made")
    return area


def uffd_wp(subject: Subject, area: Area) -> int:
    """Register an area for write-protection by userfaultfd (ioctl_userfaultfd(2)) and return its file.

    Ends the claim where the kernel has no such mode; raises SyscallFailed where registering fails otherwise.
    """
    fd = subject.register_uffd_wp(area)
    if fd is None:
        not_applicable("this kernel's userfaultfd cannot write-protect")
    return fd


def soft_dirty(subject: Subject) -> None:
    """End the claim where entries do not tell which pages were written: x86-64's alone do (soft-dirty.rst)."""
    if "VM_SOFTDIRTY" not in subject.agent.layout or subject.arch is not Arch.X86_64:
        not_applicable("this kernel keeps no soft-dirty bit")
