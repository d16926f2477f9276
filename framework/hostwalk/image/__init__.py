"""What the guest boots into: the agent, the exerciser and the initramfs that carries them."""

from hostwalk.image.layout import Abi, Layout, read_table

__all__ = ["Abi", "Layout", "read_table"]
