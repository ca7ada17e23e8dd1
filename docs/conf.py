"""How Sphinx makes the site of these pages: `make docs`. The pages themselves are plain Markdown, readable as they lie.

The source folder is the checkout, so that a link such as ../recipes/qwen3/README.md leads to the same page here as it
does where the files are read. The contents come from the lists of index.md: what is listed there is in the site.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from docutils import nodes
from pygments.lexers.data import JsonLexer
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "docs")]
project = "sft-kit"
author = "the authors of sft-kit"
project_copyright = author
html_title = project
root_doc = "docs/index"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
include_patterns = ["docs/**.md", "recipes/*/README.md", "recipes/firefly/data/README.md"]
include_patterns += ["CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"]
exclude_patterns = [".*", "build", "src", "tests", "benchmarks", "quickstart", "output", "runs", "examples"]
nitpicky = False
show_warning_types = True

myst_heading_anchors = 4  # docs/data.md#large-data, spelled as other renderers of Markdown spell it
myst_enable_extensions = ["colon_fence"]

# What the classes say of themselves is read without the libraries they use: the site needs no torch.
autodoc_mock_imports = [
    *("torch", "transformers", "accelerate", "peft", "safetensors", "tokenizers", "tiktoken", "numpy", "tqdm"),
    *("filelock", "xxhash", "regex", "huggingface_hub"),
]
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True

html_theme = "furo"
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}
html_static_path = ["images", "style"]
html_css_files = ["site.css"]
html_extra_path = ["site"]  # its index.html leads from the top of the site to the first page
html_copy_source = False
html_show_sphinx = False


def contents_of(text: str) -> str:
    """The hidden tables of contents that the headings and lists of index.md stand for."""
    tables = []
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        caption = section.splitlines()[0]
        pages = re.findall(r"^ *- \[[^]]+\]\(([^)#]+)\.md\)", section, flags=re.MULTILINE)
        if pages:
            tables.append("\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```"]))
    return "\n\n".join(tables)


def fill_in(_: Sphinx, name: str, source: list[str]) -> None:
    """What the site has beyond the pages: the contents, titles in links, and the messages of errors as they stand."""
    if name == root_doc:
        source[0] += f"\n\n{contents_of(source[0])}\n"
    elif name == "docs/errors":
        from messages import with_messages  # this folder is looked in only now

        source[0] = with_messages(source[0])
    source[0] = re.sub(r"\[[\w/-]+\.md\](?=\([\w/.-]+\.md\))", "[]", source[0])  # the title of what it leads to


def name_tables(app: Sphinx, document: nodes.document) -> None:
    """Tables with an option or a key a row are told apart, for phones show them otherwise than tables of figures."""
    if app.env.docname == "docs/options" or app.env.docname.startswith("docs/coming-from/"):
        for table in document.findall(nodes.table):
            table["classes"].append("entries")


def setup(app: Sphinx) -> None:
    app.add_lexer("jsonl", JsonLexer)
    app.connect("source-read", fill_in)
    app.connect("doctree-read", name_tables)
