"""The configuration of a run: dataclasses of keys, filled by config_file.py.

Every key is one field below; its default, meaning, range and type stand in that one place, and everything else
(reading, checking, error messages, `describe`) is derived from it. A key is written section.name, as in `train.lr`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from egformer_fast.train.keys import keys_of, option

METRICS = [f"{where}{name}" for where in ("", "frame_mean.") for name in ("miou", "pixel_accuracy", "fwiou")]


@dataclass
class DataConfig:
    description: str = option(
        "", "dataset.yaml that describes the data set, or the name of one that comes with the package", path=True
    )
    root: str | None = option(None, "folder of the data; null: as the description says", path=True)
    modalities: list[str] | None = option(None, "sensors to use, in this order; null: all of the description")
    split: str = option("train", "split to train on")
    resize: list[int] | None = option(
        None, "height and width that all frames are resized to first, labels and evaluation too", length=2, low=32
    )
    crop: list[int] | None = option(
        None, "height and width of training crops, in pixels; null: whole frames", length=2, low=32
    )
    scale: list[float] = option([1.0, 1.0], "range of the random resize before the crop", length=2, above=0)
    flip_horizontal: bool = option(True, "mirror left and right with probability 1/2")
    flip_vertical: bool = option(False, "mirror top and bottom with probability 1/2 (views from above)")
    quarter_turns: bool = option(False, "turn by a random multiple of 90 degrees (views from above)")
    photometric: float = option(
        0.0, "probability of brightness, contrast, colour and blur changes, RGB only", low=0, high=1
    )
    missing: float = option(0.0, "probability that a sensor is declared missing; one always stays", low=0, high=1)
    zeroed: float = option(
        0.0, "probability that a sensor reads all zeros unannounced; one always lives", low=0, high=1
    )
    degraded: float = option(
        0.0,
        "probability that the scores are shown a sensor degraded (noise, blur, exposure, ...), where they are taught; "
        "one always stays",
        low=0,
        high=1,
    )
    cache: bool = option(False, "keep decoded frames in memory")
    workers: int = option(0, "data loading processes; 0: load in the training process", low=0)


@dataclass
class ModelConfig:
    """None leaves the choice to the model (see egformer_fast.models.create_model)."""

    name: str = option("egformer_b0", "egformer_b0 to egformer_b5")
    flow: str | None = option(
        None, "modalities meet before the first block, or go through the encoder apart", choices=["merged", "separate"]
    )
    keep: list[int] | None = option(
        None, "sensors that each of the 4 stages keeps; merged: from the second on, beside the stream", length=4, low=0
    )
    threshold: float | None = option(
        None, "also drop sensors that score below this share of the best one", low=0, high=1
    )
    rank: str | None = option(None, "choose sensors per sample or per batch", choices=["sample", "batch"])
    head_dim: int | None = option(None, "channels of the segmentation head", low=1)
    drop_path: float | None = option(None, "stochastic depth at the last block", low=0, high=0.99)
    dropout: float | None = option(None, "dropout before the classifier", low=0, high=0.99)
    gumbel: float | None = option(None, "scale of the Gumbel noise on the ranking while training", low=0)
    early_fusion: bool | None = option(None, "baseline: all channels into one encoder, nothing to drop")
    weights: str | None = option(
        None, "start from these: a file of a SegFormer, or a checkpoint folder of an EGFormer", path=True
    )


@dataclass
class TrainConfig:
    epochs: int = option(100, "passes over the split", low=1)
    max_minutes: float | None = option(
        None,
        "wall-clock budget, evaluations included: the schedule runs over it and "
        "the run ends with it, or with `epochs` if that comes first",
        above=0,
    )
    batch_size: int = option(8, "frames of one forward pass, per process", low=1)
    accumulate: int = option(1, "forward passes of one optimizer step", low=1)
    lr: float = option(6e-5, "peak learning rate of AdamW", above=0)
    head_lr_factor: float = option(1.0, "learning rate outside the encoder, as a multiple of lr", above=0)
    score_lr_factor: float = option(
        3.0, "learning rate of the scores of merged, and of what supervises them, as a multiple of lr", above=0
    )
    weight_decay: float = option(0.01, "weight decay of matrices and filters (biases, norms, embeddings: 0)", low=0)
    schedule: str = option("poly", "learning rate over the run", choices=["poly", "one_cycle", "constant"])
    warmup: float = option(0.05, "share of the run spent warming up", low=0, high=0.99)
    clip: float | None = option(None, "largest gradient norm; null: not clipped", above=0)
    ema: float | None = option(
        None, "decay of the averaged weights that are evaluated; null: off", low=0, high=0.999999
    )
    ema_ramp: float = option(
        10.0, "after n steps that decay is at most (1 + n) / (ema_ramp + n); 2: as in DAFormer, 1: no ramp", low=1
    )
    autocast: str = option("none", "lower-precision arithmetic", choices=["none", "bfloat16", "float16"])
    loss: str = option("cross_entropy", "loss of a pixel", choices=["cross_entropy", "ohem"])
    ohem_threshold: float = option(
        0.7, "OHEM learns from pixels whose true class has less probability", above=0, high=1
    )
    ohem_min_share: float = option(0.0625, "OHEM learns from at least this share of the pixels", above=0, high=1)
    jaccard: float = option(0.0, "weight of a soft intersection-over-union loss beside the loss of a pixel", low=0)
    label_smoothing: float = option(0.0, "share of the target spread over all classes", low=0, high=0.99)
    class_weights: list[float] | None = option(None, "weight of each class in the loss", low=0)
    subsets: float = option(
        0.0, "share of a batch that is seen again with a random part of its modalities", low=0, high=1
    )
    distil: float = option(
        0.5, "share of what those learn that is the logits with all modalities, the rest is the label", low=0, high=1
    )
    score_loss: float = option(
        0.0,
        "weight of what the scores of merged should say: which modalities are degraded, how well each would do alone",
        low=0,
    )
    wider_keep: float = option(0.5, "probability that a step trains with a random wider keep", low=0, high=1)
    seed: int = option(0, "every random draw of the run follows from it", low=0)
    device: str = option("auto", "auto takes a GPU when there is one", choices=["auto", "cpu", "cuda"])
    deterministic: bool = option(False, "the same bits from every run on a GPU too, at some cost in speed")
    threads: int | None = option(None, "CPU threads of the arithmetic; null: torch decides", low=1)
    log_every: int = option(20, "steps between log rows", low=1)
    save_minutes: float = option(10.0, "minutes between checkpoints (one more at each evaluation)", above=0)
    tensorboard: bool = option(True, "write TensorBoard logs too, where it is installed")


@dataclass
class EvalConfig:
    split: str = option("val", "split that chooses the best checkpoint")
    every: int = option(1, "epochs between evaluations (one more at the end)", low=1)
    metric: str = option("miou", "what the best checkpoint is best in", choices=METRICS)
    batch_size: int = option(8, "frames evaluated together", low=1)
    pictures: int = option(4, "frames drawn at each evaluation; 0: none", low=0)


@dataclass
class TargetConfig:
    """The unlabelled target domain of `egformer-fast adapt`; flips and turns are those of `data`."""

    description: str = option("", "dataset.yaml of the target domain, or the name of a shipped one", path=True)
    root: str | None = option(None, "folder of the data; null: as the description says", path=True)
    modalities: list[str] | None = option(None, "sensors to use, in this order; null: all of the description")
    split: str = option("train", "split to adapt to; its labels are never read")
    eval_split: str | None = option(
        None,
        "labelled split that is scored and drawn, which no choice depends on; null: data's eval.split is scored, "
        "frames of `split` are drawn",
    )
    resize: list[int] | None = option(None, "as data.resize; null: the same", length=2, low=32)
    scale: list[float] | None = option(None, "as data.scale; null: the same", length=2, above=0)


@dataclass
class AdaptConfig:
    """Defaults: MIC (arXiv 2212.01322) on DAFormer (2111.14887) and DACS (2007.08702); egformer_fast.train.adapt."""

    method: str = option(
        "mean_teacher",
        "mean_teacher, or a baseline: entropy (MinEnt, arXiv 1811.12833) or source_only",
        choices=["mean_teacher", "entropy", "source_only"],
    )
    weight: float = option(1.0, "weight of the loss on mixed target frames", low=0)
    jaccard: float = option(
        0.0, "weight of a soft intersection-over-union loss beside the cross entropy on target frames", low=0
    )
    threshold: float = option(0.968, "a pseudo-label counts as confident above this probability", low=0, high=1)
    by_class: bool = option(
        False, "judge each pixel against the threshold of its class (FlexMatch, 2110.08263), not a frame by its share"
    )
    balance: float = option(
        0.0,
        "exponent of the correction that makes classes as frequent in the target as in the source (distribution "
        "alignment, ReMixMatch, 1911.09785); 0: off",
        low=0,
        high=1,
    )
    mix: bool = option(True, "paste half of a source frame's classes into the target frame, every sensor alike")
    jitter: float = option(0.2, "strength of the light and noise changes that the student sees, every sensor", low=0)
    jitter_probability: float = option(0.8, "share of the frames that are changed so", low=0, high=1)
    source_jitter: float = option(
        0.0, "strength of the same changes of source frames: a wider source, for a target that looks different", low=0
    )
    source_thinning: float = option(
        0.0,
        "LiDAR and radar scans of the source lose a share of their returns, drawn from 0 to this, for a target whose "
        "scanners have fewer beams",
        low=0,
        high=1,
    )
    hue: bool = option(True, "jitter turns RGB in hue and saturation too; false where three channels are no colours")
    style: float = option(
        0.0, "share of the source frames whose dense sensors take a target frame's mean and spread", low=0, high=1
    )
    masked: float = option(1.0, "weight of the consistency of masked target frames", low=0)
    mask_block: int = option(64, "side of a masked block, in pixels", low=1)
    mask_ratio: float = option(0.7, "share of the blocks that are masked", low=0, high=0.99)
    rare_temperature: float | None = option(
        0.01, "softmax temperature of rare-class sampling of source frames; null: every frame alike", above=0
    )
    rare_pixels: int | None = option(
        None,
        "pixels that a source frame must have of a class to be drawn for it, in the files' size (DAFormer: 3000); "
        "null: twice what a crop must have",
        low=1,
    )
    rare_share: float = option(
        0.0057,
        "share of its pixels that a crop must have of the class it was drawn for (DAFormer: 1500 of 512x512)",
        low=0,
        high=1,
    )
    features: float = option(
        0.0, "weight of the distance to the features of the starting weights, on source frames (DAFormer: 0.005)", low=0
    )
    features_classes: list[str] | None = option(None, "classes whose features are held; null: all")
    entropy: float = option(0.001, "weight of the entropy of target predictions (method entropy)", low=0)
    drop_sensors: float = option(
        0.3, "probability that the student loses a sensor of a target frame that the teacher sees", low=0, high=1
    )
    score_confidence: bool = option(
        True,
        "pseudo-labels count less where the teacher's sensor scores are lower than the student's are on source frames",
    )
    score_alignment: float = option(
        0.01, "weight of the distance between the sensor scores' mean and spread in the two domains", low=0
    )
    collapse_share: float = option(
        0.98, "report a collapse when one class takes this share of the pseudo-labels", above=0, high=1
    )


@dataclass
class Config:
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    target: TargetConfig = field(default_factory=TargetConfig)
    adapt: AdaptConfig = field(default_factory=AdaptConfig)

    @property
    def adapts(self) -> bool:
        """Whether this is a configuration of `egformer-fast adapt`."""
        return bool(self.target.description)

    @property
    def teaches_scores(self) -> bool:
        """Whether the model has scores that read patch embeddings, and they are supervised."""
        return self.train.score_loss > 0 and not self.model.early_fusion and self.model.flow != "separate"

    @property
    def size(self) -> list[int] | None:
        """Height and width that frames are resized to, in evaluation too; None: as they are."""
        return (self.target.resize if self.adapts else None) or self.data.resize

    @property
    def scored(self) -> DataConfig | TargetConfig:
        """The data that the trained model is for."""
        return self.target if self.adapts else self.data


KEYS = keys_of(Config)
