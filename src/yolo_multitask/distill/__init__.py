"""`ymt distill`: several finished networks become one, without labels.

teachers.py   which networks teach, what each can teach this student, and how they label a picture
source.py     images, folders and videos as a list of picture files
views.py      the ways in which a picture is shown, the same in every epoch
lessons.py    what the teachers say of a view, and its file in the cache
dataset.py    views and lessons as a training set, with real labels where there are any
stitch.py     a branch that was trained on another trunk is fitted to this one
trainer.py    the training
report.py     the student against each teacher on held-out pictures
run.py        all of it, in order
"""
