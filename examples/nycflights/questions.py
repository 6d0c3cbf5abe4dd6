"""Questions to the store, each with the answer that the files give."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from statistics import fmean
from typing import Any

import attrs
from nycflights.data import Data
from nycflights.records import Airline, Airport, Flight, Plane, Weather
from sqlalchemy import and_, func, or_, select

from kvdialect import Session


def rows(session: Session, statement: Any) -> list[tuple[Any, ...]]:
    """The answer is all rows."""
    return [tuple(row) for row in session.execute(statement)]


def value(session: Session, statement: Any) -> Any:
    """The answer is the first column of the first row."""
    return session.scalar(statement)


@attrs.frozen
class Question:
    """A question.

    Attributes:
        text: as a person asks it.
        statement: what is executed, and explained.
        expected: the answer, worked out from what was read from the files.
        through: what the plan must say: the index that is used, or how the table is.
        ask: how the statement becomes an answer.
    """

    text: str
    statement: Any
    expected: Any
    through: str
    ask: Callable[[Session, Any], Any] = rows


def questions(data: Data) -> Iterator[Question]:
    """All questions; between them they use every index of the flights."""
    yield from _by_key_and_index(data)
    yield from _ranges_and_unions(data)
    yield from _aggregates(data)
    yield from _in_several_steps(data)


def _by_key_and_index(data: Data) -> Iterator[Question]:
    first = data.flights[0]
    yield Question(
        "When was the first flight in the files to leave, and when did it?",
        select(Flight.scheduled, Flight.dep_time).where(
            Flight.time_hour == first.time_hour, Flight.carrier == first.carrier, Flight.flight == first.flight
        ),
        expected=[(first.scheduled, first.dep_time)],
        through="KeyLookup flights",
    )
    yield Question(
        f"Where did its plane, {first.tailnum}, fly, in order?",
        select(Flight.time_hour, Flight.dest).where(Flight.tailnum == first.tailnum).order_by(Flight.time_hour),
        expected=sorted((f.time_hour, f.dest) for f in data.flights if f.tailnum == first.tailnum),
        through="IndexScan flights_by_plane",
    )
    late = _latest(data.flights)
    yield Question(
        "Which ten flights arrived latest?",
        select(Flight.arr_delay, Flight.carrier, Flight.flight, Flight.dest)
        .where(Flight.arr_delay >= 60)
        .order_by(Flight.arr_delay.desc(), Flight.time_hour, Flight.carrier, Flight.flight)
        .limit(10),
        expected=[(f.arr_delay, f.carrier, f.flight, f.dest) for f in late[:10]],
        through="IndexScan late_flights",
    )
    yield Question(
        "Was any flight more than 20 hours late?",
        select(select(Flight).where(Flight.arr_delay > 20 * 60).exists()),
        expected=any((f.arr_delay or 0) > 20 * 60 for f in late),
        through="IndexScan late_flights",
        ask=value,
    )
    boeings = [p for p in data.planes if (p.manufacturer, p.model) == ("BOEING", "737-824") and p.year is not None]
    yield Question(
        "Which Boeing 737-824 are the newest three?",
        select(Plane.year, Plane.tailnum)
        .where(Plane.manufacturer == "BOEING", Plane.model == "737-824")
        .order_by(Plane.year.desc(), Plane.tailnum)
        .limit(3),
        expected=[(p.year, p.tailnum) for p in sorted(boeings, key=lambda p: (-(p.year or 0), p.tailnum))[:3]],
        through="IndexScan planes_by_model",
    )


def _ranges_and_unions(data: Data) -> Iterator[Question]:
    morning, midnight = datetime(2013, 7, 4), datetime(2013, 7, 5)  # noqa: DTZ001 - as the clock shows it
    yield Question(
        "What left Kennedy for Los Angeles on the 4th of July?",
        select(Flight.scheduled, Flight.carrier, Flight.flight)
        .where(Flight.origin == "JFK", Flight.dest == "LAX", Flight.scheduled >= morning, Flight.scheduled < midnight)
        .order_by(Flight.scheduled, Flight.carrier, Flight.flight),
        expected=sorted(
            (f.scheduled, f.carrier, f.flight)
            for f in data.flights
            if (f.origin, f.dest) == ("JFK", "LAX") and morning <= f.scheduled < midnight
        ),
        through="IndexScan flights_by_route",
    )
    eve, after = datetime(2013, 12, 24), datetime(2013, 12, 27)  # noqa: DTZ001 - as the clock shows it
    christmas = [f.arr_delay for f in data.flights if f.carrier == "DL" and eve <= f.scheduled < after]
    yield Question(
        "How many flights did Delta plan for 24 to 26 December, and how late did they arrive on average?",
        select(func.count(), func.avg(Flight.arr_delay)).where(
            Flight.carrier == "DL", Flight.scheduled >= eve, Flight.scheduled < after
        ),
        expected=[(len(christmas), _mean(christmas))],
        through="IndexScan flights_by_carrier",
        ask=_rounded,
    )
    yield Question(
        "Which airports' names begin with Chicago?",
        select(Airport.name, Airport.faa).where(Airport.name.startswith("Chicago")).order_by(Airport.name, Airport.faa),
        expected=sorted((a.name, a.faa) for a in data.airports if a.name.startswith("Chicago")),
        through="IndexScan ix_airports_name",
    )
    far = ("ANC", "HNL", "SEA")
    yield Question(
        "How many flights went from Newark to Anchorage, Honolulu and Seattle?",
        select(Flight.dest, func.count())
        .where(Flight.origin == "EWR", Flight.dest.in_(far))
        .group_by(Flight.dest)
        .order_by(Flight.dest),
        expected=_counted(f.dest for f in data.flights if f.origin == "EWR" and f.dest in far),
        through="IndexScan flights_by_route",
    )
    yield Question(
        "How many to Honolulu from Newark or Kennedy, in the second half of the year?",
        select(func.count()).where(
            or_(*(and_(Flight.origin == origin, Flight.dest == "HNL") for origin in ("EWR", "JFK"))),
            Flight.scheduled >= morning,
        ),
        expected=sum(f.origin in ("EWR", "JFK") and f.dest == "HNL" and f.scheduled >= morning for f in data.flights),
        through="IndexScan flights_by_route",
        ask=value,
    )


def _aggregates(data: Data) -> Iterator[Question]:
    yield Question(
        "How many flights are there?",
        select(func.count()).select_from(Flight),
        expected=len(data.flights),
        through="RowCount flights",
        ask=value,
    )
    times = [f.scheduled for f in data.flights if (f.origin, f.dest) == ("JFK", "LAX")]
    yield Question(
        "When were the first and the last flight from Kennedy to Los Angeles?",
        select(func.min(Flight.scheduled), func.max(Flight.scheduled)).where(
            Flight.origin == "JFK", Flight.dest == "LAX"
        ),
        expected=[(min(times, default=None), max(times, default=None))],
        through="IndexScan flights_by_route",
    )
    delays = defaultdict(list)
    for f in data.flights:
        delays[f.origin].append(f.dep_delay)
    yield Question(
        "How late did flights leave each airport, on average?",
        select(Flight.origin, func.avg(Flight.dep_delay)).group_by(Flight.origin).order_by(Flight.origin),
        expected=[(origin, _mean(delays[origin])) for origin in sorted(delays)],
        through="IndexScan flights_by_origin",
        ask=_rounded,
    )
    yield Question(
        "How many places can one fly to from LaGuardia?",
        select(Flight.dest).where(Flight.origin == "LGA").distinct().order_by(Flight.dest),
        expected=sorted({(f.dest,) for f in data.flights if f.origin == "LGA"}),
        through="IndexScan flights_by_route",
    )
    yield Question(
        "Which hours have the weather stations twice? (Clocks went back on 3 November.)",
        select(Weather.origin, Weather.local_hour)
        .group_by(Weather.origin, Weather.local_hour)
        .having(func.count() > 1)
        .order_by(Weather.origin),
        expected=sorted(
            hour for hour, count in Counter((w.origin, w.local_hour) for w in data.weather).items() if count > 1
        ),
        through="IndexScan weather_by_local_hour",
    )
    yield Question(
        "How many flights were longer than 4,900 miles? (There is no index for that: all are read.)",
        select(func.count()).where(Flight.distance > 4900),
        expected=sum(f.distance > 4900 for f in data.flights),
        through="TableScan flights",
        ask=value,
    )


def _in_several_steps(data: Data) -> Iterator[Question]:
    names = {airline.carrier: airline.name for airline in data.airlines}
    cancelled = Counter(f.carrier for f in data.flights if f.dep_time is None)

    def with_names(session: Session, statement: Any) -> list[tuple[str, int]]:
        counts = rows(session, statement)
        airlines = session.get_many(Airline, [carrier for carrier, _ in counts])  # a join, in two reads
        return [(airline.name if airline else "?", count) for airline, (_, count) in zip(airlines, counts, strict=True)]

    yield Question(
        "Which airlines cancelled most flights? (Their names by a second read.)",
        select(Flight.carrier, func.count())
        .where(Flight.dep_time.is_(None))
        .group_by(Flight.carrier)
        .order_by(func.count().desc(), Flight.carrier),
        expected=[(names[c], n) for c, n in sorted(cancelled.items(), key=lambda item: (-item[1], item[0]))],
        through="IndexScan cancelled_flights",
        ask=with_names,
    )

    size = 100 if len(data.flights) > 100_000 else 3

    def page_by_page(session: Session, statement: Any) -> tuple[int, int]:
        pages, flights, token = 0, 0, None
        while pages == 0 or token is not None:
            page = session.page(statement, size, after=token)  # the token could be kept, and used after a restart
            pages, flights, token = pages + 1, flights + len(list(page)), page.next
        return pages, flights

    hawaiian = sum(f.carrier == "HA" for f in data.flights)
    yield Question(
        f"How many pages of {size} are Hawaiian's flights, read page by page, and how many flights?",
        select(Flight).where(Flight.carrier == "HA").order_by(Flight.scheduled),
        expected=(max(1, -(-hawaiian // size)), hawaiian),
        through="IndexScan flights_by_carrier",
        ask=page_by_page,
    )

    def with_details(session: Session, statement: Any) -> tuple[Any, ...] | None:
        flight = session.scalars(statement).first()
        if flight is None:
            return None
        airline = session.get_one(Airline, flight.carrier)
        plane = session.get(Plane, flight.tailnum)
        weather = session.get(Weather, (flight.origin, flight.time_hour))
        return airline.name, plane and plane.manufacturer, weather and weather.temp

    planes = {plane.tailnum: plane.manufacturer for plane in data.planes}
    temperatures = {(hour.origin, hour.time_hour): hour.temp for hour in data.weather}
    latest = _latest(data.flights)[:1]
    yield Question(
        "Which airline and plane came latest of all, and how warm was it as they left? (Four records, by their keys.)",
        select(Flight).where(Flight.arr_delay >= 60).order_by(Flight.arr_delay.desc()).limit(1),
        expected=next(
            (
                (names[f.carrier], planes.get(f.tailnum or ""), temperatures.get((f.origin, f.time_hour)))
                for f in latest
            ),
            None,
        ),
        through="IndexScan late_flights",
        ask=with_details,
    )


def _latest(flights: Iterable[Flight]) -> list[Flight]:
    """Flights an hour late and more, the latest first."""
    late = [f for f in flights if f.arr_delay is not None and f.arr_delay >= 60]
    return sorted(late, key=lambda f: (-(f.arr_delay or 0), f.time_hour, f.carrier, f.flight))


def _counted(values: Iterable[Any]) -> list[tuple[Any, int]]:
    return sorted(Counter(values).items())


def _mean(numbers: Iterable[int | None]) -> float | None:
    """As SQL's avg: NULL does not count, and of nothing there is none."""
    known = [number for number in numbers if number is not None]
    return round(fmean(known), 6) if known else None


def _rounded(session: Session, statement: Any) -> list[tuple[Any, ...]]:
    """The answer is all rows; an average may differ in its last digits."""
    return [tuple(round(v, 6) if isinstance(v, float) else v for v in row) for row in rows(session, statement)]
