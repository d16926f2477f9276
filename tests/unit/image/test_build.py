from collections.abc import Mapping
from pathlib import Path

import pytest

from hostwalk import resources
from hostwalk.cache import Cache
from hostwalk.errors import BuildError, ResolveError
from hostwalk.image import build, cpio
from hostwalk.image import compile as compiling
from hostwalk.image.layout import Layout
from hostwalk.kernels import modules, toolchain
from hostwalk.kernels.kernel import Headers, Kernel
from hostwalk.target import Arch

GOOD_MAKEFILE = "O ?= .\n$(O)/agent:\n\tprintf agent > $@\n"
HEADERS_MAKEFILE = """\
modules:
	@test -f $(M)/main.c && test -f $(M)/../include/hostwalk_uapi.h && echo built >> $(CURDIR)/log
	@{ cat $(M)/main.c; echo "$(KCFLAGS)" | sed "s,=.*,,"; } > $(M)/hostwalk.ko
"""


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    top = tmp_path / "guest"
    for name, text in {
        "agent/Makefile": GOOD_MAKEFILE,
        "agent/main.c": "int main(void) { return 0; }\n",
        "module/main.c": "the module\n",
        "module/Kbuild": "obj-m := hostwalk.o\n",
        "include/hostwalk_uapi.h": "",
    }.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    monkeypatch.setattr(resources, "guest_sources", lambda: top)
    return top


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture(autouse=True)
def _compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = toolchain.Toolchain(Arch.X86_64, "", "true", "true 1.0")
    monkeypatch.setattr(toolchain, "find", lambda *_: compiler)
    monkeypatch.setattr(Layout, "load", classmethod(lambda cls, path: cls({}, str(path))))
    monkeypatch.setattr(compiling, "_keep", lambda module, _, directory: [
        (directory / name).write_bytes(module.read_bytes()) for name in ("hostwalk.ko", "stripped.ko")
    ])  # fmt: skip


def kernel(
    cache: Cache, tmp_path: Path, config: Mapping[str, str], files: Mapping[str, bytes] | None = None
) -> Kernel:
    tree = tmp_path / "headers"
    tree.mkdir(exist_ok=True)
    (tree / "Makefile").write_text(HEADERS_MAKEFILE)
    place = tmp_path / "modules"
    for name, data in (files or {}).items():
        place.mkdir(exist_ok=True)
        (place / name).write_bytes(data)
    headers = Headers(tree, Arch.X86_64, "6.9", {"CC": "true"}, "id")
    return Kernel(
        "spec",
        Arch.X86_64,
        "6.9",
        tmp_path / "boot",
        config,
        place if files else None,
        headers,
        "boot-id",
        cache,
    )


BUILT_IN = {"CONFIG_VIRTIO_PCI": "y", "CONFIG_VIRTIO_CONSOLE": "y"}
AS_MODULES = {"CONFIG_VIRTIO_PCI": "m", "CONFIG_VIRTIO_CONSOLE": "m"}


def test_the_agent_is_built_once_for_the_same_sources(sources: Path, cache: Cache) -> None:
    first = compiling.build_agent(Arch.X86_64, cache)
    assert first.read_bytes() == b"agent"
    assert compiling.build_agent(Arch.X86_64, cache) == first
    (sources / "agent/leftover.o").write_text("x")
    assert compiling.build_agent(Arch.X86_64, cache) == first
    (sources / "agent/main.c").write_text("int main(void) { return 1; }\n")
    assert compiling.build_agent(Arch.X86_64, cache) != first


def test_a_compilers_first_error_is_in_the_message(sources: Path, cache: Cache) -> None:
    script = "x:\n\t@echo 'note: before' >&2; echo \"$(CURDIR)/main.c:3:1: error: expected ;\" >&2; exit 1\n"
    (sources / "agent/Makefile").write_text(script)
    with pytest.raises(BuildError) as caught:
        compiling.build_agent(Arch.X86_64, cache)
    assert (
        caught.value.message
        == "the agent does not build for x86_64: guest/agent/main.c:3:1: error: expected ;"
    )
    assert "note: before" in caught.value.evidence.stderr
    assert caught.value.evidence.command.split()[0].endswith("make")
    assert cache.entries() == ()


def test_the_exerciser_is_built_in_a_copy(sources: Path, cache: Cache, tmp_path: Path) -> None:
    its_kernel = kernel(cache, tmp_path, BUILT_IN)
    module = compiling.build_exerciser(its_kernel, cache)
    assert module.read_text() == "the module\n-Werror -ffile-prefix-map\n"
    assert (module.parent / "stripped.ko").is_file()
    assert compiling.build_exerciser(its_kernel, cache) == module
    assert (tmp_path / "headers/log").read_text() == "built\n"
    assert sorted(path.name for path in (sources / "module").iterdir()) == ["Kbuild", "main.c"]


def test_an_image_holds_agent_exerciser_and_nodes(sources: Path, cache: Cache, tmp_path: Path) -> None:
    image = build.build_image(kernel(cache, tmp_path, BUILT_IN), cache)
    nodes = {node.name: node for node in cpio.read(image.initramfs.read_bytes())}
    assert nodes["init"].data == b"agent"
    assert nodes["init"].mode == 0o100755
    assert nodes["dev/console"].device == (5, 1)
    assert nodes["hostwalk.ko"].data.startswith(b"the module")
    assert not [name for name in nodes if name.startswith("modules/")]
    assert {"dev", "proc", "sys", "tmp", "modules"} <= nodes.keys()
    assert build.build_image(kernel(cache, tmp_path, BUILT_IN), cache) == image


def test_modules_are_loaded_in_the_order_of_their_needs(
    sources: Path, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = {
        "virtio_pci": ("virtio_ring", "virtio"),
        "virtio_console": ("virtio", "part_of_it"),
        "virtio": ("virtio_ring",),
    }
    monkeypatch.setattr(modules, "depends", lambda data, _: needs.get(data.decode()[4:], ()))
    names = ("virtio_console", "virtio_pci", "virtio", "virtio_ring", "unused")
    files = {f"{name}.ko": b"\x7fELF" + name.encode() for name in names}
    files["modules.builtin"] = b"kernel/part-of-it.ko\n"
    image = build.build_image(kernel(cache, tmp_path, AS_MODULES, files), cache)
    loaded = [node.name for node in cpio.read(image.initramfs.read_bytes()) if node.name.endswith(".ko")]
    assert loaded == [
        "hostwalk.ko", "modules/00-virtio_ring.ko", "modules/01-virtio.ko", "modules/02-virtio_pci.ko",
        "modules/03-virtio_console.ko",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (AS_MODULES, "module virtio_pci of Linux 6.9 .* is not known"),
        ({"CONFIG_HZ": "1"}, "has no virtio_pci"),
    ],
)
def test_a_kernel_that_cannot_talk_to_the_host(
    sources: Path, cache: Cache, tmp_path: Path, config: Mapping[str, str], message: str
) -> None:
    with pytest.raises(ResolveError, match=message) as caught:
        build.build_image(kernel(cache, tmp_path, config), cache)
    assert "CONFIG_VIRTIO_PCI=y" in caught.value.remedy
