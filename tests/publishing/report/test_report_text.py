"""Escaping of text in every format of a report."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reported import CHOICES, SCRIPT, hostile_study

from aifs_tune.publishing.report import paper_table, report_of, to_latex
from aifs_tune.publishing.report.blocks import Bullets, Code, Paragraph, ReportDocument, ReportSection, Table
from aifs_tune.publishing.report.formatting import cut, listed, subsample, with_interval
from aifs_tune.publishing.report.html import to_html
from aifs_tune.publishing.report.latex import latex, to_csv
from aifs_tune.publishing.report.markdown import escaped, to_markdown
from aifs_tune.publishing.report.pdf import to_pdf

TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=60)
MARKS = re.compile(r"\\([!-/:-@\[-`{-~])")


class Tags(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.tags += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data):
        self.text.append(data)


def small_report(text: str) -> ReportDocument:
    blocks = (
        Paragraph(text, "verdict"),
        Bullets((text,)),
        Code(text, "text"),
        Table(text, (text, "n"), ((text, "1"),), "lr"),
    )
    return ReportDocument(text, text, (ReportSection("One", blocks),), text)


@given(TEXTS)
def test_html_keeps_text_as_text(text: str) -> None:
    found, plain = Tags(to_html(small_report(text))), Tags(to_html(small_report("plain")))
    assert found.tags == plain.tags
    assert "".join(found.text).count(text) >= 6


@given(TEXTS)
def test_markdown_escapes_all_that_is_markup(text: str) -> None:
    written = escaped(text)
    assert MARKS.sub(r"\1", written) == " ".join(text.split())
    assert not re.search(r"(?<!\\)(?:\\\\)*[`*_\[\]<>|#]", written)
    assert not re.match(r"([-+]|\d+[.)])\s", written)
    assert "\n" not in written


@given(TEXTS)
def test_latex_has_no_command_that_we_did_not_write(text: str) -> None:
    written = latex(text)
    ours = "textbackslash textasciicircum textasciitilde textless textgreater textbar textquotedbl textasciigrave"
    assert set(re.findall(r"\\([A-Za-z]+)", written)) <= {*ours.split(), "pm", "rightarrow", "ldots"}
    assert not re.search(r"(?<!\\)[&%#_]", written)
    assert written.replace(r"\{", "").count("{") == written.replace(r"\}", "").count("}")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("-0.087", "$-$0.087"),
        ("0.1 [-0.2, 0.4]", "0.1 {[}$-$0.2, 0.4{]}"),
        ("a--b", "a{-}{-}b"),
        ("50 % & _x", r"50 \% \& \_x"),
    ],
)
def test_latex_of_numbers_and_names(text: str, written: str) -> None:
    assert latex(text) == written


def test_a_hostile_study_is_harmless_in_every_format(url: str) -> None:
    study = hostile_study(url)
    report = report_of(study)
    page = to_html(report)
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([\w-]+)', page)) <= set(ids)
    tags = Tags(page).tags
    assert not {"script", "img", "iframe", "onerror", "onload"} & set(tags)
    text = to_markdown(report, folder="figures").text
    assert SCRIPT not in re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    assert to_pdf(report).startswith(b"%PDF-")
    assert not any(SCRIPT in figure.svg for figure in report.figures)
    table = paper_table(study, "trials")
    assert "\\input{" not in to_latex(table)
    rows = list(csv.reader(io.StringIO(to_csv(table))))
    assert len(rows) == 21
    solvents = {row[3] for row in rows[1:]}
    assert solvents <= {*CHOICES, "'=1+2"}
    assert "'=1+2" in solvents
    assert all(float(row[1]) is not None for row in rows[1:])


@given(st.lists(st.integers(), unique=True, max_size=80), st.integers(2, 30))
def test_thinning_keeps_the_ends_and_the_order(items: list[int], most: int) -> None:
    kept = subsample(items, most)
    assert len(kept) == min(len(items), most)
    assert kept == [item for item in items if item in set(kept)]
    if items:
        assert (kept[0], kept[-1]) == (items[0], items[-1])


def test_words() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert cut("a\nb\u202ec" + "x" * 80, 20) == "a b c" + "x" * 14 + "…"
    assert with_interval(0.5, None, None) == "0.500"
    assert with_interval(0.5, 0.25, 0.75, 2) == "0.50 [0.25, 0.75]"


def test_a_table_whose_rows_differ_is_refused() -> None:
    with pytest.raises(ValueError, match="allowed: the same in each row"):
        Table("t", ("a", "b"), (("1",),), "lr")


def test_greek_letters_of_names_are_typeset_by_any_engine() -> None:
    assert latex("θ_max.Ω") == r"$\theta$\_max.$\Omega$"
