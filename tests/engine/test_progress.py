"""What a run says of its pace, under a clock the test moves: rates, requests in flight, the time left, the spend."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.engine.meter import Meter, folded
from factory.engine.pace import Laps, Rate
from factory.engine.progress import Size
from factory.engine.told import about, money, roughly


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def meter(units: int = 10_000, unit: str = "answers", shards: int = 4) -> tuple[Meter, Clock]:
    clock = Clock()
    return Meter("samples", Size(units, unit, shards), clock), clock


def answers(count: int, *, source: int = 1, flying: int = 0, each: int = 100) -> dict[str, object]:
    return {"answers": count, "tokens_in": 50 * count, "tokens_out": each * count, "cost": 0.001 * count,
            "currency": "USD", "in_flight": flying, "accepted": count, "source": source}


def part(found: Meter, pattern: str) -> re.Match[str] | None:
    return next((hit for one in found.rates() if (hit := re.search(pattern, one))), None)


def test_a_steady_step_says_how_long_it_takes() -> None:
    found, clock = meter()
    clock.now += 60  # the model loads
    for _ in range(120):
        clock.now += 0.5
        found.add(answers(5, flying=64))
    assert found.place == "600/10,000 answers"
    assert {"2m00s", "shard 0/4", "1,000 tok/s (500 overall)", "64 in flight", "10.0 answers/s", "10.0 rows/s",
            "ETA 15m40s ±1s", "$0.600, ≈$10 at the end"} == set(found.rates())


def test_nothing_is_promised_before_there_is_enough_to_say() -> None:
    found, clock = meter()
    assert part(found, "ETA") is None
    spreads = []
    for _ in range(40):
        clock.now += random.Random(clock.now).uniform(0.5, 3)
        found.add(answers(random.Random(clock.now).randint(1, 9)))
        left = found._laps.left(clock.now, 5000)
        spreads.append(left.spread / left.seconds if left is not None else None)
    assert spreads[:4] == [None] * 4
    told = [spread for spread in spreads if spread is not None]
    assert told[-1] < 0.5 * max(told)


def test_requests_in_flight_are_those_of_all_processes() -> None:
    found, clock = meter()
    found.add(answers(0, source=1, flying=700))
    found.add(answers(0, source=2, flying=500))
    assert part(found, "1,200 in flight")
    clock.now += 1
    found.add(answers(10, source=1, flying=0))
    assert part(found, "^500 in flight")
    found.add(answers(10, source=2, flying=0))
    assert part(found, "in flight") is None


def test_answers_that_were_there_count_as_done_but_not_as_pace() -> None:
    found, clock = meter(units=1000)
    found.add({"shard": 0, "counts": {"kept": 500}, "reused": 500})
    for _ in range(10):
        clock.now += 1
        found.add(answers(10))
    assert found.place == "600/1,000 answers"
    eta = part(found, r"ETA (\d+)s ±1s")
    assert eta is not None
    assert int(eta[1]) == 40
    assert part(found, r"^10\.0 rows/s$")
    assert part(found, r"^\$0\.100, ≈\$0\.50 at the end$")


def test_kept_rows_come_from_shards_where_nobody_tells_them_live() -> None:
    found, clock = meter(units=400)
    clock.now += 10
    found.add({"answers": 100, "tokens_out": 100, "tokens_in": 0})
    found.add({"shard": 0, "counts": {"kept": 80}, "reused": 0, "seconds": 10})
    assert part(found, r"^8\.0 rows/s$")
    assert part(found, r"^10\.0 answers/s$")


def test_a_rate_follows_a_change_and_a_stop() -> None:
    rate, now = Rate(0.0), 0.0
    for _ in range(100):
        rate.add(now := now + 1, 10)
    for _ in range(40):
        rate.add(now := now + 1, 2)
    assert rate.lately(now) == pytest.approx(2)
    assert rate.overall(now) == pytest.approx((1000 + 80) / 140)
    assert rate.lately(now + 300) < 0.1


def test_bursts_have_a_rate_too() -> None:
    """A backend that answers 64 at once, every two minutes."""
    rate, laps, now = Rate(0.0), Laps(), 0.0
    for _ in range(9):
        now += 120
        for _ in range(64):
            rate.add(now, 1)
            laps.add(now, 1)
    assert rate.lately(now + 60) == pytest.approx(64 / 120, rel=0.25)
    left = laps.left(now, 640)
    assert left is not None
    assert left.seconds == pytest.approx(1200, rel=0.05)


def test_silence_makes_the_time_left_longer() -> None:
    laps = Laps()
    for second in range(20):
        laps.add(float(second), 10)
    calm, stalled = laps.left(19.0, 1000), laps.left(49.0, 1000)
    assert calm is not None
    assert calm.seconds == pytest.approx(100)
    assert stalled is None or (stalled.seconds > 2 * calm.seconds and stalled.spread > calm.spread)


def arrivals(generator: random.Random, rate: float) -> Iterator[float]:
    now = 0.0
    while True:
        now += generator.expovariate(rate)
        yield now


def test_the_interval_holds_what_it_says() -> None:
    """Answers that come by chance at a steady rate: the true time lies in the ± about nineteen times of twenty."""
    generator, held, told = random.Random(7), 0, 0
    for _ in range(300):
        laps, times = Laps(), arrivals(generator, 2.0)
        before = [next(times) for _ in range(generator.randint(20, 300))]
        for now in before:
            laps.add(now, 1)
        left = laps.left(before[-1], 200)
        end = [next(times) for _ in range(200)][-1]
        if left is not None:
            told += 1
            held += abs(end - before[-1] - left.seconds) <= left.spread
    assert told > 280
    assert 0.9 <= held / told <= 0.995


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 1000), st.integers(0, 5000)), max_size=80),
       st.sampled_from([80, 120]), st.integers(1, 10**9))
def test_it_fits_the_terminal_whatever_happens(events: list[tuple[float, int, int]], width: int, units: int) -> None:
    found, clock = meter(units=units, shards=1000)
    for passed, count, flying in events:
        clock.now += passed
        found.add(answers(count, flying=flying, each=30_000))
        lines = folded(found.rates(), width - 3)
        assert len(lines) <= 2
        assert all(len(line) <= width - 3 for line in lines)
    assert found.done <= units


def test_a_full_line_loses_nothing_in_80_columns() -> None:
    found, clock = meter(units=1_200_000, shards=2400)
    for _ in range(4000):
        clock.now += 3
        found.add(answers(random.Random(clock.now).randint(60, 160), flying=4096, each=6000))
    assert " · ".join(folded(found.rates(), 77)) == " · ".join(found.rates())
    assert len(folded(found.rates(), 117)) == 2


def test_a_step_in_one_piece_is_timed_from_its_first_word() -> None:
    found, clock = meter(units=1, unit="shards", shards=1)
    assert found.place == ""
    clock.now += 300
    for step in range(10):
        found.add({"done": step, "total": 100, "unit": "steps", "said": "loss 1.5"})
        clock.now += 2
    assert found.place == "9/100 steps"
    assert "loss 1.5" in found.rates()
    assert part(found, r"^ETA 3m0[0-9]s")


@pytest.mark.parametrize(("seconds", "spread", "said"), [
    (4.2, 0.3, "4s ±1s"), (185, 12, "3m05s ±12s"), (720, 130, "12m ±2m"), (9600, 700, "2h40m ±12m"),
    (9600, 20, "2h40m ±1m"), (52_000, 4300, "14.4h ±1.2h"), (0.2, 0.0, "1s ±1s")])
def test_a_time_is_as_exact_as_it_is_known(seconds: float, spread: float, said: str) -> None:
    assert about(seconds, spread) == said


@pytest.mark.parametrize(("value", "currency", "exact", "rough"), [
    (1.234, "USD", "$1.23", "$1.2"), (0.0042, "CHF", "0.00420 CHF", "0.0042 CHF"), (1234.5, "EUR", "€1,234", "€1,200"),
    (13.6, "GBP", "£13.60", "£14"), (0.0, "USD", "$0", "$0")])
def test_amounts(value: float, currency: str, exact: str, rough: str) -> None:
    assert (money(value, currency), roughly(value, currency)) == (exact, rough)
