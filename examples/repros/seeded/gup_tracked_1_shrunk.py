"""gup.tracked.1 is not kept. mm/gup.c says: Writing to file-backed mappings which require folio dirty
tracking using GUP is a fundamentally broken operation [...] A long term pin is the most egregious
case so this is the case we disallow.

It does not hold: after.refcounts == before.refcounts (3 == 2)
hostwalk repro run FILE: 1 it reproduces, 0 it does not, 3 nothing proven, 125 could not build or boot.
"""

from hostwalk.repro import Failure, Pin, repro

PIN = Pin(
    arch="x86_64",
    kernel="tree:linux",
    format="4level",
    release="7.3.4",
    image="6353488cb978c5a233f470304d04142c87e7c2efffb502a27094564232481177",
    config="b97f5f112de5a3d2f3e3d881497b0a704ccc3cbf6fe662055eba65276bc4b1ef",
    exerciser="3217c6407b5e09c31fc1b53209f02d05567cefdc00d87b983fb99fde82245dc8",
    qemu="7.2.22",
    cpu="max,la57=off",
)
SHOWS = Failure("assertion", "after.refcounts == before.refcounts", ("3 == 2",))


@repro(PIN, SHOWS)
def test_gup_tracked_1(subject, witness):
    subject.syscall("mkdirat", -0 % (1 << 0), subject.scratch, 0, payload=b"/tmp/gup-ramfs\x00")
    subject.call(
        "mount",
        subject.scratch + 0,
        subject.scratch,
        subject.scratch + 15,
        0,
        0,
        payload=b"/tmp/gup-ramfs\x00ramfs\x00",
    )
    fd = subject.open("/tmp/gup-ramfs/file", "O_RDWR|O_CREAT")
    subject.ftruncate(fd, 1)
    area = subject.mmap(shared=True, fd=fd).touch()
    before = witness.pages(area)
    pins2 = subject.pin_user_pages_fast(area, write=True, longterm=True)
    assert pins2.errno == "EFAULT"
    after = witness.pages(area)
    assert after.refcounts == before.refcounts


if __name__ == "__main__":
    from hostwalk.cli.repro import main

    main(__file__)
