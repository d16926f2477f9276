"""A subject whose address space has a bit of everything, for tests that look at all of it."""

import re
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from hostwalk.errors import HostwalkError
from hostwalk.guest import Subject


@dataclass(frozen=True)
class Busy:
    """The subject, its child, and what the guest could not give it."""

    subject: Subject
    child: Subject
    missing: tuple[str, ...]


@contextmanager
def busy_subject(cell):
    """Yield a subject with mappings of every kind, and a child that shares them."""
    with ExitStack() as stack:
        subject = stack.enter_context(cell.agent.spawn())
        files(subject, stack.enter_context(subject.file_system("ramfs")))
        missing = [fill.__name__ for fill in FILLS if not _filled(fill, subject)]
        child = stack.enter_context(subject.fork())
        private(child)
        yield Busy(subject, child, tuple(missing))


def _filled(fill, subject):
    try:
        fill(subject)
    except HostwalkError:
        return False
    return True


def private(subject):
    """Anonymous memory: writable, read-only, hidden, executable, the zero page, locked."""
    area = subject.mmap(pages=64).touch()
    subject.mprotect(area[8:16], "none")
    subject.mprotect(area[16:24], "r")
    subject.mmap(pages=16).load()
    subject.mmap(pages=4, prot="rwx").touch()
    subject.mmap(pages=8, locked=True).touch()
    subject.mlock2(subject.mmap(pages=8), onfault=True)


def shared(subject):
    """Shared memory, anonymous and of a file without a name."""
    subject.mmap(pages=8, shared=True).touch()
    subject.mmap(pages=4, fd=subject.memfd(4)).touch()
    hidden = subject.mmap(pages=4, fd=subject.memfd(4), shared=True).touch()
    subject.mprotect(hidden[1:3], "none")


def files(subject, where):
    """A file shared and private, written and read."""
    fd = subject.open(f"{where}/file", "O_RDWR|O_CREAT")
    subject.ftruncate(fd, 8)
    subject.mmap(pages=8, fd=fd, shared=True).touch()
    subject.mmap(pages=8, fd=fd).load()
    subject.mmap(pages=8, fd=fd).touch()
    subject.mmap(pages=16, prot="r", fd=subject.open("/init", "O_RDONLY")).load()


def huge(subject):
    """Transparent huge pages: whole, split in the middle, moved, and the huge zero page."""
    put(subject, "/sys/kernel/mm/transparent_hugepage/enabled", b"madvise")
    for work in (lambda area: area[0].touch(), lambda area: area[0].load(), split):
        size = huge_size(subject)
        area = subject.mmap(pages=size // subject.page_size, aligned=size)
        subject.madvise(area, "HUGEPAGE")
        work(area)


def split(area):
    area[0].touch()
    area.subject.mprotect(area[3:5], "r")


def pool(subject):
    """Huge pages of the pool, private and shared."""
    put(subject, "/proc/sys/vm/nr_hugepages", b"2")
    pages = huge_size(subject) // subject.page_size
    subject.mmap(pages=pages, hugetlb=True)[0].touch()
    subject.mmap(pages=pages, hugetlb=True, shared=True)[0].touch()


def inserted(subject):
    """Pages that a driver inserted."""
    subject.insert("vm_insert_page", subject.alloc_pages("order0", nr=2)).area.load()
    subject.insert("vm_insert_page", subject.alloc_pages("compound", order=2), map_pages=4).area.load()


def remapped(subject):
    """Page frames that a driver mapped without their pages."""
    subject.insert("remap_pfn_range", subject.alloc_pages("order0", nr=1)).area.load()


FILLS = (private, shared, huge, pool, inserted, remapped)


def put(subject, path, text):
    fd = subject.open(path, "O_WRONLY")
    subject.write(fd, text)
    subject.close(fd)


def huge_size(subject):
    found = re.search(r"Hugepagesize:\s+(\d+) kB", subject.read_file("/proc/meminfo").decode())
    return int(found[1]) << 10
