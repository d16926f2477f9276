"""gup.partial.1 is not kept. __get_user_pages(9) says: This may be fewer than the number requested.

It does not hold: (pins.returned, pins.filled) == (4, 4) (-14 == 4)
hostwalk repro run FILE: 1 it reproduces, 0 it does not, 3 nothing proven, 125 could not build or boot.
"""

from hostwalk.repro import Failure, Pin, repro

PIN = Pin(
    arch="x86_64",
    kernel="tree:linux",
    format="4level",
    release="7.3.4",
    image="ea77daaa70b2bdc569c69af4bc039c4b101c737afccb23dc9676de32d3b65d19",
    config="b97f5f112de5a3d2f3e3d881497b0a704ccc3cbf6fe662055eba65276bc4b1ef",
    exerciser="3217c6407b5e09c31fc1b53209f02d05567cefdc00d87b983fb99fde82245dc8",
    qemu="7.2.22",
    cpu="max,la57=off",
)
SHOWS = Failure("assertion", "(pins.returned, pins.filled) == (4, 4)", ("-14 == 4",))


@repro(PIN, SHOWS)
def test_gup_partial_1(subject, witness):
    area = subject.mmap(pages=5)
    subject.munmap(area[4:])
    pins = subject.get_user_pages(area)
    assert (pins.returned, pins.filled) == (4, 4)


if __name__ == "__main__":
    from hostwalk.cli.repro import main

    main(__file__)
