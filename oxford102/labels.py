"""The names of the 102 categories, and the file that gives each picture its category."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oxford102.errors import ToolError
from oxford102.files import mat_row, read_mat

# In the order of the numbers in imagelabels.mat, spelled as Oxford spells them (doubtful ones included).
_NAMES = """
    pink primrose, hard-leaved pocket orchid, canterbury bells, sweet pea, english marigold, tiger lily,
    moon orchid, bird of paradise, monkshood, globe thistle, snapdragon, colt's foot, king protea,
    spear thistle, yellow iris, globe-flower, purple coneflower, peruvian lily, balloon flower,
    giant white arum lily, fire lily, pincushion flower, fritillary, red ginger, grape hyacinth, corn poppy,
    prince of wales feathers, stemless gentian, artichoke, sweet william, carnation, garden phlox,
    love in the mist, mexican aster, alpine sea holly, ruby-lipped cattleya, cape flower, great masterwort,
    siam tulip, lenten rose, barbeton daisy, daffodil, sword lily, poinsettia, bolero deep blue, wallflower,
    marigold, buttercup, oxeye daisy, common dandelion, petunia, wild pansy, primula, sunflower, pelargonium,
    bishop of llandaff, gaura, geranium, orange dahlia, pink-yellow dahlia?, cautleya spicata,
    japanese anemone, black-eyed susan, silverbush, californian poppy, osteospermum, spring crocus,
    bearded iris, windflower, tree poppy, gazania, azalea, water lily, rose, thorn apple, morning glory,
    passion flower, lotus, toad lily, anthurium, frangipani, clematis, hibiscus, columbine, desert-rose,
    tree mallow, magnolia, cyclamen, watercress, canna lily, hippeastrum, bee balm, ball moss, foxglove,
    bougainvillea, camellia, mallow, mexican petunia, bromelia, blanket flower, trumpet creeper,
    blackberry lily
"""
OXFORD102_NAMES = tuple(name.strip() for name in _NAMES.split(","))


def read_labels(path: Path, images: int, classes: int) -> NDArray[np.int64]:
    """The 0-based label of each picture, [images]; the file counts from 1.

    Raises ToolError unless there is one label a picture and all are in 1..`classes`.
    """
    labels = mat_row(path, read_mat(path), "labels")
    if len(labels) != images:
        raise ToolError(f"{path} has {len(labels):,} labels, expected {images:,}; get the official file")
    wrong = np.flatnonzero((labels < 1) | (labels > classes))
    if len(wrong):
        raise ToolError(
            f"{path}: picture {wrong[0] + 1} has label {labels[wrong[0]]}, expected 1 to {classes}; "
            "get the official file"
        )
    return labels - 1
