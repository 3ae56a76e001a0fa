"""Data sets: one `dataset.yaml` describes the files (description.py), FolderDataset reads them (folder.py), transforms
augment all modalities and the label alike (transforms.py) or make single sensors worse (random_degraded.py),
`check-data` walks a whole set (check.py). Descriptions of the field's data sets are in sets/, classes that several of
them share in label_spaces/."""

from .check import CheckReport, check_dataset
from .description import Description, Modality, default_palette, load_description, map_description
from .folder import DescribedFrames, FolderDataset
from .frame import Frame
from .random_degraded import RandomDegraded
from .transforms import (
    Compose,
    Photometric,
    RandomFlip,
    RandomMissing,
    RandomQuarterTurn,
    RandomScaleCrop,
    RandomZeroed,
    Resize,
    Transform,
)

__all__ = [
    "CheckReport",
    "Compose",
    "DescribedFrames",
    "Description",
    "FolderDataset",
    "Frame",
    "Modality",
    "Photometric",
    "RandomDegraded",
    "RandomFlip",
    "RandomMissing",
    "RandomQuarterTurn",
    "RandomScaleCrop",
    "RandomZeroed",
    "Resize",
    "Transform",
    "check_dataset",
    "default_palette",
    "load_description",
    "map_description",
]
