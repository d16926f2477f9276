import pytest

from hostwalk.kernels.versions import compare, upstream, version_order


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("6.12.99-1", "6.12.117-1"),
        ("6.1.192-2", "6.12.1-1"),
        ("6.12.117-1~deb12u1", "6.12.117-1"),
        ("6.12.117-1~deb12u1", "6.12.117-1~deb12u2"),
        ("6.1.0-9", "6.1.0-56"),
        ("1.0~rc1", "1.0"),
        ("9.9", "1:0.1"),
        ("1.0a", "1.0+"),
        ("1.0", "1.0a"),
        ("1.0-1", "1.0-1.1"),
    ],
)
def test_the_order_of_versions(older: str, newer: str) -> None:
    assert compare(older, newer) < 0 < compare(newer, older)
    assert compare(older, older) == 0
    assert sorted([newer, older], key=version_order) == [older, newer]


def test_equal_versions_in_other_words() -> None:
    assert compare("0:1.0", "1.0") == 0
    assert compare("1.00", "1.0") == 0


def test_the_upstream_part() -> None:
    assert upstream("6.12.117-1~deb12u1") == "6.12.117"
    assert upstream("1:6.1-rc1-2") == "6.1-rc1"
