"""What is installed is whole."""

from importlib import metadata, resources

import kvdialect


def test_version_is_the_installed_one():
    """The version that the package states is the one that it was installed as."""
    assert metadata.version("kvdialect") == kvdialect.__version__


def test_ships_its_types():
    """Type checkers read the annotations of the installed package."""
    assert resources.files("kvdialect").joinpath("py.typed").is_file()
