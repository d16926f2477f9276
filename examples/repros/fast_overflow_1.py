"""fast.overflow.1 is not kept. get_user_pages_fast(9) says: If no pages were pinned, returns -errno.

It does not hold: pins.errno in ('EOVERFLOW', 'EFAULT') (None in …)
hostwalk repro run FILE: 1 it reproduces, 0 it does not, 3 nothing proven, 125 could not build or boot.
"""

from hostwalk.repro import Failure, Pin, repro

PIN = Pin(
    arch="x86_64",
    kernel="debian:6.1.0-56",
    format="4level",
    release="6.1.0-56-cloud-amd64",
    image="51349501a3d1ff83836437d2b365fd2d57f2feb8642d315e5181dec23d4c3275",
    config="63a0e14fa1f04dd964544e8342bffb5faaa517cf17771c286c44af8d17b2b335",
    exerciser="a309943c3e554921f09ef0383cb3f2b918c3db9f83f43195eb55679c0b3daaa7",
    qemu="7.2.22",
    cpu="max,la57=off",
)
SHOWS = Failure("assertion", "pins.errno in ('EOVERFLOW', 'EFAULT')", ("None in …",))


@repro(PIN, SHOWS)
def test_fast_overflow_1(subject, witness):
    area = subject.mmap(pages=1, prot="rw").touch()
    witness.pages(area)
    with subject.get_user_pages_fast(-4096 % (1 << 64), 2) as pins:
        witness.pages(area)
        assert pins.errno in ("EOVERFLOW", "EFAULT")


if __name__ == "__main__":
    from hostwalk.cli.repro import main

    main(__file__)
