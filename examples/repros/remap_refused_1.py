"""remap.refused.1 is not kept. remap_pfn_range(9) says: Return: negative error code: a call that is
refused leaves the mapping as it was.

It does not hold: after.pfns != (-1, -1, before.pfns[2]) (-1 != -1; … != …)
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
SHOWS = Failure("assertion", "after.pfns != (-1, -1, before.pfns[2])", ("-1 != -1", "… != …"))


@repro(PIN, SHOWS)
def test_remap_refused_1(subject, witness):
    own_pages = subject.alloc_pages("order0", nr=3)
    inserted = subject.insert("vm_insert_page", own_pages, shared=False)
    assert inserted.errno is None
    own_pages2 = subject.alloc_pages("split", order=1)
    before = witness.pages(inserted.area)
    inserted2 = subject.insert("remap_pfn_range", own_pages2, when="now", at=inserted.area)
    assert inserted2.errno == "EINVAL"
    after = witness.pages(inserted2.area)
    assert after.pfns != (-1, -1, before.pfns[2]), "the area was zapped"


if __name__ == "__main__":
    from hostwalk.cli.repro import main

    main(__file__)
