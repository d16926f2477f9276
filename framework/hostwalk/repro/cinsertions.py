"""What a module has for the vm_insert_page family: pages of its own, and calls that map them."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

BLOCKS = ("compound", "split", "unsplit")
KINDS = ("order0", "zero", "slab", "anon", "mapped", *BLOCKS)
FAULTS = ("vmf_insert_pfn", "vmf_insert_pfn_prot", "vmf_insert_mixed")
WITHOUT_PAGES = ("remap_pfn_range", "vm_iomap_memory", "vmf_insert_pfn", "vmf_insert_pfn_prot")
CALLS = (
    "vm_insert_page", "vm_insert_pages", "vm_map_pages", "vm_map_pages_zero", "remap_pfn_range", "vm_iomap_memory",
    *FAULTS,
)  # fmt: skip
_PROTS = {
    "": "vma->vm_page_prot", "readonly": "vm_get_page_prot(vma->vm_flags & ~VM_WRITE)",
    "noncached": "pgprot_noncached(vma->vm_page_prot)", "writecombine": "pgprot_writecombine(vma->vm_page_prot)",
}  # fmt: skip
PROTS = tuple(_PROTS)
_COLUMNS = 90


@dataclass(frozen=True)
class OwnPages:
    """Pages of the module's, in an array of this name; ``nr`` of them."""

    name: str
    kind: str
    nr: int
    order: int = 0

    @property
    def code(self) -> str:
        """The array, the function that fills it, and the one that gives the pages back."""
        return f"static struct page *{self.name}[{self.nr}];\n\n{self._alloc()}\n\n{self._free()}\n"

    @property
    def is_of_process(self) -> bool:
        """Whether they are those that a process has at an address."""
        return self.kind in ("anon", "mapped")

    def _alloc(self) -> str:
        given = "unsigned long addr" if self.is_of_process else "void"
        body = "\n".join(f"\t{line}" if line else "" for line in self._filling().split("\n"))
        return f"static int repro_alloc_{self.name}({given})\n{{\n{body}\n\treturn 0;\n}}"

    def _filling(self) -> str:
        name, nr = self.name, self.nr
        if self.kind == "zero":
            return f"for (int i = 0; i < {nr}; i++)\n\t{name}[i] = ZERO_PAGE(0);"
        if self.kind == "slab":
            return (
                f"void *object = kzalloc(PAGE_SIZE, GFP_KERNEL);\n\nif (!object)\n\treturn -ENOMEM;\n"
                f"{name}[0] = virt_to_page(object);"
            )
        if self.is_of_process:
            anon = f"\nif (!PageAnon({name}[0]))\n\treturn -EINVAL;" if self.kind == "anon" else ""
            return (
                f"int ret = get_user_pages_fast(addr, 1, FOLL_WRITE, {name});\n\n"
                f"if (ret != 1)\n\treturn ret < 0 ? ret : -EFAULT;{anon}"
            )
        return self._filling_order0() if self.kind == "order0" else self._filling_block()

    def _filling_order0(self) -> str:
        alloc = "alloc_page(GFP_KERNEL | __GFP_ZERO)"
        if self.nr == 1:
            return f"{self.name}[0] = {alloc};\nif (!{self.name}[0])\n\treturn -ENOMEM;"
        return (
            f"for (int i = 0; i < {self.nr}; i++) {{\n\t{self.name}[i] = {alloc};\n"
            f"\tif (!{self.name}[i])\n\t\treturn -ENOMEM;\n}}"
        )

    def _filling_block(self) -> str:
        gfp = "GFP_KERNEL | __GFP_ZERO" + (" | __GFP_COMP" if self.kind == "compound" else "")
        split = f"split_page(page, {self.order});\n" if self.kind == "split" else ""
        return (
            f"struct page *page = alloc_pages({gfp}, {self.order});\n\nif (!page)\n\treturn -ENOMEM;\n{split}"
            f"for (int i = 0; i < {self.nr}; i++)\n\t{self.name}[i] = page + i;"
        )

    def _free(self) -> str:
        name = self.name
        head = f"static void repro_free_{name}(void)\n{{\n"
        clear = f"\tmemset({name}, 0, sizeof({name}));\n}}"
        if self.kind in ("compound", "unsplit"):
            return f"{head}\tif ({name}[0])\n\t\t__free_pages({name}[0], {self.order});\n{clear}"
        if self.kind == "slab":
            return f"{head}\tif ({name}[0])\n\t\tkfree(page_address({name}[0]));\n{clear}"
        if self.kind == "zero":
            return f"{head}{clear}"
        return f"{head}\tfor (int i = 0; i < {self.nr} && {name}[i]; i++)\n\t\tput_page({name}[i]);\n{clear}"


def _comment(text: str) -> str:
    if len(text) <= _COLUMNS:
        return f"/* {text} */"
    return "\n".join(["/*", *(f" * {line}" for line in textwrap.wrap(text, _COLUMNS)), " */"])


@dataclass(frozen=True)
class Insertion:
    """A call that maps pages, in f_op->mmap, in the fault handler, or on a mapping that is there (``now``).

    ``offset`` is an expression of bytes, ``counts`` whether it has to tell how many pages it did not map, ``comment``
    what the script says.
    """

    number: int
    call: str
    pages: str
    first: int
    nr: int
    when: str
    offset: str = ""
    pgoff: int = 0
    keep: bool = False
    flags: tuple[str, ...] = ()
    pgprot: str = ""
    counts: bool = False
    comment: str = ""

    @property
    def code(self) -> str:
        """The functions of the module that make the call."""
        made = f"{_comment(self.comment)}\n{self._fault() if self.call in FAULTS else self._insert()}"
        return made if self.when != "fault" else f"{made}\n{self._handler()}"

    @property
    def mapping(self) -> list[str]:
        """What f_op->mmap does for it."""
        ops = [f"vma->vm_ops = &insert_{self.number}_ops;", "return 0;"]
        made = f"insert_{self.number}(vma)"
        called = [f"report({made});", "return 0;"] if self.keep else [f"return report({made});"]
        return [*self.preparing, *(ops if self.when == "fault" else called)]

    @property
    def preparing(self) -> list[str]:
        """What is set in the vma beforehand."""
        lines = [f"vm_flags_set(vma, {' | '.join(self.flags)});"] if self.flags else []
        own = self.call in ("remap_pfn_range", "vmf_insert_pfn_prot")
        return [*lines, *([f"vma->vm_page_prot = {_PROTS[self.pgprot]};"] if self.pgprot and not own else [])]

    @property
    def _start(self) -> str:
        if self.when != "fault":
            start = "vma->vm_start"
        elif self.pgoff:
            start = f"vma->vm_start - ((vma->vm_pgoff - {self.pgoff}) << PAGE_SHIFT)"
        else:
            start = "vma->vm_start - (vma->vm_pgoff << PAGE_SHIFT)"
        return f"{start} + {self.offset}" if self.offset else start

    @property
    def _from(self) -> str:
        return f"{self.pages} + {self.first}" if self.first else self.pages

    def _page(self, index: str) -> str:
        if index == "0":
            return f"{self.pages}[{self.first}]"
        return f"{self.pages}[{self.first} + {index}]" if self.first else f"{self.pages}[{index}]"

    def _insert(self) -> str:
        head = f"static int insert_{self.number}(struct vm_area_struct *vma)\n{{\n"
        size = "PAGE_SIZE" if self.nr == 1 else f"{self.nr} * PAGE_SIZE"
        match self.call:
            case "vm_map_pages" | "vm_map_pages_zero":
                return f"{head}\treturn {self.call}(vma, {self._from}, {self.nr});\n}}\n"
            case "vm_iomap_memory":
                phys = f"page_to_phys({self._page('0')})" + (f" + {self.offset}" if self.offset else "")
                return f"{head}\treturn vm_iomap_memory(vma, {phys}, {size});\n}}\n"
            case "remap_pfn_range":
                made = f"remap_pfn_range(vma, addr, page_to_pfn({self._page('0')}),"
                return (
                    f"{head}{self._addr}\n\treturn {made}\n\t\t\t       {size}, {_PROTS[self.pgprot]});\n}}\n"
                )
            case "vm_insert_pages":
                return f"{head}{self._addr}{self._batch()}}}\n"
        return f"{head}{self._addr}{self._single() if self._is_single else self._one_by_one()}}}\n"

    @property
    def _addr(self) -> str:
        return f"\tunsigned long addr = {self._start};\n"

    @property
    def _is_single(self) -> bool:
        return self.nr == 1 and not self.counts

    def _single(self) -> str:
        return f"\n\treturn {self._one('0')};\n"

    def _one(self, index: str) -> str:
        """Return the call for one page."""
        addr = "addr" if index == "0" else f"addr + {index} * PAGE_SIZE"
        page = self._page(index)
        call = "insert_mixed" if self.call == "vmf_insert_mixed" else self.call
        given = f"page_to_pfn({page})" if self.call in FAULTS else page
        prot = f",\n\t\t\t\t   {_PROTS[self.pgprot]}" if self.call == "vmf_insert_pfn_prot" else ""
        return f"{call}(vma, {addr}, {given}{prot})"

    def _batch(self) -> str:
        told = "\tresult.num = num;\n" if self.counts else ""
        return (
            f"\tunsigned long num = {self.nr};\n"
            f"\tint ret = vm_insert_pages(vma, addr, {self._from}, &num);\n\n{told}\treturn ret;\n"
        )

    def _one_by_one(self) -> str:
        told = f"\tresult.num = {self.nr} - i + !!ret;\n" if self.counts else ""
        return (
            f"\tint i, ret = 0;\n\n\tfor (i = 0; i < {self.nr} && !ret; i++)\n"
            f"\t\tret = {self._one('i')};\n{told}\treturn ret;\n"
        )

    def _fault(self) -> str:
        head = f"static vm_fault_t insert_{self.number}(struct vm_area_struct *vma)\n{{\n{self._addr}"
        if self._is_single:
            return f"{head}{self._single()}}}\n"
        told = f"\tresult.num = {self.nr} - i + (fault != VM_FAULT_NOPAGE);\n" if self.counts else ""
        return (
            f"{head}\tvm_fault_t fault = VM_FAULT_NOPAGE;\n\tint i;\n\n"
            f"\tfor (i = 0; i < {self.nr} && fault == VM_FAULT_NOPAGE; i++)\n"
            f"\t\tfault = {self._one('i')};\n{told}\treturn fault;\n}}\n"
        )

    def _handler(self) -> str:
        called = f"insert_{self.number}(vma)"
        if self.call in FAULTS:
            made = f"\tvm_fault_t fault = {called};\n\n\treport((__force int)fault);\n"
        else:
            made = (
                f"\tint ret = report({called});\n"
                "\tvm_fault_t fault = ret && ret != -EBUSY ? vmf_error(ret) : VM_FAULT_NOPAGE;\n\n"
            )
        name = f"insert_{self.number}"
        return (
            f"static vm_fault_t {name}_fault(struct vm_fault *vmf)\n{{\n\tstruct vm_area_struct *vma = vmf->vma;\n"
            f"{made}{self._beyond()}\treturn fault;\n}}\n\n"
            f"static const struct vm_operations_struct {name}_ops = {{\n\t.fault = {name}_fault,\n}};\n"
        )

    def _beyond(self) -> str:
        """Return what ends a fault of an address that nothing was mapped at."""
        if self.call.startswith("vm_map_pages"):
            return ""
        size = "PAGE_SIZE" if self.nr == 1 else f"{self.nr} * PAGE_SIZE"
        start = f"({self._start})"
        start = f"({start} & PAGE_MASK)" if self.offset else start
        return (
            "\t/* Nothing is mapped there: it would fault again, for ever. */\n"
            f"\tif (fault == VM_FAULT_NOPAGE &&\n\t    vmf->address - {start} >= {size})\n"
            "\t\treturn VM_FAULT_SIGBUS;\n"
        )
