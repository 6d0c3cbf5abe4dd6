"""Sphinx configuration. ``tox -e docs`` builds with warnings as errors."""

from importlib import metadata

project = "kvdialect"
author = "The kvdialect developers"
copyright = f"{author}"  # noqa: A001  (Sphinx's name)
release = version = metadata.version("kvdialect")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "_figures"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
maximum_signature_line_length = 100

# References to our own names must resolve. Those of others would need their inventories from the network at build time.
# Type variables have no entry anywhere, nor have aliases of types within signatures.
nitpick_ignore_regex = [("py:.*", r"(?!kvdialect\.).*"), ("py:class", r"kvdialect\..*\.(T|Options|StoreOpener)")]

html_theme = "furo"
html_title = "kvdialect"
html_static_path = ["_static"]
html_css_files = ["tables.css", "figures.css"]
