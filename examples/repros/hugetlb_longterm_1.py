"""hugetlb.longterm.1 is not kept. mm/gup.c says: -ENOMEM, or any other -errno: [...] this indicates a
migration failure. [...] The caller does not need to unpin any folios in that case, because this
routine will do the unpinning.

The kernel warned: warning: warning: … … at mm/hugetlb.c:… follow_hugetlb_page+…/…
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
    exerciser="7a6aa06b2f28399dc4428120357417527d1529cd524d636f090628b1d6d595ee",
    qemu="7.2.22",
    cpu="max,la57=off",
)
SHOWS = Failure("warning", "warning: WARNING: … … at mm/hugetlb.c:… follow_hugetlb_page+…/…")


@repro(PIN, SHOWS)
def test_hugetlb_longterm_1(subject, witness):
    fd = subject.open("/proc/sys/vm/nr_hugepages", "O_RDWR")
    subject.write(fd, b"1\n")
    subject.close(fd)
    area = subject.mmap(pages=512, prot="rw", hugetlb=True).touch()
    witness.pages(area[1:4])
    with subject.pin_user_pages(area[1:4], write=True, longterm=True) as pins:
        assert pins.errno == "ENOMEM"
        witness.pages(area[1:4])
    witness.pages(area[1:4])


if __name__ == "__main__":
    from hostwalk.cli.repro import main

    main(__file__)
