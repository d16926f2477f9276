"""fast.zero.1 is not kept. get_user_pages_fast(9) says: If nr_pages is 0 or negative, returns 0.

It does not hold: pins.returned == 0 (1 == 0)
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
SHOWS = Failure("assertion", "pins.returned == 0", ("1 == 0",))


@repro(PIN, SHOWS)
def test_fast_zero_1(subject, witness):
    area = subject.mmap(pages=3, prot="none")
    subject.mprotect(area[1], "rw")
    area2 = area[1].touch()
    witness.pages(area2)
    with subject.get_user_pages_fast(area2, nr_pages=0) as pins:
        witness.pages(area2)
        assert pins.returned == 0, f"get_user_pages_fast(nr_pages=0) returned {pins.returned}"


if __name__ == "__main__":
    from hostwalk.cli.repro import main

    main(__file__)
