"""The module of an exported program: just the calls that it makes, and what it asks of the kernel."""

from __future__ import annotations

import textwrap

from hostwalk.repro.ccontext import Translation
from hostwalk.repro.ctext import snippet

PLAIN = {"fs.h", "miscdevice.h", "mm.h", "module.h", "uaccess.h"}
_STRUCT = """
/* A call for nr pages from start; what it returned, how many it gave, and their page frames. */
struct repro_pages {
	__u64 start;
	__s64 nr;
	__s64 ret;
	__s64 filled;
	__u64 pfn[REPRO_PAGES];
};
"""
_RESULT = """
/* How often the armed call was made, what it returned, how many pages it did not map. */
struct repro_result {
	__s64 runs;
	__s64 ret;
	__s64 num;
};
"""


def header(made: Translation) -> str:
    """Return what program and module both include."""
    uses_pages = made.calls or "count" in made.asks
    lines = [f"#define REPRO_CALLS {max(1, len(made.calls))}", "#define REPRO_PAGES 64"] if uses_pages else []
    parts = [
        *lines, *(_STRUCT.splitlines() if uses_pages else []), *(_RESULT.splitlines() if made.insertions else []),
        "", *_requests(made),
    ]  # fmt: skip
    return snippet("module.h").replace("@PARTS@", "\n".join(parts))


def _requests(made: Translation) -> list[str]:
    wanted = [
        (made.calls, "CALL(n) _IOWR(REPRO_TYPE, n, struct repro_pages)"),
        (made.calls, "PUT(n) _IOWR(REPRO_TYPE, 0x40 + (n), struct repro_pages)"),
        (made.calls or "count" in made.asks, "COUNT _IOWR(REPRO_TYPE, 0x80, struct repro_pages)"),
        (made.own, "ALLOC(n) _IO(REPRO_TYPE, 0x90 + (n))"),
        ("free" in made.asks, "FREE(n) _IO(REPRO_TYPE, 0xa0 + (n))"),
        ("pfns" in made.asks, "PFNS(n) _IOR(REPRO_TYPE, 0xb0 + (n), __u64)"),
        ("arm" in made.asks, "ARM(n) _IO(REPRO_TYPE, 0xc0 + (n))"),
        ("now" in made.asks, "NOW(n) _IO(REPRO_TYPE, 0xd0 + (n))"),
        (made.insertions, "RESULT _IOR(REPRO_TYPE, 0x81, struct repro_result)"),
        ("pfn" in made.asks, "PFN _IOWR(REPRO_TYPE, 0x82, __u64)"),
    ]  # fmt: skip
    return [f"#define REPRO_{text}" for needed, text in wanted if needed]


def module(made: Translation) -> str:
    """Return the module's source."""
    parts = [
        *_compat(made),
        *_pages(made),
        *_insertions(made),
        *_answers(made),
        *_ioctls(made),
        *_files(made),
    ]
    whole = snippet("module.c").replace("@PARTS@", "".join(f"{part.rstrip()}\n\n" for part in parts))
    for mark, text in (
        ("@INCLUDES@", _includes(made, whole)),
        ("@MMAP@", "\t.mmap = repro_mmap,\n" if made.asks & {"arm", "mmap"} else ""),
        ("@RELEASE@", "\t.release = repro_release,\n" if made.calls or made.own else ""),
    ):
        whole = whole.replace(mark, text)
    return whole


def _includes(made: Translation, text: str) -> str:
    names = {*PLAIN, *({"version.h"} if "LINUX_VERSION_CODE" in text or made.calls else ())}
    names |= {"io.h"} if any(each.call == "vm_iomap_memory" for each in made.insertions) else set()
    names |= {"slab.h"} if any(own.kind == "slab" for own in made.own) else set()
    lines = [f"#include <linux/{name}>" for name in sorted(names)]
    if _has_mixed(made):
        lines += ["#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 17, 0)", "#include <linux/pfn_t.h>", "#endif"]
    return "\n".join(lines)


def _has_mixed(made: Translation) -> bool:
    return any(each.call == "vmf_insert_mixed" for each in made.insertions)


def _compat(made: Translation) -> list[str]:
    flags = any(each.flags for each in made.insertions)
    return [snippet("flags_module.c")] * flags + [snippet("mixed_module.c")] * _has_mixed(made)


def _pages(made: Translation) -> list[str]:
    return [own.code for own in made.own]


def _insertions(made: Translation) -> list[str]:
    if not made.insertions:
        return []
    armed = snippet("insert_module.c")
    if "arm" not in made.asks:
        armed = armed.replace("static int armed = -1;\n", "")
    now = [snippet("now_module.c")] if "now" in made.asks else []
    return [armed, *(each.code for each in made.insertions), *now]


def _answers(made: Translation) -> list[str]:
    names = ["pfns", "pfn"] + ([] if made.calls else ["count"])
    return [snippet(f"{name}_module.c") for name in names if name in made.asks]


def _ioctls(made: Translation) -> list[str]:
    cases = _cases(made)
    if not made.calls:
        return [_switch("repro_ioctl", cases)]
    first = (
        "\tlong ret = insert_ioctl(file, cmd, arg);\n\n\tif (ret != -ENOTTY)\n\t\treturn ret;\n"
        if cases
        else "\n"
    )
    gup = snippet("gup_module.c").replace("@FIRST@", first).replace("@CALLS@", "\n".join(_gup_cases(made)))
    return [*([_switch("insert_ioctl", cases)] if cases else []), gup]


def _switch(name: str, cases: list[str]) -> str:
    inside = "\n".join(f"\t{line}" for line in cases)
    return (
        f"static long {name}(struct file *file, unsigned int cmd, unsigned long arg)\n{{\n\tswitch (cmd) {{\n"
        f"{inside}\n\tdefault:\n\t\treturn -ENOTTY;\n\t}}\n}}"
    )


def _cases(made: Translation) -> list[str]:
    """Return the cases of all requests but those of get_user_pages."""
    cases: list[str] = []
    for number, own in enumerate(made.own):
        given = "arg" if own.is_of_process else ""
        cases += [f"case REPRO_ALLOC({number}):", f"\treturn repro_alloc_{own.name}({given});"]
        if "free" in made.asks:
            cases += [f"case REPRO_FREE({number}):", f"\trepro_free_{own.name}();", "\treturn 0;"]
        if "pfns" in made.asks:
            told = f"tell_pfns((u64 __user *)arg, {own.name}, {own.nr})"
            cases += [f"case REPRO_PFNS({number}):", f"\treturn {told};"]
    for each in made.insertions:
        cases += _insertion_case(each.number, now=each.when == "now")
    if made.insertions:
        copied = "copy_to_user((void __user *)arg, &result, sizeof(result))"
        cases += ["case REPRO_RESULT:", f"\treturn {copied} ? -EFAULT : 0;"]
    if "pfn" in made.asks:
        cases += ["case REPRO_PFN:", "\treturn tell_pfn((u64 __user *)arg);"]
    if "count" in made.asks and not made.calls:
        cases += ["case REPRO_COUNT:", "\treturn tell_count((struct repro_pages __user *)arg);"]
    return cases


def _insertion_case(number: int, *, now: bool) -> list[str]:
    if now:
        return [f"case REPRO_NOW({number}):", f"\treturn insert_now(file, arg, insert_{number});"]
    return [
        f"case REPRO_ARM({number}):", f"\tarmed = {number};", "\tresult = (struct repro_result){};", "\treturn 0;",
    ]  # fmt: skip


def _gup_cases(made: Translation) -> list[str]:
    cases = []
    for number, call in enumerate(made.calls):
        body = textwrap.dedent(call.code).strip().splitlines()
        cases += [
            f"\tcase REPRO_CALL({number}):", f"\t\tcall = {number};", *(f"\t\t{line}" for line in body), "\t\tbreak;",
            f"\tcase REPRO_PUT({number}):", f"\t\t{_release(number, call.pinned)}", "\t\treturn 0;",
        ]  # fmt: skip
    return cases


def _release(number: int, pinned: bool) -> str:
    return f"release({number}, {'true' if pinned else 'false'});"


def _files(made: Translation) -> list[str]:
    given_back = [_release(number, call.pinned) for number, call in enumerate(made.calls)]
    given_back += [f"repro_free_{own.name}();" for own in made.own]
    inside = "\n".join(f"\t{line}" for line in given_back)
    release = (
        f"static int repro_release(struct inode *inode, struct file *file)\n{{\n{inside}\n\treturn 0;\n}}"
    )
    return [*([_mmap(made)] if made.asks & {"arm", "mmap"} else []), *([release] if given_back else [])]


def _mmap(made: Translation) -> str:
    cases = []
    for each in made.insertions:
        if each.when != "now":
            cases += [f"case {each.number}:", *(f"\t{line}" for line in each.mapping)]
    inside = "\n".join(f"\t{line}" for line in cases)
    chosen = f"\tswitch (call) {{\n{inside}\n\tdefault:\n\t\treturn 0;\n\t}}\n" if cases else "\treturn 0;\n"
    return (
        "static const struct vm_operations_struct repro_vm_ops = {};\n\n"
        "static int repro_mmap(struct file *file, struct vm_area_struct *vma)\n{\n"
        + ("\tint call = armed;\n\n\tarmed = -1;\n" if cases else "")
        + "\t/* Never without: a mapping that has none is an anonymous one. */\n\tvma->vm_ops = &repro_vm_ops;\n"
        f"{chosen}}}"
    )
