"""A rate and a burst for each address, in a table of limited size."""

from __future__ import annotations

from router.control.address_pace import MOST_ADDRESSES, AddressPace


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


def test_an_address_has_a_burst_and_then_its_rate_and_others_are_not_concerned() -> None:
    clock = Clock()
    pace = AddressPace(clock, per_s=2.0, burst=3)
    waits = []
    for _ in range(5):
        waits.append(pace.wait_s("10.0.0.1"))
        pace.count("10.0.0.1")
    assert waits == [0.0, 0.0, 0.0, 0.0, 0.5]
    assert pace.wait_s("10.0.0.1") == 1.0
    assert pace.wait_s("10.0.0.2") == 0.0
    clock.now += 1.0
    assert pace.wait_s("10.0.0.1") == 0.0
    pace.count("10.0.0.1")
    assert pace.wait_s("10.0.0.1") == 0.5
    clock.now += 100.0
    assert pace.wait_s("10.0.0.1") == 0.0


def test_all_addresses_of_an_ipv6_network_are_one_and_a_name_is_an_address() -> None:
    pace = AddressPace(Clock(), per_s=1.0, burst=1)
    for host in ("2001:db8::1", "2001:db8::2", "2001:db8::ffff:1"):
        pace.count(host)
    assert pace.wait_s("2001:db8::3") == 2.0
    assert pace.wait_s("2001:db8:1::1") == 0.0
    for name in ("", "fe80::1%eth0", "a pipe"):
        pace.count(name)
        assert pace.wait_s(name) == 0.0


def test_the_table_forgets_the_address_that_was_quiet_for_the_longest() -> None:
    pace = AddressPace(Clock(), per_s=0.001, burst=1)
    for number in range(MOST_ADDRESSES * 3):
        pace.count(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        for _ in range(2):
            pace.count("10.9.9.9")
    assert len(pace) == MOST_ADDRESSES
    assert pace.wait_s("10.9.9.9") > 0
