"""madvise.free.3 is not kept. madvise(2) says: The application no longer requires the pages in the
range specified by addr and len.

It does not hold: part.young != 0 (0 != 0)
hostwalk repro run FILE: 1 it reproduces, 0 it does not, 3 nothing proven, 125 could not build or boot.
"""

from hostwalk.repro import Failure, Pin, repro

PIN = Pin(
    arch="arm64",
    kernel="debian:6.12.117+deb12",
    format="52bit",
    release="6.12.117+deb12-cloud-arm64",
    image="9563f49aeccc68e3ce56e816e98448732ce50872bd7e27b62b51a8c59653adbd",
    config="346e91bd436bef17757b0cf624fc9e526a5ec7df3846c760871c02838f5a2d57",
    exerciser="3c8d5e966ed77ca4d452c99a4bdb5881402a89931fbfb03a39b1859063fdaccd",
    qemu="7.2.22",
    cpu="max,sve=off,sme=off,pauth-impdef=on",
)
SHOWS = Failure("assertion", "part.young != 0", ("0 != 0",))


@repro(PIN, SHOWS)
def test_madvise_free_3(subject, witness):
    area = subject.huge_page()
    witness.pages(area[0])
    area.touch(97)
    subject.settle()
    subject.madvise(area[2:6], "FREE")
    part = witness.pages(area[:8])
    assert part.young != 0, "no migration entry was young"


if __name__ == "__main__":
    from hostwalk.cli.repro import main

    main(__file__)
