"""The fixtures that the package gives to programs, as pytest runs them in a project of its own."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

CONFTEST = """
    import pytest

    from kvdialect import Mapped, field, mapped, registry

    pytest_plugins = ["kvdialect.testing.fixtures"]
    models = registry()

    @mapped(models)
    class Note:
        __tablename__ = "notes"
        id: Mapped[int] = field(primary_key=True)
        text: Mapped[str] = ""

    @pytest.fixture
    def kv_models():
        return models
"""


@pytest.fixture
def project(pytester, monkeypatch):
    """A project with a record and the fixtures; ``run(test, *options)`` runs a test of it."""
    monkeypatch.delenv("KVDIALECT_TEST_ENGINES", raising=False)
    pytester.makeini("[pytest]\n")
    pytester.makeconftest(CONFTEST)

    def run(source, *options, apart=False):
        pytester.makepyfile(source)
        runner = pytester.runpytest_subprocess if apart else pytester.runpytest_inprocess
        return runner("-p", "no:cacheprovider", "-p", "no:xdist", "-v", *options)

    return run


def test_each_test_has_a_fresh_store_with_the_tables(project):
    """What one test writes no other sees."""
    result = project("""
        import pytest
        from conftest import Note

        @pytest.mark.parametrize("again", [1, 2])
        def test_add(kv_session, again):
            assert kv_session.get(Note, 1) is None
            kv_session.add(Note(id=1))
            kv_session.commit()
    """)

    result.assert_outcomes(passed=2)


def test_a_session_is_on_the_engine_of_the_test(project):
    """Both fixtures of one test are of one store, and what is not committed is not in it."""
    result = project("""
        from conftest import Note
        from kvdialect import Session

        def test_both(kv_engine, kv_session):
            kv_session.add(Note(id=1))
            kv_session.flush()
            with Session(kv_engine) as other:
                assert other.get(Note, 1) is None
            kv_session.commit()
            with Session(kv_engine) as other:
                assert other.get(Note, 1) is not None
    """)

    result.assert_outcomes(passed=1)


ON_EACH = """
    from conftest import Note
    from kvdialect import Session

    def test_engine(kv_each_engine, tmp_path, request):
        with Session(kv_each_engine) as session, session.begin():
            session.add(Note(id=1))
        assert any(tmp_path.iterdir()) == ("[memory]" not in request.node.name)
"""


def test_a_test_runs_on_every_engine_that_is_installed(project, engines_under_test):
    """The engine's name is part of the test's, and its store lies in the directory of the test."""
    result = project(ON_EACH, apart=True)  # other tests of this process register engines

    names = sorted(line.split("[")[1].split("]")[0] for line in result.outlines if " PASSED" in line)
    assert set(names) >= engines_under_test
    result.assert_outcomes(passed=len(names))


def test_an_option_chooses_the_engines(project):
    """On the command line."""
    result = project(ON_EACH, "--kv-engines=memory")

    result.stdout.fnmatch_lines(["*::test_engine[[]memory[]] PASSED*"])
    result.assert_outcomes(passed=1)


def test_the_configuration_chooses_the_engines(project, pytester):
    """Or in the file of the project; the command line wins."""
    pytester.makeini("[pytest]\nkv_engines = memory, nonesuch\n")

    result = project(ON_EACH, "--kv-engines=memory")

    result.assert_outcomes(passed=1)


def test_an_engine_that_is_not_there_is_an_error(project):
    """And no test that is left out in silence."""
    result = project(ON_EACH, "--kv-engines=memory,rocksbd")

    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*--kv-engines=memory,rocksbd: unknown engine: 'rocksbd'*known: *memory*"])


def test_without_tables_of_its_own_a_project_has_empty_stores(project, pytester):
    """The fixture kv_models is the program's to replace."""
    pytester.makeconftest('pytest_plugins = ["kvdialect.testing.fixtures"]')

    result = project("""
        def test_engine(kv_engine):
            assert not kv_engine.catalog.tables
    """)

    result.assert_outcomes(passed=1)
