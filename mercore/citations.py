"""What to cite: BibTeX, read strictly and written in one form."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mercore.errors import PluginError

if TYPE_CHECKING:
    from mercore.components import Component

REFERENCE: Final = """
    @inproceedings{ge2024early,
      author = {Ge, Mengying and Li, Mingyang and Tang, Dongkai and Li, Pengbo and Liu, Kuo and
        Deng, Shuhao and Pu, Songbai and Liu, Long and Song, Yang and Zhang, Tao},
      title = {Early Joint Learning of Emotion Information Makes {MultiModal} Model Understand You
        Better},
      booktitle = {Proceedings of the 2nd International Workshop on Multimodal and Responsible
        Affective Computing},
      year = {2024},
      doi = {10.1145/3689092.3689415},
    }
"""
"""The paper whose pipeline mercore is built after; below it what several components follow."""

MERBENCH: Final = """
    @article{lian2024merbench,
      author = {Lian, Zheng and Sun, Licai and Ren, Yong and Gu, Hao and Sun, Haiyang and Chen, Lan
        and Liu, Bin and Tao, Jianhua},
      title = {{MERBench}: A Unified Evaluation Benchmark for Multimodal Emotion Recognition},
      journal = {arXiv preprint arXiv:2401.03429},
      year = {2024},
    }
"""
MER2024: Final = """
    @inproceedings{lian2024mer,
      author = {Lian, Zheng and Sun, Haiyang and Sun, Licai and Wen, Zhuofan and Zhang, Siyuan and
        Chen, Shun and Gu, Hao and Zhao, Jinming and Ma, Ziyang and Chen, Xie and others},
      title = {{MER} 2024: Semi-Supervised Learning, Noise Robustness, and Open-Vocabulary
        Multimodal Emotion Recognition},
      booktitle = {Proceedings of the 2nd International Workshop on Multimodal and Responsible
        Affective Computing},
      pages = {41--48},
      year = {2024},
    }
"""
SCIKIT_LEARN: Final = """
    @article{pedregosa2011scikit,
      author = {Pedregosa, F. and Varoquaux, G. and Gramfort, A. and Michel, V. and Thirion, B. and
        Grisel, O. and Blondel, M. and Prettenhofer, P. and Weiss, R. and Dubourg, V. and
        Vanderplas, J. and Passos, A. and Cournapeau, D. and Brucher, M. and Perrot, M. and
        Duchesnay, E.},
      title = {Scikit-learn: Machine Learning in {Python}},
      journal = {Journal of Machine Learning Research},
      volume = {12},
      pages = {2825--2830},
      year = {2011},
    }
"""

_START = re.compile(r"@(?P<kind>[a-z]+)\{(?P<key>[^\s,{}]+),")
_FIELD = re.compile(r"\s*(?P<name>[a-z]+)\s*=\s*\{")
_END = re.compile(r"\s*\}")
_NEEDED = ("author", "title", "year")


@dataclass(frozen=True)
class Entry:
    """One work to cite."""

    kind: str
    """``article``, ``inproceedings``, ``misc`` and so on."""
    key: str
    fields: Mapping[str, str]
    """Field to value, without the outer braces and with single spaces."""

    def __str__(self) -> str:
        """Return it as BibTeX, a field a line, long ones wrapped."""
        lines = (
            textwrap.fill(
                f"{name} = {{{value}}},",
                width=100,
                initial_indent="  ",
                subsequent_indent="    ",
                break_long_words=False,
                break_on_hyphens=False,
            )
            for name, value in self.fields.items()
        )
        return "\n".join([f"@{self.kind}{{{self.key},", *lines, "}"])


def entries(text: str) -> list[Entry]:
    """Return the entries of a text, in order.

    It is strict: small letters for kinds and fields, values in braces, an author, a title and a
    year. Raises ValueError that says what is wrong and where.
    """
    found, rest = [], text.strip()
    while rest:
        entry, rest = _entry(rest)
        found.append(entry)
    return found


def cited(component: type[Component]) -> list[Entry]:
    """Return what the component asks to cite; raises PluginError for what is no BibTeX."""
    try:
        return entries(component.citation)
    except ValueError as error:
        raise PluginError(f"component {component.name!r}: no BibTeX to cite: {error}") from error


def _entry(text: str) -> tuple[Entry, str]:
    start = _START.match(text)
    if start is None:
        raise ValueError(f"found {_shown(text)}, expected such as @article{{name2024word,")
    fields, rest = dict[str, str](), text[start.end() :]
    while field := _FIELD.match(rest):
        value, rest = _braced(field["name"], rest[field.end() :])
        if field["name"] in fields:
            raise ValueError(f"{start['key']}: the field {field['name']!r} is given twice")
        fields[field["name"]] = value
        rest = rest.lstrip().removeprefix(",")
    end = _END.match(rest)
    if end is None:
        raise ValueError(
            f"{start['key']}: found {_shown(rest)}, expected such as title = {{...}}, or the end }}"
        )
    if missing := [name for name in _NEEDED if not fields.get(name)]:
        raise ValueError(f"{start['key']}: no {' and no '.join(missing)}")
    return Entry(start["kind"], start["key"], fields), rest[end.end() :].strip()


def _braced(name: str, text: str) -> tuple[str, str]:
    """Return the value up to the brace that closes it, and what follows."""
    depth = 1
    for place, character in _braces(text):
        depth += 1 if character == "{" else -1
        if not depth and not re.search(rf",{_FIELD.pattern}", text[:place]):
            return " ".join(text[:place].split()), text[place + 1 :]
    raise ValueError(f"the field {name!r} has a brace that is not closed: {_shown(text)}")


def _braces(text: str) -> Iterator[tuple[int, str]]:
    return ((place, character) for place, character in enumerate(text) if character in "{}")


def _shown(text: str) -> str:
    return repr(text.strip()[:40])
