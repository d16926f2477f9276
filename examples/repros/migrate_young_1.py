"""migrate.young.1 is not kept. mm/migrate.c says: A page that moves is as young and as dirty as it
was, and as writable.

It does not hold: after.young != 0 (0 != 0)
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
SHOWS = Failure("assertion", "after.young != 0", ("0 != 0",))


@repro(PIN, SHOWS)
def test_migrate_young_1(subject, witness):
    area = subject.mmap(pages=6).touch()
    subject.madvise(area[4:], "FREE")
    subject.clear_young()
    subject.mprotect(area, "r")
    subject.mprotect(area, "rw")
    area[0].load()
    area[4].load()
    subject.settle()
    witness.pages(area)
    with subject.pin_user_pages(area, longterm=True) as pins:
        assert pins.returned == area.pages
    after = witness.pages(area)
    assert after.young != 0, "no migration entry was young"


if __name__ == "__main__":
    from hostwalk.cli.repro import main

    main(__file__)
