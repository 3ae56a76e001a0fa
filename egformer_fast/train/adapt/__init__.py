"""Unsupervised domain adaptation: a labelled source domain, an unlabelled target domain, one model for the target.

    teacher      average of the student's weights (train.ema); sees every sensor of a target frame, unchanged
    pseudo-label label[p] = argmax of the teacher's probabilities, q = share of pixels above `threshold`   pseudo_labels
                 or, `by_class`, for each pixel whether it is above the threshold of its class (FlexMatch, 2110.08263)
                 classes made as frequent as in the source first (`balance`, ReMixMatch, 1911.09785)
    source loss  the loss of `egformer-fast train`, on frames drawn for rare classes                       rare_classes
                 and with light changed (`source_jitter`), scans thinned (`source_thinning`), or a target
                 frame's mean and spread (`style`)                                                        light
    mixed loss   weight * q * CE on target frames with half of a source frame's classes pasted in                views
                 and jaccard * soft intersection over union, so that small classes count as much        pseudo_labels
    masked loss  masked * (the same loss) on target frames of which most blocks are hidden                       views
    and what only many sensors give:
      q *= min(1, teacher's sensor scores on this frame / the student's on source frames)            pseudo_labels
      the student loses sensors of a target frame that the teacher sees                                         views
      score_alignment * distance between the scores' mean and spread in both domains               score_statistics
    optional     features * distance to the features of the starting weights, on source frames                features

Sources: class-mix and mean teacher, DACS (arXiv 2007.08702); rare classes, q and features, DAFormer (2111.14887);
masked consistency, MIC (2212.01322); the entropy baseline, MinEnt of ADVENT (1811.12833). The sensor parts are ours;
they rest on the sensor scores of EGFormer (2505.14014).
"""
