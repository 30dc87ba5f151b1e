"""`ymt distill`: several finished networks become one, without labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from yolo_multitask.cli.grammar import UsageError, join_tokens, parse_words


def distill(tokens: Sequence[str]) -> None:
    """Run the distillation.

    Args:
        tokens: The rest of the command line.

    Raises:
        UsageError: If an argument is unknown or wrong.
    """
    from yolo_multitask.cli.run import load_model, warn
    from yolo_multitask.tasks import DEFAULT_MODEL

    given = parse(tokens)
    name = given.pop("model", None)
    if name is None:
        name = DEFAULT_MODEL
        warn(f"'model' is missing, using model={name}.")
    load_model(name, None).distill(**given)


def parse(tokens: Sequence[str]) -> dict[str, Any]:
    """Return the arguments by name, checked.

    Args:
        tokens: The rest of the command line.

    Raises:
        UsageError: If an argument is unknown or wrong.
    """
    from ultralytics.cfg import check_cfg

    from yolo_multitask.args import normalise
    from yolo_multitask.cli.run import HOST_EXTRAS, valid_keys
    from yolo_multitask.distill.settings import OWN_KEYS, read_settings

    valid = {**valid_keys(), **OWN_KEYS}
    flags = [key for key, default in valid.items() if isinstance(default, bool)]
    given = parse_words(join_tokens(tokens, flags=flags), valid)
    try:
        _, rest = read_settings({key: value for key, value in given.items() if key != "model"})
        rest = {k: v for k, v in normalise(rest).items() if k not in HOST_EXTRAS}
        check_cfg(rest)
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error
    return given
