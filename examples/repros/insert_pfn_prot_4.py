"""insert_pfn.prot.4 is not kept. vmf_insert_pfn_prot(9) says: This is ensured by core vm only
modifying these page table entries using functions that don't touch caching- or encryption bits,
using pte_modify() if needed. (See for example mprotect()).

It does not hold: seen.memory_types == ('Device-nGnRnE',) ('Normal' == 'Device-nGnRnE')
hostwalk repro run FILE: 1 it reproduces, 0 it does not, 3 nothing proven, 125 could not build or boot.
"""

from hostwalk.repro import Failure, Pin, repro

PIN = Pin(
    arch="arm64",
    kernel="debian:6.12.117+deb12",
    format="48bit",
    release="6.12.117+deb12-cloud-arm64",
    image="9563f49aeccc68e3ce56e816e98448732ce50872bd7e27b62b51a8c59653adbd",
    config="346e91bd436bef17757b0cf624fc9e526a5ec7df3846c760871c02838f5a2d57",
    exerciser="a309943c3e554921f09ef0383cb3f2b918c3db9f83f43195eb55679c0b3daaa7",
    qemu="7.2.22",
    cpu="neoverse-n1",
)
SHOWS = Failure(
    "assertion",
    "seen.memory_types == ('Device-nGnRnE',)",
    ("'Normal' == 'Device-nGnRnE'",),
)


@repro(PIN, SHOWS)
def test_insert_pfn_prot_4(subject, witness):
    pages = subject.alloc_pages("order0", nr=1)
    inserted = subject.insert("vmf_insert_pfn_prot", pages, when="fault", pfnmap=True, pgprot="noncached")
    assert inserted.errno is None
    area = inserted.area.load()
    subject.mprotect(area, "r")
    seen = witness.pages(area)
    assert seen.memory_types == ("Device-nGnRnE",)


if __name__ == "__main__":
    from hostwalk.cli.repro import main

    main(__file__)
