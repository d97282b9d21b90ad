"""A net that carries its state from one batch to the next, and numbers of words for it."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np


def words_net(folder: Path, kind: str) -> str:
    """An LSTM or RNN that is to tell the next of 9 words in 3 streams, 4 steps a batch, from a file in ``folder``."""
    rng = np.random.default_rng(0)
    with h5py.File(folder / "words.h5", "w") as file:
        file["words"], file["next"] = rng.integers(0, 9, (2, 40, 3))
        file["cont"] = rng.integers(0, 6, (40, 3)).clip(max=1)
    (folder / "files.txt").write_text(f"{folder}/words.h5\n")
    filler = 'weight_filler { type: "uniform" min: -0.5 max: 0.5 }'
    return f"""
    layer {{ name: "data" type: "HDF5Data" top: "words" top: "cont" top: "next"
      hdf5_data_param {{ source: "{folder}/files.txt" batch_size: 4 }} }}
    layer {{ name: "embed" type: "Embed" bottom: "words" top: "embed"
      embed_param {{ input_dim: 9 num_output: 5 {filler} }} }}
    layer {{ name: "state" type: "{kind}" bottom: "embed" bottom: "cont" top: "state"
      recurrent_param {{ num_output: 6 {filler} }} }}
    layer {{ name: "ip" type: "InnerProduct" bottom: "state" top: "ip"
      inner_product_param {{ num_output: 9 axis: 2 {filler} }} }}
    layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "next" top: "loss" softmax_param {{ axis: 2 }} }}
    """
