"""The commented study file that ``detgraft study init`` writes."""

from __future__ import annotations

TEMPLATE = """\
# A study: does the graft help? Every arm is trained with every seed; run it with
#   detgraft study run study.yaml      (again after any interruption: it goes on)
#   detgraft study status study.yaml
#   detgraft study report study.yaml

name: my-study

# A data YAML, or a folder with train/images, train/labels, val/images, val/labels (and test/... if you have it).
# The verdict is taken on the test split where there is one: the best epoch of each run is chosen on val.
data: data.yaml

# The model that everything is compared with. A stock name, a YAML, or a graft expression.
base: yolo11n

# What might help. A name is grafted onto the base: carafe means yolo11n+carafe.
# With 'model:' an arm stands on its own.
variants:
  - carafe
  - convnextv2_atto
  # - graft: repvit_m0_9+carafe
  #   name: repvit and carafe
  # - model: my_model.yaml

# How many times each arm is trained (or a list of seeds). With fewer than 8, expect "cannot tell".
seeds: 8

# stop: sequential         # looks after 5, 6, 7, ... seeds and ends an arm as soon as its verdict is clear

# Ultralytics' training arguments, the same for every arm.
train:
  epochs: 100
  imgsz: 640
  batch: 16

# Where every arm starts, the same for all:
#   scratch      random weights
#   transfer     the rows that a graft left alone keep the weights of the base's stock checkpoint
#   pretrained   the same, and grafted backbones may ask for their own, as in convnextv2_atto(weights=imagenet)
init: scratch
# weights: yolo11n.pt      # the checkpoint for transfer and pretrained; with pretrained also: none
# transfer_min: 0.0        # least share of tensors that must arrive, or the study refuses to start

# scale adds the next larger stock model, so that "just use a bigger model" is in the table too. Or: none
controls: scale

metrics:
  primary: AP        # AP, AP50 or AP75 by the COCO rules: of boxes, masks, key points or rotated boxes, as the task is
  split: auto        # test where the data has it, otherwise val
  margin: 0.01       # differences up to this size (0.01 is 1 AP point) count as no difference
  alpha: 0.05        # share of studies that may give a false "helps" or "hurts" when nothing differs
  bootstrap: 1000    # resamplings of the pictures for the second view; 0 leaves it out

# plugins: [my_blocks.py]

# device: cpu              # or the numbers of the GPUs over which the runs are spread; the same for every arm

# local runs as many trainings at once as there are GPUs (one without); ray spreads them over several machines.
executor: local
# address: auto            # of a running Ray cluster
workers: auto
# stall: 10               # a run without an epoch for so many times the slowest one so far is ended; or: none

# track: [mlflow, tensorboard]
# out: runs/study/my-study
"""
