"""Encoders and fusions under scikit-learn's own tools, on clips of the demo set."""

from __future__ import annotations

import csv
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from toy_clips import write_wav

import mercore
from mercore.errors import InputError, PluginError, RegistryError, RunError
from mercore.sklearn import FeatureExtractor, FusionClassifier

DEMO = Path(__file__).parent.parent / "examples/demo"
TEXTS = ["aa b", "b", "c a", "a"]


def rows() -> list[dict[str, str]]:
    """Return 16 clips of two classes that sound different."""
    with (DEMO / "manifest.csv").open(newline="") as file:
        train = [row for row in csv.DictReader(file) if row["split"] == "train"]
    return [row for row in train if row["label"] in ("angry", "sad")][:16]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sklearn") / "mer.zarr"


@pytest.fixture
def clips() -> list[str]:
    return [str(DEMO / row["video"]) for row in rows()]


@pytest.fixture
def labels() -> list[str]:
    return [row["label"] for row in rows()]


def letters(**options: Any) -> FeatureExtractor:
    return FeatureExtractor("letters", device="cpu", **options)


def test_a_pipeline_is_cross_validated_on_clips(
    clips: list[str], labels: list[str], store: Path
) -> None:
    prosody = FeatureExtractor("prosody", device="cpu", store=store)
    pipeline = make_pipeline(prosody, StandardScaler(), LogisticRegression(max_iter=1000))
    scores = cross_val_score(pipeline, clips, labels, cv=2)
    assert scores.mean() > 0.7


def test_with_a_store_nothing_is_extracted_twice(
    clips: list[str], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prosody = FeatureExtractor("prosody", device="cpu", store=store).fit(clips[:3])
    before = prosody.transform(clips[:3])
    from mercore_starter.prosody import Prosody

    def load(self: object, device: str, dtype: str) -> None:
        raise AssertionError("the encoder is loaded again")

    monkeypatch.setattr(Prosody, "load", load)
    assert (clone(prosody).fit(clips[:3]).transform(clips[:3]) == before).all()
    assert before.shape == (3, 210)


def test_real_weights_encode_texts(store: Path) -> None:
    sentences = [row["sentence"] for row in rows()]
    minilm = FeatureExtractor("minilm", device="cpu", store=store)
    matrix = minilm.fit_transform(sentences)
    assert (matrix.dtype, matrix.shape) == (np.float32, (len(sentences), 384))


def test_the_rows_are_those_of_a_project(tmp_path: Path) -> None:
    (tmp_path / "registry.yaml").write_text(
        "classes: [a, b]\nfeatures: {letters: {uses: letters, with: {letters: 3}}}\n"
    )
    (tmp_path / "manifest.csv").write_text("id,split,text\nx,test,aa b\n")
    registry, manifest = tmp_path / "registry.yaml", tmp_path / "manifest.csv"
    store = tmp_path / "mer.zarr"
    project = mercore.open(registry, manifest=manifest, store=store, device="cpu")
    project.extract()
    extractor = letters(options={"letters": 3}, store=store)
    assert (extractor.fit_transform(["aa b"]) == project.features["letters"].matrix()).all()
    folders = [path.name for path in (tmp_path / "mer.zarr/features").iterdir() if path.is_dir()]
    assert len(folders) == 1  # the same fingerprint


def test_order_is_kept_and_a_text_may_be_there_twice() -> None:
    matrix = letters(options={"letters": 3}).fit_transform([*TEXTS, "aa b"])
    assert matrix[:, 0].tolist() == [1.0, 0.0, 0.5, 1.0, 1.0]
    assert (matrix[0] == matrix[4]).all()


@pytest.mark.parametrize(
    "table", [np.array(TEXTS), pd.Series(TEXTS), pd.DataFrame({"text": TEXTS}), tuple(TEXTS)]
)
def test_a_column_of_a_table_is_as_good_as_a_list(table: Any) -> None:
    assert (letters().fit_transform(table) == letters().fit_transform(TEXTS)).all()


def test_it_is_cloned_set_and_pickled() -> None:
    extractor = letters(options={"letters": 3})
    assert clone(extractor).get_params() == extractor.get_params()
    fitted = extractor.fit(TEXTS)
    again = pickle.loads(pickle.dumps(fitted))
    assert (again.transform(TEXTS) == fitted.transform(TEXTS)).all()
    assert extractor.set_params(options={"letters": 2}).fit_transform(TEXTS).shape == (4, 2)
    assert list(extractor.get_feature_names_out()) == ["letters_0", "letters_1"]


def test_columns_have_names_in_pandas() -> None:
    frame = letters(options={"letters": 2}).set_output(transform="pandas").fit_transform(TEXTS)
    assert list(frame.columns) == ["letters_0", "letters_1"]


def test_a_grid_searches_encoders_and_their_options() -> None:
    texts, labels = ["bbb c", "aaa c"] * 4, [0, 1] * 4
    pipeline = Pipeline([("encode", letters()), ("classify", LogisticRegression())])
    grid = [
        {"encode__encoder": ["letters"], "encode__options": [{"letters": 1}, {"letters": 3}]},
        {"encode__encoder": ["both"], "encode__options": [{"first": {"uses": "shout"}}]},
    ]
    search = GridSearchCV(pipeline, grid, cv=2).fit(texts, labels)
    assert search.best_score_ == 1.0
    assert search.best_params_["encode__encoder"] == "letters"
    assert len(search.cv_results_["params"]) == 3


def test_several_media_of_a_clip_are_a_mapping(tmp_path: Path) -> None:
    sound = write_wav(tmp_path / "a.wav")
    both = FeatureExtractor("either", device="cpu")
    assert both.fit_transform([{"audio": sound, "text": "Hello."}]).tolist() == [[2.0]]
    with pytest.raises(InputError, match=r"reads audio and text; give each clip as \{'audio': ..."):
        both.fit([sound])
    with pytest.raises(InputError, match="reads audio, text; found a clip with audio"):
        both.fit([{"audio": sound}])


def test_the_sound_of_a_video_can_be_read(clips: list[str]) -> None:
    sound = FeatureExtractor("loudness", device="cpu").fit_transform(clips[:1])
    same = FeatureExtractor("loudness", input="video", device="cpu").fit_transform(clips[:1])
    assert sound.shape == (1, 1)
    assert sound == same


def test_a_clip_that_cannot_be_used_is_an_error_or_nan() -> None:
    with pytest.raises(RunError, match=r"1 of 2 clips have no feature, the first is 'refuse' \(th"):
        letters().fit_transform(["a", "refuse"])
    matrix = letters(missing="nan").fit_transform(["a", "refuse"])
    assert np.isnan(matrix).all(axis=1).tolist() == [False, True]


@pytest.mark.parametrize(
    ("extractor", "given", "error", "said"),
    [
        (FeatureExtractor("prosdy"), ["a.wav"], PluginError, "did you mean 'prosody'"),
        (letters(options={"leters": 3}), ["a"], RegistryError, "did you mean 'letters'"),
        (letters(input="txt"), ["a"], RunError, "input 'txt': expected one of video, audio, text"),
        (letters(missing="drop"), ["a"], RunError, "missing 'drop': expected 'raise' or 'nan'"),
        (letters(), "a", InputError, "found one clip, 'a'; expected a list"),
        (letters(), [], InputError, "no clips; expected one or more"),
        (letters(), [3], InputError, "text: found 3, expected words"),
        (letters(), ["none.txt"], InputError, r"none\.txt: no such file"),
        (FeatureExtractor("loudness"), ["none.wav"], InputError, r"none\.wav: no such file"),
        (letters(), [{"words": "a"}], InputError, "unknown medium 'words'; expected one of"),
        (letters(), np.array([["a", "b"]]), InputError, "a table of 2 columns, expected one"),
    ],
)
def test_wrong_use_is_told(extractor: Any, given: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        extractor.fit(given)


@parametrize_with_checks([FusionClassifier("linear", device="cpu")])  # type: ignore[untyped-decorator]
@pytest.mark.filterwarnings("ignore")  # what scikit-learn's checks provoke is theirs
def test_the_classifier_keeps_the_rules_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


def sides(rows: int = 60) -> tuple[dict[str, Any], Any]:
    """Return two features, of which together three classes follow."""
    random = np.random.default_rng(0)
    y = random.integers(0, 3, rows)
    a = random.normal(size=(rows, 4)) + 4 * (y == 1)[:, None]
    b = random.normal(size=(rows, 2)) + 4 * (y == 2)[:, None]
    return {"b": b, "a": a}, np.array(["no", "so", "oh"])[y]


@pytest.mark.parametrize("fusion", ["linear", "centroid", "attention"])
def test_every_fusion_is_a_classifier(fusion: str) -> None:
    X, y = sides()
    options = {"epochs": 30} if fusion == "attention" else {}
    classifier = FusionClassifier(fusion, options=options, device="cpu").fit(X, y)
    assert classifier.classes_.tolist() == ["no", "oh", "so"]
    assert classifier.groups_ == {"a": [0, 1, 2, 3], "b": [4, 5]}
    probabilities = classifier.predict_proba(X)
    assert probabilities.shape == (60, 3)
    assert probabilities.sum(axis=1) == pytest.approx(1)
    assert classifier.score(X, y) > 0.9
    again = pickle.loads(pickle.dumps(clone(classifier).fit(X, y)))
    assert (again.predict_proba(X) == probabilities).all()


def test_groups_name_the_columns_of_a_matrix() -> None:
    X, y = sides()
    table = np.hstack([X["b"], X["a"]])
    counted = FusionClassifier("centroid", groups={"b": 2, "a": 4}, device="cpu")
    listed = FusionClassifier("centroid", groups={"a": range(2, 6), "b": (0, 1)}, device="cpu")
    assert cross_val_score(counted, table, y, cv=3).mean() > 0.9
    named = counted.fit(X, y).predict_proba(X)
    assert np.allclose(counted.fit(table, y).predict_proba(table), named)
    assert np.allclose(counted.predict_proba(X), named)  # by name, whatever it was fitted on
    assert np.allclose(listed.fit(table, y).predict_proba(table), named)


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ({"a": 3}, r"found 6 columns, expected each once in the groups, \{'a': 3\}"),
        ({"a": [0, 1, 2, 3], "b": [3, 4, 5]}, "expected each once"),
    ],
)
def test_groups_that_do_not_fit_are_told(groups: Any, said: str) -> None:
    X, y = sides()
    table = np.hstack([X["b"], X["a"]])
    with pytest.raises(InputError, match=said):
        FusionClassifier("centroid", groups=groups, device="cpu").fit(table, y)


def test_other_features_than_those_it_was_fitted_on_are_told() -> None:
    X, y = sides()
    fitted = FusionClassifier("centroid", device="cpu").fit(X, y)
    with pytest.raises(InputError, match=r"found features of dimensions \{'a': 4\}, expected"):
        fitted.predict({"a": X["a"]})
    with pytest.raises(InputError, match=r"found features of \[5, 60\] samples"):
        fitted.predict(X | {"a": X["a"][:5]})
    with pytest.raises(InputError, match="found no features"):
        fitted.predict({})
    with pytest.raises(InputError, match=r"feature 'a': shape \(60,\), expected \(samples, dim\)"):
        fitted.predict({"a": X["a"][:, 0]})
    with pytest.raises(RunError, match="fusion 'mult' with these options reads sequences"):
        FusionClassifier("mult", device="cpu").fit(X, y)


def test_a_fusion_for_gaps_takes_nan() -> None:
    X, y = sides()
    X["a"][:5] = np.nan
    gated = FusionClassifier("gated", options={"epochs": 5}, device="cpu").fit(X, y)
    assert np.isfinite(gated.predict_proba(X)).all()
    with pytest.raises(ValueError, match="contains NaN"):
        FusionClassifier("linear", device="cpu").fit(X, y)
