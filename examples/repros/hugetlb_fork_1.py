"""hugetlb.fork.1 is not kept. mm/hugetlb.c says: A child that is not watched by userfaultfd has
entries of huge pages without its write protection; the parent's stay.

It does not hold: theirs.uffd_wp == 0 (1 == 0)
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
SHOWS = Failure("assertion", "theirs.uffd_wp == 0", ("1 == 0",))


@repro(PIN, SHOWS)
def test_hugetlb_fork_1(subject, witness):
    with subject.sysctl("vm/nr_hugepages", 1):
        area = subject.mmap(pages=512, hugetlb=True).touch()
        register_uffd_wp = subject.register_uffd_wp(area)
        subject.uffd_write_protect(register_uffd_wp, area)
        with subject.fork() as child:
            theirs = witness.pages(area[:2], of=child)
            witness.pages(area[:2])
        subject.munmap(area)
    assert theirs.uffd_wp == 0, "the child's huge page is protected too"


if __name__ == "__main__":
    from hostwalk.cli.repro import main

    main(__file__)
