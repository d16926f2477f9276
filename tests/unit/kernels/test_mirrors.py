from pathlib import Path

import pytest

from hostwalk.errors import FetchError, UsageError
from hostwalk.kernels import mirrors
from hostwalk.kernels.mirrors import Source, choose, parse_deb822, parse_list, read_sources

KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
DEB822 = f"""\
Types: deb deb-src
# a comment within
URIs: http://mirror.example/debian http://second.example/debian
Suites: trixie trixie-updates
Components: main contrib
Signed-By: {KEYS}

Types: deb
URIs: http://mirror.example/debian-security
Suites: trixie-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF

Types: deb
Enabled: no
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: http://source.example/debian
Suites: bookworm
Components: main
"""


@pytest.fixture(autouse=True)
def _keyring(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    keyring = tmp_path / "keyring.gpg"
    keyring.touch()
    monkeypatch.setattr(mirrors, "_KEYRINGS", (keyring,))


def debian(uri: str, *suites: str, key: str = "") -> Source:
    return Source(uri, suites or ("bookworm",), ("main",), key)


def test_a_deb822_file() -> None:
    first, second, security = parse_deb822(DEB822)
    assert first == Source(
        "http://mirror.example/debian", ("trixie", "trixie-updates"), ("main", "contrib"), KEYS
    )
    assert second.uri == "http://second.example/debian"
    assert security.suites == ("trixie-security",)
    assert security.signed_by == "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF"


def test_a_one_line_file() -> None:
    text = """\
    # deb http://commented.example/debian bookworm main
    deb http://mirror.example/debian/ bookworm main contrib # trailing
    deb-src http://mirror.example/debian bookworm main
    deb [arch=amd64 Signed-By=/keys.gpg] https://mirror.example/debian-security bookworm-security main
    """
    assert parse_list(text) == (
        Source("http://mirror.example/debian/", ("bookworm",), ("main", "contrib")),
        Source("https://mirror.example/debian-security", ("bookworm-security",), ("main",), "/keys.gpg"),
    )


def test_all_files_of_a_machine_are_read(tmp_path: Path) -> None:
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (tmp_path / "sources.list").write_text("deb http://a.example/debian sid main\n")
    (parts / "b.sources").write_text(DEB822)
    (parts / "c.list").write_text("deb http://c.example/debian sid main\n")
    (parts / "d.list.disabled").write_text("deb http://d.example/debian sid main\n")
    hosts = [source.uri.split("/")[2] for source in read_sources(tmp_path / "sources.list", parts)]
    assert hosts == ["a.example", "mirror.example", "second.example", "mirror.example", "c.example"]
    assert read_sources(tmp_path / "none", tmp_path / "none.d") == ()


def test_the_machines_mirror_serves_bookworm_whatever_it_runs_itself() -> None:
    chosen = choose(parse_deb822(DEB822), None, {})
    assert (chosen.main.uri, chosen.main.suites) == ("http://mirror.example/debian", ("bookworm",))
    assert chosen.security.uri == "http://mirror.example/debian-security"
    assert chosen.security.suites == ("bookworm-security",)
    stanzas = parse_deb822(str(chosen))
    assert [stanza.signed_by for stanza in stanzas] == [chosen.main.signed_by, chosen.security.signed_by]


@pytest.mark.parametrize(
    ("uri", "security"),
    [
        ("http://m.example/debian", "http://m.example/debian-security"),
        ("http://m.example/pub/debian/", "http://m.example/pub/debian-security/"),
        ("mirror+file:/etc/apt/mirrors/debian.list", "mirror+file:/etc/apt/mirrors/debian-security.list"),
        ("http://deb.m.example/", "http://deb.m.example-security"),
    ],
)
def test_where_security_updates_are_if_nobody_says(uri: str, security: str) -> None:
    assert choose([debian(uri)], None, {}).security.uri == security


def test_other_archives_are_passed_over() -> None:
    sources = [
        Source("https://apps.example/linux/debian", ("bookworm",), ("stable",)),
        Source("https://pg.example/debian", ("bookworm-pgdg",), ("main",)),
        Source("cdrom:[Debian]/", ("bookworm",), ("main",)),
        debian("https://vendor.example/debian", key="/keys/vendor.gpg"),
        debian("https://real.example/debian", key=KEYS),
    ]
    assert choose(sources, None, {}).main.uri == "https://real.example/debian"


def test_a_wish_comes_before_the_environment_and_that_before_the_machine() -> None:
    machine = [debian("http://machine.example/debian", key=KEYS)]
    environ = {"HOSTWALK_MIRROR": "http://env.example/debian http://env.example/sec"}
    assert choose(machine, None, environ).security.uri == "http://env.example/sec"
    chosen = choose(machine, "http://wish.example/debian", environ)
    assert (chosen.main.uri, chosen.main.signed_by) == ("http://wish.example/debian", KEYS)
    assert chosen.security.uri == "http://wish.example/debian-security"


@pytest.mark.parametrize("wish", ["wish.example", "http://a http://b http://c", "/srv/mirror"])
def test_a_wish_that_is_no_mirror(wish: str) -> None:
    with pytest.raises(UsageError, match="not a mirror"):
        choose([], wish, {})


def test_a_machine_without_debian_says_how_to_name_a_mirror() -> None:
    ubuntu = Source("http://archive.example/ubuntu", ("noble",), ("main",))
    with pytest.raises(FetchError, match="no Debian mirror") as caught:
        choose([ubuntu], None, {})
    assert "HOSTWALK_MIRROR" in caught.value.remedy


def test_a_machine_without_the_archives_keys_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "_KEYRINGS", ())
    with pytest.raises(FetchError, match="keys") as caught:
        choose([], "http://wish.example/debian", {})
    assert "debian-archive-keyring" in caught.value.remedy


def test_sources_have_one_more_suite_of_the_main_archive_and_of_no_other() -> None:
    chosen = choose([debian("http://machine.example/debian", key=KEYS)], None, {})
    wider = chosen.with_suite(mirrors.SOURCE_SUITE)
    assert wider.main.suites == ("bookworm", "trixie-backports")
    assert (wider.security, wider.main.uri) == (chosen.security, chosen.main.uri)
    assert "Suites: bookworm trixie-backports\n" in str(wider)
