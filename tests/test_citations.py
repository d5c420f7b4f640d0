from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic_core import PydanticUndefined

from mercore.bibliography import bibliography
from mercore.citations import REFERENCE, cited, entries
from mercore.components import Component, Encoder
from mercore.errors import PluginError, RegistryError
from mercore.plugins import Plugins, Provided
from mercore.registry import Registry
from mercore.voting import Majority, RankMode

Write = Callable[[str, str], Path]
OURS = [provided for provided in Plugins() if provided.distribution != "mercore-toys"]
PAPER = re.compile(r"arXiv|doi|et al\.", re.IGNORECASE)
VENUES = {
    "article": {"journal"},
    "inproceedings": {"booktitle"},
    "misc": {"eprint", "doi"},
    "software": {"url"},
}
"""What a work of each kind is found by; of such fields it has one at least."""
GOOD = "@article{a2024b, author = {A, B}, title = {The {C} of D}, year = {2024}}"


@pytest.mark.parametrize("provided", OURS, ids=lambda provided: provided.component.name)
def test_a_component_whose_docstring_names_a_paper_says_what_to_cite(provided: Provided) -> None:
    component = provided.component
    works = cited(component)
    if PAPER.search(component.__doc__ or ""):
        assert works
    for work in works:
        assert re.fullmatch(r"[a-z]+\d{4}[a-z0-9]+", work.key)
        assert work.kind in VENUES
        assert {"author", "title", "year"} < set(work.fields)
        assert re.fullmatch(r"\d{4}", work.fields["year"])
        assert work.fields["year"] in work.key
        assert set(work.fields) & VENUES[work.kind]
        assert str(entries(str(work))[0]) == str(work)


def test_one_key_is_one_work_whichever_component_cites_it() -> None:
    works = [work for provided in OURS for work in cited(provided.component)]
    assert len({work.key for work in works}) == len({str(work) for work in works})
    titles = {work.fields["title"].lower() for work in works}
    assert len(titles) == len({work.key for work in works})


@pytest.mark.parametrize("provided", OURS, ids=lambda provided: provided.component.name)
def test_a_component_with_weights_of_its_own_says_their_licence(provided: Provided) -> None:
    checkpoint = provided.component.model_fields.get("checkpoint")
    own = "checkpoints" in vars(provided.component)
    if own or (checkpoint and checkpoint.default not in (None, PydanticUndefined)):
        assert provided.component.licence
    if not own and not checkpoint:
        assert not provided.component.licence


def test_an_entry_is_written_in_one_form_however_it_was_indented() -> None:
    (work,) = entries(GOOD)
    (again,) = entries("\n".join(f"    {line}" for line in str(work).splitlines()))
    assert again == work
    assert str(work).splitlines()[2] == "  title = {The {C} of D},"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("see arXiv:2401.03429", "found 'see arXiv:2401.03429', expected such as @article"),
        (GOOD.replace("year", "when"), "a2024b: no year"),
        (GOOD.replace("author = {A, B}, ", ""), "a2024b: no author"),
        (GOOD.replace("{2024}}", "2024}"), "a2024b: found 'year = 2024}', expected such as title"),
        (GOOD[:-1], "a2024b: found '', expected such as title"),
        (GOOD.replace("of D}", "of D"), "the field 'title' has a brace that is not closed"),
        (GOOD.replace("year", "title"), "a2024b: the field 'title' is given twice"),
    ],
)
def test_what_is_no_bibtex_is_refused_and_says_where(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        entries(text)


def test_a_bad_citation_names_its_component() -> None:
    class Sloppy(Majority):
        name: ClassVar[str] = "sloppy"
        citation: ClassVar[str] = "Me, 2024"

    with pytest.raises(PluginError, match="'sloppy': no BibTeX to cite: found 'Me, 2024'"):
        cited(Sloppy)


REGISTRY = """\
classes: [sad, happy]
streams:
  faces: {uses: mtcnn, inputs: {video: video}}
  clean: {uses: deepfilternet, inputs: {audio: audio}, with: {asr: {uses: whisper_asr}}}
features:
  face: {uses: face_expression, inputs: {frames: faces}}
  voice: {uses: whisper, inputs: {audio: clean}}
fusion: attention
branches:
  both: face + voice
  plain: {features: face + voice, uses: concat}
ensemble: rank_mode
"""


def test_a_registry_cites_each_work_once_with_all_who_ask_for_it(write: Write) -> None:
    works = bibliography(Registry.read(write("registry.yaml", REGISTRY)), Plugins())
    used = {work.key: names for work, names in works}
    assert next(iter(used)) == entries(REFERENCE)[0].key
    assert used["ge2024early"] == ["mercore", "attention", "rank_mode"]
    assert used["radford2023robust"] == ["whisper_asr", "whisper"]
    assert {"zhang2016joint", "schroeter2023deepfilternet", "baltrusaitis2019multimodal"} < set(
        used
    )


def test_every_component_that_is_wrong_is_told_with_its_line(write: Write) -> None:
    text = REGISTRY.replace("uses: mtcnn", "uses: mtcn").replace("uses: concat", "uses: conct")
    with pytest.raises(RegistryError) as caught:
        bibliography(Registry.read(write("registry.yaml", text)), Plugins())
    assert "registry.yaml:3: streams.faces: no preprocessor is called 'mtcn'" in str(caught.value)
    assert "registry.yaml:11: branches.plain: no fusion is called 'conct'" in str(caught.value)


def test_no_checkpoint_has_to_be_there_for_a_citation(write: Write) -> None:
    text = REGISTRY.replace("{audio: clean}", "{audio: clean}, with: {checkpoint: /nowhere}")
    assert bibliography(Registry.read(write("registry.yaml", text)), Plugins())


def test_no_component_is_cited_by_default() -> None:
    assert Component.citation == Encoder.citation == Component.licence == ""
    assert cited(Majority) == []
    assert cited(RankMode)
