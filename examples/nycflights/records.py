"""What is stored: five tables of real data, two for the changes, and the indexes that the questions use."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Annotated, Literal

from sqlalchemy import DateTime, ForeignKey, Index, UniqueConstraint, text

from kvdialect import Int8, Int16, Mapped, UInt8, UInt16, field, mapped, registry

models = registry()

Moment = Annotated[datetime, DateTime(timezone=True)]
"""A moment, the same everywhere; a plain ``datetime`` is what an airport's clock shows."""


class PlaneType(enum.Enum):
    """What an aircraft is. An Enum is stored by the names of its members."""

    MULTI_ENGINE = "Fixed wing multi engine"
    SINGLE_ENGINE = "Fixed wing single engine"
    ROTORCRAFT = "Rotorcraft"


@mapped(models)
class Airline:
    """An airline; ``unique=True`` is an index that refuses a second one of the same name."""

    __tablename__ = "airlines"

    carrier: Mapped[str] = field(primary_key=True)
    name: Mapped[str] = field(unique=True)


@mapped(models)
class Airport:
    """An airport. Names repeat (five are a "Municipal Airport"); places do not, which a unique constraint holds."""

    __tablename__ = "airports"
    __table_args__ = (UniqueConstraint("lat", "lon", name="airports_by_place"),)

    faa: Mapped[str] = field(primary_key=True)
    name: Mapped[str] = field(index=True)
    lat: Mapped[float]
    lon: Mapped[float]
    alt: Mapped[Int16]
    tz: Mapped[Int8]
    dst: Mapped[Literal["A", "N", "U"]]
    tzone: Mapped[str | None]


@mapped(models)
class Plane:
    """A plane by its tail number; of one model the newest come first in the index."""

    __tablename__ = "planes"
    __table_args__ = (Index("planes_by_model", "manufacturer", "model", text("year desc")),)

    tailnum: Mapped[str] = field(primary_key=True)
    year: Mapped[UInt16 | None]
    type: Mapped[PlaneType]
    manufacturer: Mapped[str]
    model: Mapped[str]
    engines: Mapped[UInt8]
    seats: Mapped[UInt16]
    speed: Mapped[UInt16 | None]
    engine: Mapped[str]


@mapped(models)
class Weather:
    """An hour's weather at an airport.

    (origin, local hour) looks like the key and is none: on 3 November the clocks go back, and 1 o'clock comes twice at
    each airport. The moment (in UTC) is unique.
    """

    __tablename__ = "weather"
    __table_args__ = (Index("weather_by_local_hour", "origin", "local_hour"),)

    origin: Mapped[str] = field(ForeignKey("airports.faa"), primary_key=True)
    time_hour: Mapped[Moment] = field(primary_key=True)
    local_hour: Mapped[datetime]
    temp: Mapped[float | None]
    dewp: Mapped[float | None]
    humid: Mapped[float | None]
    wind_dir: Mapped[UInt16 | None]
    wind_speed: Mapped[float | None]
    wind_gust: Mapped[float | None]
    precip: Mapped[float]
    pressure: Mapped[float | None]
    visib: Mapped[float]


@mapped(models)
class Flight:
    """A flight that was to leave New York in 2013.

    The key is unique in the data. Day, carrier and flight number are not: 24 times a number was used twice on a day.
    ``dest`` and ``tailnum`` are no foreign keys: 4 of these airports and 721 of these planes have no record there.

    Times of day are as the airport's clock shows them, hours times 100 plus minutes, and 2400 for midnight, so they are
    no ``time``. A cancelled flight has no ``dep_time``; one that was diverted has no ``arr_delay``.
    """

    __tablename__ = "flights"
    __table_args__ = (
        # Composite: the columns that are asked for by value first, then the one asked for by range or order.
        Index("flights_by_route", "origin", "dest", "scheduled"),
        # Covering: an average of the included column is computed from the index alone.
        Index("flights_by_origin", "origin", kvdialect_include=["dep_delay"]),
        Index("flights_by_carrier", "carrier", "scheduled", kvdialect_include=["arr_delay"]),
        # Partial: only the records that meet the condition have an entry.
        Index("flights_by_plane", "tailnum", "time_hour", kvdialect_where=lambda f: f.tailnum.is_not(None)),
        Index("cancelled_flights", "carrier", "scheduled", kvdialect_where=lambda f: f.dep_time.is_(None)),
        # Partial and descending: the latest come first.
        Index("late_flights", text("arr_delay desc"), kvdialect_where=lambda f: f.arr_delay >= 60),
    )

    time_hour: Mapped[Moment] = field(primary_key=True)
    carrier: Mapped[str] = field(ForeignKey("airlines.carrier"), primary_key=True)
    flight: Mapped[UInt16] = field(primary_key=True)
    scheduled: Mapped[datetime]
    origin: Mapped[str] = field(ForeignKey("airports.faa"))
    dest: Mapped[str]
    tailnum: Mapped[str | None]
    dep_time: Mapped[UInt16 | None]
    dep_delay: Mapped[Int16 | None]
    arr_time: Mapped[UInt16 | None]
    sched_arr_time: Mapped[UInt16]
    arr_delay: Mapped[Int16 | None]
    air_time: Mapped[UInt16 | None]
    distance: Mapped[UInt16]


@mapped(models)
class Correction:
    """A note on a record that was changed, with an id from the store's allocator."""

    __tablename__ = "corrections"

    id: Mapped[int] = field(primary_key=True, autoincrement=True)
    record: Mapped[str]
    reason: Mapped[str]


@mapped(models)
class Counter:
    """A number that several threads count up."""

    __tablename__ = "counters"

    name: Mapped[str] = field(primary_key=True)
    value: Mapped[int] = 0
