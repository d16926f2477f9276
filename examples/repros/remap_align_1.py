"""remap.align.1 is not kept. remap_pfn_range(9) says: @addr: target page aligned user address to start
at

It does not hold: 'VM_PFNMAP' not in vma.flags ('VM_PFNMAP' not in …)
hostwalk repro run FILE: 1 it reproduces, 0 it does not, 3 nothing proven, 125 could not build or boot.
"""

from hostwalk.repro import Failure, Pin, repro

PIN = Pin(
    arch="x86_64",
    kernel="source:7.3",
    format="4level",
    release="7.3.4",
    image="72017e5f0882daa88d55364b2ace1ed3",
    config="be92f74ee740616bfcb8e98f2b859f15eb79e883d7f34b88b313eea3ea781903",
    exerciser="7a6aa06b2f28399dc4428120357417527d1529cd524d636f090628b1d6d595ee",
    qemu="7.2.22",
    cpu="max,la57=off",
)
SHOWS = Failure("assertion", "'VM_PFNMAP' not in vma.flags", ("'VM_PFNMAP' not in …",))


@repro(PIN, SHOWS)
def test_remap_align_1(subject, witness):
    pages = subject.alloc_pages("order0", nr=1)
    inserted = subject.insert("remap_pfn_range", pages, map_pages=2, offset=1, keep=True)
    assert inserted.errno == "EINVAL"
    witness.pages(inserted.area)
    vma = witness.vma(inserted.area)
    assert "VM_PFNMAP" not in vma.flags, "the mapping was marked"


if __name__ == "__main__":
    from hostwalk.cli.repro import main

    main(__file__)
