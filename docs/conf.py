"""Sphinx settings. `make docs` builds (warnings are errors), `make links` checks the links."""

import sys
from pathlib import Path

project = "redundancy"
author = "The redundancy developers"
copyright = "2026, the redundancy developers"

sys.path.insert(0, str(Path(__file__).parent))  # for mathml.py

extensions = ["myst_parser", "sphinx.ext.autodoc", "mathml", "numpydoc"]
html_math_renderer = "mathml"
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "data", "schemas"]
myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
autosummary_generate = False
numpydoc_show_class_members = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
html_theme = "furo"
html_title = "redundancy"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"top_of_page_buttons": []}
# Every "Examples" section and every page's code is run by the tests; here they are only shown.

# `make links` checks links within the site; those that leave it need a network, so only
# `make links-outside` asks for them. (Sphinx puts `tags` into this namespace.)
linkcheck_ignore = [] if tags.has("outside") else [r"https?://"]  # noqa: F821
