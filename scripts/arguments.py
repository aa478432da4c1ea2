"""Arguments with a secret, out of sight: a command line can be read by everybody on the machine.

The process starts itself anew, once, with `${FRAMEWIRE_SECRET_N}` in the place of such an argument
and the argument itself in the environment, which nobody but the same user can read. Its number, its
streams and how it answers signals stay what they were.
"""

import logging
import os
import sys

from contracts.uris import has_credentials

log = logging.getLogger("framewire")


def arguments_out_of_sight() -> list[str]:
    """The arguments as they were given, none of which shows a secret on the command line any more.

    They are taken out of the environment again. Does not return where the process starts anew.
    """
    given = dict(enumerate(sys.argv[1:], start=1))
    hidden = [n for n, argument in given.items() if _is_hidden(n, argument)]
    if hidden:
        _advise()
        return [*(given | {n: os.environ.pop(_variable(n)) for n in hidden}).values()]
    secrets = {n: argument for n, argument in given.items() if has_credentials(argument)}
    if secrets:
        shown = given | {n: f"${{{_variable(n)}}}" for n in secrets}
        _start_anew([*shown.values()], {_variable(n): secrets[n] for n in secrets})
    return [*given.values()]


def _variable(number: int) -> str:
    return f"FRAMEWIRE_SECRET_{number}"


def _is_hidden(number: int, argument: str) -> bool:
    return argument == f"${{{_variable(number)}}}" and _variable(number) in os.environ


def _start_anew(arguments: list[str], secrets: dict[str, str]) -> None:
    # Before our own arguments stands how Python was started, and with which entry.
    entry = sys.orig_argv[1 : len(sys.orig_argv) - len(arguments)]
    command = [sys.executable, *entry, *arguments]
    os.execve(sys.executable, command, {**os.environ, **secrets})  # noqa: S606


def _advise() -> None:
    from scripts.console import set_up_logging

    set_up_logging("warning")
    log.warning(
        "a secret on the command line can be read by others until the process has started; "
        "write ${NAME} or ${file:PATH} instead, and keep it in the environment or in a file"
    )
