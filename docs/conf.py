"""Sphinx settings. Build with `make docs`; warnings are errors."""

project = "redundancy"
author = "The redundancy developers"
copyright = "2026, the redundancy developers"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "numpydoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "data"]
myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
autosummary_generate = False
numpydoc_show_class_members = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
html_theme = "furo"
html_title = "redundancy"
# Every "Examples" section is run by the tests, so none of them needs to be run again here.
