"""mlock.error.4 is not kept. mlock(2) says: On error, -1 is returned, errno is set to indicate the
error, and no changes are made to any locks in the address space of the process.

It does not hold: 'VM_LOCKED' in vma.flags ('VM_LOCKED' in …)
hostwalk repro run FILE: 1 it reproduces, 0 it does not, 3 nothing proven, 125 could not build or boot.
"""

from hostwalk.repro import Failure, Pin, repro

PIN = Pin(
    arch="x86_64",
    kernel="debian:6.12.117+deb12",
    format="4level",
    release="6.12.117+deb12-cloud-amd64",
    image="b9ea6660d2abac0b2d65aaf11d07cb9d9012b4beb1287d6eb539fccecd1aebd2",
    config="e1448549138fc48e935e5872bdfe1ceeea2e90eec83c15e636f5959a996b5a6c",
    exerciser="7a6aa06b2f28399dc4428120357417527d1529cd524d636f090628b1d6d595ee",
    qemu="7.2.22",
    cpu="max,la57=off",
)
SHOWS = Failure("assertion", "'VM_LOCKED' in vma.flags", ("'VM_LOCKED' in …",))


@repro(PIN, SHOWS)
def test_mlock_error_4(subject, witness):
    area = subject.apart(pages=5)
    subject.mlock(area)
    subject.munmap(area[2])
    with subject.refuses("ENOMEM"):
        subject.munlock(area)
    vma = witness.vma(area)
    assert "VM_LOCKED" in vma.flags, "the mapping before the hole is unlocked"


if __name__ == "__main__":
    from hostwalk.cli.repro import main

    main(__file__)
