"""pkey_mprotect.none.1 is not kept: without a key pkey_mprotect() is as mprotect().

It does not hold: reply.errno is None ('ENOSYS' is None)
hostwalk repro run FILE: 1 it reproduces, 0 it does not, 3 nothing proven, 125 could not build or boot.
"""

from hostwalk.repro import Failure, Pin, repro

PIN = Pin(
    arch="arm64",
    kernel="debian:6.1.0-56",
    format="48bit",
    release="6.1.0-56-cloud-arm64",
    image="d418ce578d1c70b65bd5f3688c4ffbe97307cb48cf49270155af974931626047",
    config="1822544bc8c6f97cbcad3b4cbb5c44ba173a71289a8057ad4487ec5a1c205a5a",
    exerciser="7a6aa06b2f28399dc4428120357417527d1529cd524d636f090628b1d6d595ee",
    qemu="7.2.22",
    cpu="neoverse-n1",
)
SHOWS = Failure("assertion", "reply.errno is None", ("'ENOSYS' is None",))


@repro(PIN, SHOWS)
def test_pkey_mprotect_none_1(subject):
    area = subject.mmap(pages=2, prot="rw").touch()
    reply = subject.syscall("pkey_mprotect", area.start, 2 * subject.page_size, 1, -1)
    assert reply.errno is None, "pkey_mprotect without a key is ENOSYS"


if __name__ == "__main__":
    from hostwalk.cli.repro import main

    main(__file__)
