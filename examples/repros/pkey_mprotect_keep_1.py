"""pkey_mprotect.keep.1 is not kept: memory has a key of its own still after mprotect(PROT_EXEC).

It does not hold: loaded.fault is None (Fault is None)
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
    exerciser="7a6aa06b2f28399dc4428120357417527d1529cd524d636f090628b1d6d595ee",
    qemu="7.2.22",
    cpu="max,la57=off",
)
SHOWS = Failure("assertion", "loaded.fault is None", ("Fault is None",))


@repro(PIN, SHOWS)
def test_pkey_mprotect_keep_1(subject):
    area = subject.mmap(pages=1, prot="rw").touch()
    key = subject.pkey_alloc()
    subject.pkey_mprotect(area, "rw", key)
    subject.mprotect(area, "x")
    loaded = subject.load(area.start, 1, 1)
    assert loaded.fault is None, "the memory has lost its own key, which lets it be read"


if __name__ == "__main__":
    from hostwalk.cli.repro import main

    main(__file__)
