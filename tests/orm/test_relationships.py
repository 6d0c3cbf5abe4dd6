"""Relationships: declared, loaded when asked for, and stored with the objects on both sides."""

from __future__ import annotations

import pickle

import attrs
import pytest
from sqlalchemy import ForeignKey, ForeignKeyConstraint, Index, event, select
from sqlalchemy import exc as sa_exc

from kvdialect import Mapped, Session, create_engine, exc, field, mapped, registry, relationship, selectinload

models = registry()


@mapped(models)
class Parent:
    __tablename__ = "parents"
    id: Mapped[int] = field(primary_key=True, autoincrement=True)
    name: Mapped[str]
    children: Mapped[list[Child]] = relationship(back_populates="parent")
    passport: Mapped[Passport | None] = relationship(back_populates="parent", cascade="all, delete-orphan")


@mapped(models)
class Child:
    __tablename__ = "children"
    id: Mapped[int] = field(primary_key=True, autoincrement=True)
    name: Mapped[str]
    parent_id: Mapped[int | None] = field(ForeignKey("parents.id"), index=True, default=None)
    parent: Mapped[Parent | None] = relationship(back_populates="children")
    toys: Mapped[list[Toy]] = relationship(cascade="all, delete-orphan", order_by="Toy.name.desc()")


@mapped(models)
class Toy:
    """Refers to its child without a relationship, and without an index."""

    __tablename__ = "toys"
    id: Mapped[int] = field(primary_key=True, autoincrement=True)
    name: Mapped[str]
    child_id: Mapped[int | None] = field(ForeignKey("children.id"), default=None)


@mapped(models)
class Passport:
    __tablename__ = "passports"
    number: Mapped[str] = field(primary_key=True)
    parent_id: Mapped[int | None] = field(ForeignKey("parents.id"), unique=True, default=None)
    parent: Mapped[Parent | None] = relationship(back_populates="passport")


@mapped(models)
class Node:
    __tablename__ = "nodes"
    id: Mapped[int] = field(primary_key=True, autoincrement=True)
    up_id: Mapped[int | None] = field(ForeignKey("nodes.id"), index=True, default=None)
    up: Mapped[Node | None] = relationship(back_populates="below")
    below: Mapped[list[Node]] = relationship(back_populates="up", cascade="all")


@mapped(models)
class Line:
    """Its key begins with that of the record it belongs to."""

    __tablename__ = "lines"
    parent_id: Mapped[int] = field(ForeignKey("parents.id"), primary_key=True)
    number: Mapped[int] = field(primary_key=True)
    parent: Mapped[Parent] = relationship()


def filled(url):
    """A store with two parents, the first of which has two children, toys and a passport."""
    opened = create_engine(url)
    models.create_all(opened)
    with Session(opened) as session, session.begin():
        session.add_all([Parent("ann", id=1), Parent("bob", id=2)])
        session.add_all([Child("x", 1, id=1), Child("y", 1, id=2), Child("z", id=3)])
        session.add_all([Toy("ball", 1, id=1), Toy("car", 1, id=2), Toy("kite", 2, id=3)])
        session.add(Passport("A1", 1))
    return opened


@pytest.fixture
def engine():
    with filled("memory://") as opened:
        yield opened


@pytest.fixture
def session(engine):
    with Session(engine) as opened:
        yield opened


def stored(engine, cls, name):
    """A column of all records."""
    with Session(engine) as session:
        return [getattr(each, name) for each in session.scan(cls)]


class Reads:
    """Counts the reads of a session's transaction."""

    def __init__(self, session, monkeypatch):
        txn = session._autobegin()
        self.calls = []
        for name in ("get", "multi_get", "scan"):
            monkeypatch.setattr(txn, name, self._counted(name, getattr(txn, name)))

    def _counted(self, name, call):
        def counted(cf, *args, **options):
            self.calls.append((name, cf))
            return call(cf, *args, **options)

        return counted


def test_relationships_work_on_every_engine(url):
    """What relationships read and write is the same on each engine."""
    with filled(url) as engine:
        with Session(engine) as session, session.begin():
            ann, bob = session.scalars(select(Parent).options(selectinload(Parent.children))).all()
            bob.children.append(ann.children[0])
            bob.children.append(Child("new", toys=[Toy("top")]))
            session.delete(ann)
        with Session(engine) as session:
            bob = session.get(Parent, 2)
            session.load(bob, selectinload(Parent.children).selectinload(Child.toys))
            found = [(child.name, [toy.name for toy in child.toys]) for child in bob.children]
        assert found == [("x", ["car", "ball"]), ("new", ["top"])]
        assert stored(engine, Child, "parent_id") == [2, None, None, 2]
        assert stored(engine, Passport, "number") == []


# ------------------------------------------------------------------------------------------------ reading


def test_an_attribute_that_is_not_loaded_says_how_to_load_it(session, monkeypatch):
    """Reading an attribute never reads the store, and None or [] would be a lie."""
    parent, child = session.get(Parent, 1), session.get(Child, 1)
    reads = Reads(session, monkeypatch)

    with pytest.raises(sa_exc.InvalidRequestError, match=r'session.load\(obj, "children"\).*set Child.parent'):
        _ = parent.children
    with pytest.raises(sa_exc.InvalidRequestError, match=r"selectinload\(Child.parent\)"):
        _ = child.parent
    assert not reads.calls


@pytest.mark.parametrize("attribute", [Parent.children, "children", selectinload(Parent.children)], ids=str)
def test_load_loads_a_relationship(session, attribute):
    """An attribute, its name and an option all name a relationship to load."""
    parent = session.get(Parent, 1)

    session.load(parent, attribute)
    assert [child.name for child in parent.children] == ["x", "y"]
    assert all(child.parent is parent for child in parent.children)


def test_load_without_names_loads_all(session):
    """No attribute stands for all relationships of the class; who refers to nothing has None or []."""
    bob, orphan = session.get(Parent, 2), session.get(Child, 3)

    session.load([bob, orphan])
    assert (bob.children, bob.passport, orphan.parent, orphan.toys) == ([], None, None, [])


def test_selectinload_loads_with_the_objects(session):
    """Options of a select load relationships of relationships, one of each object."""
    statement = select(Parent).order_by(Parent.id).options(selectinload(Parent.children).selectinload(Child.toys))

    ann, bob = session.scalars(statement).all()
    assert [[toy.name for toy in child.toys] for child in ann.children] == [["car", "ball"], ["kite"]]
    assert bob.children == []
    assert ann.children[0] is session.get(Child, 1)


def test_options_branch(session):
    """Several relationships of what is loaded are loaded by options()."""
    load = selectinload(Child.parent).options(selectinload(Parent.passport), selectinload(Parent.children))

    child = session.scalars(select(Child).where(Child.id == 1).options(load)).one()
    assert child.parent.passport.number == "A1"
    assert len(child.parent.children) == 2


def test_rows_pages_and_chunks_load_too(session):
    """Relationships come with tuples, pages, and results that are fetched by and by."""
    statement = select(Child).order_by(Child.id).options(selectinload(Child.parent))

    row = session.execute(select(Child, Child.name).where(Child.id == 1).options(selectinload(Child.parent))).one()
    page = session.page(statement, 2)
    chunked = session.scalars(statement, execution_options={"yield_per": 1})
    assert row[0].parent.name == "ann"
    assert [child.parent.name for child in page] == ["ann", "ann"]
    assert [child.parent and child.parent.id for child in chunked] == [1, 1, None]


def test_a_join_at_the_sql_door_loads_too(session):
    """Objects of statements that run at the SQL door have the relationships that were asked for."""
    pytest.importorskip("apsw", reason="joins need the extra sql; runs in the environment full")
    statement = select(Child).join(Parent, Child.parent_id == Parent.id).where(Parent.name == "ann")

    found = session.scalars(statement.options(selectinload(Child.parent))).all()
    assert [child.parent.name for child in found] == ["ann", "ann"]


def test_a_load_takes_few_reads(session, monkeypatch):
    """To a parent it is one multi-get; to children a range of the index for each parent, and one multi-get."""
    children = list(session.scan(Child))

    reads = Reads(session, monkeypatch)
    session.load(children, "parent")
    assert reads.calls == [("multi_get", "parents")]
    parents = session.get_many(Parent, [1, 2])
    reads.calls.clear()
    session.load(parents, "children")
    assert reads.calls == [*[("scan", "ix_children_parent_id")] * 2, ("multi_get", "children")]


def test_without_an_index_the_table_is_scanned_once(session, monkeypatch):
    """A foreign key without an index is followed all the same, by one scan for all objects, and explain says so."""
    children = list(session.scan(Child))
    reads = Reads(session, monkeypatch)

    session.load(children, "toys")
    assert reads.calls == [("scan", "toys")]
    plan = str(session.explain(select(Child).options(selectinload(Child.toys), selectinload(Child.parent))))
    assert "then Child.toys: toys by a scan of all its records (an index that begins with child_id would" in plan
    assert "then Child.parent: parents by primary key" in plan


def test_what_is_loaded_already_is_not_read_again(session, monkeypatch):
    """Selectinload leaves loaded attributes alone; load() and populate_existing read them again."""
    statement = select(Parent).where(Parent.id == 1).options(selectinload(Parent.children))
    parent = session.scalars(statement).one()
    reads = Reads(session, monkeypatch)

    session.scalars(statement).one()
    assert ("scan", "ix_children_parent_id") not in reads.calls
    session.load(parent, "children")
    session.scalars(statement, execution_options={"populate_existing": True}).one()
    assert reads.calls.count(("scan", "ix_children_parent_id")) == 2


def test_loading_sees_what_is_pending(session):
    """A load reads the transaction's own view: what was added and changed before is in it."""
    parent = session.get(Parent, 1)
    session.get(Child, 1).parent_id = 2
    session.add(Child("new", 1))

    session.load(parent, "children")
    assert [child.name for child in parent.children] == ["y", "new"]


def test_serializable_covers_what_was_loaded(engine):
    """A child that came meanwhile is a phantom of the range that a load has read."""
    with Session(engine, isolation_level="SERIALIZABLE") as session:
        parent = session.get(Parent, 2)
        session.load(parent, "children")
        parent.name = f"{len(parent.children)} children"
        with Session(engine) as other, other.begin():
            other.add(Child("late", 2))

        with pytest.raises(exc.ConflictError):
            session.commit()


def test_the_next_transaction_reads_anew(engine, session):
    """Loaded relationships stay after a commit until the object is read again; then they are to be loaded again."""
    parent = session.get(Parent, 1)
    session.load(parent, "children")
    session.commit()
    with Session(engine) as other, other.begin():
        other.add(Child("late", 1))

    assert len(parent.children) == 2
    session.get(Parent, 1)
    with pytest.raises(sa_exc.InvalidRequestError, match="is not loaded"):
        _ = parent.children
    session.load(parent, "children")
    assert len(parent.children) == 3


def test_load_refreshes_objects_of_an_earlier_transaction(engine, session):
    """The foreign key that is followed is the one that this transaction sees."""
    child = session.get(Child, 1)
    session.commit()
    with Session(engine) as other, other.begin():
        other.get(Child, 1).parent_id = 2

    session.load(child, "parent")
    assert (child.parent_id, child.parent.name) == (2, "bob")


def test_a_key_that_begins_with_the_foreign_key_serves_as_an_index(engine, monkeypatch):
    """Children whose primary key begins with the parent's are one range of their own table."""
    others = registry()

    @mapped(others)
    class Order:
        __tablename__ = "orders"
        id: Mapped[int] = field(primary_key=True)
        items: Mapped[list[Item]] = relationship()

    @mapped(others)
    class Item:
        __tablename__ = "items"
        order_id: Mapped[int] = field(ForeignKey("orders.id"), primary_key=True)
        number: Mapped[int] = field(primary_key=True)

    others.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all([Order(1), Order(2), Item(1, 2), Item(1, 1), Item(2, 1)])
    with Session(engine) as session:
        order = session.get(Order, 1)
        reads = Reads(session, monkeypatch)
        session.load(order, "items")

        assert [item.number for item in order.items] == [1, 2]
        assert reads.calls == [("scan", "items"), ("multi_get", "items")]


def test_composite_keys_and_unique_columns(engine):
    """A foreign key may have several columns, in any order, and may refer to unique columns."""
    others = registry()

    @mapped(others)
    class Room:
        __tablename__ = "rooms"
        house: Mapped[str] = field(primary_key=True)
        number: Mapped[int] = field(primary_key=True)
        code: Mapped[str] = field(unique=True)
        guests: Mapped[list[Guest]] = relationship(back_populates="room", foreign_keys="Guest.number, Guest.house")

    @mapped(others)
    class Guest:
        __tablename__ = "guests"
        __table_args__ = (
            Index("guests_by_room", "house", "number", "name"),
            ForeignKeyConstraint(["number", "house"], ["rooms.number", "rooms.house"]),
        )
        name: Mapped[str] = field(primary_key=True)
        house: Mapped[str | None] = None
        number: Mapped[int | None] = None
        code: Mapped[str | None] = field(ForeignKey("rooms.code"), default=None)
        room: Mapped[Room | None] = relationship(back_populates="guests", foreign_keys=["number", "house"])
        coded: Mapped[Room | None] = relationship(foreign_keys="code")

    others.create_all(engine)
    with Session(engine) as session, session.begin():
        room = Room("a", 1, "a-1")
        session.add(room)
        room.guests.append(Guest("ann"))
        session.add(Guest("bob", coded=room))
    with Session(engine) as session:
        ann, bob = session.scan(Guest)
        session.load([ann, bob])
        assert (ann.room.code, bob.room, bob.coded) == ("a-1", None, ann.room)
        session.load(ann.room, "guests")
        assert ann.room.guests == [ann]


def test_a_parent_can_be_compared(session):
    """Child.parent == parent is a condition on the foreign key, and not a comparison of Python's that is False."""
    ann = session.get(Parent, 1)

    assert [c.id for c in session.scalars(select(Child).where(Child.parent == ann))] == [1, 2]
    assert [c.id for c in session.scalars(select(Child).where(Child.parent == None))] == [3]  # noqa: E711
    assert [c.id for c in session.scalars(select(Child).where(Child.parent.is_(None)))] == [3]
    assert [c.id for c in session.scalars(select(Child).where(Child.parent != ann, Child.parent.is_not(None)))] == []
    with pytest.raises(exc.NotSupportedError, match=r"compare Child.parent"):
        _ = Parent.children == ann


def test_objects_stay_records_like_others(session):
    """A relationship is no field: it is not part of repr, comparison, pickles or the constructor's positions."""
    ann = session.get(Parent, 1)
    session.load(ann)

    assert repr(ann) == "Parent(id=1, name='ann')"
    assert ann == Parent("ann", id=1)
    assert pickle.loads(pickle.dumps(ann)) == ann
    assert Parent.__kvdialect__.names == ("id", "name")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda s: s.load(s.get(Parent, 1), "toys"),
            exc.ArgumentError,
            "'toys' is no relationship of Parent; it has ch",
        ),
        (lambda s: s.load(s.get(Parent, 1), Child.toys), exc.ArgumentError, "Child.toys is no relationship of Parent"),
        (lambda s: s.load(Parent("new"), "children"), sa_exc.InvalidRequestError, "is not persistent within"),
        (lambda _: selectinload(Parent.name), exc.ArgumentError, "give a relationship of a record class"),
        (
            lambda _: selectinload(Parent.children).selectinload(Parent.passport),
            exc.ArgumentError,
            "no relationship of",
        ),
        (
            lambda s: s.scalars(select(Child).options(selectinload(Parent.children))),
            exc.ArgumentError,
            "the statement gives no Parent, but Child",
        ),
    ],
)
def test_what_cannot_be_loaded_is_refused(session, call, error, message):
    """A wrong name of a relationship is told with those there are."""
    with pytest.raises(error, match=message):
        call(session)


def test_options_of_sqlalchemy_are_refused(session):
    """Another option is not passed over in silence."""
    from sqlalchemy.orm import defaultload

    with pytest.raises(exc.NotSupportedError, match=r"kvdialect.selectinload"):
        session.scalars(select(Parent).options(defaultload("*")))


# ------------------------------------------------------------------------------------------------ declarations


def declared(**attributes):
    """Two records, of which one refers to the other twice."""
    others = registry()
    body = {"__tablename__": "a", "__annotations__": {"id": Mapped[int], "b1": Mapped[int], "b2": Mapped[int]}}
    body |= {"id": field(primary_key=True), "b1": field(ForeignKey("b.id")), "b2": field(ForeignKey("b.id"))}
    for name, (annotation, value) in attributes.items():
        body[name] = value
        if annotation is not None:
            body["__annotations__"][name] = annotation
    a = others.mapped(type("A", (), body))
    others.mapped(type("B", (), {"__tablename__": "b", "__annotations__": {"id": int}, "id": field(primary_key=True)}))
    return a


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        ("Mapped[B]", relationship(), r"A.r: several foreign keys lie between a and b \(b1; b2\)"),
        ("Mapped[C]", relationship(foreign_keys="b1"), "A.r: no record of the registry has the name C; there are A, B"),
        ("Mapped[list[B]]", relationship(), r"no foreign key of b refers to a; declare one, as in field\(ForeignKey"),
        ("Mapped[B]", relationship(foreign_keys="b1", back_populates="a"), "B has no relationship 'a'"),
        (Mapped[int], relationship(), "A.r leads to <class 'int'>, which is no record"),
        (
            "Mapped[B]",
            relationship(foreign_keys="b1", cascade="all, delete-orphan"),
            "belongs to the side of the parent",
        ),
    ],
)
def test_a_relationship_that_makes_no_sense_is_refused(annotation, value, message):
    """What is wrong with a relationship is told when it is first used, as classes may come in any order."""
    a = declared(r=(annotation, value))

    with pytest.raises(exc.ArgumentError, match=message):
        a(1, 1, 1).r = [object()]


@pytest.mark.parametrize(
    "value",
    [relationship(foreign_keys="A.b2"), relationship("B", foreign_keys=lambda: [declared_columns["b2"]])],
)
def test_foreign_keys_say_which_one_is_meant(value):
    """Of several foreign keys the columns choose one."""
    a = declared(r=("Mapped[B]", value))
    declared_columns["b2"] = a.b2

    assert a.r.relationship.way.local == ("b2",)


declared_columns = {}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: relationship(secondary="ab"), exc.NotSupportedError, "map the table between as a record"),
        (lambda: relationship(lazy="joined"), exc.ArgumentError, r"relationship\(lazy=...\) is unknown; options are"),
        (lambda: relationship(cascade="al"), exc.ArgumentError, "'al' is unknown; allowed: all, save-update"),
        (lambda: relationship(cascade="delete-orphan"), exc.ArgumentError, '"delete-orphan" goes with "delete"'),
        (lambda: declared(r=(None, relationship())), exc.ArgumentError, "A.r needs an annotation"),
    ],
)
def test_options_that_are_not_known_are_refused(call, error, message):
    """No option is accepted and not obeyed."""
    with pytest.raises(error, match=message):
        call()


def test_a_class_that_is_an_attrs_class_already_is_refused():
    """Attrs would take the relationship for a default."""

    @attrs.define
    class Made:
        __tablename__ = "made"
        id: int = field(primary_key=True)
        others: list[int] = relationship()  # noqa: RUF009

    with pytest.raises(exc.ArgumentError, match="let @mapped make the attrs class"):
        mapped(registry())(Made)


def test_remote_side_says_which_way_a_table_refers_to_itself(engine):
    """SQLAlchemy's way to say it works where the annotation does not."""
    others = registry()

    @mapped(others)
    class Person:
        __tablename__ = "people"
        id: Mapped[int] = field(primary_key=True)
        boss_id: Mapped[int | None] = field(ForeignKey("people.id"), default=None)
        boss: Mapped[Person | None] = relationship(remote_side=[id])  # noqa: A003
        assistant: Mapped[Person | None] = relationship(remote_side=[boss_id], uselist=False)

    others.create_all(engine)
    assert Person.boss.relationship.to_parent
    assert not Person.assistant.relationship.to_parent
    with Session(engine) as session, session.begin():
        session.add_all([Person(1), Person(2, boss_id=1)])
    with Session(engine) as session:
        one, two = session.scan(Person)
        session.load([one, two])
        assert (two.boss, one.assistant, one.boss) == (one, two, None)


# ------------------------------------------------------------------------------------------------ writing


def test_objects_are_stored_with_their_parents_and_children(engine):
    """add() takes what hangs together; ids given at the flush arrive in the foreign keys."""
    with Session(engine) as session, session.begin():
        parent = Parent("cid", children=[Child("k")])
        parent.children.append(Child("l", toys=[Toy("top")]))
        session.add(parent)
        assert len(session.new) == 4

    with Session(engine) as session:
        found = session.get(Parent, parent.id)
        session.load(found, selectinload(Parent.children).selectinload(Child.toys))
        assert [(child.name, [toy.name for toy in child.toys]) for child in found.children] == [
            ("k", []),
            ("l", ["top"]),
        ]


def test_a_parent_is_stored_with_its_child(engine):
    """The cascade goes to the parent as well."""
    with Session(engine) as session, session.begin():
        session.add(Child("m", parent=Parent("new")))

    assert stored(engine, Parent, "name") == ["ann", "bob", "new"]
    assert stored(engine, Child, "parent_id") == [1, 1, None, 3]


def test_a_tree_is_stored(engine):
    """A record that refers to its own table gets its parent's id, however they were added."""
    with Session(engine) as session, session.begin():
        leaf = Node(up=Node(up=Node()))
        session.add(leaf)
    with Session(engine) as session:
        found = session.get(Node, leaf.id)
        session.load(found, selectinload(Node.up).selectinload(Node.up))
        assert found.up.up.up_id is None
        assert {found.id, found.up.id, found.up.up.id} == {1, 2, 3}


def test_a_deep_chain_is_no_recursion(engine):
    """A cascade goes as deep as the objects do."""
    with Session(engine) as session, session.begin():
        node = Node()
        for _ in range(1100):
            node = Node(up=node)
        session.add(node)
    with Session(engine) as session, session.begin():
        session.delete(session.scalars(select(Node).where(Node.up_id.is_(None))).one())
    assert stored(engine, Node, "id") == []


def test_both_sides_are_kept_alike(session):
    """With back_populates a change of one side shows on the other, without a flush."""
    ann, bob = session.get_many(Parent, [1, 2])
    session.load([ann, bob], "children")
    x, y = ann.children

    x.parent = bob
    assert (ann.children, bob.children) == ([y], [x])
    ann.children.append(x)
    assert (x.parent, bob.children) == (ann, [])
    ann.children.remove(y)
    assert y.parent is None
    bob.children = [y]
    assert (y.parent, ann.children) == (bob, [x])
    bob.children += [x]
    assert ann.children == []
    bob.children.clear()
    assert (x.parent, y.parent) == (None, None)
    bob.children[:] = [y, x]
    assert bob.children.pop() is x
    bob.children.insert(0, x)
    assert bob.children == [x, y]
    del bob.children[0]
    assert x.parent is None


@pytest.mark.parametrize("change", ["set", "append", "column"])
def test_a_changed_parent_is_stored(engine, change):
    """The foreign key follows, from whichever side the change comes; and its own column counts, too."""
    with Session(engine) as session, session.begin():
        x, bob = session.get(Child, 1), session.get(Parent, 2)
        session.load(bob, "children")
        session.load(x, "parent")
        if change == "set":
            x.parent = bob
        elif change == "append":
            bob.children.append(x)
        else:
            x.parent_id = 2
        session.flush()
        assert x.parent_id == 2
        if change == "column":
            with pytest.raises(sa_exc.InvalidRequestError, match="not loaded"):
                _ = x.parent

    assert stored(engine, Child, "parent_id") == [2, 1, None]


def test_a_parent_can_be_set_without_loading_anything(engine):
    """Setting the foreign key's side needs no list of the other side."""
    with Session(engine) as session, session.begin():
        session.get(Child, 1).parent = session.get(Parent, 2)
        session.get(Child, 2).parent = None
    assert stored(engine, Child, "parent_id") == [2, None, None]


def test_a_removed_child_loses_its_parent(engine):
    """Without delete-orphan a child that leaves the list stays, with its foreign key NULL."""
    with Session(engine) as session, session.begin():
        ann = session.get(Parent, 1)
        session.load(ann, "children")
        del ann.children[0]
    assert stored(engine, Child, "parent_id") == [None, 1, None]


def test_an_orphan_is_deleted(engine):
    """With delete-orphan a child that leaves the list goes, unless another parent has it."""
    with Session(engine) as session, session.begin():
        x, y, _ = session.scan(Child)
        session.load([x, y], "toys")
        car, ball = x.toys
        x.toys.remove(ball)
        x.toys.remove(car)
        y.toys.append(car)
    assert stored(engine, Toy, "name") == ["car", "kite"]
    assert stored(engine, Toy, "child_id") == [2, 2]


def test_losing_the_parent_makes_an_orphan(engine):
    """The other side says so too, if there was a parent; a list need not be loaded for it."""
    with Session(engine) as session, session.begin():
        session.add(Passport("free"))
    with Session(engine) as session, session.begin():
        owned, free = session.get_many(Passport, ["A1", "free"])
        owned.parent = None
        free.parent = session.get(Parent, 2)
        free.parent = None
    assert stored(engine, Passport, "number") == ["free"]


def test_expire_and_refresh_forget_what_was_loaded(engine, session):
    """All of it, or a relationship by its name; what was changed and not flushed is forgotten as well."""
    for forget in [session.expire, session.refresh, lambda obj: session.expire(obj, ["children", "name"])]:
        ann = session.get(Parent, 1)
        session.load(ann, "children")
        ann.children.clear()
        with session.no_autoflush:
            forget(ann)
        with pytest.raises(sa_exc.InvalidRequestError, match="not loaded"):
            _ = ann.children
        session.rollback()
    assert stored(engine, Child, "parent_id") == [1, 1, None]


def test_tables_that_refer_to_each_other(engine):
    """Two tables with foreign keys to each other are written in one flush, and without a warning."""
    others = registry()

    @mapped(others)
    class Team:
        __tablename__ = "teams"
        id: Mapped[int] = field(primary_key=True, autoincrement=True)
        captain_id: Mapped[int | None] = field(ForeignKey("players.id"), default=None)
        players: Mapped[list[Player]] = relationship(foreign_keys="Player.team_id", back_populates="team")
        captain: Mapped[Player | None] = relationship(foreign_keys=captain_id)

    @mapped(others)
    class Player:
        __tablename__ = "players"
        id: Mapped[int] = field(primary_key=True, autoincrement=True)
        team_id: Mapped[int | None] = field(ForeignKey("teams.id"), default=None)
        team: Mapped[Team | None] = relationship(foreign_keys=team_id, back_populates="players")

    others.create_all(engine)
    with Session(engine, foreign_keys=True) as session, session.begin():
        player = Player()
        session.add(Team(players=[player], captain=player))
    assert (stored(engine, Team, "captain_id"), stored(engine, Player, "team_id")) == ([1], [1])


def test_one_to_one_replaces_and_orphans(engine):
    """A parent's only child is replaced; setting it needs to know the one that goes."""
    with Session(engine) as session, session.begin():
        ann = session.get(Parent, 1)
        with pytest.raises(sa_exc.InvalidRequestError, match="not loaded"):
            ann.passport = Passport("B2")
        session.load(ann, "passport")
        old = ann.passport
        ann.passport = Passport("B2")
        assert (old.parent, ann.passport.parent) == (None, ann)
    assert stored(engine, Passport, "number") == ["B2"]
    assert stored(engine, Passport, "parent_id") == [1]


def test_delete_takes_what_the_cascade_says(engine):
    """Children with "delete" go with their parent, loaded or not; others lose it."""
    with Session(engine) as session, session.begin():
        session.delete(session.get(Parent, 1))
    assert stored(engine, Child, "parent_id") == [None, None, None]
    assert stored(engine, Passport, "number") == []

    with Session(engine) as session, session.begin():
        session.delete(session.get(Child, 1))
    assert stored(engine, Toy, "name") == ["kite"]


def test_passive_deletes_leaves_what_is_not_loaded(engine):
    """The foreign key of the store is to do it; what is loaded is done here, unless "all" says no."""
    others = registry()

    def pair(number, passive):
        @mapped(others)
        class Owner:
            __tablename__ = f"owners{number}"
            id: Mapped[int] = field(primary_key=True)
            things: Mapped[list[Thing]] = relationship(f"Thing{number}", passive_deletes=passive, uselist=True)

        class Thing:
            __tablename__ = f"things{number}"
            id: Mapped[int] = field(primary_key=True)
            owner_id: Mapped[int | None] = field(ForeignKey(f"owners{number}.id"))

        Thing.__name__ = f"Thing{number}"
        return Owner, mapped(others)(Thing)

    for number, (passive, load, left) in enumerate([(True, False, 1), (True, True, None), ("all", True, 1)]):
        owner, thing = pair(number, passive)
        others.create_all(engine)
        with Session(engine) as session, session.begin():
            session.add_all([owner(1), thing(1, 1)])
        with Session(engine) as session, session.begin():
            found = session.get(owner, 1)
            if load:
                session.load(found, "things")
            session.delete(found)
        assert stored(engine, thing, "owner_id") == [left]


def test_a_child_whose_key_has_the_parent_cannot_lose_it(engine):
    """Part of a primary key is never blanked out."""
    others = registry()

    @mapped(others)
    class Bill:
        __tablename__ = "bills"
        id: Mapped[int] = field(primary_key=True, autoincrement=True)
        lines: Mapped[list[BillLine]] = relationship()

    @mapped(others)
    class BillLine:
        __tablename__ = "bill_lines"
        bill_id: Mapped[int] = field(ForeignKey("bills.id"), primary_key=True)
        number: Mapped[int] = field(primary_key=True)

    others.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Bill(lines=[BillLine(None, 1), BillLine(None, 2)]))
    assert stored(engine, BillLine, "bill_id") == [1, 1]
    with Session(engine) as session:
        session.delete(session.get(Bill, 1))
        with pytest.raises(sa_exc.InvalidRequestError, match=r"bill_id is part of its primary key and cannot be None"):
            session.flush()


def test_a_rollback_forgets_changes_of_relationships(engine, session):
    """Objects that were changed have their columns back, and their relationships are to be loaded again."""
    ann, bob = session.get_many(Parent, [1, 2])
    session.load([ann, bob], "children")
    with session.begin_nested() as nested:
        new = Child("new")
        ann.children[0].parent = bob
        ann.children.append(new)
        session.flush()
        bob.children.append(ann.children[0])
        nested.rollback()

    assert new not in session
    session.load([ann, bob], "children")
    assert [child.id for child in ann.children] == [1, 2]
    assert bob.children == []
    ann.children.append(new)
    session.commit()
    assert stored(engine, Child, "parent_id") == [1, 1, None, 1]


def test_a_failed_flush_leaves_what_was_added_as_it_was(engine):
    """The objects can be added once more, with their relationships."""
    parent = Parent("cid", children=[Child("k")])
    with Session(engine) as session:
        session.add_all([parent, Parent("ann", id=1)])
        with pytest.raises(exc.IntegrityError):
            session.flush()
        session.rollback()
        session.add(parent)
        session.commit()
    assert stored(engine, Child, "parent_id") == [1, 1, None, parent.id]


def test_an_object_that_is_in_no_session_is_told_of(session):
    """As in SQLAlchemy, an object reached by the other side alone is not stored, and a warning says so."""
    ann = session.get(Parent, 1)
    session.load(ann, "children")
    child = Child("new")
    child.parent = ann
    assert ann.children[-1] is child

    with pytest.warns(sa_exc.SAWarning, match=r"Child\(id=None\) is not in the session: Parent.children is not stored"):
        session.flush()


def test_merge_takes_related_objects_along(engine):
    """A graph made elsewhere is merged as a whole: changed, added, and out of the list what it does not have."""
    with Session(engine) as session, session.begin():
        given = Parent("Ann", id=1, children=[Child("X", id=1), Child("new")])
        merged = session.merge(given)
        assert [child.name for child in merged.children] == ["X", "new"]
        assert merged is not given
    assert stored(engine, Child, "name") == ["X", "y", "z", "new"]
    assert stored(engine, Child, "parent_id") == [1, None, None, 1]


def test_another_class_is_refused(session):
    """A list of children takes children."""
    ann = session.get(Parent, 1)
    session.load(ann, "children")

    with pytest.raises(exc.ArgumentError, match=r"Parent.children takes objects of Child, not Toy"):
        ann.children.append(Toy("car"))
    with pytest.raises(exc.ArgumentError, match=r"Child.parent takes objects of Parent, not int"):
        ann.children[0].parent = 1
    assert len(ann.children) == 2


def test_listeners_hear_of_orphans(session):
    """What a flush deletes by itself is told like any deletion."""
    heard = []
    event.listen(session, "persistent_to_deleted", lambda _, instance: heard.append(instance))
    x = session.get(Child, 1)
    session.load(x, "toys")
    car = x.toys[0]
    x.toys.remove(car)

    session.flush()
    assert heard == [car]


def test_without_an_annotation_the_foreign_key_says_how_many():
    """Such a one was always taken for one object, and its attribute was None where SQLAlchemy has a list."""
    plain = registry()

    @mapped(plain)
    class Shelf:
        __tablename__ = "shelves"
        id: Mapped[int] = field(primary_key=True)
        above_id: Mapped[int | None] = field(ForeignKey("shelves.id"), default=None)
        books = relationship("Book", back_populates="shelf")
        below = relationship("Shelf", back_populates="above")
        above = relationship("Shelf", back_populates="below", remote_side=[id])  # noqa: A003

    @mapped(plain)
    class Book:
        __tablename__ = "books"
        id: Mapped[int] = field(primary_key=True)
        shelf_id: Mapped[int | None] = field(ForeignKey("shelves.id"), default=None)
        shelf = relationship("Shelf", back_populates="books")

    with create_engine("memory://") as engine:
        plain.create_all(engine)
        with Session(engine) as session, session.begin():
            shelf = Shelf(1)
            session.add(shelf)
            shelf.books.extend([Book(1), Book(2)])
            shelf.below.append(Shelf(2))
        with Session(engine) as session:
            top = session.get_one(Shelf, 1)
            book = session.get_one(Book, 2)
            for loaded, names in ((top, ["books", "below"]), (book, ["shelf"])):
                for name in names:
                    session.load(loaded, name)
            assert [each.id for each in top.books] == [1, 2]
            assert [each.above is top for each in top.below] == [True]
            assert book.shelf is top


@pytest.mark.parametrize("given", ["shelves.id", 3])
def test_a_foreign_key_is_one(given):
    """Anything else ended in an error of SQLAlchemy's that named neither the field nor the way to write it."""
    with pytest.raises(exc.ArgumentError, match=r"field\(foreign_key=.*write field\(ForeignKey"):
        field(foreign_key=given)


def test_the_same_object_is_removed_and_no_equal_one(engine):
    """Lists take objects by identity, wherever they stand."""
    with Session(engine) as session, session.begin():
        parent = Parent(name="p")
        session.add(parent)
        children = [Child(name="c") for _ in range(5)]
        parent.children.extend(children)
        parent.children.remove(children[3])
        del parent.children[0]
        children[4].parent = None
        assert list(map(id, parent.children)) == [id(children[1]), id(children[2])]
        assert [child.parent is parent for child in children] == [False, True, True, False, False]
        del parent.children[:]
        assert [child.parent for child in children] == [None] * 5
