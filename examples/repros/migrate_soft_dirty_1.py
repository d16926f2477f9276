"""migrate.soft_dirty.1 is not kept. mm/migrate.c says: A page that moves is as soft-dirty as it was:
only stores make it so.

It does not hold: (after.soft_dirty[0], after.soft_dirty[2]) == (0, 0) (1 == 0)
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
    exerciser="3c8d5e966ed77ca4d452c99a4bdb5881402a89931fbfb03a39b1859063fdaccd",
    qemu="7.2.22",
    cpu="max,la57=off",
)
SHOWS = Failure("assertion", "(after.soft_dirty[0], after.soft_dirty[2]) == (0, 0)", ("1 == 0",))


@repro(PIN, SHOWS)
def test_migrate_soft_dirty_1(subject, witness):
    area = subject.mmap(pages=3).touch()
    subject.clear_soft_dirty()
    area[1].store()
    subject.settle()
    witness.pages(area)
    with subject.pin_user_pages(area, longterm=True) as pins:
        assert pins.returned == area.pages
    after = witness.pages(area)
    assert (after.soft_dirty[0], after.soft_dirty[2]) == (0, 0), "pages that nobody wrote are soft-dirty"


if __name__ == "__main__":
    from hostwalk.cli.repro import main

    main(__file__)
