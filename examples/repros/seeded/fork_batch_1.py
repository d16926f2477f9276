"""fork.batch.1 is not kept. fork(2) says: Under Linux, fork() is implemented using copy-on-write
pages.

It does not hold: (theirs.writable, ours.writable, ours.exclusive) == (0, 0, 0) (1 == 0)
hostwalk repro run FILE: 1 it reproduces, 0 it does not, 3 nothing proven, 125 could not build or boot.
"""

from hostwalk.repro import Failure, Pin, repro

PIN = Pin(
    arch="x86_64",
    kernel="tree:linux",
    format="4level",
    release="7.3.4",
    image="57a309697c843d0b99ee4d7cbff795107feebdb1091b58b5a555850c9a8deffc",
    config="b97f5f112de5a3d2f3e3d881497b0a704ccc3cbf6fe662055eba65276bc4b1ef",
    exerciser="3217c6407b5e09c31fc1b53209f02d05567cefdc00d87b983fb99fde82245dc8",
    qemu="7.2.22",
    cpu="max,la57=off",
)
SHOWS = Failure(
    "assertion",
    "(theirs.writable, ours.writable, ours.exclusive) == (0, 0, 0)",
    ("1 == 0",),
)


@repro(PIN, SHOWS)
def test_fork_batch_1(subject, witness):
    area = subject.huge_page()
    witness.pages(area[0])
    with subject.get_user_pages(area[0], split_pmd=True) as pins:
        assert pins.returned == area[0].pages
    area.touch(33)
    witness.pages(area)
    with subject.fork() as child:
        theirs = witness.pages(area, of=child)
        ours = witness.pages(area)
        assert (theirs.writable, ours.writable, ours.exclusive) == (0, 0, 0)


if __name__ == "__main__":
    from hostwalk.cli.repro import main

    main(__file__)
