#!/usr/bin/env python3
"""What does scikit-learn's logistic regression give on standardised features? The unit tests of foils hold its linear probe to it.

    python3 tests/peers/linear_probe.py --out tests/peers/linear_probe.json

Three of scikit-learn's digits classes that are hard to tell apart, eight pixels of 90 images. Needs scikit-learn, which the
environment of saved_models.py has.
"""

import argparse
import json
from pathlib import Path

from common import environment


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    environment()

    import numpy as np
    import sklearn
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    digits = load_digits()
    rows = np.isin(digits.target, [3, 5, 8]).nonzero()[0][:90]
    columns = [10, 19, 20, 26, 29, 34, 37, 42]
    features, labels = digits.data[rows][:, columns], np.searchsorted([3, 5, 8], digits.target[rows])
    scaled = StandardScaler().fit_transform(features)
    fits = []
    for l2 in (1e-4, 1e-2, 1.0):
        model = LogisticRegression(C=1 / (l2 * len(rows)), tol=1e-12, max_iter=100_000).fit(scaled, labels)
        # An offset of all classes together changes nothing; ours has mean 0.
        fits.append({
            "l2": l2,
            "weights": model.coef_.T.ravel().tolist(),
            "offsets": (model.intercept_ - model.intercept_.mean()).tolist(),
            "predictions": model.predict(scaled).tolist(),
        })
    report = {
        "scikit_learn": sklearn.__version__,
        "dim": len(columns),
        "classes": 3,
        "features": features.ravel().tolist(),
        "labels": labels.tolist(),
        "fits": fits,
    }
    text = json.dumps(report)
    print({k: v for k, v in report.items() if k != "features"})
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
