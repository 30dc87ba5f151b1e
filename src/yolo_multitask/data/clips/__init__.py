"""Clips: frames in order, with the positions of small fast objects and the players in each.

`clip` is what a clip is, `frames` reads pictures, `find` turns the entries of a data YAML into clips, `csv_labels`,
`annotation` and `lines` read the three kinds of labels, `preprocess` turns a frame into network input (the same in
training, validation and prediction), `windows` is the data set. All but `windows` are torch-free.
"""
