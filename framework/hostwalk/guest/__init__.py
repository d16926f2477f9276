"""The client of the guest's agent: subjects and what they can be told to do."""

from hostwalk.guest.agent import Agent, Hello
from hostwalk.guest.area import Area
from hostwalk.guest.failures import AccessFaulted, NotExported, SubjectDied, SyscallFailed
from hostwalk.guest.gup import Pins
from hostwalk.guest.insert import Inserted, Pages
from hostwalk.guest.names import Fault
from hostwalk.guest.operations import Rss
from hostwalk.guest.probe import Access, Probe, probing
from hostwalk.guest.process import Pending, Reply
from hostwalk.guest.subject import Subject

__all__ = [
    "Access",
    "AccessFaulted",
    "Agent",
    "Area",
    "Fault",
    "Hello",
    "Inserted",
    "NotExported",
    "Pages",
    "Pending",
    "Pins",
    "Probe",
    "Reply",
    "Rss",
    "Subject",
    "SubjectDied",
    "SyscallFailed",
    "probing",
]
