"""mlock.einval.2 is not kept. mlock(2) says: EINVAL: The result of the addition addr+len was less than
addr (e.g., the addition may have resulted in an overflow).

Expected to be refused with einval (succeeded)
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
    exerciser="a309943c3e554921f09ef0383cb3f2b918c3db9f83f43195eb55679c0b3daaa7",
    qemu="7.2.22",
    cpu="max,la57=off",
)
SHOWS = Failure("refuses", "EINVAL", ("succeeded",))


@repro(PIN, SHOWS)
def test_mlock_einval_2(subject, witness):
    area = subject.mmap(pages=2).touch()
    witness.vma(area)
    with subject.refuses("EINVAL"):
        subject.mlock((area.start, -1 % (1 << 64)))


if __name__ == "__main__":
    from hostwalk.cli.repro import main

    main(__file__)
