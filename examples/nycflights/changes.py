"""Changes to the store: corrections, rollbacks, conflicts, constraints and retries."""

from __future__ import annotations

import collections
from concurrent.futures import ThreadPoolExecutor

from nycflights.data import Data
from nycflights.records import Airline, Correction, Counter, Flight, Plane
from nycflights.report import Report
from sqlalchemy import delete, func, select, update

from kvdialect import Engine, Session, exc

THREADS, INCREMENTS = 4, 25


def change(engine: Engine, data: Data, report: Report) -> None:
    """Run all of it; each step checks what it did."""
    for step in (correct, move, conflict, refuse_duplicate, refuse_write_skew, count_up, remove):
        step(engine, data, report)


def key_of(flight: Flight) -> tuple[object, ...]:
    """The primary key of a flight, as ``session.get`` takes it."""
    return flight.time_hour, flight.carrier, flight.flight


def correct(engine: Engine, data: Data, report: Report) -> None:
    """Change a record and undo it; change it again and keep it, with a note beside it, in one commit."""
    first = data.flights[0]
    with Session(engine) as session:
        flight = session.get_one(Flight, key_of(first))
        before, late = flight.arr_delay, 9999
        flight.arr_delay = late
        # The session's own reads see what is pending, in the index too.
        found = session.scalars(select(Flight).where(Flight.arr_delay == late)).all()
        report.check("a pending change is found by its index", found, [flight])
        session.rollback()
        report.check("a rollback restores the object", flight.arr_delay, before)
        report.check("and the index", session.lookup("late_flights", late), [])
        report.say(f"{first.carrier} {first.flight}: late by {before}, set to {late}, rolled back: {flight.arr_delay}")

        flight.arr_delay = late
        note = Correction(record=f"{first.carrier} {first.flight}", reason="diverted")
        session.add(note)
        session.commit()
        report.say(f"set again and committed, with correction {note.id} beside it")
    with Session(engine) as session:
        found = [each.flight for each in session.lookup("late_flights", late)]
        report.check("a committed change is there", found, [first.flight])
        report.check("and its note", session.get_one(Correction, note.id).reason, "diverted")


def move(engine: Engine, data: Data, report: Report) -> None:
    """Paint another tail number on a plane: all its flights change, and their index entries move."""
    old, new = data.flights[0].tailnum, "N00000"
    flights = sum(f.tailnum == old for f in data.flights)
    with Session(engine) as session:
        result = session.execute(update(Flight).where(Flight.tailnum == old).values(tailnum=new))
        report.check("flights that an update changed", result.rowcount, flights)
        moved = len(session.lookup("flights_by_plane", old)), len(session.lookup("flights_by_plane", new))
        report.check("flights of the old and the new tail number", moved, (0, flights))
        session.commit()
        report.say(f"{flights} flights of {old} are flights of {new} now, in one commit")


def conflict(engine: Engine, data: Data, report: Report) -> None:
    """Two sessions change one record: the first to commit wins, the second is told, and a retry succeeds."""
    key = key_of(data.flights[1])
    with Session(engine) as mine, Session(engine) as yours:
        mine.get_one(Flight, key).dep_time = 700
        yours.get_one(Flight, key).dep_time = 800
        yours.commit()
        try:
            mine.commit()
        except exc.ConflictError as error:
            report.say(f"ConflictError: {error.message}")
        else:
            report.check("a second change of one record", "committed", "ConflictError")

    def again(session: Session) -> None:
        flight = session.get_one(Flight, key)
        flight.dep_time = (flight.dep_time or 0) + 1

    engine.transaction(again)  # begins anew, and would again on another conflict
    with Session(engine) as session:
        report.check("the first change and the retried one", session.get_one(Flight, key).dep_time, 801)


def refuse_duplicate(engine: Engine, data: Data, report: Report) -> None:
    """A name that is taken is refused; within a savepoint the rest of the transaction goes on."""
    taken = data.airlines[0]
    with Session(engine) as session, session.begin():
        session.add(Airline("ZZ", "Zeppelin Airlines"))
        try:
            with session.begin_nested():
                session.add(Airline("Z2", taken.name))
        except exc.IntegrityError as error:
            report.say(f"IntegrityError: {error.message}")
    with Session(engine) as session:
        report.check("the airline with a taken name", session.get(Airline, "Z2"), None)
        report.check("the airline beside it", session.get_one(Airline, "ZZ").name, "Zeppelin Airlines")


def refuse_write_skew(engine: Engine, data: Data, report: Report) -> None:
    """Of two planes one must stay. Each session sees both and scraps another one: only SERIALIZABLE refuses that."""
    spare = [plane.tailnum for plane in data.planes[:2]]

    def scrap(session: Session, tailnum: str) -> None:
        if all(session.get_many(Plane, spare)):
            session.delete(session.get_one(Plane, tailnum))

    with (
        Session(engine, isolation_level="SERIALIZABLE") as mine,
        Session(engine, isolation_level="SERIALIZABLE") as yours,
    ):
        scrap(mine, spare[0])
        scrap(yours, spare[1])
        yours.commit()
        try:
            mine.commit()
        except exc.ConflictError as error:
            report.say(f"write skew refused: {error.message}")
    with Session(engine) as session:
        left = [plane is not None for plane in session.get_many(Plane, spare)]
        report.check("the spare planes that are left", left, [True, False])


def count_up(engine: Engine, data: Data, report: Report) -> None:  # noqa: ARG001 - a step like the others
    """Threads count one number up; each conflict runs a transaction again, and none is lost."""
    with Session(engine) as session, session.begin():
        session.add(Counter("announcements"))

    def increment(session: Session) -> None:
        session.get_one(Counter, "announcements").value += 1

    def work(_: int) -> None:
        for _ in range(INCREMENTS):
            engine.transaction(increment, retries=1000)

    before = engine.stats()["retries"]
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))
    retries = engine.stats()["retries"] - before
    with Session(engine) as session:
        counted = session.get_one(Counter, "announcements").value
    report.check("increments by all threads", counted, THREADS * INCREMENTS)
    report.say(f"{THREADS} threads counted to {counted}, a commit each; {retries} were run again after a conflict")


def remove(engine: Engine, data: Data, report: Report) -> None:
    """Delete an airline's flights by a statement: records, index entries and row count go in one commit."""
    carrier, flights = collections.Counter(f.carrier for f in data.flights).most_common()[-1]
    with Session(engine) as session, session.begin():
        result = session.execute(delete(Flight).where(Flight.carrier == carrier))
        report.check("flights deleted", result.rowcount, flights)
    with Session(engine) as session:
        left = session.scalar(select(func.count()).select_from(Flight))
        report.check("flights left", left, len(data.flights) - flights)
        report.check("index entries left of them", session.lookup("flights_by_carrier", carrier), [])
    report.say(f"all flights of {carrier} are deleted, {flights} of them; {left:,} are left")
