"""`ymt distill`: several finished networks become one, without labels."""

from __future__ import annotations

from collections.abc import Sequence

from yolo_multitask.cli.grammar import UsageError, join_tokens, parse_words


def distill(tokens: Sequence[str]) -> None:
    """Run the distillation.

    Args:
        tokens: The rest of the command line.

    Raises:
        UsageError: If an argument is unknown or wrong.
    """
    from ultralytics.cfg import check_cfg

    from yolo_multitask.args import normalise
    from yolo_multitask.cli.run import HOST_EXTRAS, load_model, valid_keys, warn
    from yolo_multitask.distill.settings import OWN_KEYS, read_settings
    from yolo_multitask.tasks import DEFAULT_MODEL

    valid = {**valid_keys(), **OWN_KEYS}
    flags = [key for key, default in valid.items() if isinstance(default, bool)]
    given = parse_words(join_tokens(tokens, flags=flags), valid)
    name = given.pop("model", None)
    try:
        _, rest = read_settings(given)
        rest = {k: v for k, v in normalise(rest).items() if k not in HOST_EXTRAS}
        check_cfg(rest)
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error
    if name is None:
        name = DEFAULT_MODEL
        warn(f"'model' is missing, using model={name}.")
    load_model(name, None).distill(**given)
