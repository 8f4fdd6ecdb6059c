"""Expressions of faces that are already cropped, in one batch: python examples/faces.py [IMAGE …]"""

from __future__ import annotations

import sys

import cv2

from emert_edge import Recognizer
from emert_edge.simulation import EXPRESSIONS, render_face


def main() -> None:
    if len(sys.argv) > 1:
        names = sys.argv[1:]
        images = [cv2.imread(name) for name in names]
    else:
        names, images = list(EXPRESSIONS), []
        for expression in EXPRESSIONS:
            drawn = render_face(expression, identity=4)
            x, y, width, height = (round(value) for value in drawn.box)
            margin = round(0.15 * width)
            images.append(
                drawn.image[max(0, y - margin) : y + height + margin, max(0, x - margin) : x + width + margin]
            )
    with Recognizer() as recognizer:
        classes = recognizer.bundle.manifest.labels.expression
        for name, probabilities in zip(names, recognizer.expressions(images), strict=True):
            best = int(probabilities.argmax())
            print(f"{name:20} {classes[best]:10} {probabilities[best]:.2f}")


if __name__ == "__main__":
    main()
