"""Kernel objects, read from guest memory with the layout of the build: tasks, address spaces, page frames."""

from hostwalk.linux.kernel import Linux
from hostwalk.linux.mm import Mm, Rss, Vma
from hostwalk.linux.node import Node
from hostwalk.linux.pages import Page, Pages
from hostwalk.linux.slide import find_slide, slid
from hostwalk.linux.task import Task

__all__ = ["Linux", "Mm", "Node", "Page", "Pages", "Rss", "Task", "Vma", "find_slide", "slid"]
