"""The command line `ymt`: `app.py` names the commands, the other modules hold one group each."""
