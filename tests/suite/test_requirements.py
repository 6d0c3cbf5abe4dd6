"""The lists of requirements are complete."""

from collections import Counter

from requirements import BEYOND_SQLITE, CLOSED, ENVIRONMENT, OPEN, WRITTEN_OUT
from sqlalchemy.testing import fixtures
from sqlalchemy.testing.requirements import SuiteRequirements


class RequirementsTest(fixtures.TestBase):
    def test_every_flag_is_decided_once(self):
        """A flag that is new in SQLAlchemy has to be opened, or closed with its reason; one that is gone, to go."""
        flags = {name for name in dir(SuiteRequirements) if not name.startswith("_")}

        decided = Counter([*OPEN, *BEYOND_SQLITE, *CLOSED, *ENVIRONMENT, *WRITTEN_OUT])

        assert flags - set(decided) == set()
        assert set(decided) - flags == set()
        assert [name for name, times in decided.items() if times > 1] == []
