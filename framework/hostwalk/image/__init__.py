"""What the guest boots into: the agent, the exerciser and the initramfs that carries them."""

from hostwalk.image.build import Image, build_image, build_login_image
from hostwalk.image.compile import build_agent, build_exerciser, build_module
from hostwalk.image.layout import Abi, Layout, read_table

__all__ = [
    "Abi",
    "Image",
    "Layout",
    "build_agent",
    "build_exerciser",
    "build_image",
    "build_login_image",
    "build_module",
    "read_table",
]
