"""Clips: frames in order, with the positions of small fast objects and the players in each.

`clip` is what a clip is, `frames` reads pictures, `find` turns the entries of a data YAML into clips, `csv_labels`,
`annotation` and `lines` read the three kinds of labels, `preprocess` turns a frame into network input (the same in
training, validation and prediction), `plan` says where windows begin, `augment` and `targets` make training samples of
them, `dataset` is the data set and `windows` builds it. Torch-free but for `targets`, `dataset` and `windows`.
"""
