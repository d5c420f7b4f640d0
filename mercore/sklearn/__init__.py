"""Encoders and fusions as estimators of scikit-learn.

::

    from mercore.sklearn import FeatureExtractor

    pipeline = make_pipeline(FeatureExtractor("prosody", store="mer.zarr"), LogisticRegression())
    cross_val_score(pipeline, clips, labels)

Importing it imports scikit-learn, so the rest of mercore does not import it.
"""

from mercore.sklearn._classifier import FusionClassifier
from mercore.sklearn._extractor import FeatureExtractor

__all__ = ["FeatureExtractor", "FusionClassifier"]
